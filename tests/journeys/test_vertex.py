"""Vertex through a real gateway: a service account's tokens are fetched once and used until shortly before they end."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import Reply, WireServer

ASK = {"contents": [{"parts": [{"text": "Name a river."}]}], "generationConfig": {"maxOutputTokens": 20}}
MESSAGE = {"max_tokens": 20, "messages": [{"role": "user", "content": "Name a river."}]}
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "The Po."}], "role": "model"}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 7},
}
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "The Po."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 4, "output_tokens": 3},
}


class Cloud(WireServer):
    """Gives tokens at `/token`, and answers whoever has the last one. `lifetime_s`: of a token."""

    def __init__(self) -> None:
        super().__init__()
        self.lifetime_s = 3600
        self.given = 0

    async def answer(self, reply: Reply) -> None:
        headers = [("content-type", "application/json")]
        if reply.received.path == "/token":
            self.given += 1
            token = {"access_token": f"token-{self.given}", "expires_in": self.lifetime_s}
            await reply.whole(200, headers, json.dumps(token).encode())
        elif reply.received.header("authorization") != f"Bearer token-{self.given}":
            await reply.whole(401, headers, b'{"error":{"code":401,"message":"no","status":"UNAUTHENTICATED"}}')
        else:
            told = CLAUDE if "publishers/anthropic" in reply.received.path else GEMINI
            await reply.whole(200, headers, json.dumps(told).encode())


def _account(cloud: Cloud) -> str:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps({"client_email": "a@p.iam", "private_key": pem, "token_uri": f"{cloud.origin}/token"})


@pytest.fixture
def key() -> str:
    return new_secret()


def _config(cloud: Cloud) -> dict[str, object]:
    price = usd_price(1, 10)
    return {
        "providers": [
            {
                "name": "cloud",
                "kind": "vertex",
                "base_url": cloud.origin,
                "options": {"project": "acme", "location": "us-east5"},
                "credentials": [{"name": "main", "value": "env:ACCOUNT"}],
            }
        ],
        "models": [
            {"name": name, "targets": [{"provider": "cloud", "model": model}], "price": price}
            for name, model in (("gemini", "gemini-2.5-flash"), ("claude", "claude-haiku-4-5"))
        ],
        "teams": [{"name": "growth"}],
        "keys": [{"name": "ci", "team": "growth", "secret": "env:CALLER_KEY"}],
    }


def _gateway(folder: Path, cloud: Cloud, key: str) -> Gateway:
    return Gateway(folder, _config(cloud), {"CALLER_KEY": key, "ACCOUNT": _account(cloud)})


def test_tokens_are_fetched_when_they_are_needed(tmp_path: Path, key: str) -> None:
    with (
        Cloud() as cloud,
        Gateway(tmp_path, _config(cloud), {"CALLER_KEY": key, "ACCOUNT": _account(cloud)}) as gateway,
    ):
        caller = gateway.caller(key)
        for _ in range(2):
            answer = caller.post("/v1beta/models/gemini:generateContent", ASK)
            assert (answer.status, answer.json()) == (200, GEMINI)
        answer = caller.post("/v1/messages", {**MESSAGE, "model": "claude"})
        assert (answer.status, answer.json()) == (200, CLAUDE)
        assert gateway.receipt(answer.request_id)["usage"]["output"] == 3
        assert cloud.given == 1
        translated = caller.post("/v1beta/models/claude:generateContent", ASK)
        assert translated.json()["candidates"][0]["content"]["parts"] == [{"text": "The Po."}]
        calls = [received for received in cloud.received if received.path != "/token"]
        assert all(key not in str(received.headers) for received in calls)
        assert calls[0].path.startswith("/v1/projects/acme/locations/us-east5/publishers/google/models/")
        assert calls[2].json()["anthropic_version"] == "vertex-2023-10-16"


def test_a_token_that_ends_soon_is_not_used_again(tmp_path: Path, key: str) -> None:
    with (
        Cloud() as cloud,
        Gateway(tmp_path, _config(cloud), {"CALLER_KEY": key, "ACCOUNT": _account(cloud)}) as gateway,
    ):
        cloud.lifetime_s = 60
        for _ in range(2):
            assert gateway.caller(key).post("/v1beta/models/gemini:generateContent", ASK).status == 200
        assert cloud.given == 2
