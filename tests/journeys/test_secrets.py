"""No secret is in any output: not in answers, logs, metrics, receipts or errors, whatever is thrown at the gateway."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.testing.lab import CREDENTIAL_CANARY, Lab, chat
from penstock.testing.scripted import fails, garbage, resets
from penstock.testing.wire import eventually

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


def test_canaries_planted_everywhere_are_in_no_answer_no_file_no_argument_and_no_backup(own: Lab) -> None:
    gateway, told = own.gateway, []
    file_key, vault_key, next_key = (f"sk-{where}-canary-b41c90" for where in ("file", "vault", "next"))
    (gateway.directory / "value").write_text(vault_key)
    address = own.provider.base_url
    made = gateway.run(
        "credential", "create", "kept", "--kind", "compatible", "--base-url", address, "--value-file", "value"
    )
    told.append(made.stdout + made.stderr)
    credentials = [{"name": "main", "value": "vault:kept"}]
    provider = {"name": "kept", "kind": "compatible", "base_url": address, "credentials": credentials}
    model = {"name": "kept", "targets": [{"provider": "kept", "model": "kept-upstream"}], "max_output": 10}
    for path, body in (("providers", provider), ("models", model), ("users", {"name": "ada"})):
        answer = gateway.admin("POST", f"/admin/v1/{path}", body)
        assert answer.status == 201, answer.body
        told.append(answer.body.decode())
    minted = gateway.admin("POST", "/admin/v1/keys", {"name": "minted"}).json()["secret"]
    token = gateway.admin("POST", "/admin/v1/tokens", {"name": "laptop", "user": "ada"}).json()["secret"]
    body = chat("kept", messages=[{"role": "user", "content": CONTENT_CANARY}])
    assert gateway.caller(minted).post("/v1/chat/completions", body).status == 200
    own.provider.on("kept-upstream", fails(401, {"error": {"message": f"bad key {vault_key}"}}))
    told.append(str(gateway.caller(minted).post("/v1/chat/completions", body).body))
    rotated = gateway.admin("POST", "/admin/v1/credentials/kept/rotate", {"value": next_key})
    refused = gateway.admin("POST", "/admin/v1/credentials", {"name": "kept", "value": file_key, "kind": "openai"})
    wrong = gateway.admin("POST", "/admin/v1/credentials", {"name": "x", "value": [file_key], "kind": file_key})
    assert (rotated.status, refused.status, wrong.status) == (200, 409, 422)
    told += [str(each.body) for each in (rotated, refused, wrong)]

    document = gateway.admin("GET", "/admin/openapi.json")
    paths = [path for path, verbs in document.json()["paths"].items() if "get" in verbs and "{" not in path]
    assert len(paths) > 15
    told += [document.body.decode(), *(str(gateway.admin("GET", path).body) for path in paths)]
    commands = ["credential list --json", "credential show kept", "vault show", "provider list --json", "key list"]
    for command in [*commands, f"doctor -c {gateway.file}", f"backup copy -c {gateway.file} --data {gateway.data}"]:
        done = gateway.run(*command.split())
        told.append(done.stdout + done.stderr)
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in gateway.pids()]
    gateway.kill("worker")
    gateway.kill("control")
    eventually(gateway.admin_is_up, 20, "the control process is back")
    gateway.stop()
    (gateway.directory / "value").unlink()

    everything = "\n".join([*told, gateway.output()]).encode() + b"\n".join(arguments)
    planted = [*own.secrets.values(), CREDENTIAL_CANARY, file_key, vault_key, next_key, CONTENT_CANARY, minted, token]
    planted += [gateway.admin_key, gateway.root_secret]
    assert [secret for secret in planted if secret.encode() in everything] == []
    _nothing_on_disk(gateway.data, planted)
    _nothing_on_disk(gateway.directory / "copy", planted)
