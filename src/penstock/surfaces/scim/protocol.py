"""The language of SCIM 2.0: what is told and asked, read and answered. Pure: no store and no HTTP.

Sources: RFC 7643 (schemas), RFC 7644 (protocol). A user's name cannot be changed, which the published schema says; a
password is not kept.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
import scim2_models as scim
from pydantic import ValidationError
from scim2_models.resources.group import GroupMember

from penstock.control.directory import Entry, Kind, Told, Wanted
from penstock.errors import ControlError

MEDIA_TYPE = "application/scim+json"
MAX_COUNT = 500
_LOOKUP = re.compile(r'(userName|displayName|externalId)\s+eq\s+"([^"\\]*)"', re.IGNORECASE)
_TYPES = {404: None, 409: "uniqueness", 422: "invalidValue"}


class User(scim.User[scim.AnyExtension]):
    """The core schema's User, but that its name stays."""

    __schema__ = scim.User.__schema__

    user_name: Annotated[str | None, scim.Uniqueness.server, scim.Required.true, scim.Mutability.immutable] = None


class Member(GroupMember):
    """A member of a group: a user, who says of themselves what they are called."""

    display: Annotated[str | None, scim.Mutability.read_only] = None


class Group(scim.Group):
    """The core schema's Group; its members are users."""

    __schema__ = scim.Group.__schema__

    members: list[Member] | None = None  # type: ignore[assignment]


_OF_KIND: Mapping[Kind, Any] = {"User": User[scim.EnterpriseUser], "Group": Group}
_patch_of, _search_of, _list_of, _selection_of = (
    cast(Any, message) for message in (scim.PatchOp, scim.SearchRequest, scim.ListResponse, scim.ResponseParameters)
)
"""Messages, which are about one kind of resource each: `_patch_of[_OF_KIND["User"]]`."""
_PATHS: Mapping[Kind, str] = {"User": "Users", "Group": "Groups"}


def _config() -> scim.ServiceProviderConfig:
    return scim.ServiceProviderConfig(
        documentation_uri=None,
        patch=scim.Patch(supported=True),
        bulk=scim.Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=scim.Filter(supported=True, max_results=MAX_COUNT),
        change_password=scim.ChangePassword(supported=False),
        sort=scim.Sort(supported=True),
        etag=scim.ETag(supported=False),
        authentication_schemes=[
            scim.AuthenticationScheme(
                type=scim.AuthenticationScheme.Type.oauthbearertoken,
                name="Provisioning token",
                description="Authorization: Bearer sk-..., made with `penstock token create --provisioning`",
                primary=True,
            )
        ],
    )


