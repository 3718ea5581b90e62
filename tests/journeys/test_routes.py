"""Whatever a request looks like, its verdict is that of the route it meets: a host, dots, slashes in other clothes and
other headers open no way around."""

import pytest

from penstock.testing.caller import Caller
from penstock.testing.lab import Lab, chat
from penstock.testing.wire import eventually

CALL = "/v1/chat/completions"
DISGUISES = (
    "/v1/../v1/chat/completions",
    "/v1/./chat/completions",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat/completions/",
    "/v1/%2e%2e/v1/chat/completions",
    "/V1/chat/completions",
    "/v1/chat/completions;x=1",
    "/v1/chat/completions%00",
    "/healthz/../v1/chat/completions",
    "/readyz/..%2f..%2fv1/chat/completions",
    "/\\v1\\chat\\completions",
)
ENCODED = ("/v1%2Fchat%2Fcompletions", "/v1/chat%2fcompletions", "/v1/%63hat/completions")
"""These are the path itself, written otherwise."""
KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


@pytest.mark.parametrize("path", DISGUISES)
def test_a_path_in_disguise_reaches_no_provider(lab: Lab, path: str) -> None:
    for key in ({}, {"authorization": f"Bearer {lab.secrets['ci']}"}):
        answer = lab.gateway.caller().post(path, chat(), key)
        assert answer.status in (400, 401, 404), (path, answer.body)
        assert answer.headers["x-request-id"]
    assert lab.provider.received == []


@pytest.mark.parametrize("path", ENCODED)
def test_an_encoded_path_has_the_verdict_of_what_it_decodes_to(lab: Lab, path: str) -> None:
    verdicts = {"": 401, lab.secrets["narrow"]: 403, "pk-wrong": 401, lab.secrets["ci"]: 200}
    for secret, status in verdicts.items():
        answer = lab.gateway.caller(secret).post(path, chat())
        assert answer.status == status == lab.gateway.caller(secret).post(CALL, chat()).status
    charged = lab.gateway.receipt(answer.request_id)
    assert (charged["key"], charged["surface"]) == ("ci", "chat.completions")
    assert charged["cost_nanousd"] > 0


@pytest.mark.parametrize(
    "path", ["/v1/models/../receipts/x", "/v1/models%2F..", "/v1/receipts/..%2fmodels", "/v1/models/"]
)
def test_a_disguised_look_needs_a_key_like_any_other(lab: Lab, path: str) -> None:
    assert lab.gateway.caller().get(path).status in (400, 401, 404)
    assert lab.caller("ci").get(path).status in (400, 404)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "localhost", "[::1]", "admin.internal:8081"])
def test_the_host_that_a_caller_writes_changes_nothing(lab: Lab, host: str) -> None:
    allowed = lab.chat("ci", {"host": host, "x-forwarded-host": host, "x-original-url": "/healthz"})
    refused = lab.gateway.caller().post(CALL, chat(), {"host": host, "x-rewrite-url": "/healthz"})
    assert (allowed.status, refused.status) == (200, 401)
    key = {"authorization": f"Bearer {lab.gateway.admin_key}"}
    assert lab.gateway.caller().get("/admin/v1/teams", {"host": host, **key}).status == 404


def test_a_whole_address_as_the_target_is_the_path_in_it_or_nothing(lab: Lab) -> None:
    body = b'{"model": "lab-model", "messages": []}'
    for key in ("", f"authorization: Bearer {lab.secrets['ci']}\r\n"):
        head = f"POST http://evil.example{CALL} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{key}"
        request = f"{head}content-length: {len(body)}\r\n\r\n"
        with lab.gateway.caller().say(request.encode() + body) as call:
            assert call.status in (400, 401, 404)


@pytest.mark.parametrize("name", KEY_HEADERS)
def test_every_header_that_can_hold_a_key_has_the_same_verdict(lab: Lab, name: str) -> None:
    def written(secret: str) -> dict[str, str]:
        return {name: f"Bearer {secret}" if name == "authorization" else secret}

    caller = lab.gateway.caller()
    assert caller.post(CALL, chat(), written(lab.secrets["ci"])).status == 200
    assert caller.post(CALL, chat("lab-model"), written(lab.secrets["narrow"])).status == 403
    assert caller.post(CALL, chat(), written("pk-" + "x" * 40)).status == 401
    assert caller.post(CALL, chat(), written(lab.gateway.admin_key)).status == 401


def test_of_two_keys_the_first_header_counts_and_the_other_does_not_help(lab: Lab) -> None:
    good, narrow = lab.secrets["ci"], lab.secrets["narrow"]
    caller = lab.gateway.caller()
    assert caller.post(CALL, chat(), {"authorization": f"Bearer {narrow}", "x-api-key": good}).status == 403
    assert caller.post(CALL, chat(), {"authorization": "Bearer pk-wrong", "x-api-key": good}).status == 401
    assert caller.post(CALL, chat(), {"x-api-key": narrow, "api-key": good}).status == 403


def test_a_stopped_key_is_stopped_under_every_header(lab: Lab) -> None:
    raised = lab.gateway.admin("POST", "/admin/v1/kill", {"scope": {"key": "second"}, "reason": "a drill"}).json()
    secret, caller = lab.secrets["second"], lab.gateway.caller()
    ways = [{name: f"Bearer {secret}" if name == "authorization" else secret} for name in KEY_HEADERS]
    eventually(lambda: [caller.post(CALL, chat(), way).status for way in ways] == [403] * len(ways), 5, "it is stopped")
    lab.gateway.admin("DELETE", f"/admin/v1/kill/{raised['generation']}", {"reason": "over"})
    eventually(lambda: caller.post(CALL, chat(), ways[0]).status == 200, 5, "it may call again")


@pytest.mark.parametrize(
    "path",
    [
        "/admin/v1/../v1/teams",
        "//admin/v1/teams",
        "/admin/v1/teams/",
        "/admin%2Fv1%2Fteams",
        "/admin/v1%2fteams",
        "/metrics/../admin/v1/teams",
        "/healthz/..%2fadmin/v1/teams",
        "/ADMIN/v1/teams",
        "/admin/v1/teams%00",
        "/metrics;/admin/v1/teams",
    ],
)
def test_a_path_in_disguise_opens_no_way_into_the_admin_plane(lab: Lab, path: str) -> None:
    for headers in ({}, {"x-api-key": lab.gateway.admin_key}, {"host": "127.0.0.1", "x-original-url": "/metrics"}):
        answer = Caller(lab.gateway.admin_url).send("GET", path, None, {"connection": "close", **headers})
        assert answer.status in (400, 401, 404), (path, headers, answer.body)
        assert b"growth" not in answer.body
