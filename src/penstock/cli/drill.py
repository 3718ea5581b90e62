"""`penstock drill`: a leaked key on the running gateway, and the stop pulled as it would be in earnest.

Everything it uses it makes for itself and removes again: a simulated provider, so that no call costs anything, a model,
a team, two keys and a limit, all named `drill-...`. What the gateway does for others it does not touch.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from penstock.cli import drill_report
from penstock.cli.admin_client import AdminClient, quoted
from penstock.cli.drill_report import Check, Stop
from penstock.cli.drill_traffic import Party
from penstock.cli.options import Json
from penstock.cli.output import CommandFailed, error_console, print_json, print_table, remark

STREAM_TOKENS = 300
CHUNK_DELAY_MS = 100
"""A stream lasts half a minute: longer than the drill watches."""
FLOWS_WITHIN_S = 15.0
CONFIRMED_WITHIN_S = 60.0
WATCH_S = 2.0
"""After the confirmation: whoever is admitted late shows up now."""
RELEASED_WITHIN_S = 5.0
POLL_S = 0.01
WILDCARDS = {"0.0.0.0", "::", ""}  # noqa: S104 - read, not bound


@dataclass
class Stage:
    """What the drill has made. `left`: what could not be removed again, in sentences."""

    name: str
    leaked: str = ""
    spared: str = ""
    generation: int | None = None
    left: list[str] = field(default_factory=list)


def drill(
    *,
    streams: Annotated[int, typer.Option(min=1, max=500, help="Live streams of the leaked key.")] = 20,
    callers: Annotated[int, typer.Option(min=1, max=64, help="Callers who go on with the leaked key.")] = 4,
    within_s: Annotated[
        float, typer.Option("--within", metavar="SECONDS", min=0.001, help="How soon the stop must have stopped all.")
    ] = 1.0,
    url: Annotated[
        str, typer.Option(metavar="URL", help="The data plane (default: what the gateway says of itself).")
    ] = "",
    report: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path(),
    as_json: Json = False,
) -> None:
    """Stop a leaked key on the running gateway, with traffic of the drill's own, and write down how long it took."""
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"the folder {report} for the report cannot be made: {error.strerror}", 2) from None
    if not os.access(report, os.W_OK):
        raise CommandFailed(f"the folder {report} for the report cannot be written", 2)
    client = AdminClient.from_environment()
    status = client.get("/status")
    if status.get("break_glass"):
        raise CommandFailed("the break-glass file stops this box: there is nothing to stop")
    data_plane = url or _data_plane(client.url, str(status["listen"]), is_tls=bool(status["listen_tls"]))
    began_at = _now()
    stop, checks, left = _run(client, data_plane, (callers, streams), within_s)
    facts = {
        "began_at": began_at,
        "ended_at": _now(),
        "by": "admin",
        "release": status["release"],
        "data_plane": data_plane,
        "admin": client.url,
        "scenario": f"{callers} callers and {streams} streams used one key, which was killed; another key went on.",
    }
    told = drill_report.as_json(facts, stop, checks, left)
    places = drill_report.write(report, told)
    if as_json:
        print_json(told)
    else:
        columns = ("check", "required", "measured", "holds")
        print_table(columns, ([it.check, it.required, it.measured, it.holds] for it in checks))
    remark(f"the report is in {places[0]} and {places[1].name}")
    for line in left:
        remark(f"penstock: {line}")
    if not told["held"]:
        raise CommandFailed(f"the drill failed: {(told['faults'] or left)[0]}")


def _run(client: AdminClient, url: str, size: tuple[int, int], within_s: float) -> tuple[Stop, list[Check], list[str]]:
    """`size`: callers and streams of the leaked key."""
    callers, streams = size
    stage = Stage(f"drill-{secrets.token_hex(4)}")
    with _set(client, stage):
        trust = client.trust() if url.startswith("https:") else None
        leaked, spared = (Party(url, stage.name, secret, trust) for secret in (stage.leaked, stage.spared))
        with error_console().status("the drill is under way"), ExitStack() as traffic:
            traffic.enter_context(leaked.running(callers, streams, STREAM_TOKENS))
            traffic.enter_context(spared.running(1, 1, STREAM_TOKENS))
            if not _until(lambda: leaked.flows() and spared.flows(), FLOWS_WITHIN_S):
                trouble = leaked.trouble() or spared.trouble() or "no answer in time"
                raise CommandFailed(
                    f"the drill's calls do not get through to {url} ({trouble}); "
                    "--url names the data plane, and a kill or a limit on everything stops the drill, too"
                )
            stop = _pull(client, stage)
        held = _held(client, stage.name)
        checks = drill_report.judged(replace(stop, held=held), leaked, spared, within_s)
    return stop, checks, stage.left


