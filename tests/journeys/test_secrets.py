"""No secret is in any output: not in answers, logs, metrics, receipts or errors, whatever is thrown at the gateway."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.testing.lab import CREDENTIAL_CANARY, Lab, chat
from penstock.testing.scripted import fails, garbage, resets

MakeLab = Callable[..., Lab]
CONTENT_CANARY = "the-content-canary-5b2e"


@pytest.fixture
def own(own_lab: MakeLab) -> Lab:
    return own_lab()


def test_no_secret_and_no_content_is_in_any_output(own: Lab) -> None:
    told: list[bytes] = []
    body = chat(messages=[{"role": "user", "content": CONTENT_CANARY}])

    def call(**more: object) -> None:
        answer = own.caller("ci").post("/v1/chat/completions", {**body, **more})
        told.append(str(answer.headers).encode())
        if answer.status >= 400:
            told.append(answer.body)
        told.append(own.caller("ci").get(f"/v1/receipts/{answer.request_id}").body)

    call()
    call(stream=True)
    own.provider.on("lab-upstream", fails(401, {"error": {"message": f"bad key {CREDENTIAL_CANARY}"}}))
    call()
    own.provider.on("lab-upstream", garbage(), resets())
    call()
    call()
    own.provider.on("lab-upstream", fails(500, b"oops"))
    call()
    call(model="no-such-model", max_tokens=-1)
    own.gateway.caller("pk-wrong-" + own.secrets["ci"][9:]).post("/v1/chat/completions", body)
    own.caller("ci").post("/v1/chat/completions", body, {"x-penstock-tags": "feature"})
    for path in ("keys", "providers", "models", "limits", "usage?by=key", "receipts", "audit", "status", "config"):
        told.append(own.gateway.admin("GET", f"/admin/v1/{path}").body)
    told.append(own.gateway.admin("GET", "/metrics").body)
    for command in (["doctor", "-c", str(own.gateway.file)], ["usage", "--by", "key"], ["key", "list", "--json"]):
        done = own.gateway.run(*command)
        told.append((done.stdout + done.stderr).encode())
    own.gateway.stop()
    told.append(own.gateway.output().encode())
    everything = b"\n".join(told)
    secrets = [*own.secrets.values(), CREDENTIAL_CANARY, own.gateway.admin_key, own.gateway.root_secret]
    for secret in [*secrets, CONTENT_CANARY]:
        assert secret.encode() not in everything
    _nothing_on_disk(own.gateway.data, [*own.secrets.values(), CREDENTIAL_CANARY, CONTENT_CANARY])


def _nothing_on_disk(folder: Path, secrets: list[str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, path.name
            assert path.stat().st_mode & 0o077 == 0, f"{path.name} can be read by others"
