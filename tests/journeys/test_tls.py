"""TLS on both listeners and towards providers; a token for the metrics."""

import contextlib
import http.client
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from penstock.testing.gateway import Gateway, new_secret
from penstock.testing.lab import chat
from penstock.testing.scripted import completion
from penstock.testing.wire import eventually

PATIENCE_S = 30.0
TOKEN = "scrape-me-0123456789abcdef"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def provider(authority: trustme.CA) -> Iterator[str]:
    """The address of a provider that speaks TLS, with a certificate of an authority that no system trusts."""

    class Vendor(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(completion("up")).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def write_pair(folder: Path, cert: trustme.LeafCert) -> None:
    """A certificate and its key, each put in its place at once, the key first."""
    for name, blobs in (("key.pem", [cert.private_key_pem]), ("cert.pem", cert.cert_chain_pems)):
        draft = folder / f"{name}.new"
        draft.write_bytes(b"".join(blob.bytes() for blob in blobs))
        draft.rename(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    write_pair(folder, authority.issue_cert("127.0.0.1", "localhost"))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path, provider: str) -> Iterator[Gateway]:
    files = {"cert": f"file:{folder / 'cert.pem'}", "key": f"file:{folder / 'key.pem'}"}
    config = {
        "server": {"tls": files, "admin_tls": files, "metrics_token": "env:SCRAPE"},
        "upstream": {"ca_bundle": f"file:{folder / 'ca.pem'}"},
        "providers": [
            {"name": "lab", "kind": "compatible", "base_url": provider},
            {"name": "here", "kind": "simulated"},
        ],
        "models": [
            {"name": "far", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 1, "output": 1}},
            {"name": "near", "targets": [{"provider": "here", "model": "up"}], "price": {"input": 1, "output": 1}},
        ],
        "teams": [{"name": "growth"}],
        "keys": [{"name": "ci", "team": "growth", "secret": "env:CI_KEY"}],
    }
    made = Gateway(folder / "gateway", config, {"CI_KEY": new_secret(), "SCRAPE": TOKEN})
    made.environment["PENSTOCK_ADMIN_URL"] = made.admin_url.replace("http:", "https:")
    made.environment["PENSTOCK_ADMIN_CA"] = str(folder / "ca.pem")
    made.start(wait=False)
    try:
        eventually(lambda: is_up(made, folder), PATIENCE_S, "it answers over TLS")
        yield made
    finally:
        made.stop()
    assert "Traceback" not in made.output()


def is_up(gateway: Gateway, folder: Path) -> bool:
    try:
        return (
            ask(gateway.url, folder, "GET", "/readyz")[0] == 200
            and ask(gateway.admin_url, folder, "GET", "/healthz")[0] == 200
        )
    except OSError:
        return False


def connect(url: str, folder: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    return http.client.HTTPSConnection("127.0.0.1", urlsplit(url).port, timeout=10, context=context)


def ask(url: str, folder: Path, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, bytes]:
    connection = connect(url, folder)
    try:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def serial(url: str) -> str:
    return ssl.get_server_certificate(("127.0.0.1", urlsplit(url).port or 0))


def test_calls_streams_and_refusals_go_over_tls(gateway: Gateway, folder: Path) -> None:
    key = gateway.environment["CI_KEY"]
    status, content = ask(gateway.url, folder, "POST", "/v1/chat/completions", chat("near"), key)
    assert status == 200, content
    status, content = ask(gateway.url, folder, "POST", "/v1/chat/completions", chat("near", stream=True), key)
    assert status == 200 and content.endswith(b"data: [DONE]\n\n")
    assert ask(gateway.url, folder, "POST", "/v1/chat/completions", chat("near"), "pk-wrong")[0] == 401
    connection = connect(gateway.url, folder)
    connection.request("POST", "/v1/chat/completions", b"x", {"content-length": str(2**40), "x-api-key": key})
    assert connection.getresponse().status == 413
    connection.close()


def test_a_provider_whose_certificate_the_bundle_vouches_for_is_called(gateway: Gateway, folder: Path) -> None:
    key = gateway.environment["CI_KEY"]
    status, content = ask(gateway.url, folder, "POST", "/v1/chat/completions", chat("far"), key)
    assert status == 200, content


@pytest.mark.parametrize("listener", ["url", "admin_url"])
def test_what_is_older_than_tls_1_2_and_what_is_no_tls_gets_nowhere(gateway: Gateway, listener: str) -> None:
    port = urlsplit(getattr(gateway, listener)).port
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=old)
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for each in (connection, plain):
        with contextlib.closing(each), pytest.raises((OSError, http.client.HTTPException)):
            each.request("GET", "/healthz")
            each.getresponse()


