"""Every role, for everything, the teams of `default`, a team and a project, at every endpoint of the OpenAPI document,
beside a second tenant in another organisation: the verdict is that of the permission table, and nothing of the other
tenant and no secret is in any answer.

The endpoints come from the document, so that a new one cannot be forgotten: it is tried with a name that nothing has,
and what it permits is looked up in the tables of the code.
"""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from penstock.control.actor import ORGANISATION, Grant, reach_of
from penstock.control.permissions import ROLES, TABLE, Role
from penstock.domain.access import Scope
from penstock.surfaces.admin.authorisation import OPEN, PERMISSIONS, PROVISIONING, SIGNED_IN
from penstock.testing.control import ControlProcess

CONFIG: dict[str, Any] = {
    "providers": [{"name": "lab", "kind": "compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [
        {"name": "gpt-4.1", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 2, "output": 8}}
    ],
}
THEIRS = "zz-theirs"
NOWHERE = "zz-nowhere"
TEAM, PROJECT = Scope("team", "ours"), Scope("project", "ours-web", "ours")
TEAMS = Scope("teams_of", "default", teams=frozenset({"ours"}))
ASKERS: list[tuple[Role, Scope]] = [
    *((role, ORGANISATION) for role in ROLES),
    *((role, TEAM) for role in ROLES),
    *((role, TEAMS) for role in ("owner", "finance", "viewer")),  # type: ignore[misc]
    *((role, PROJECT) for role in ("admin", "finance", "developer")),  # type: ignore[misc]
]
OBJECTS = {
    "organisations": f"{THEIRS}-org",
    "teams": THEIRS,
    "projects": f"{THEIRS}-web",
    "keys": f"{THEIRS}-key",
    "limits": f"{THEIRS}-limit",
    "users": f"{THEIRS}-user",
    "tokens": f"{THEIRS}-token",
}


class Operation(NamedTuple):
    id: str
    method: str
    path: str


class Said(NamedTuple):
    status: int
    body: str


class Place:
    """Two tenants side by side. `secrets`: what no answer may hold. `tokens`: of somebody for each of ASKERS."""

    def __init__(self, control: ControlProcess) -> None:
        self.control = control
        self.secrets = [control.admin_key, control.environment["PENSTOCK_SECRET"]]
        self.make("/organisations", {"name": OBJECTS["organisations"]})
        for team, organisation in (("ours", "default"), (THEIRS, OBJECTS["organisations"])):
            self.make("/teams", {"name": team, "organisation": organisation, "required_tags": [f"{team}-tag"]})
            self.make("/projects", {"name": f"{team}-web", "team": team})
            self.make("/users", {"name": f"{team}-user"})
            key = self.make("/keys", {"name": f"{team}-key", "project": f"{team}-web", "tags": {"who": team}})
            limit = {"name": f"{team}-limit", "match": {"team": team}, "unit": "usd", "amount": 5, "per": "day"}
            self.make("/limits", limit)
            self.make("/bindings", {"user": f"{team}-user", "role": "viewer", "scope": {"team": team}})
            token = self.make("/tokens", {"name": f"{team}-token", "user": f"{team}-user"})
            self.secrets += [key["secret"], token["secret"]]
            correction = {"limit": f"{team}-limit", "amount": "1", "reason": f"for {team}"}
            self.make("/ledger/adjustments", correction)
            raised = control.admin("POST", "/kill", {"scope": {"key": f"{team}-key"}, "reason": f"of {team}"})
            self.generation = raised.json()["generation"]
        document = control.send("GET", "/admin/openapi.json", None, {"authorization": f"Bearer {control.admin_key}"})
        self.operations = [
            Operation(operation["operationId"], method.upper(), path)
            for path, methods in document.json()["paths"].items()
            for method, operation in methods.items()
        ]
        self.tokens = {asker: self._somebody(f"asker-{number}", *asker) for number, asker in enumerate(ASKERS)}
        self.binding = next(
            it["name"]
            for it in control.admin("GET", "/bindings?limit=500").json()["items"]
            if it.get("user") == f"{THEIRS}-user"
        )

    def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.control.admin("POST", path, body)
        assert answer.status == 201, answer.body
        made: dict[str, Any] = answer.json()
        return made

    def _somebody(self, name: str, role: Role, scope: Scope) -> str:
        self.make("/users", {"name": name})
        self.make("/bindings", {"user": name, "role": role, "scope": {scope.level: scope.name}})
        return str(self.make("/tokens", {"name": f"of-{name}", "user": name})["secret"])

    def theirs(self, path: str) -> str:
        """The path of an object of the other tenant's."""
        noun = path.removeprefix("/admin/v1/").partition("/")[0]
        name = self.binding if noun == "bindings" else OBJECTS.get(noun, NOWHERE)
        return self._filled(path, name, str(self.generation))

    def nowhere(self, path: str) -> str:
        """The path of an object that is not there."""
        return self._filled(path, NOWHERE, str(2**31 - 1))

    @staticmethod
    def _filled(path: str, name: str, number: str) -> str:
        if path.endswith("/sessions/{name}"):
            name = f"ses_{0:032x}"
        path = path.replace("{generation}", number).replace("{version}", str(2**31 - 1))
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + name + rest.partition("}")[2]
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ControlProcess(tmp_path_factory.mktemp("matrix"), CONFIG) as control:
        yield Place(control)
        output = control.output()
        assert '"level":"error"' not in output
        assert "Traceback" not in output


