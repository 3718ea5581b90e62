"""Tags: the caller's own words for what a call is for, in `x-penstock-tags: feature=search,customer=acme`."""

from collections.abc import Mapping

from penstock.domain.tags import MAX_TAG_NAME, MAX_TAG_VALUE, is_tag_name, is_tag_value
from penstock.domain.tenancy import ALL, ATTRIBUTES, Principal
from penstock.errors import InvalidRequest, NotPermitted

MAX_TAGS = 20
_SHOWN = 5
"""How many allowed values a refusal names."""


def read_tags(header: str | None) -> dict[str, str]:
    """The caller's tags. Raises `InvalidRequest` for what is not `name=value,...` within the bounds."""
    tags: dict[str, str] = {}
    for pair in _text(header or "").split(","):
        if not pair.strip():
            continue
        name, _, value = (part.strip() for part in pair.partition("="))
        if not is_tag_name(name) or not is_tag_value(value):
            raise InvalidRequest(
                f"'x-penstock-tags' must be name=value pairs: names of at most {MAX_TAG_NAME} letters, digits, '.', "
                f"'_' and '-', values of at most {MAX_TAG_VALUE} printable characters without ',' and '='.",
                param="x-penstock-tags",
            )
        tags[name] = value
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"'x-penstock-tags' may hold at most {MAX_TAGS} tags.", param="x-penstock-tags")
    return tags


def _text(header: str) -> str:
    """HTTP hands header bytes over as latin-1; those that are UTF-8 are meant as UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def tags_of(principal: Principal, headers: Mapping[str, str]) -> dict[str, str]:
    """The call's tags: the caller's, under those that are pinned, and where one that the team requires is missing, what
    the team lets stand in for it. Raises `InvalidRequest` when one is missing all the same, `NotPermitted` when the
    caller contradicts a pinned one or sends a value that is not among those allowed."""
    header = headers.get("x-penstock-tags")
    if header is None and principal.rights == (ALL,) and not principal.required_tags:
        return ALL.tags
    tags = read_tags(header)
    for rights in principal.rights:
        for name, pinned in rights.tags.items():
            if tags.setdefault(name, pinned) != pinned:
                raise NotPermitted(f"The tag '{name}' is pinned by the API key and cannot be changed.")
    for name in principal.required_tags:
        if name not in tags:
            tags[name] = _standing_in(principal, name)
    for rights in principal.rights:
        for name, values in rights.allowed_tags.items():
            if tags.get(name, values[0]) not in values:
                raise NotPermitted(f"The API key '{principal.key}' allows the tag '{name}' only {_listed(values)}.")
    return tags


def _standing_in(principal: Principal, name: str) -> str:
    source = principal.tags_from.get(name)
    value = str(getattr(principal, source)) if source in ATTRIBUTES else ""
    if not value:
        raise InvalidRequest(
            f"Team '{principal.team}' requires the tag '{name}': send 'x-penstock-tags: {name}=...'.",
            param="x-penstock-tags",
        )
    return value


def _listed(values: tuple[str, ...]) -> str:
    return "as " + ", ".join(f"'{value}'" for value in values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
