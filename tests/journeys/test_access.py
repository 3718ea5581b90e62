"""Who comes to the admin listener and what they may do there, over its real socket."""

from collections.abc import Iterator
from typing import Any

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


class Place:
    """A control process with two teams, in which people are made as they are needed."""

    def __init__(self, control: ControlProcess) -> None:
        self.control = control
        for team in ("growth", "other"):
            self.made("/teams", {"name": team})
            self.made("/projects", {"name": f"{team}-web", "team": team})
            self.made("/keys", {"name": f"{team}-key", "project": f"{team}-web"})
        self.developer = self.token("pathfinder", "developer", {"project": "growth-web"})

    def made(self, path: str, body: Any) -> dict[str, Any]:
        answer = self.control.admin("POST", path, body)
        assert answer.status == 201, answer.body
        made: dict[str, Any] = answer.json()
        return made

    def token(self, name: str, role: str, scope: dict[str, str]) -> str:
        """The secret of a new user's token."""
        self.made("/users", {"name": name})
        self.made("/bindings", {"user": name, "role": role, "scope": scope})
        return str(self.made("/tokens", {"name": f"of-{name}", "user": name})["secret"])

    def ask(self, secret: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        content = None if body is None else msgspec.json.encode(body)
        return self.control.send(method, f"/admin/v1{path}", content, {"authorization": f"Bearer {secret}", **headers})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ControlProcess(tmp_path_factory.mktemp("access"), CONFIG) as control:
        yield Place(control)
        assert '"level":"error"' not in control.output()


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [item["name"] for item in answer.json()["items"]]


def test_a_developer_works_in_its_project_and_sees_no_other(place: Place) -> None:
    dev = place.token("dev", "developer", {"project": "growth-web"})
    made = place.ask(dev, "POST", "/keys", {"name": "dev-key", "project": "growth-web"})
    assert made.status == 201, made.body
    assert names(place.ask(dev, "GET", "/keys")) == ["dev-key", "growth-key"]
    assert names(place.ask(dev, "GET", "/projects")) == ["growth-web"]
    assert names(place.ask(dev, "GET", "/teams")) == []
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/revoke")):
        body = {"tags": {"a": "b"}} if method == "PATCH" else None
        there, nowhere = (place.ask(dev, method, f"/keys/{name}{path}", body) for name in ("other-key", "nowhere"))
        assert (there.status, nowhere.status) == (404, 404)
        assert there.json()["detail"].replace("other-key", "nowhere") == nowhere.json()["detail"]
    unseen = place.ask(dev, "PATCH", "/keys/other-key", {"tags": {}}, **{"if-match": '"0"'})
    assert unseen.status == 404
    refused = place.ask(dev, "POST", "/limits", {"match": {"project": "growth-web"}, "unit": "usd", "amount": 1})
    assert (refused.status, refused.json()["code"]) == (403, "not_permitted")
    audit = place.ask(dev, "GET", "/audit").json()["items"]
    assert {(row["kind"], row["name"]) for row in audit} >= {("key", "dev-key"), ("key", "growth-key")}
    assert "other" not in str(audit)


def test_a_token_ends_with_its_binding_and_with_its_revocation(place: Place) -> None:
    secret = place.token("leaver", "auditor", {"organisation": "default"})
    assert place.ask(secret, "GET", "/audit").status == 200
    (reading,) = [
        it for it in place.control.admin("GET", "/audit?kind=audit").json()["items"] if it["actor"] == "leaver"
    ]
    assert reading["action"] == "export", "whoever reads the log is in it"
    (binding,) = (it for it in place.control.admin("GET", "/bindings").json()["items"] if it.get("user") == "leaver")
    assert place.control.admin("DELETE", f"/bindings/{binding['name']}").status == 204
    assert place.ask(secret, "GET", "/audit").status == 403
    assert place.control.admin("POST", "/tokens/of-leaver/revoke").status == 200
    assert place.ask(secret, "GET", "/audit").status == 401


def test_no_answer_and_no_record_has_a_tokens_secret(place: Place) -> None:
    secret = place.token("careful", "viewer", {"team": "growth"})
    for path in ("/tokens", "/tokens/of-careful", "/audit", "/users", "/bindings"):
        assert secret not in place.control.admin("GET", path).body.decode()
    assert secret not in place.control.output()
    dump = b"".join(path.read_bytes() for path in place.control.data.glob("penstock.db*"))
    assert secret.encode() not in dump


def test_the_audit_log_says_who_it_was_and_under_which_request(place: Place) -> None:
    admin = place.token("boss", "admin", {"organisation": "default"})
    answer = place.ask(admin, "POST", "/teams", {"name": "boss-team"})
    row = place.control.admin("GET", "/audit?kind=team&name=boss-team").json()["items"][0]
    assert (row["actor"], row["actor_kind"], row["address"]) == ("boss", "user", "127.0.0.1")
    assert row["request_id"] == answer.headers["x-request-id"]
    bootstrap = place.control.admin("GET", "/audit?kind=team&name=growth").json()["items"][0]
    assert (bootstrap["actor"], bootstrap["actor_kind"]) == ("admin", "bootstrap")


@pytest.mark.parametrize(
    ("path", "like"),
    [
        ("/admin/v1/keys%2fother-key", "/admin/v1/keys/other-key"),
        ("/admin/v1/teams/..%2fkeys/other-key", "/admin/v1/teams/nowhere"),
        ("/admin/v1/%2e%2e/metrics", "/admin/v1/nowhere"),
        ("/admin/v1/%2e%2e/v1/status", "/admin/v1/nowhere"),
        ("//admin/v1/status", "/nowhere"),
        ("/metrics/../admin/v1/status", "/nowhere"),
        ("/metrics%2f..%2fadmin%2fv1%2fstatus", "/nowhere"),
        ("/healthz/", "/nowhere"),
        ("/admin/v1/status/", "/nowhere"),
        ("/ADMIN/v1/status", "/nowhere"),
    ],
)
def test_a_path_is_what_the_matched_route_says_however_it_is_written(place: Place, path: str, like: str) -> None:
    for headers in ({}, {"authorization": f"Bearer {place.developer}"}):
        assert (
            place.control.send("GET", path, None, headers).status
            == place.control.send("GET", like, None, headers).status
        )


def test_another_host_or_credential_changes_nothing_about_the_verdict(place: Place) -> None:
    dev, key = place.token("hopeful", "developer", {"project": "growth-web"}), f"Bearer {place.control.admin_key}"
    for extra in (
        {"host": "localhost"},
        {"x-forwarded-for": "10.0.0.1", "x-forwarded-host": "admin"},
        {"x-original-url": "/healthz", "x-rewrite-url": "/healthz"},
        {"x-api-key": place.control.admin_key},
        {"cookie": f"authorization={key}; __Host-penstock-session={place.control.admin_key}"},
        {"proxy-authorization": key},
        {"x-http-method-override": "GET"},
    ):
        headers = {"authorization": f"Bearer {dev}", **extra}
        assert place.control.send("GET", "/admin/v1/status", None, headers).status == 403, extra
        assert place.control.send("GET", "/admin/v1/status", None, extra).status == 401, extra
    virtual = place.made("/keys", {"name": "virtual", "team": "growth"})["secret"]
    assert place.ask(virtual, "GET", "/teams").status == 401
