"""The neighbours: the other boxes on this box's database.

Once a second this box looks who is there. What its own workers confirm it writes down for the others, within a tenth of
a second, and so it tells them what its workers lack of what theirs have leased. A box that was silent for
`box_lost_after` is given up, which happens once, whoever notices first.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import structlog
from msgspec import structs
from sqlalchemy.exc import SQLAlchemyError

from penstock.app.control.fleet import Fleet
from penstock.control import changes, lost, roll
from penstock.control.changes import Aside
from penstock.control.door import Door
from penstock.control.roll import KnownBox, Report
from penstock.domain.lease import Place
from penstock.errors import StoreDown
from penstock.records.receipts import rfc3339
from penstock.store.claim import Box, Claim, reason

LOOK_S = 1.0
TOGETHER_S = 0.05
"""What workers report within this time is written together."""
WATCHED_S = 60.0
"""For how long a box looks on before it gives another up: after an outage of the database everybody was silent."""
GAP_S = 5.0

log = structlog.get_logger()


class Neighbours:
    """`lost_after_s`: the setting `server.box_lost_after`."""

    def __init__(self, door: Door, fleet: Fleet, claim: Claim, box: Box, lost_after_s: float) -> None:
        self._door = door
        self._fleet = fleet
        self._claim = claim
        self._box = box
        self._lost_after_s = lost_after_s
        self._told: dict[str, Report] = {}
        self._recalls: dict[int, dict[Place, None]] = {}
        self._has_recalls = asyncio.Event()
        self._asides: list[Aside] = []
        self._known: list[KnownBox] = []
        self._looked_at_s = 0.0
        self._looking_since_s = 0.0
        self._is_failing = False

    async def begin(self, *, is_alone: bool) -> None:
        """Puts the workers that there should be on the roll, before any of them serves. `is_alone`: no worker of a
        process before this one lives, so that those of other names need not be waited for."""
        if is_alone:
            async with self._door.engine.begin() as conn:
                await roll.forget_workers(conn, self._box.id)
        await self._tell()

    async def keep(self) -> None:
        """Runs for as long as the process."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_for_ever())
            tasks.create_task(self._look_for_ever())
            tasks.create_task(self._recall_for_ever())

    def recall(self, recalls: Mapping[int, tuple[Place, ...]]) -> None:
        """Tells the workers of these epochs, on whatever box, which places others lack."""
        for epoch, places in self._fleet.recall(recalls).items():
            self._recalls.setdefault(epoch, {}).update(dict.fromkeys(places))
            self._has_recalls.set()

    def tell_aside(self, aside: Aside) -> None:
        """Tells every box what was heard of a credential here."""
        self._asides.append(aside)
        self._has_recalls.set()

    async def kill_nodes(self, generation: int) -> list[dict[str, Any]]:
        """Each worker of every box and whether it obeys."""
        async with self._door.read() as conn:
            others = await roll.obeying(conn, generation, self._box.id)
        return sorted([*self._fleet.kill_status(generation), *others], key=lambda each: str(each["node"]))

    def shown(self) -> list[dict[str, Any]]:
        """The boxes as of the last look."""
        return [
            {
                "id": each.id,
                "node": each.node,
                "release": each.release,
                "state": "silent" if each.state == "live" and each.silent_s > roll.SILENT_S else each.state,
                "started_at": rfc3339(each.started_at),
                "seen_at": rfc3339(each.seen_at),
            }
            for each in self._known
        ]

    async def _tell_for_ever(self) -> None:
        while True:
            await self._fleet.reported.wait()
            await asyncio.sleep(TOGETHER_S)
            self._fleet.reported.clear()
            try:
                await self._tell()
            except (SQLAlchemyError, StoreDown):
                self._fleet.reported.set()
                await asyncio.sleep(LOOK_S)

    async def _tell(self) -> None:
        reports = {each.node: each for each in self._fleet.reports()}
        news = [self._news(each) for node, each in reports.items() if each != self._told.get(node)]
        async with self._door.engine.begin() as conn:
            await roll.say(conn, self._box.id, news)
        self._told = reports

    def _news(self, report: Report) -> Report:
        told = self._told.get(report.node)
        known = frozenset() if told is None else frozenset(told.confirmed)
        return structs.replace(report, confirmed=tuple(each for each in report.confirmed if each not in known))

    async def _recall_for_ever(self) -> None:
        while True:
            await self._has_recalls.wait()
            self._has_recalls.clear()
            recalls, self._recalls = self._recalls, {}
            asides, self._asides = self._asides, []
            try:
                async with self._door.engine.begin() as conn:
                    await changes.recall(conn, {epoch: list(places) for epoch, places in recalls.items()})
                    await changes.tell_asides(conn, asides)
            except (SQLAlchemyError, StoreDown) as error:
                # A worker that lacks something asks again, which recalls it again; and every box meets what its
                # providers reject.
                log.debug("a recall did not reach the other boxes", reason=reason(error))
            await asyncio.sleep(TOGETHER_S)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look()
                self._is_failing = False
            except (SQLAlchemyError, StoreDown) as error:
                if not self._is_failing:
                    log.warning("the other boxes cannot be seen", reason=reason(error))
                self._is_failing = True
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        if self._claim.is_lost:
            log.warning("the other boxes have given this one up: its workers begin anew")
            self._fleet.refuse()
        async with self._door.read() as conn:
            self._known = await roll.boxes(conn)
        now_s = time.monotonic()
        if now_s - self._looked_at_s > GAP_S:
            self._looking_since_s = now_s
        self._looked_at_s = now_s
        if now_s - self._looking_since_s >= min(self._lost_after_s, WATCHED_S):
            for each in self._known:
                if each.state == "live" and each.silent_s > self._lost_after_s and each.id != self._box.id:
                    await self._give_up(each)

    async def _give_up(self, other: KnownBox) -> None:
        charged = await self._door.change(lost.LOST, lost.give_up, other.id, self._lost_after_s)
        if charged is not None:
            log.error("a box is lost: what it had leased is charged", box=other.id, node=other.node, charges=charged)
