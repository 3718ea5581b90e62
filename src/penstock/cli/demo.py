"""`penstock demo`: the whole point in one command, on a machine with nothing but Penstock.

It starts a real gateway in a directory of its own, with the simulated provider (and OpenAI, when its key is in the
environment), makes a team, a budget and keys, makes four calls through the data plane (plain, streamed, refused by the
budget, stopped by a kill), shows the receipt and the spend, and then serves until it is interrupted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from penstock.cli.admin_client import AdminClient
from penstock.cli.output import CommandFailed, console, error_console, print_line, print_table
from penstock.config.environment import resolve_secret
from penstock.domain.money import usd
from penstock.errors import ConfigError

READY_WITHIN_S = 20.0
STOP_WITHIN_S = 40.0
TEAM, PROJECT = "growth", "search"

CONFIGURATION = """\
# The demo's configuration: what `penstock serve -c` would read.
server: {{listen: "{listen}", admin: "{admin}", data: "{data}"}}
providers:
  - {{name: simulated, kind: simulated, options: {{latency_ms: 40, chunk_delay_ms: 60}}}}
{providers}models:
  - name: demo
    targets: [{{provider: simulated, model: echo-1}}]
    price: {{input: 2.00, output: 8.00}}
    max_output: 256
{models}teams: [{{name: growth}}]
projects: [{{name: search, team: growth, environment: development}}]
limits:
  - {{name: growth-monthly, match: {{team: growth}}, unit: usd, amount: 10, per: month}}
  - {{name: growth-rate, match: {{team: growth}}, each: key, unit: requests, amount: 600, per: minute}}
