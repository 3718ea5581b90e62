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
        self._is_owed = asyncio.Event()

    async def take(self, use: KeyUse) -> KeyUse:
        """The use that counts. One of which the answer does not come may count all the same, so it is released."""
        try:
            value = await self._said("take_key", use, str(self._epoch))
        except BaseException:
            self._owe(use)
            raise
        return msgspec.msgpack.decode(value, type=KeyUse)

    async def release(self, use: KeyUse) -> None:
        """At once, or soon where nobody answers or this is cut short."""
        try:
            await self._said("release_key", use)
        except StoreUnavailable:
            self._owe(use)
        except BaseException:
            self._owe(use)
            raise

    async def keep_releasing(self) -> None:
        """Says again what could not be said, for as long as the worker lives."""
        while True:
            await self._is_owed.wait()
            with suppress(StoreUnavailable):
                for use in list(self._owed):
                    await self._said("release_key", use)
                    self._owed.pop(use, None)
            if self._owed:
                await asyncio.sleep(AGAIN_S)
            else:
                self._is_owed.clear()

    def _owe(self, use: KeyUse) -> None:
        self._owed[use] = None
        if len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]
        self._is_owed.set()

    async def _said(self, kind: str, use: KeyUse, *more: str) -> bytes:
        answer = await self._ask(kind, *msgspec.structs.astuple(use), *more)
        if answer is None:
            raise StoreUnavailable("The gateway's store cannot be reached. Try again.", retry_after_s=2)
        return answer