def test_a_new_certificate_is_taken_up_and_no_connection_is_dropped(
    gateway: Gateway, folder: Path, authority: trustme.CA
) -> None:
    kept = connect(gateway.url, folder)
    kept.request("GET", "/healthz")
    assert kept.getresponse().read() is not None
    before = {url: serial(url) for url in (gateway.url, gateway.admin_url)}
    (folder / "cert.pem").write_bytes(b"half of a certifi")
    eventually(lambda: "the old one stays" in gateway.output(), PATIENCE_S, "the fault is logged")
    assert serial(gateway.url) == before[gateway.url]
    write_pair(folder, authority.issue_cert("127.0.0.1", "localhost"))
    failed: list[int] = []

    def is_new(url: str) -> bool:
        failed.extend(status for status in [ask(url, folder, "GET", "/healthz")[0]] if status != 200)
        return serial(url) != before[url]

    for url in before:
        eventually(lambda url=url: is_new(url), PATIENCE_S, f"{url} has the new certificate")
    assert failed == []
    kept.request("GET", "/healthz")
    assert kept.getresponse().status == 200
    kept.close()


def test_the_commands_trust_the_authority_that_they_are_told(gateway: Gateway) -> None:
    listed = gateway.run("team", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "growth" in listed.stdout
    del gateway.environment["PENSTOCK_ADMIN_CA"]
    try:
        stranger = gateway.run("team", "list")
    finally:
        gateway.environment["PENSTOCK_ADMIN_CA"] = str(gateway.directory.parent / "ca.pem")
    assert stranger.returncode == 1
    assert "PENSTOCK_ADMIN_CA" in stranger.stderr and "Traceback" not in stranger.stderr


def test_a_drill_runs_over_tls_on_both_listeners(gateway: Gateway, tmp_path: Path) -> None:
    small = ("--streams", "2", "--callers", "1", "--within", "20")
    told = gateway.run("drill", *small, "--report", str(tmp_path), "--json", timeout_s=120)
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["held"] is True
    assert report["data_plane"].startswith("https:") and report["admin"].startswith("https:")


def test_the_metrics_ask_for_their_token_and_for_nothing_else(gateway: Gateway, folder: Path) -> None:
    assert ask(gateway.admin_url, folder, "GET", "/metrics")[0] == 401
    assert ask(gateway.admin_url, folder, "GET", "/metrics", key="wrong")[0] == 401
    status, content = ask(gateway.admin_url, folder, "GET", "/metrics", key=TOKEN)
    assert status == 200 and b"penstock_" in content
    assert TOKEN.encode() not in content
    assert ask(gateway.admin_url, folder, "GET", "/admin/v1/teams", key=TOKEN)[0] == 401


def test_callers_without_a_certificate_are_refused_where_one_is_asked_for(
    folder: Path, authority: trustme.CA, tmp_path: Path
) -> None:
    files = {name: f"file:{folder / name}.pem" for name in ("cert", "key")} | {"client_ca": f"file:{folder / 'ca.pem'}"}
    guarded = Gateway(tmp_path / "guarded", {"server": {"tls": files}})
    with_certificate = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    authority.issue_cert("caller@example.com").configure_cert(with_certificate)

    def status(context: ssl.SSLContext) -> int:
        port = urlsplit(guarded.url).port
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    guarded.start(wait=False)
    try:
        eventually(lambda: status(with_certificate) == 200, PATIENCE_S, "it answers those who have a certificate")
        assert status(ssl.create_default_context(cafile=str(folder / "ca.pem"))) == 0
    finally:
        guarded.stop()


def test_files_that_are_no_certificate_are_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "nothing.pem").write_text("nothing")
    files = dict.fromkeys(("cert", "key"), f"file:{tmp_path / 'nothing.pem'}")
    gateway = Gateway(tmp_path / "gateway", {"server": {"tls": files}})
    with pytest.raises(RuntimeError, match="are no certificate and its key") as refused:
        gateway.start()
    assert "exited with 2" in str(refused.value) and "Traceback" not in str(refused.value)
