"""Who is calling: a virtual key in any of the usual headers; everything else is refused before it costs anything."""

import time

import openai
import pytest

from penstock.testing.gateway import new_secret
from penstock.testing.lab import Lab, chat
from penstock.testing.wire import eventually


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_the_key_is_found_in_each_of_the_usual_headers(lab: Lab, name: str) -> None:
    secret = lab.secrets["ci"]
    value = f"Bearer {secret}" if name == "authorization" else secret
    assert lab.gateway.caller().post("/v1/chat/completions", chat(), {name: value}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {new_secret()}"},
        {"authorization": "Bearer "},
        {"authorization": "Basic cGs6cGs="},
        {"authorization": "Bearer sk-something-else"},
        {"x-api-key": "pk-short"},
        {"authorization": "Bearer pk-" + "x" * 8000},
        {"authorization": "Bearer pk-\xe9\xe8" + "x" * 41},
    ],
)
def test_a_call_without_a_known_key_is_401(lab: Lab, headers: dict[str, str]) -> None:
    answer = lab.gateway.caller().post("/v1/chat/completions", chat(), headers)
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.headers["x-penstock-error"] == "invalid_api_key"
    assert answer.request_id
    assert not lab.provider.received


def test_the_sdk_raises_its_own_authentication_error(lab: Lab) -> None:
    client = openai.OpenAI(base_url=f"{lab.gateway.url}/v1", api_key=new_secret(), max_retries=0)
    with client, pytest.raises(openai.AuthenticationError) as told:
        client.chat.completions.create(**chat())
    assert told.value.code == "invalid_api_key"


def test_a_model_that_does_not_exist_is_404(lab: Lab) -> None:
    answer = lab.chat("ci", model="no-such-model")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert answer.headers["x-penstock-error"] == "model_not_found"


def test_a_model_that_the_key_may_not_use_is_403(lab: Lab) -> None:
    answer = lab.chat("narrow")
    assert (answer.status, answer.error["code"]) == (403, "not_permitted")
    assert lab.chat("narrow", model="other-model").status == 200


def _created(lab: Lab, name: str, **more: object) -> dict[str, str]:
    answer = lab.gateway.admin("POST", "/admin/v1/keys", {"name": name, "team": "other", **more})
    assert answer.status in (200, 201), answer.body
    created: dict[str, str] = answer.json()
    assert created["secret"].startswith("pk-")
    return created


def test_a_created_key_works_at_once_and_its_secret_is_shown_once(lab: Lab) -> None:
    created = _created(lab, "made-by-api")
    caller = lab.gateway.caller(created["secret"])
    eventually(lambda: caller.post("/v1/chat/completions", chat()).status == 200, 2, "the key is known")
    shown = lab.gateway.admin("GET", "/admin/v1/keys/made-by-api")
    assert shown.status == 200
    assert created["secret"] not in shown.body.decode()
    assert created["secret"] not in lab.gateway.admin("GET", "/admin/v1/keys").body.decode()


def test_a_key_stops_working_when_it_expires(lab: Lab) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    created = _created(lab, "expiring", expires_at=soon)
    caller = lab.gateway.caller(created["secret"])
    eventually(lambda: caller.post("/v1/chat/completions", chat()).status == 200, 2, "the key is known")
    eventually(lambda: caller.post("/v1/chat/completions", chat()).status == 401, 6, "the key has expired")


def test_a_revoked_key_stops_working(lab: Lab) -> None:
    created = _created(lab, "to-be-revoked")
    caller = lab.gateway.caller(created["secret"])
    eventually(lambda: caller.post("/v1/chat/completions", chat()).status == 200, 2, "the key is known")
    assert lab.gateway.run("key", "revoke", "to-be-revoked").returncode == 0
    eventually(lambda: caller.post("/v1/chat/completions", chat()).status == 401, 2, "the key is revoked")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("GET", "/"), ("DELETE", "/v1/models")])
def test_an_unknown_address_is_a_4xx_in_the_envelope(lab: Lab, method: str, path: str) -> None:
    answer = lab.caller("ci").send(method, path, None)
    assert answer.status in (404, 405)
    assert answer.error["message"]
    assert answer.request_id
