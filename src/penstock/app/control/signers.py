"""The public keys of trusted issuers: fetched here, never by workers, which get them with the snapshot.

Each source is looked at every few minutes, and sooner when a worker meets a key that is not among them, since issuers
change their keys. What cannot be had leaves the keys as they were.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from penstock.config.identity import Identity
from penstock.domain.http import HttpRequest, Origin, Timeouts
from penstock.domain.trust import Trust
from penstock.errors import UpstreamError
from penstock.upstream.transport import Transport

EVERY_S = 300.0
NOT_SOONER_S = 10.0
MAX_BYTES = 256 * 1024
TIMEOUTS = Timeouts(connect_ms=3_000, first_byte_ms=5_000, between_chunks_ms=3_000, total_ms=8_000)

log = structlog.get_logger()


class CannotFetch(Exception):
    """Why a source gives no keys, in words for a log."""


class Signers:
    """`publish` makes known what `trust` says now. `transport`: fetches what is not a file."""

    def __init__(self, identity: Identity, transport: Transport, publish: Callable[[], Awaitable[None]]) -> None:
        self._identity = identity
        self._transport = transport
        self._publish = publish
        self._keys: dict[str, str] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        for source in identity.sources():
            if source.startswith("file:"):
                self._read_file(source)

    def trust(self) -> Trust:
        """Whom the gateway trusts, with the keys that are known by now."""
        return self._identity.trust(self._keys)

    async def look(self) -> None:
        """Looks at every source, and publishes what is new."""
        async with self._looking:
            before = dict(self._keys)
            await asyncio.gather(*[self._look_at(source) for source in self._identity.sources()])
            self._looked_at = time.monotonic()
            if self._keys != before:
                await self._publish()

    async def look_again(self) -> None:
        """As `look`, for a worker that has met an unknown key; but not over and over."""
        if time.monotonic() - self._looked_at >= NOT_SOONER_S:
            await self.look()

    async def _look_at(self, source: str) -> None:
        if source.startswith("file:"):
            self._read_file(source)
            return
        try:
            self._keys[source] = await self._fetch(source)
        except (UpstreamError, CannotFetch, ValueError) as error:
            _complain(source, str(error))

    def _read_file(self, source: str) -> None:
        path = Path(source.removeprefix("file:"))
        try:
            with path.open("rb") as file:
                self._keys[source] = _checked(file.read(MAX_BYTES + 1))
        except (OSError, CannotFetch, ValueError) as error:
            _complain(source, error.strerror if isinstance(error, OSError) else str(error))

    async def _fetch(self, url: str) -> str:
        parts = urlsplit(url)
        assert parts.hostname is not None
        origin = Origin(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        headers = [("accept", "application/jwk-set+json, application/json")]
        request = HttpRequest("GET", origin, parts.path or "/", headers, timeouts=TIMEOUTS, repeatable=True)
        response = await self._transport.send(request, lambda: None)
        if response.status != 200:
            response.abort()
            raise CannotFetch(f"the answer is {response.status}")
        return _checked(await response.read_all(MAX_BYTES))


def _complain(source: str, reason: str | None) -> None:
    log.warning("the keys of an issuer could not be had; those that are known stay", source=source, reason=reason)


def _checked(content: bytes) -> str:
    """The JWK Set, if it has a key that can be trusted. Raises `ValueError` or `CannotFetch`."""
    if len(content) > MAX_BYTES:
        raise CannotFetch(f"it is larger than {MAX_BYTES} bytes")
    text = content.decode("utf-8")
    # Loaded where there is an issuer to trust: what reads keys takes a twentieth of a start.
    if not import_module("penstock.identity.assertions").usable_keys(text):
        raise CannotFetch("there is no public key for signatures in it")
    return text
