"""Exports: that somebody took usage, receipts, the configuration or the audit log itself away is in the audit log
before they have it.

Whoever asks for the same kind again within a minute is not recorded again: a page that is looked at and renewed is one
export.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from penstock.control import audit
from penstock.control.actor import Actor
from penstock.control.door import Door
from penstock.control.write import Write

AGAIN_S = 60.0
MAX_REMEMBERED = 10_000
MAX_NAME = 256


class Exports:
    """`clock`: monotonic seconds."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door = door
        self._clock = clock
        self._recorded: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def record(self, asker: Actor, kind: str, what: str) -> None:
        """Raises what the store does where it cannot be recorded: nothing is handed out then. `what`: which part."""
        now, key = self._clock(), (asker.kind, asker.name, kind)
        if now - self._recorded.get(key, -AGAIN_S) < AGAIN_S:
            return

        async def write(change: Write) -> None:
            await audit.record(change, "export", (kind, what[:MAX_NAME]), None, None)

        await self._door.change(asker, write)
        self._recorded[key] = now
        self._recorded.move_to_end(key)
        while len(self._recorded) > MAX_REMEMBERED:
            self._recorded.popitem(last=False)
