"""The control process's side of exchanges for tokens: a worker gives none away before it is recorded.

What comes while a transaction is under way shares the next one.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from penstock.control import exchanges
from penstock.control.door import Door
from penstock.domain.trust import Exchanged
from penstock.errors import StoreDown
from penstock.store.claim import reason

ACTOR = "data plane"

log = structlog.get_logger()


class Exchanges:
    """`failed` counts errors."""

    def __init__(self, door: Door, failed: Callable[[str], None]) -> None:
        self._door = door
        self._failed = failed
        self._waiting: list[tuple[Exchanged, asyncio.Future[bytes | None]]] = []
        self._turn = asyncio.Lock()

    async def record(self, said: str) -> bytes | None:
        """Something once it is durable. None: it cannot be recorded."""
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((msgspec.json.decode(said, type=Exchanged), answer))
        async with self._turn:
            if not answer.done():
                await self._record_all()
        return await answer

    async def _record_all(self) -> None:
        batch, self._waiting = self._waiting, []
        outcome: bytes | None = None
        try:
            await self._door.change(ACTOR, exchanges.record, [made for made, _ in batch])
            outcome = b"recorded"
        except (SQLAlchemyError, StoreDown) as error:
            self._failed("exchange")
            log.warning(
                "tokens were not given, because it could not be recorded", reason=reason(error), asked=len(batch)
            )
        finally:
            for _, future in batch:
                if not future.done():
                    future.set_result(outcome)
