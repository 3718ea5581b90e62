"""Tokens of some minutes: of a key, of a workload's identity, and what an API gateway in front says of its callers."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from penstock.testing.caller import Answer
from penstock.testing.lab import Lab, chat
from penstock.testing.wire import eventually

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
KEY, JWT = "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt"
FORM = {"content-type": "application/x-www-form-urlencoded"}
ISSUER, FRONT = "https://issuer.test", "https://front.test"
OLD, NEW = RSAKey.generate_key(2048, {"kid": "old"}), RSAKey.generate_key(2048, {"kid": "new"})
GATEWAYS = ECKey.generate_key("P-256", {"kid": "front"})


class Issuer:
    """Serves the public keys of an issuer, which can change; `looks` counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[Any] = [OLD]
        self.looks = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.looks += 1
                body = json.dumps({"keys": [key.as_dict(private=False) for key in issuer.keys]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing is said."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.fixture(scope="module")
def tokens(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("tokens")
    fronts = folder / "front.json"
    fronts.write_text(json.dumps({"keys": [GATEWAYS.as_dict(private=False)]}))
    rules = [
        {"claims": {"repository": "acme/search", "ref": ["refs/heads/main", "refs/tags/*"]}, "key": "search-ci"},
        {"claims": {"/kubernetes.io/namespace": "batch"}, "key": "team-key", "project": "search", "user": "sub"},
    ]
    identity = {
        "token_ttl": "5m",
        "issuers": [{"name": "lab", "issuer": ISSUER, "audience": "penstock", "jwks": issuer.url, "rules": rules}],
        "gateway": {
            "header": "X-Caller-Identity",
            "issuer": FRONT,
            "audience": "penstock",
            "jwks": f"file:{fronts}",
            "keys": ["edge"],
            "user": "sub",
            "tags": {"customer": "tenant"},
        },
    }
    keys: dict[str, dict[str, Any]] = {
        "search-ci": {"project": "search", "tokens_only": True, "models": ["lab-model"]},
        "team-key": {"team": "growth"},
        "narrow-key": {"team": "growth", "models": ["lab-model"]},
        "edge": {"team": "other"},
        "elsewhere": {"team": "growth", "allowed_cidrs": ["10.0.0.0/8"]},
    }
    limits = [{"name": "ci-calls", "match": {"key": "search-ci"}, "unit": "requests", "amount": 100, "per": "day"}]
    with Lab(folder / "gateway", keys, limits, {"identity": identity}) as lab:
        eventually(lambda: issuer.looks, 10, "the keys were fetched")
        yield lab


def _ask(lab: Lab, **form: str) -> Answer:
    body = urlencode({"grant_type": EXCHANGE, "subject_token_type": KEY, **form}).encode()
    return lab.gateway.caller().send("POST", "/v1/token", body, FORM)


def _token(lab: Lab, **form: str) -> str:
    answer = _ask(lab, **form)
    assert answer.status == 200, answer.body
    return str(answer.json()["access_token"])


def _stated(key: Any = OLD, alg: str = "RS256", **claims: Any) -> str:
    said = {"iss": ISSUER, "aud": "penstock", "sub": "job", "exp": int(time.time()) + 300, **claims}
    return jwt.encode({"alg": alg, "kid": key.kid}, said, key, algorithms=[alg])


def _workload(lab: Lab, token: str, **form: str) -> Answer:
    return _ask(lab, subject_token=token, subject_token_type=JWT, **form)


MAIN = {"repository": "acme/search", "ref": "refs/heads/main"}


def test_a_key_is_exchanged_for_a_token_of_one_project(tokens: Lab) -> None:
    secret = tokens.secrets["narrow-key"]
    answer = _ask(tokens, subject_token=secret, audience="search", scope="model:lab-model surface:chat.completions")
    assert answer.status == 200 and answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert (told["token_type"], told["issued_token_type"], told["expires_in"]) == ("Bearer", KEY, 300)
    caller = tokens.gateway.caller(told["access_token"])
    called = caller.post("/v1/chat/completions", chat())
    assert called.status == 200
    receipt = tokens.gateway.receipt(called.request_id)
    assert (receipt["key"], receipt["project"], receipt["environment"]) == ("narrow-key", "search", "production")
    assert caller.post("/v1/embeddings", {"model": "embed", "input": "x"}).status == 403
    assert caller.get(f"/v1/receipts/{called.request_id}").status == 200
    again = _ask(tokens, subject_token=told["access_token"], audience="search")
    assert again.status == 400, "a token makes no token"
    id = json.loads(base64.urlsafe_b64decode(told["access_token"].split(".")[1] + "=="))["jti"]
    recorded = tokens.gateway.admin("GET", "/admin/v1/audit?kind=exchange&name=narrow-key").json()["items"][0]
    assert (recorded["actor"], recorded["actor_kind"], recorded["address"]) == ("narrow-key", "key", "127.0.0.1")
    assert (recorded["request_id"], recorded["after"]["tokens"]) == (answer.headers["x-request-id"], [id])
    assert recorded["after"]["models"] == ["lab-model"]


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"subject_token": ""}, 400, "invalid_request"),
        ({"subject_token": "pk-" + "x" * 43}, 400, "invalid_request"),
        ({"subject_token_type": "password"}, 400, "invalid_request"),
        ({"audience": ""}, 400, "invalid_target"),
        ({"audience": "nothing"}, 400, "invalid_target"),
        ({"scope": "model:other-model"}, 400, "invalid_scope"),
        ({"scope": "everything"}, 400, "invalid_scope"),
        ({"nonsense": "1"}, 400, "invalid_request"),
    ],
)
def test_a_request_that_is_not_in_order_is_refused_in_the_words_of_oauth(
    tokens: Lab, form: dict[str, str], status: int, error: str
) -> None:
    answer = _ask(tokens, **{"subject_token": tokens.secrets["narrow-key"], "audience": "search", **form})
    assert (answer.status, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"] and answer.headers["x-penstock-error"]


def test_what_is_no_form_is_refused_and_so_is_a_key_from_elsewhere(tokens: Lab) -> None:
    caller = tokens.gateway.caller()
    assert caller.send("POST", "/v1/token", b"{}", {"content-type": "application/json"}).status == 400
    assert caller.send("POST", "/v1/token", b"a=1&a=2", FORM).status == 400
    assert caller.send("POST", "/v1/token", b"a=" + b"x" * 70_000, FORM).status == 413
    assert caller.get("/v1/token").status in (404, 405)
    elsewhere = _ask(tokens, subject_token=tokens.secrets["elsewhere"], audience="search")
    assert (elsewhere.status, elsewhere.json()["error"]) == (403, "access_denied")


def test_a_workload_gets_a_token_of_the_key_that_its_claims_name(tokens: Lab) -> None:
    token = _workload(tokens, _stated(**MAIN)).json()["access_token"]
    called = tokens.gateway.caller(token).post("/v1/chat/completions", chat())
    assert called.status == 200
    receipt = tokens.gateway.receipt(called.request_id)
    assert (receipt["key"], receipt["project"], receipt["user"]) == ("search-ci", "search", "")
    assert tokens.gateway.caller(token).post("/v1/chat/completions", chat("other-model")).status == 403
    assert tokens.gateway.settled("ci-calls") == 1
    pod = _workload(tokens, _stated(**{"kubernetes.io": {"namespace": "batch"}, "sub": "indexer"})).json()
    called = tokens.gateway.caller(pod["access_token"]).post("/v1/chat/completions", chat())
    receipt = tokens.gateway.receipt(called.request_id)
    assert (receipt["key"], receipt["project"], receipt["user"]) == ("team-key", "search", "indexer")


@pytest.mark.parametrize(
    "token",
    [
        lambda: _stated(repository="acme/other"),
        lambda: _stated(**MAIN, aud="somebody"),
        lambda: _stated(**MAIN, iss="https://other.test"),
        lambda: _stated(**MAIN, exp=int(time.time()) - 60),
        lambda: _stated(**MAIN, nbf=int(time.time()) + 120),
        lambda: _stated(GATEWAYS, "ES256", **MAIN),
        lambda: "a.b.c",
    ],
)
def test_a_workload_that_nobody_vouches_for_gets_nothing(tokens: Lab, token: Any) -> None:
    answer = _workload(tokens, token())
    assert answer.status == 400 and answer.json()["error"] == "invalid_request"


def test_a_new_key_of_an_issuer_is_looked_for_once_it_is_met(tokens: Lab, issuer: Issuer) -> None:
    issuer.keys = [NEW]
    eventually(lambda: _workload(tokens, _stated(NEW, **MAIN)).status == 200, 20, "the new key is known")
    assert _workload(tokens, _stated(OLD, **MAIN)).status == 400, "the one that is gone is trusted no more"
    looks = issuer.looks
    for _ in range(3):
        assert _workload(tokens, _stated(RSAKey.generate_key(2048, {"kid": "x"}), **MAIN)).status == 400
    assert issuer.looks <= looks + 1, "strangers cannot make the gateway ask over and over"
    issuer.keys = [OLD, NEW]


def test_a_token_is_stopped_with_its_key_and_who_is_stopped_gets_none(tokens: Lab) -> None:
    secret = tokens.secrets["team-key"]
    token = _token(tokens, subject_token=secret, audience="search")
    caller = tokens.gateway.caller(token)
    for scope in ({"key": "team-key"}, {"project": "search"}, {"team": "growth"}):
        answer = tokens.gateway.admin("POST", "/admin/v1/kill", {"scope": scope, "reason": "a test"})
        generation = answer.json()["generation"]
        eventually(
            lambda: caller.post("/v1/chat/completions", chat()).headers.get("x-penstock-error") == "killed",
            2,
            "stopped",
        )
        if "project" not in scope:
            refused = _ask(tokens, subject_token=secret, audience="search")
            assert (refused.status, refused.headers["x-penstock-error"]) == (403, "killed")
        assert tokens.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "over"}).status == 200
        eventually(lambda: caller.post("/v1/chat/completions", chat()).status == 200, 2, "lifted")