def _pull(client: AdminClient, stage: Stage) -> Stop:
    """Kills the leaked key, waits for every node, and lets the traffic go on for a while."""
    scope = {"key": f"{stage.name}-leaked"}
    stage.generation = int(client.post("/kill", {"scope": scope, "reason": "penstock drill"})["generation"])
    acknowledged = time.monotonic()
    nodes: list[Mapping[str, Any]] = []

    def all_confirmed() -> bool:
        nodes[:] = client.get(f"/kill/{stage.generation}")["nodes"]
        return bool(nodes) and all(node["state"] == "confirmed" for node in nodes)

    confirmed = time.monotonic() if _until(all_confirmed, CONFIRMED_WITHIN_S) else None
    time.sleep(WATCH_S)
    all_confirmed()  # how many streams each has cut is known by now
    return Stop(stage.generation, acknowledged, confirmed, nodes)


def _held(client: AdminClient, limit: str) -> int:
    """What the leaked key's limit counts once its calls had time to settle."""
    seen = [0]

    def none() -> bool:
        rows = client.get("/ledger")["limits"]
        seen[0] = sum(row["held"] for row in rows if row["limit"] == limit)
        return seen[0] == 0

    _until(none, RELEASED_WITHIN_S)
    return seen[0]


# -- the stage --------------------------------------------------------------------------------------------------------


@contextmanager
def _set(client: AdminClient, stage: Stage) -> Iterator[None]:
    """Makes the drill's own world and removes it, however the drill ends. The kill is lifted last, when the leaked key
    is gone."""
    name = stage.name
    with ExitStack() as stack:
        stack.callback(_lift, client, stage)

        def make(noun: str, fields: Mapping[str, Any]) -> dict[str, Any]:
            made: dict[str, Any] = client.post(f"/{noun}", fields)
            stack.callback(_remove, client, stage, f"/{noun}/{quoted(str(fields['name']))}")
            return made

        options = {"chunk_delay_ms": CHUNK_DELAY_MS, "tokens": STREAM_TOKENS}
        make("providers", {"name": name, "kind": "simulated", "options": options})
        target = {"provider": name, "model": "drill"}
        price = {"input": 0, "output": 0}
        make("models", {"name": name, "targets": [target], "price": price, "max_output": STREAM_TOKENS})
        make("teams", {"name": name})
        for who in ("leaked", "spared"):
            made = make("keys", {"name": f"{name}-{who}", "team": name, "models": [name]})
            setattr(stage, who, made["secret"])
        match = {"key": f"{name}-leaked"}
        make("limits", {"name": name, "match": match, "unit": "concurrent", "amount": 10_000})
        yield


def _remove(client: AdminClient, stage: Stage, path: str) -> None:
    try:
        client.call("DELETE", path)
    except CommandFailed as error:
        stage.left.append(f"{path.lstrip('/')} is still there: {error}")


def _lift(client: AdminClient, stage: Stage) -> None:
    if stage.generation is None:
        return
    try:
        client.call("DELETE", f"/kill/{stage.generation}", {"reason": "the drill is over"})
    except CommandFailed as error:
        stage.left.append(f"kill {stage.generation} is still in force: {error}")


# -- small things -----------------------------------------------------------------------------------------------------


def _until(holds: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _data_plane(admin_url: str, listen: str, *, is_tls: bool = False) -> str:
    """Where callers call: what the gateway listens on, or the admin listener's host where that is every address."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if host in WILDCARDS:
        host = urlsplit(admin_url).hostname or "127.0.0.1"
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
