"""The control process's side of the Idempotency-Keys: what workers ask is answered once it is durable.

What comes while a transaction is under way shares the next one, in the order in which it came: a release must not
overtake what it releases, and each transaction costs a wait for the disk. Nobody waits long for a store that hangs: who
was told so is left out of the transactions to come, and releases what may count all the same.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from penstock.admission import key_uses
from penstock.domain.idempotency import KeyUse
from penstock.errors import StoreDown
from penstock.store.claim import Claim, reason

ANSWERED_WITHIN_S = 2.0
"""After this time the store counts as one that does not answer."""

log = structlog.get_logger()

Work = Callable[[AsyncConnection], Awaitable[bytes]]


class KeyUses:
    """`engine`: one whose commits are durable. `claim` knows whether the store is there. `failed` counts errors."""

    def __init__(self, engine: AsyncEngine, claim: Claim, failed: Callable[[str], None]) -> None:
        self._engine = engine
        self._claim = claim
        self._failed = failed
        self._waiting: list[tuple[KeyUse, Work, asyncio.Future[bytes | None]]] = []
        self._turns: asyncio.Task[None] | None = None

    async def take(self, *said: str) -> bytes | None:
        """The answer to `take_key`: the encoded use that counts. None: the store cannot be asked."""
        *fields, epoch = said
        use = KeyUse(*fields)

        async def work(conn: AsyncConnection) -> bytes:
            return msgspec.msgpack.encode(await key_uses.take(conn, use, int(epoch), time.time_ns()))

        return await self._done(use, work)

    async def release(self, *said: str) -> bytes | None:
        """The answer to `release_key`: something once it is free. None: the store cannot be asked."""
        use = KeyUse(*said)

        async def work(conn: AsyncConnection) -> bytes:
            await key_uses.release(conn, use)
            return b"released"

        return await self._done(use, work)

    async def _done(self, use: KeyUse, work: Work) -> bytes | None:
        try:
            self._claim.require()
        except StoreDown:
            return None
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((use, work, answer))
        if self._turns is None or self._turns.done():
            self._turns = asyncio.create_task(self._take_turns())
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                return await answer
        except TimeoutError:
            self._failed("idempotency")
            log.warning("an Idempotency-Key was not looked at: the store does not answer")
            return None

    async def _take_turns(self) -> None:
        while self._waiting:
            await self._do_all()

    async def _do_all(self) -> None:
        """One transaction for all that wait. Rows are locked in one order by every box, and what is asked of one row is
        done in the order of the questions."""
        batch, self._waiting = [it for it in self._waiting if not it[2].done()], []
        batch.sort(key=lambda it: (it[0].key, it[0].name))
        answers: list[bytes | None] = [None] * len(batch)
        try:
            async with self._engine.begin() as conn:
                found = [await work(conn) for _, work, _ in batch]
            answers[:] = found
        except (SQLAlchemyError, StoreDown) as error:
            self._failed("idempotency")
            log.warning("Idempotency-Keys could not be looked at", reason=reason(error), asked=len(batch))
        except Exception:
            self._failed("idempotency")
            log.exception("Idempotency-Keys could not be looked at", asked=len(batch))
        finally:
            for (_, _, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
