"""An identity provider tells of users and groups by SCIM 2.0, and what it tells counts at once."""

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from penstock.testing.caller import Answer
from penstock.testing.control import ControlProcess

CONFIG: dict[str, Any] = {
    "providers": [{"name": "lab", "kind": "compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [
        {"name": "gpt-4.1", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 2, "output": 8}}
    ],
}
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Provider:
    """An identity provider's SCIM client."""

    def __init__(self, control: ControlProcess) -> None:
        self.control = control
        made = control.admin("POST", "/tokens", {"name": "scim", "purpose": "provisioning"})
        assert made.status == 201, made.body
        self.secret: str = made.json()["secret"]

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        headers = {"authorization": f"Bearer {self.secret}", "content-type": "application/scim+json"}
        content = None if body is None else msgspec.json.encode(body)
        return self.control.send(method, f"/scim/v2{path}", content, headers)

    def user(self, name: str, **more: Any) -> str:
        """The id of a new user."""
        made = self.ask("POST", "/Users", {"schemas": [USER], "userName": name, **more})
        assert made.status == 201, made.body
        return str(made.json()["id"])

    def patch(self, path: str, *operations: dict[str, Any]) -> Answer:
        return self.ask("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with ControlProcess(tmp_path_factory.mktemp("scim"), CONFIG) as control:
        yield Provider(control)
        assert '"level":"error"' not in control.output()


def test_the_service_is_what_scim_clients_expect(provider: Provider) -> None:
    # Every test process reads this file, and making their models takes seconds where much else is loaded.
    from scim2_client.engines.httpx2 import SyncSCIMClient
    from scim2_tester import Status, check_server

    headers = {"authorization": f"Bearer {provider.secret}"}
    with httpx2.Client(base_url=f"{provider.control.url}/scim/v2", headers=headers) as http:
        results = check_server(SyncSCIMClient(http))
    done = [result for result in results if result.status == Status.SUCCESS]
    failed = [f"{it.title}: {it.reason}" for it in results if it.status in (Status.ERROR, Status.CRITICAL)]
    assert failed == []
    assert len(done) > 30


def test_a_user_who_is_deactivated_is_out_at_once(provider: Provider) -> None:
    id = provider.user("leaver@example.com")
    control = provider.control
    binding = {"user": "leaver@example.com", "role": "auditor", "scope": {"organisation": "default"}}
    assert control.admin("POST", "/bindings", binding).status == 201
    token = control.admin("POST", "/tokens", {"name": "leavers", "user": "leaver@example.com"}).json()["secret"]
    headers = {"authorization": f"Bearer {token}"}
    assert control.send("GET", "/admin/v1/audit", None, headers).status == 200
    assert provider.patch(f"/Users/{id}", {"op": "replace", "path": "active", "value": False}).status == 200
    assert control.send("GET", "/admin/v1/audit", None, headers).status == 401
    kill = control.admin("GET", "/kills").json()["items"][0]
    assert (kill["scope"], kill["lifted_at"], kill["by"]) == ({"user": "leaver@example.com"}, None, "scim")
    shown = control.admin("GET", "/users/leaver@example.com").json()
    assert shown["active"] is False
    assert provider.patch(f"/Users/{id}", {"op": "replace", "value": {"active": True}}).status == 200
    assert control.admin("GET", f"/kill/{kill['generation']}").json()["lifted_at"] is not None
    assert control.send("GET", "/admin/v1/audit", None, headers).status == 401, "a revoked token stays revoked"


def test_a_user_who_is_taken_away_is_out_and_may_come_back(provider: Provider) -> None:
    id = provider.user("gone@example.com")
    assert provider.ask("DELETE", f"/Users/{id}").status == 204
    assert provider.ask("GET", f"/Users/{id}").status == 404
    assert provider.control.admin("GET", "/users/gone@example.com").json()["active"] is False
    again = provider.user("gone@example.com")
    assert again != id
    assert provider.control.admin("GET", "/users/gone@example.com").json()["active"] is True


def test_a_groups_members_have_its_roles_for_as_long_as_they_are_in_it(provider: Provider) -> None:
    control, id = provider.control, provider.user("eve@example.com")
    group = provider.ask("POST", "/Groups", {"schemas": [GROUP], "displayName": "auditors", "members": [{"value": id}]})
    assert group.status == 201, group.body
    binding = {"group": "auditors", "role": "auditor", "scope": {"organisation": "default"}}
    assert control.admin("POST", "/bindings", binding).status == 201
    token = control.admin("POST", "/tokens", {"name": "eves", "user": "eve@example.com"}).json()["secret"]
    headers = {"authorization": f"Bearer {token}"}
    assert control.send("GET", "/admin/v1/audit", None, headers).status == 200
    assert provider.ask("GET", f"/Users/{id}").json()["groups"][0]["display"] == "auditors"
    removal = {"op": "remove", "path": f'members[value eq "{id}"]'}
    assert provider.patch(f"/Groups/{group.json()['id']}", removal).status in (200, 204)
    assert control.send("GET", "/admin/v1/audit", None, headers).status == 403


def test_what_makes_no_sense_is_refused_in_scims_own_words(provider: Provider) -> None:
    provider.user("once@example.com")
    for method, path, body, status, scim_type in (
        ("POST", "/Users", {"schemas": [USER], "userName": "ONCE@example.com"}, 409, "uniqueness"),
        ("POST", "/Users", {"schemas": [USER]}, 400, "invalidValue"),
        ("POST", "/Users", {"schemas": [USER], "userName": "a,b"}, 400, "mutability"),
        ("GET", "/Users?filter=userName%20foo%20%22x%22", None, 400, "invalidFilter"),
        ("GET", "/Users/none", None, 404, None),
        ("POST", "/Groups", {"schemas": [GROUP], "displayName": "g", "members": [{"value": "x"}]}, 400, "invalidValue"),
        ("GET", "/Schemas/none", None, 404, None),
    ):
        answer = provider.ask(method, path, body)
        assert (answer.status, answer.json().get("scimType")) == (status, scim_type), (path, body, answer.body)
        assert answer.headers["content-type"] == "application/scim+json"


def test_a_provisioning_token_opens_nothing_else_and_nothing_else_opens_it(provider: Provider) -> None:
    bearer = {"authorization": f"Bearer {provider.secret}"}
    for path in ("/admin/v1/users", "/admin/v1/roles", "/admin/openapi.json", "/auth/me"):
        assert provider.control.send("GET", path, None, bearer).status == 403
    root = {"authorization": f"Bearer {provider.control.admin_key}"}
    assert provider.control.send("GET", "/scim/v2/Users", None, root).status == 403
    assert provider.control.send("GET", "/scim/v2/Users").status == 401