"""

OPENAI_PROVIDER = "  - {name: openai, kind: openai, credentials: [{name: main, value: 'env:OPENAI_API_KEY'}]}\n"
OPENAI_MODELS = "  - {name: 'openai/*'}\n"


class Address(NamedTuple):
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`127.0.0.1:8080`; anything else is a usage error."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise CommandFailed(f"an address looks like 127.0.0.1:8080, not {text!r}", 2)
        return cls(host.strip("[]"), int(port))


class Called(NamedTuple):
    """One sample call as a person reads it."""

    what: str
    status: int
    said: str
    request_id: str
    cost_usd: str


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the sample calls.")] = False,
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="Where callers call.")] = "127.0.0.1:8080",
    admin: Annotated[str, typer.Option(metavar="ADDRESS", help="Where the admin API is.")] = "127.0.0.1:8081",
) -> None:
    """Start everything with a simulated provider, make sample calls, then serve."""
    data_plane, admin_plane = Address.parse(listen), Address.parse(admin)
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder:
        config = _write_configuration(Path(folder), listen, admin)
        with _serving(config, Path(folder), listen) as gateway:
            client = _wait_until_ready(gateway, Path(folder), data_plane, admin_plane)
            key = client.post("/keys", {"name": "demo", "team": TEAM, "project": PROJECT})["secret"]
            calls = list(_sample_calls(client, data_plane, key))
            _show(client, calls)
            _show_how_to_go_on(data_plane, admin_plane, key, Path(folder))
            if not once:
                _wait_for_interrupt(gateway)


# -- the gateway ------------------------------------------------------------------------------------------------------


def _write_configuration(folder: Path, listen: str, admin: str) -> Path:
    real = _has_openai()
    path = folder / "penstock.yaml"
    path.write_text(
        CONFIGURATION.format(
            listen=listen,
            admin=admin,
            data=folder / "data",
            providers=OPENAI_PROVIDER if real else "",
            models=OPENAI_MODELS if real else "",
        )
    )
    return path


def _has_openai() -> bool:
    try:
        resolve_secret("env:OPENAI_API_KEY")
    except ConfigError:
        return False
    return True


@contextmanager
def _serving(config: Path, folder: Path, listen: str) -> Iterator[subprocess.Popen[bytes]]:
    """`penstock serve` on this configuration, its log in the folder; stopped at the end."""
    command = [sys.executable, "-m", "penstock.app.supervisor", "--config", str(config), "--data", str(folder / "data")]
    command += ["--listen", listen, "--workers", "1"]
    with (folder / "log").open("wb") as log:
        gateway = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
    try:
        yield gateway
    finally:
        gateway.send_signal(signal.SIGTERM)
        try:
            gateway.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(gateway.pid, signal.SIGKILL)


def _wait_until_ready(
    gateway: subprocess.Popen[bytes], folder: Path, data_plane: Address, admin_plane: Address
) -> AdminClient:
    with error_console().status("starting the gateway"):
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and gateway.poll() is None:
            if _is_ready(data_plane):
                url = f"http://{admin_plane.host}:{admin_plane.port}"
                return AdminClient(url, resolve_secret(f"file:{folder / 'data' / 'admin_key'}"))
            time.sleep(0.05)
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    raise CommandFailed(f"the gateway did not start; its last words: {lines[-1] if lines else 'none'}")


def _is_ready(data_plane: Address) -> bool:
    try:
        return _call(data_plane, "GET", "/readyz").status == 200
    except (OSError, HTTPException):
        return False


# -- the sample calls -------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


def _call(data_plane: Address, method: str, path: str, body: Mapping[str, Any] | None = None, key: str = "") -> Answer:
    connection = HTTPConnection(data_plane.host, data_plane.port, timeout=30)
    try:
        headers = {"authorization": f"Bearer {key}", "x-penstock-tags": "feature=demo"} if key else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())
    finally:
        connection.close()


def _sample_calls(client: AdminClient, data_plane: Address, key: str) -> Iterator[Called]:
    yield _chat(client, data_plane, key, ("plain", {}))
    yield _chat(client, data_plane, key, ("streamed", {"stream": True}))
    frugal = client.post("/keys", {"name": "frugal", "team": TEAM, "project": PROJECT})["secret"]
    client.post(
        "/limits", {"name": "tiny", "match": {"key": "frugal"}, "unit": "usd", "amount": "0.000001", "per": "day"}
    )
    yield _chat(client, data_plane, frugal, ("refused by a budget", {}))
    leaked = client.post("/keys", {"name": "leaked", "team": TEAM, "project": PROJECT})["secret"]
    generation = client.post("/kill", {"scope": {"key": "leaked"}, "reason": "the demo's kill"})["generation"]
    _wait_until_confirmed(client, generation)
    yield _chat(client, data_plane, leaked, ("stopped by a kill", {}))


def _wait_until_confirmed(client: AdminClient, generation: int) -> None:
    deadline = time.monotonic() + 5
    while any(node["state"] != "confirmed" for node in client.get(f"/kill/{generation}")["nodes"]):
        if time.monotonic() > deadline:
            raise CommandFailed("the kill was not confirmed within 5 s")
        time.sleep(0.02)


def _chat(client: AdminClient, data_plane: Address, key: str, call: tuple[str, Mapping[str, Any]]) -> Called:
    what, more = call
    messages = [{"role": "user", "content": "water turns the wheel and the wheel turns the mill"}]
    body = {"model": "demo", "messages": messages, "max_tokens": 64, **more}
    answer = _call(data_plane, "POST", "/v1/chat/completions", body, key)
    request_id = answer.headers["x-request-id"]
    receipt = client.get(f"/receipts/{request_id}")
    return Called(what, answer.status, _said(answer), request_id, usd(receipt["cost_nanousd"]))


def _said(answer: Answer) -> str:
    if answer.status != 200:
        return str(json.loads(answer.text)["error"]["message"])
    if answer.headers["content-type"].startswith("application/json"):
        return str(json.loads(answer.text)["choices"][0]["message"]["content"])
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]]
    return "".join(deltas)


# -- what it shows ----------------------------------------------------------------------------------------------------


def _show(client: AdminClient, calls: list[Called]) -> None:
    rows = [(call.what, call.status, call.said, f"${call.cost_usd}", call.request_id) for call in calls]
    print_table(["call", "status", "answer", "cost", "request id"], rows, right=["status", "cost"])
    report = client.get("/usage", {"by": "team,key"})
    spent = [
        (row["team"], row["key"], row["calls"], row["errors"], f"${usd(row['cost_nanousd'])}") for row in report["rows"]
    ]
    console().print()
    print_table(["team", "key", "calls", "errors", "cost"], spent, right=["calls", "errors", "cost"])


def _show_how_to_go_on(data_plane: Address, admin_plane: Address, key: str, folder: Path) -> None:
    base = f"http://{data_plane.host}:{data_plane.port}/v1"
    lines = [
        f"key         {key}",
        f"data plane  {base}",
        f"admin API   http://{admin_plane.host}:{admin_plane.port}   (its key: {folder}/data/admin_key)",
        "",
        f"curl {base}/chat/completions \\",
        f"  -H 'Authorization: Bearer {key}' -H 'content-type: application/json' \\",
        """  -d '{"model": "demo", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}'""",
    ]
    for line in ["", "Penstock is ready.", *lines, ""]:
        print_line(line)


def _wait_for_interrupt(gateway: subprocess.Popen[bytes]) -> None:
    error_console().print("Serving until you press Ctrl-C. Everything the demo made is deleted at the end.")
    try:
        code = gateway.wait()
    except KeyboardInterrupt:
        return
    raise CommandFailed(f"the gateway ended with code {code}")
