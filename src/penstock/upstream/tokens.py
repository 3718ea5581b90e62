"""Access tokens that vendors give for a credential: fetched, kept while they are good, and fetched again before they
are not. How one is asked for, the vendor's file knows; this does it.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import NamedTuple

from penstock.domain.snapshot import Credential, Secret
from penstock.errors import UpstreamCredential, UpstreamError
from penstock.providers.base import TradesCredentials
from penstock.upstream.transport import Transport

EARLY_S = 300.0
"""How long before its end a token is not used any more."""
MAX_TOKEN_BODY_BYTES = 64 * 1024
MAX_KEPT = 1024
"""Tokens that are kept; a credential that was replaced leaves its last one behind."""


class _Kept(NamedTuple):
    token: str
    good_until_s: float


class Tokens:
    """`clock`: Unix seconds. One fetch at a time for each credential; the others wait for it."""

    def __init__(self, http: Transport, clock: Callable[[], float]) -> None:
        self._http = http
        self._clock = clock
        self._kept: dict[bytes, _Kept] = {}
        self._locks: dict[bytes, asyncio.Lock] = {}

    async def instead_of(self, credential: Credential, vendor: TradesCredentials) -> Credential:
        """What goes to the vendor instead of the credential. Raises `UpstreamError` where there is no token."""
        name = hashlib.sha256(credential.value.reveal().encode()).digest()
        kept = self._kept.get(name)
        if kept is None or kept.good_until_s <= self._clock():
            async with self._locks.setdefault(name, asyncio.Lock()):
                kept = self._kept.get(name)
                if kept is None or kept.good_until_s <= self._clock():
                    kept = await self._fetch(credential, vendor)
                    if kept is None:
                        return credential
                    self._keep(name, kept)
        return Credential(credential.name, Secret(kept.token))

    async def _fetch(self, credential: Credential, vendor: TradesCredentials) -> _Kept | None:
        try:
            request = vendor.token_request(credential, self._clock())
        except ValueError:
            raise _refused("The provider's credential is not what its kind takes.") from None
        if request is None:
            return None
        response = await self._http.send(request, lambda: None)
        body = await response.read_all(MAX_TOKEN_BODY_BYTES)
        if response.status != 200:
            raise _refused("The provider gave no access token for the gateway's credential.")
        token, lifetime_s = vendor.token_of(body)
        return _Kept(token, self._clock() + max(lifetime_s - EARLY_S, 0.0))

    def _keep(self, name: bytes, kept: _Kept) -> None:
        if len(self._kept) >= MAX_KEPT:
            oldest = min(self._kept, key=lambda other: self._kept[other].good_until_s)
            del self._kept[oldest]
            self._locks.pop(oldest, None)
        self._kept[name] = kept


def _refused(message: str) -> UpstreamError:
    error = UpstreamCredential(f"{message} An operator must look at it.", [])
    error.is_about_credential = True
    return error
