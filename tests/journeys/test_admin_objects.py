"""The admin plane over HTTP: the nouns, who may ask, and how refusals read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penstock.testing.caller import Answer, Caller
from penstock.testing.control import ControlProcess

CONFIG: dict[str, Any] = {
    "providers": [
        {
            "name": "lab",
            "kind": "compatible",
            "base_url": "http://127.0.0.1:9/v1",
            "credentials": [{"name": "main", "value": "env:LAB_KEY"}],
        }
    ],
    "models": [
        {"name": "gpt-4.1", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 2, "output": 8}},
        {"name": "lab/*"},
    ],
    "teams": [{"name": "growth"}],
    "projects": [{"name": "search", "team": "growth", "environment": "production"}],
    "keys": [{"name": "ci", "team": "growth", "project": "search", "secret": "env:CI_KEY"}],
    "limits": [{"name": "growth-monthly", "match": {"team": "growth"}, "unit": "usd", "amount": 100, "per": "month"}],
}
CANARY = "sk-canary-5e1b9d"
CI_KEY = "pk-canary-0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    directory = tmp_path_factory.mktemp("admin")
    with ControlProcess(directory, CONFIG, {"LAB_KEY": CANARY, "CI_KEY": CI_KEY}) as control:
        yield control
        output = control.output()
        assert CANARY not in output
        assert CI_KEY not in output
        assert "Traceback" not in output
        assert '"level":"error"' not in output


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem that `answer` must be."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= said.keys()
    assert (said["status"], said["code"]) == (status, code)
    assert said["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in said["detail"]
    return said


def test_an_object_is_created_read_changed_listed_and_deleted(control: ControlProcess) -> None:
    made = control.admin("POST", "/teams", {"name": "alpha", "required_tags": ["feature"]})
    assert made.status == 201
    assert made.headers["location"] == "/admin/v1/teams/alpha"
    assert made.json()["origin"] == "api"
    assert control.admin("GET", "/teams/alpha").json() == made.json()
    changed = control.admin("PATCH", "/teams/alpha", {"required_tags": []})
    assert changed.status == 200
    assert changed.json()["required_tags"] == []
    assert "alpha" in [team["name"] for team in control.admin("GET", "/teams").json()["items"]]
    deleted = control.admin("DELETE", "/teams/alpha")
    assert (deleted.status, deleted.body) == (204, b"")
    problem(control.admin("GET", "/teams/alpha"), 404, "not_found")


@pytest.mark.parametrize(
    ("noun", "body", "change"),
    [
        ("projects", {"name": "ads", "team": "growth"}, {"environment": "staging"}),
        ("users", {"name": "eve"}, None),
        ("keys", {"name": "bot", "team": "growth", "models": ["gpt-4.1"]}, {"tags": {"feature": "x"}}),
        (
            "limits",
            {"name": "small", "match": {"team": "growth"}, "unit": "usd", "amount": "0.10", "per": "day"},
            {"amount": 0.25},
        ),
        (
            "providers",
            {"name": "two", "kind": "compatible", "base_url": "http://127.0.0.1:9/v1"},
            {"timeouts": {"total": "5s"}},
        ),
        ("models", {"name": "lab/special", "targets": [{"provider": "lab", "model": "x"}]}, {"max_output": 7}),
    ],
)
def test_every_noun_has_its_verbs(
    control: ControlProcess, noun: str, body: dict[str, Any], change: dict[str, Any] | None
) -> None:
    name = body["name"]
    made = control.admin("POST", f"/{noun}", body)
    assert made.status == 201, made.body
    assert control.admin("GET", f"/{noun}/{name}").json()["name"] == name
    if change is not None:
        changed = control.admin("PATCH", f"/{noun}/{name}", change)
        assert changed.status == 200, changed.body
        assert changed.json() != made.json()
    assert control.admin("DELETE", f"/{noun}/{name}").status == 204


def test_money_is_exact_whether_it_comes_as_a_number_or_as_text(control: ControlProcess) -> None:
    body = b'{"name": "cents", "match": {"team": "growth"}, "unit": "usd", "amount": 0.1, "per": "day"}'
    made = control.admin("POST", "/limits", body)
    assert (made.json()["amount"], made.json()["amount_nanousd"]) == ("0.1", 100_000_000)
    changed = control.admin("PATCH", "/limits/cents", {"amount": "0.000000001"})
    assert changed.json()["amount_nanousd"] == 1
    assert control.admin("DELETE", "/limits/cents").status == 204


def test_a_keys_secret_is_shown_once_in_the_answer_that_creates_it(control: ControlProcess) -> None:
    made = control.admin("POST", "/keys", {"name": "once", "team": "growth"}).json()
    assert made["secret"].startswith("pk-")
    assert {"id", "name", "team", "project", "prefix", "secret", "expires_at"} <= made.keys()
    for path in ("/keys/once", f"/keys/{made['id']}", "/keys", "/audit?kind=key&name=once"):
        answer = control.admin("GET", path)
        assert answer.status == 200
        assert made["secret"] not in answer.body.decode()
    revoked = control.admin("POST", "/keys/once/revoke")
    assert revoked.status == 200
    assert revoked.json()["revoked_at"] is not None
    assert made["secret"] not in control.output()


def test_listings_come_in_pages_that_follow_each_other(control: ControlProcess) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        assert control.admin("POST", "/users", {"name": name}).status == 201
    seen, after, pages = [], "", 0
    while True:
        page = control.admin("GET", f"/users?limit=2{after}").json()
        seen += [user["name"] for user in page["items"]]
        pages += 1
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert [name for name in seen if name.startswith("page-")] == names
    assert pages >= 3
    for name in names:
        assert control.admin("DELETE", f"/users/{name}").status == 204


def test_what_the_file_declares_is_changed_in_the_file_alone(control: ControlProcess) -> None:
    for method, path, body in (
        ("PATCH", "/teams/growth", {"required_tags": ["x"]}),
        ("DELETE", "/teams/growth", None),
        ("DELETE", "/keys/ci", None),
        ("PATCH", "/limits/growth-monthly", {"amount": 5}),
    ):
        problem(control.admin(method, path, body), 409, "declared")


def test_names_are_unique_and_what_is_in_use_is_not_deleted(control: ControlProcess) -> None:
    problem(control.admin("POST", "/teams", {"name": "growth"}), 409, "conflict")
    assert control.admin("POST", "/teams", {"name": "used"}).status == 201
    assert control.admin("POST", "/projects", {"name": "user-of", "team": "used"}).status == 201
    said = problem(control.admin("DELETE", "/teams/used"), 409, "conflict")
    assert "user-of" in said["detail"]
    assert control.admin("DELETE", "/projects/user-of").status == 204
    assert control.admin("DELETE", "/teams/used").status == 204


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/teams", {"name": "x", "colour": "red"}, "colour"),
        ("/teams", {}, "name"),
        ("/teams", {"name": 5}, "name"),
        ("/teams", {"name": "a b"}, "name"),
        ("/projects", {"name": "x", "team": "nobody"}, "team"),
        ("/keys", {"name": "x", "team": "growth", "models": ["unheard-of"]}, "models[0]"),
        ("/keys", {"name": "x", "team": "growth", "secret": "pk-mine"}, "secret"),
        ("/limits", {"name": "x", "match": {"team": "growth"}, "unit": "usd", "amount": -1, "per": "day"}, "amount"),
        ("/limits", {"match": {"team": "nobody"}, "unit": "usd", "amount": 1, "per": "day"}, "match.team"),
        ("/models", {"name": "x", "targets": [{"provider": "nobody", "model": "m"}]}, "targets[0].provider"),
        ("/kill", {"scope": {"team": "growth"}, "reason": "x", "wait": True}, "wait"),
        ("/kill", {"scope": {"team": "nobody"}, "reason": "x"}, "scope.team"),
        ("/kill", {"scope": {"all": True}, "reason": " "}, "reason"),
        ("/kill", {"scope": "all", "reason": "x"}, "scope"),
    ],
)
def test_a_body_with_a_fault_is_refused_with_its_place(
    control: ControlProcess, path: str, body: dict[str, Any], place: str
) -> None:
    said = problem(control.admin("POST", path, body), 422, "invalid")
    assert said["errors"][0]["place"] == place
    assert said["errors"][0]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"name": NaN}',
        b"[" * 50_000,
        b'{"name": "x"} trailing',
        b'{"name": ' + b"9" * 4_000 + b"}",
        b'"name"',
        b"[]",
        b"null",
    ],
)
def test_what_is_no_json_object_is_refused_fast_and_without_a_trace(control: ControlProcess, body: bytes) -> None:
    answer = control.admin("POST", "/teams", body)
    assert answer.status in {400, 422}
    problem(answer, answer.status, {400: "invalid_request", 422: "invalid"}[answer.status])
    assert answer.elapsed_ms < 1_000


def test_a_body_over_the_limit_is_refused_before_it_is_read(control: ControlProcess) -> None:
    key = {"authorization": f"Bearer {control.admin_key}"}
    declared = control.send("POST", "/admin/v1/teams", None, {**key, "content-length": "1048577"})
    problem(declared, 413, "request_too_large")
    with Caller(control.url, key).say(
        b"POST /admin/v1/teams HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nauthorization: "
        + key["authorization"].encode()
        + b"\r\n\r\n"
    ) as call:
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        try:
            for _ in range(40):
                call.socket.sendall(chunk)
        except ConnectionError:
            pass
        assert call.status == 413


@pytest.mark.parametrize(
    "path",
    ["/admin/v1/teams", "/admin/openapi.json", "/admin/v1/nothing", "/", "/docs", "//admin/v1/teams", "/metrics/"],
)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic xyz"}])
def test_nobody_gets_anywhere_without_the_key(control: ControlProcess, path: str, headers: dict[str, str]) -> None:
    answer = control.send("GET", path, None, headers)
    problem(answer, 401, "invalid_admin_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_callers_key_is_no_administrators_key(control: ControlProcess) -> None:
    answer = control.send("GET", "/admin/v1/teams", None, {"authorization": f"Bearer {CI_KEY}"})
    problem(answer, 401, "invalid_admin_key")


def test_two_authorization_headers_are_one_too_many(control: ControlProcess) -> None:
    key = f"authorization: Bearer {control.admin_key}\r\n".encode()
    request = (
        b"GET /admin/v1/teams HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + key + b"authorization: Bearer x\r\n\r\n"
    )
    with Caller(control.url).say(request) as call:
        assert call.status == 401


def test_paths_methods_and_parameters_that_do_not_exist_are_problems(control: ControlProcess) -> None:
    problem(control.admin("GET", "/nothing"), 404, "not_found")
    problem(control.admin("PUT", "/teams", {}), 405, "method_not_allowed")
    problem(control.admin("PATCH", "/users/eve", {}), 405, "method_not_allowed")
    said = problem(control.admin("GET", "/teams?colour=red"), 422, "invalid")
    assert said["errors"][0]["place"] == "colour"
    said = problem(control.admin("GET", "/teams?limit=many"), 422, "invalid")
    assert said["errors"][0]["place"] == "limit"
    problem(control.admin("GET", "/teams?limit=0"), 422, "invalid")
    problem(control.admin("GET", "/usage?by=colour"), 422, "invalid")
    problem(control.admin("GET", "/usage?since=yesterday"), 422, "invalid")
    problem(control.admin("GET", "/receipts?after=9"), 422, "invalid")
    assert control.admin("GET", "/receipts?after=9999999999999999999:x").status == 200
    problem(control.admin("GET", "/receipts/req_none"), 404, "not_found")
    problem(control.admin("GET", "/kill/99"), 404, "not_found")
    problem(control.admin("GET", "/kill/99999999999999999999999"), 422, "invalid")
    problem(control.admin("GET", "/kill/seven"), 422, "invalid")


def test_a_providers_credential_is_a_name_and_never_a_value(control: ControlProcess) -> None:
    for path in ("/providers", "/providers/lab", "/audit", "/config", "/status"):
        answer = control.admin("GET", path)
        assert answer.status == 200
        assert CANARY not in answer.body.decode()
    assert control.admin("GET", "/providers/lab").json()["credentials"] == [{"name": "main", "weight": 1}]


def test_every_change_is_in_the_audit_log_with_who_made_it(control: ControlProcess) -> None:
    control.admin("POST", "/teams", {"name": "audited"})
    control.admin("PATCH", "/teams/audited", {"required_tags": ["x"]})
    control.admin("DELETE", "/teams/audited")
    rows = control.admin("GET", "/audit?kind=team&name=audited").json()["items"]
    assert [(row["actor"], row["action"]) for row in rows] == [
        ("admin", "delete"),
        ("admin", "update"),
        ("admin", "create"),
    ]
    assert rows[1]["before"]["required_tags"] == []
    assert rows[1]["after"]["required_tags"] == ["x"]


def test_the_openapi_document_knows_every_path_and_every_field(control: ControlProcess) -> None:
    answer = control.send("GET", "/admin/openapi.json", None, {"authorization": f"Bearer {control.admin_key}"})
    assert answer.status == 200
    document = answer.json()
    for noun in ("teams", "projects", "users", "keys", "limits", "providers", "models"):
        assert {"get", "post"} <= document["paths"][f"/admin/v1/{noun}"].keys()
    assert {"get", "delete"} <= document["paths"]["/admin/v1/kill/{generation}"].keys()
    team = document["components"]["schemas"]["Team"]
    assert set(team["properties"]) == {"name", "organisation", "required_tags", "tags_from"}
    assert team["required"] == ["name"]
    assert "required" not in document["components"]["schemas"]["TeamChanges"]
    references = set(_references(document))
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_the_examples_of_the_openapi_document_are_what_its_schemas_say(control: ControlProcess) -> None:
    document = control.send("GET", "/admin/openapi.json", None, {"authorization": f"Bearer {control.admin_key}"}).json()
    shown = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in media.get("examples", {}).values():
                schema = {**media["schema"], "components": document["components"]}
                jsonschema.validate(example["value"], schema, jsonschema.Draft202012Validator)
                shown += 1
    assert shown >= 15


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_every_answer_has_a_request_id_of_its_own(control: ControlProcess) -> None:
    answers = [control.send("GET", path) for path in ("/healthz", "/metrics", "/admin/v1/teams", "/healthz")]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 4


def test_head_and_options_do_not_open_a_way_in(control: ControlProcess) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE"):
        with Caller(control.url).say(
            f"{method} /admin/v1/teams HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        ) as call:
            assert call.status in {401, 405}


def test_the_data_directory_holds_nothing_that_others_can_read(control: ControlProcess) -> None:
    def others(path: Path) -> int:
        return path.stat().st_mode & 0o077

    assert [path for path in [control.data, *control.data.rglob("*")] if others(path)] == []
