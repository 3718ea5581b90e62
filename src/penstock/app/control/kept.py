"""The control process's answer to where something lies that a provider keeps.

A worker's journal has it before the caller can ask for it, so the journals of this box are read first. Those of other
boxes are in the store within a moment of their writing, for which what is not found is waited.
"""

import time
from asyncio import sleep as pause
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from penstock.control.door import Door
from penstock.domain.kept import Keeper
from penstock.errors import StoreDown
from penstock.records import kept
from penstock.store.claim import reason

ON_ANOTHER_BOX_S = (0.1, 0.2, 0.3, 0.4)
"""The pauses between looks for what another box may have to tell; it looks at its journals four times a second."""

log = structlog.get_logger()


class KeptThings:
    """`drain` brings the journals of this box into the store and raises StoreDown. `has_others`: whether other boxes
    use the same store."""

    def __init__(self, door: Door, drain: Callable[[], Awaitable[int]], *, has_others: bool) -> None:
        self._door = door
        self._drain = drain
        self._pauses = ON_ANOTHER_BOX_S if has_others else ()

    async def find(self, owner: str, needed: str, *ids: str) -> bytes | None:
        """The encoded list of `Keeper`s. `needed`: how many of the ids, from the first on, are worth a wait. None: the
        store cannot be asked."""
        missing = set(ids[: int(needed)])
        try:
            await self._drain()
            found = await self._look(owner, ids)
            for pause_s in self._pauses:
                if missing <= {each.id for each in found if each.is_own}:
                    break
                await pause(pause_s)
                found = await self._look(owner, ids)
        except (SQLAlchemyError, StoreDown) as error:
            log.warning("it could not be looked up what a provider keeps", reason=reason(error))
            return None
        return msgspec.msgpack.encode(found)

    async def _look(self, owner: str, ids: tuple[str, ...]) -> list[Keeper]:
        async with self._door.read() as conn:
            return await kept.find(conn, owner, ids, time.time_ns())