class Protocol:
    """`base`: where the service is, such as `https://penstock.example.com/scim/v2`."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._provider = scim.ScimProvider(
            models=[User, scim.EnterpriseUser, Group],
            resource_types=[scim.ResourceType.from_resource(model) for model in _OF_KIND.values()],
            config=_config(),
        )

    # -- what the service says of itself ------------------------------------------------------------------------------

    def service(self) -> dict[str, Any]:
        return self._placed(_config(), "ServiceProviderConfig")

    def schemas(self) -> list[dict[str, Any]]:
        return [self._placed(schema, f"Schemas/{schema.id}") for schema in self._provider.schemas]

    def types(self) -> list[dict[str, Any]]:
        return [self._placed(it, f"ResourceTypes/{it.id}") for it in self._provider.resource_types]

    def _placed(self, described: Any, place: str) -> dict[str, Any]:
        described.meta = scim.Meta(resource_type=place.partition("/")[0].removesuffix("s"), location=self._at(place))
        shown: dict[str, Any] = described.model_dump(scim_ctx=scim.Context.RESOURCE_QUERY_RESPONSE)
        return shown

    # -- what is told -------------------------------------------------------------------------------------------------

    def created(self, kind: Kind, content: bytes) -> Told:
        return _told(kind, self._read(kind, content, scim.Context.RESOURCE_CREATION_REQUEST))

    def replaced(self, content: bytes, before: Entry) -> Told:
        new = self._read(before.told.kind, content, scim.Context.RESOURCE_REPLACEMENT_REQUEST)
        new.replace(self._resource(before))
        return _told(before.told.kind, new)

    def patched(self, content: bytes, before: Entry) -> Told:
        shape = _patch_of[_OF_KIND[before.told.kind]]
        operations = shape.model_validate_json(content, scim_ctx=scim.Context.RESOURCE_PATCH_REQUEST)
        resource = self._resource(before)
        operations.patch(resource)
        return _told(before.told.kind, resource)

    def _read(self, kind: Kind, content: bytes, context: scim.Context) -> Any:
        return _OF_KIND[kind].model_validate_json(content, scim_ctx=context)

    # -- what is asked ------------------------------------------------------------------------------------------------

    def asked(self, kind: Kind, parameters: Mapping[str, str]) -> Any:
        """The query of a listing. Raises ValidationError for a filter or a path that means nothing."""
        return _search_of[_OF_KIND[kind]].model_validate(
            {name: _split(name, value) for name, value in parameters.items()}
        )

    def searched(self, kind: Kind, content: bytes) -> Any:
        """As `asked`, of a query in a body (RFC 7644, section 3.4.3)."""
        context = scim.Context.SEARCH_REQUEST
        return _search_of[_OF_KIND[kind]].model_validate_json(content, scim_ctx=context)

    def listed(self, kind: Kind, entries: Sequence[Entry], request: Any) -> dict[str, Any]:
        """A page of those entries that the query wants."""
        found = [self._resource(entry) for entry in entries]
        if request.filter is not None:
            found = [resource for resource in found if request.filter.match(resource)]
        if request.sort_by is not None:
            found = request.sort(found)
        start = request.start_index_0 or 0
        count = min(MAX_COUNT if request.count is None else request.count, MAX_COUNT)
        page = found[start : start + count]
        response = _list_of[_OF_KIND[kind]](
            total_results=len(found), start_index=start + 1, items_per_page=len(page), resources=page
        )
        shown: dict[str, Any] = response.model_dump(
            scim_ctx=scim.Context.RESOURCE_QUERY_RESPONSE, response_parameters=request
        )
        return shown

    def shown(self, entry: Entry, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        selected = {name: _split(name, value) for name, value in (parameters or {}).items()}
        wanted = _selection_of[_OF_KIND[entry.told.kind]].model_validate(selected)
        shown: dict[str, Any] = self._resource(entry).model_dump(
            scim_ctx=scim.Context.RESOURCE_QUERY_RESPONSE, response_parameters=wanted
        )
        return shown

    def _resource(self, entry: Entry) -> Any:
        kind = entry.told.kind
        resource = _OF_KIND[kind].model_validate(entry.told.body)
        resource.id, resource.external_id = entry.id, entry.told.external_id or None
        related = [
            {"value": id, "display": name, "$ref": self._at(f"{_PATHS['Group' if kind == 'User' else 'User']}/{id}")}
            for id, name in entry.related
        ]
        if kind == "User":
            resource.groups = [scim.User.Groups.model_validate(it) for it in related] or None
        else:
            shown = ({"value": it["value"], "$ref": it["$ref"], "type": "User"} for it in related)
            resource.members = [Member.model_validate(it) for it in shown] or None
        resource.meta = scim.Meta(
            resource_type=kind,
            created=_moment(entry.created_at),
            last_modified=_moment(entry.updated_at),
            location=self._at(f"{_PATHS[kind]}/{entry.id}"),
        )
        return resource

    def _at(self, place: str) -> str:
        return f"{self._base}/{place}"


def wanted(query: Any) -> Wanted:
    """What of a query can be looked up: identity providers ask for one name before each change."""
    found = _LOOKUP.fullmatch(str(query.filter or "").strip())
    if found is None:
        return Wanted()
    if found[1].lower() == "externalid":
        return Wanted(external_id=found[2])
    return Wanted(name=found[2])


def list_of(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A whole listing, of what the service says of itself."""
    schema = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
    return {"schemas": [schema], "totalResults": len(items), "itemsPerPage": len(items), "Resources": items}


def refusal(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body of what was refused; any other error is raised again."""
    if isinstance(error, ControlError):
        status = 400 if error.status == 422 else error.status
        scim_type = "mutability" if error.place == "userName" else _TYPES.get(error.status)
        said = scim.Error(status=status, detail=error.message, scim_type=scim_type)
    elif isinstance(error, scim.SCIMException):
        said = error.to_error()
    elif isinstance(error, ValidationError):
        said = scim.Error.from_validation_errors(error)[0]
    else:
        raise error
    return int(said.status or 400), said.model_dump()


def _told(kind: Kind, resource: Any) -> Told:
    body = resource.model_dump(exclude={"id", "meta", "groups", "members", "external_id", "password"}, mode="json")
    external_id = resource.external_id or ""
    if kind == "User":
        return Told(kind, resource.user_name or "", external_id, resource.active is not False, body=_plain(body))
    members = tuple(dict.fromkeys(str(member.value) for member in resource.members or ()))
    return Told(kind, resource.display_name or "", external_id, members=members, body=_plain(body))


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(body)
    return plain


def _split(name: str, value: str) -> Any:
    return [part.strip() for part in value.split(",")] if name.lower().endswith("attributes") else value


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at // 10**9, UTC)
