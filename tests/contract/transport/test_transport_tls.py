"""TLS: who is believed, and what is said on the way."""

import asyncio
from datetime import UTC, datetime

import pytest
import trustme

from penstock.domain.http import Origin
from penstock.errors import UpstreamConnectFailed
from penstock.upstream.http1 import Http1Transport, TransportSettings


def nothing() -> None:
    """An `on_dispatch` that has nothing to do."""


async def answer_once(peer):
    while True:
        await peer.request()
        await peer.answer()


async def test_a_certificate_that_verifies_is_taken_and_the_connection_reused(
    listen, connect, ask, server_tls, ca_file
):
    server = await listen(answer_once, tls=server_tls)
    transport = connect(ca_file=ca_file)
    for host in ("localhost", "localhost", "127.0.0.1"):
        response = await transport.send(ask(Origin("https", host, server.port)), nothing)
        assert await response.read_all(10) == b"ok"
    assert server.connections == 2


async def test_server_name_and_alpn_are_said(listen, connect, ask, server_tls, ca_file):
    said = []

    async def note(peer):
        said.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await peer.request()
        await peer.answer()

    server_tls.set_alpn_protocols(["h2", "http/1.1"])
    server_tls.sni_callback = lambda _socket, name, _context: said.append(name)
    server = await listen(note, tls=server_tls)
    await connect(ca_file=ca_file).send(ask(Origin("https", "localhost", server.port)), nothing)
    assert said == ["localhost", "http/1.1"]


@pytest.mark.parametrize("fault", ["other-host", "unknown-authority", "expired", "plain-text"])
async def test_nothing_is_sent_to_a_server_that_does_not_prove_who_it_is(
    fault, listen, connect, ask, authority, ca_file, tls_of
):
    if fault == "other-host":
        tls = tls_of(authority.issue_cert("other.example"))
    elif fault == "unknown-authority":
        tls = tls_of(trustme.CA().issue_cert("localhost"))
    elif fault == "expired":
        past = datetime(2020, 1, 1, tzinfo=UTC)
        tls = tls_of(authority.issue_cert("localhost", not_before=past, not_after=past.replace(month=2)))
    else:
        tls = None
    received = []

    async def note(peer):
        if fault == "plain-text":
            await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        else:
            received.append(await peer.request())

    server = await listen(note, tls=tls)
    transport = connect(ca_file=ca_file, max_connections=1)
    dispatched = []
    for _ in range(2):
        with pytest.raises(UpstreamConnectFailed) as refused:
            await transport.send(ask(Origin("https", "localhost", server.port)), lambda: dispatched.append(1))
        assert "localhost" not in str(refused.value)
    assert dispatched == received == []
    await asyncio.sleep(0.05)
    assert server.live == 0


async def test_without_a_bundle_of_its_own_the_systems_authorities_count(listen, connect, ask, server_tls):
    server = await listen(answer_once, tls=server_tls)
    with pytest.raises(UpstreamConnectFailed, match="certificate"):
        await connect().send(ask(Origin("https", "localhost", server.port)), nothing)


def test_a_bundle_that_is_not_there_is_a_fault_at_boot(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Http1Transport(TransportSettings(ca_file=str(tmp_path / "absent.pem")))