class Connection:
    """One connection for many requests."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._http = HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str) -> Said:
        """Once more on a new connection where the server has let go of this one, as it may between two requests."""
        try:
            return self._asked(method, path)
        except (BrokenPipeError, ConnectionResetError):
            self._http.close()
            return self._asked(method, path)

    def _asked(self, method: str, path: str) -> Said:
        content = None if method == "GET" else json.dumps({})
        self._http.request(method, path, content, {**self._headers, "content-type": "application/json"})
        answer = self._http.getresponse()
        return Said(answer.status, answer.read().decode())

    def close(self) -> None:
        self._http.close()


def is_permitted(operation: Operation, role: Role, scope: Scope) -> bool:
    """What the tables say."""
    needed = PERMISSIONS[operation.id]
    if needed in (OPEN, SIGNED_IN):
        return True
    if needed == PROVISIONING:
        return False
    reach = reach_of((Grant(role, scope),), needed)
    return not reach.is_empty() and (TABLE[needed].about != "whole" or reach.everything)


def test_the_document_has_every_operation_that_the_table_names(place: Place) -> None:
    hidden = {"show_document", "begin_oidc", "finish_oidc", *(name for name in PERMISSIONS if name.startswith("scim_"))}
    assert {operation.id for operation in place.operations} <= set(PERMISSIONS)
    assert len(place.operations) > 60
    assert hidden.isdisjoint({operation.id for operation in place.operations})


@pytest.mark.parametrize(
    ("role", "scope"), ASKERS, ids=lambda it: f"{it.level}-{it.name}" if isinstance(it, Scope) else it
)
def test_a_role_is_answered_as_the_table_says_and_sees_nothing_of_the_other_tenant(
    place: Place, role: Role, scope: Scope
) -> None:
    connection = Connection(place.control.url, place.tokens[role, scope])
    for operation in place.operations:
        if operation.id == "log_out":
            continue
        paths = [place.nowhere(operation.path)]
        if operation.method == "GET" and "{" in operation.path:
            paths.append(place.theirs(operation.path))
        answers = [connection.ask(operation.method, path) for path in paths]
        for path, said in zip(paths, answers, strict=True):
            permitted = is_permitted(operation, role, scope)
            assert (said.status != 403) == permitted, (operation.method, path, said)
            assert said.status not in (401, 500) or operation.id in ("log_in", "change_password"), (path, said)
            assert not [secret for secret in place.secrets if secret in said.body], (path, "has a secret")
            if scope is not ORGANISATION and said.status < 400 and PERMISSIONS[operation.id] != OPEN:
                assert THEIRS not in said.body, (operation.method, path, said.body)
        if scope is not ORGANISATION and len(answers) == 2 and answers[1].status == 404:
            absent, hidden = (json.loads(answer.body) for answer in answers)
            assert absent["code"] == hidden["code"] == "not_found"
    connection.close()


@pytest.mark.parametrize("noun", sorted(OBJECTS))
def test_what_is_the_other_tenants_is_there_for_the_organisation_and_for_nobody_else(place: Place, noun: str) -> None:
    path = f"/admin/v1/{noun}/{OBJECTS[noun]}"
    for (role, scope), token in place.tokens.items():
        connection = Connection(place.control.url, token)
        status = connection.ask("GET", path).status
        connection.close()
        if scope is ORGANISATION:
            assert status in (200, 403)
        else:
            assert status in (404, 403), (role, scope, path)


def test_a_stranger_is_told_nothing_but_to_say_who_they_are(place: Place) -> None:
    connection = Connection(place.control.url, "")
    for operation in place.operations:
        said = connection.ask(operation.method, place.theirs(operation.path))
        if PERMISSIONS[operation.id] != OPEN:
            assert (said.status, json.loads(said.body)["code"]) == (401, "invalid_admin_key"), operation
    connection.close()
