"""`penstock doctor`: looks at everything a gateway stands on and says what to do."""

import json
import os
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import typer

from penstock.app import break_glass
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import ConfigFile, Json
from penstock.cli.output import CommandFailed, print_json, print_table, remark
from penstock.config.environment import DEFAULT_DATA, Environment
from penstock.config.loading import load
from penstock.config.settings import Config, DeclaredProvider
from penstock.errors import ConfigFaults

CONNECT_TIMEOUT_S = 5.0
MAX_SKEW_S = 2.0
LEAST_FREE_BYTES = 1024**3
SHORT_FRESHNESS_S = 10.0
SANE_SINCE_S = 1_735_689_600
"""2025-01-01: a clock before this was never set."""

VENDOR_URLS = {"openai": "https://api.openai.com/v1"}


@dataclass(frozen=True)
class Finding:
    """`advice`: what to do; empty when all is well."""

    check: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def doctor(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check configuration, data directory, admin API, worker, store, clock and providers."""
    findings = list(_examine(config))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        columns = ("check", "state", "detail", "advice")
        print_table(columns, ([finding.check, finding.state, finding.detail, finding.advice] for finding in findings))
    failed = sum(finding.state == "fail" for finding in findings)
    if failed:
        remark(f"penstock: {failed} of {len(findings)} checks failed")
        raise typer.Exit(1)


def _examine(given: Path | None) -> Iterator[Finding]:
    environment = Environment.read()
    path = given or environment.config
    config: Config | None = None
    if path is None:
        yield Finding("configuration", "warn", "no file was named", "name it: -c FILE, or set PENSTOCK_CONFIG")
    else:
        config, finding = _configuration(path)
        yield finding
    data = environment.data or (Path(config.server.data) if config else DEFAULT_DATA)
    yield from _data_directory(data)
    yield from _running(environment, config)
    yield _clock()
    for provider in config.providers if config else []:
        if provider.kind != "simulated":
            yield _provider(provider, config.upstream.ca_bundle if config else None)


def _configuration(path: Path) -> tuple[Config | None, Finding]:
    try:
        config = load(path, require_secrets=True)
    except ConfigFaults as error:
        count = len(error.faults)
        advice = f"penstock check -c {path} lists {'it' if count == 1 else f'all {count}'}"
        return None, Finding("configuration", "fail", error.faults[0], advice)
    return config, Finding("configuration", "ok", f"{path} has no fault and its secrets are there")


def _data_directory(data: Path) -> Iterator[Finding]:
    try:
        found = data.stat()
    except OSError:
        yield Finding(
            "data directory", "warn", f"{data} is not there", "`penstock serve` makes it; or set PENSTOCK_DATA"
        )
        return
    if not stat.S_ISDIR(found.st_mode) or not os.access(data, os.W_OK | os.X_OK):
        yield Finding("data directory", "fail", f"{data} cannot be written", "give it to the user who runs the gateway")
        return
    yield _private("data directory", data, found, "700")
    for name in ("admin_key", "secret"):
        secret = data / name
        if secret.exists():
            yield _private(name, secret, secret.stat(), "600")
    if (pulled := break_glass.read(data).pulled) is not None:
        detail = f"{data / break_glass.NAME} stops every call since {pulled.at} ({pulled.by or 'by nobody named'})"
        advice = "when it is over: penstock kill lift --break-glass --reason ..."
        yield Finding("break-glass file", "fail", detail, advice)
    free = shutil.disk_usage(data).free
    state: Literal["ok", "warn"] = "ok" if free >= LEAST_FREE_BYTES else "warn"
    advice = "" if state == "ok" else "make room: journals and store grow here"
    yield Finding("disk", state, f"{free / 1024**3:.1f} GiB are free", advice)


def _private(check: str, path: Path, found: os.stat_result, mode: str) -> Finding:
    if found.st_mode & 0o077:
        return Finding(check, "fail", f"others may use {path}", f"chmod {mode} {path}")
    return Finding(check, "ok", f"{path} is the gateway's alone")


def _running(environment: Environment, config: Config | None) -> Iterator[Finding]:
    """The control process, its store and its workers, as the admin API tells."""
    try:
        client = AdminClient.from_environment()
        status = client.get("/status")
    except CommandFailed as error:
        yield Finding("admin API", "fail", str(error), "start `penstock serve`, or correct the address or the key")
        return
    yield Finding("admin API", "ok", f"{client.url} answers")
    yield _skew(client.answered_date)
    yield _store(client)
    yield _ledger(status)
    yield _workers(status)
    yield _freshness(status)
    yield from _credentials(status)
    if config is not None:
        yield _data_plane(config)


def _skew(date: str | None) -> Finding:
    """This clock against the gateway's: two boxes whose clocks differ open and close windows at different times."""
    if date is None:
        return Finding("clock skew", "ok", "the admin API tells no time to compare with")
    try:
        seconds = abs(parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return Finding(
            "clock skew", "warn", "the admin API's Date header cannot be read", "look for a proxy in between"
        )
    if seconds > MAX_SKEW_S:
        return Finding("clock skew", "fail", f"{seconds:.0f} s between here and the gateway", "synchronise both clocks")
    return Finding("clock skew", "ok", f"less than {MAX_SKEW_S:g} s between here and the gateway")


def _store(client: AdminClient) -> Finding:
    status, content = client.exchange("GET", "/healthz")
    committed = Finding("store", "ok", "journals are committed")
    if status == 200:
        return committed
    try:
        tasks = {task: since for task, since in json.loads(content)["failing_since"].items() if task != "ledger"}
        if not tasks:
            return committed
        failing = ", ".join(f"{task} since {since}" for task, since in tasks.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        failing = f"/healthz answers {status}"
    return Finding(
        "store", "fail", failing, "the control process's log has the reason; disk full, store locked, database away?"
    )


def _ledger(status: dict[str, Any]) -> Finding:
    """What the gateway's own check of its books found last."""
    check = status.get("ledger") or {}
    at, faults = check.get("checked_at"), check.get("faults") or []
    if at is None:
        return Finding("ledger", "ok", "its first check comes a minute after the start")
    if faults:
        detail = f"{check['fault_count']} faults at {at}, the first: {faults[0]['kind']}: {faults[0]['detail']}"
        return Finding("ledger", "fail", detail, "keep the data directory as it is; penstock ledger verify says more")
    if not check.get("complete"):
        return Finding("ledger", "warn", f"the check at {at} ran out of time", "run penstock ledger verify at night")
    return Finding("ledger", "ok", f"its invariants held at {at}")


def _workers(status: dict[str, Any]) -> Finding:
    nodes = status.get("nodes", [])
    gone = [str(node["node"]) for node in nodes if node.get("state") != "connected"]
    if not nodes or gone:
        detail = f"not connected: {', '.join(gone)}" if gone else "no worker is connected"
        return Finding("workers", "fail", detail, "the supervisor restarts it within seconds; else see its log")
    return Finding("workers", "ok", f"{len(nodes)} connected")


def _credentials(status: dict[str, Any]) -> Iterator[Finding]:
    """Of providers: whether each has one that it takes, and that is not too old."""
    said = status.get("credentials") or {}
    faults = [
        *(f"{it['provider']} refuses {it['credential']} ({it['verdict']})" for it in said.get("set_aside", [])),
        *(f"{provider} has none" for provider in said.get("missing", [])),
        *(f"{name} does not open: {fault}" for name, fault in said.get("unopened", {}).items()),
        *(f"{name} cannot be rotated: {fault}" for name, fault in said.get("unrotated", {}).items()),
    ]
    if said.get("root_secret") == "previous":
        faults.append("the root secret before still keeps the vault (penstock vault rewrap)")
    overdue = said.get("overdue", [])
    if faults:
        yield Finding("credentials", "fail", "; ".join(faults), "penstock credential rotate, or look at that account")
    elif overdue:
        yield Finding("credentials", "warn", f"due to be rotated: {', '.join(overdue)}", "penstock credential rotate")
    else:
        yield Finding("credentials", "ok", "every provider takes those that it has")


def _freshness(status: dict[str, Any]) -> Finding:
    """What `stop.freshness` trades: how long a cut-off box obeys an old picture, against how long it can go on."""
    seconds = status.get("freshness_ms", 0) / 1000
    detail = f"a worker that is cut off serves for {seconds:g} s more, and then refuses"
    if seconds < SHORT_FRESHNESS_S:
        return Finding("stop.freshness", "warn", detail, "a restart of the store may take longer than that")
    return Finding("stop.freshness", "ok", detail)


def _data_plane(config: Config) -> Finding:
    settings = config.server_settings()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen_host, settings.listen_host)  # noqa: S104
    connection = HTTPConnection(host, settings.listen_port, timeout=CONNECT_TIMEOUT_S)
    if settings.tls is not None:
        # The certificate is for the name that callers use, and nothing is sent that it would have to protect.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(host, settings.listen_port, timeout=CONNECT_TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return Finding("data plane", "fail", f"{config.server.listen}: {error}", "is another program on that port?")
    finally:
        connection.close()
    if status != 200:
        return Finding("data plane", "fail", f"{config.server.listen} answers {status} to /readyz", "see the log")
    return Finding("data plane", "ok", f"{config.server.listen} can admit")


def _clock() -> Finding:
    if time.time() < SANE_SINCE_S:
        return Finding(
            "clock", "fail", time.strftime("it says %Y-%m-%d", time.gmtime()), "set it: windows depend on it"
        )
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    if drift > 0.02:
        return Finding("clock", "warn", f"it jumped by {drift:.2f} s while being watched", "let it be slewed, not set")
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()))


def _provider(provider: DeclaredProvider, ca_bundle: str | None) -> Finding:
    """Whether its address takes a connection, with TLS verified. Nothing is sent."""
    check = f"provider {provider.name}"
    parts = urlsplit(provider.base_url or VENDOR_URLS[provider.kind])
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), CONNECT_TIMEOUT_S) as plain:
            if parts.scheme == "https":
                with ssl.create_default_context(cafile=ca_bundle).wrap_socket(plain, server_hostname=host):
                    return Finding(check, "ok", f"{host}:{port} takes connections, its certificate is good")
    except ssl.SSLError as error:
        return Finding(
            check, "fail", f"{host}:{port}: {error.reason or error}", "correct the address or the certificate"
        )
    except OSError as error:
        return Finding(
            check, "fail", f"{host}:{port}: {error.strerror or error}", "correct base_url, or open the way out"
        )
    return Finding(check, "ok", f"{host}:{port} takes connections")
