"""The last use of each key: gathered from the calls that are recorded, written down a little later for all of them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.control import key_activity
from penstock.domain.events import UsageEvent

WRITE_S = 10.0


class Activity:
    """What was used since it was written last, in memory: when this process dies, some seconds of it are lost."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._used: dict[str, int] = {}

    def note(self, events: Sequence[UsageEvent]) -> None:
        for event in events:
            if event.key:
                self._used[event.key] = max(event.started_at, self._used.get(event.key, 0))

    async def write(self) -> None:
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            async with self._engine.begin() as conn:
                await key_activity.note(conn, used)
        except BaseException:
            self._used = {**used, **self._used}
            raise
