"""Who may do what: the permission table as it is, and the tokens' own verbs.

GET  /admin/v1/roles                    {"items": [{"role", "meaning", "permissions"}], "permissions": {name: about}}
POST /admin/v1/tokens/{name}/revoke     the token, refused from now on

Bindings and tokens themselves are nouns like the others, see `objects`.
"""

from fastapi import Response

from penstock.control import tokens
from penstock.control.editions import if_unchanged
from penstock.control.permissions import MEANINGS, ROLES, TABLE, granted
from penstock.surfaces.admin import answers
from penstock.surfaces.admin.authorisation import Asker
from penstock.surfaces.admin.conditions import IfMatch, seen, shown
from penstock.surfaces.admin.documents import answer_of, object_of
from penstock.surfaces.admin.paths import Paths
from penstock.surfaces.admin.plane import Plane
from penstock.surfaces.admin.problems import JsonResponse


def add(router: Paths, plane: Plane) -> None:

    @router.get(
        "/roles",
        tags=["roles"],
        operation_id="list_roles",
        summary="Every role and what it permits",
        responses=answer_of(answers.Roles),
    )
    async def list_roles() -> Response:
        items = [{"role": role, "meaning": MEANINGS[role], "permissions": sorted(granted(role))} for role in ROLES]
        return JsonResponse({"items": items, "permissions": {name: it.about for name, it in TABLE.items()}})

    @router.post(
        "/tokens/{name:path}/revoke",
        tags=["tokens"],
        operation_id="revoke_token",
        summary="Refuse a token from now on, for good",
        responses=object_of(answers.ShownToken),
    )
    async def revoke_token(asker: Asker, name: str, if_match: IfMatch = None) -> Response:
        known = seen(tokens.show, name, if_match)
        return shown(await plane.door.change(asker, if_unchanged, known, tokens.revoke, name))