def test_a_token_ends_with_the_secret_and_with_the_key_that_it_was_made_with(tokens: Lab) -> None:
    made = tokens.gateway.admin("POST", "/admin/v1/keys", {"name": "short", "project": "search"}).json()
    caller = tokens.gateway.caller(_token(tokens, subject_token=made["secret"]))
    assert caller.post("/v1/chat/completions", chat()).status == 200
    rotated = tokens.gateway.admin("POST", "/admin/v1/keys/short/rotate", {}).json()
    assert caller.post("/v1/chat/completions", chat()).status == 401
    second = tokens.gateway.caller(_token(tokens, subject_token=rotated["secret"]))
    assert second.post("/v1/chat/completions", chat()).status == 200
    assert tokens.gateway.admin("POST", "/admin/v1/keys/short/revoke").status == 200
    assert second.post("/v1/chat/completions", chat()).status == 401
    assert _ask(tokens, subject_token=rotated["secret"]).status == 400


def _fronted(lab: Lab, said: str | None, **headers: str) -> Answer:
    identity = {} if said is None else {"x-caller-identity": said}
    return lab.chat("edge", {**identity, **headers})


def test_a_gateway_in_front_says_whose_call_it_is(tokens: Lab) -> None:
    said = _stated(GATEWAYS, "ES256", iss=FRONT, sub="ana@acme.test", tenant="acme")
    answer = _fronted(tokens, said, **{"x-penstock-tags": "feature=search"})
    assert answer.status == 200
    receipt = tokens.gateway.receipt(answer.request_id)
    assert (receipt["user"], receipt["customer"]) == ("ana@acme.test", "acme")
    assert receipt["tags"] == {"feature": "search", "customer": "acme"}
    assert all("x-caller-identity" not in seen.headers for seen in tokens.provider.received), "it goes no further"
    assert _fronted(tokens, said, **{"x-penstock-tags": "customer=zenith"}).status == 403
    for nobody in (None, "nonsense", _stated(OLD, iss=FRONT, sub="ana"), _stated(GATEWAYS, "ES256", iss=FRONT, sub=7)):
        assert _fronted(tokens, nobody).status == 401
    through_a_token = tokens.gateway.admin("POST", "/admin/v1/projects", {"name": "other-project", "team": "other"})
    assert through_a_token.status == 201
    token = _token(tokens, subject_token=tokens.secrets["edge"], audience="other-project")
    assert tokens.gateway.caller(token).post("/v1/chat/completions", chat()).status == 401
