"""A worker's side of the Idempotency-Keys: it asks the control process, which has the store."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from penstock.domain.idempotency import KeyUse
from penstock.errors import StoreUnavailable

AGAIN_S = 1.0
MAX_OWED = 10_000
"""Releases that wait for the control process; beyond them the oldest is forgotten, and its key is free a day later."""


class KeyUses:
    """`ask` is the worker's question to the control process and raises `StoreUnavailable`. `epoch`: the worker's."""

    def __init__(self, ask: Callable[..., Awaitable[bytes | None]], epoch: int) -> None:
        self._ask = ask
        self._epoch = epoch
        self._owed: dict[KeyUse, None] = {}

    async def take(self, use: KeyUse) -> KeyUse:
        value = await self._ask("take_key", *msgspec.structs.astuple(use), str(self._epoch))
        if value is None:
            raise StoreUnavailable("The gateway's store cannot be reached. Try again.", retry_after_s=2)
        return msgspec.msgpack.decode(value, type=KeyUse)

    async def release(self, use: KeyUse) -> None:
        """Owed from the first, so that it is done even where this is cut short."""
        self._owed[use] = None
        if len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]
        with suppress(StoreUnavailable):
            await self._release(use)

    async def keep_releasing(self) -> None:
        """Says again what could not be said, for as long as the worker lives."""
        while True:
            await asyncio.sleep(AGAIN_S)
            with suppress(StoreUnavailable):
                for use in list(self._owed):
                    await self._release(use)

    async def _release(self, use: KeyUse) -> None:
        if await self._ask("release_key", *msgspec.structs.astuple(use)) is not None:
            self._owed.pop(use, None)
