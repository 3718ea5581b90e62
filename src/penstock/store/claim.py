"""The claim: that nobody else is this box, and that the database is there.

A database in the data directory belongs to one box, by the lock on that directory. One on PostgreSQL is where boxes
meet: each has an id of its own and holds a session's advisory lock on that id for as long as it runs, so that a copy of
a data directory cannot pass for the box that it was copied from. Where that session is lost, nothing connects to the
database before the id is claimed again; when somebody else has it by then, this process has to end.

The same session tells the database once a second that this box is alive, which also says whether the database is there.
Whoever must not wait for one that hangs looks at `require` first (an administrator's question), or at `is_fresh` (a
pulse that vouches for the newest kill). The answer says whether the others have given this box up meanwhile.
"""

import asyncio
import time
from hashlib import sha256
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Engine, TextClause, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from penstock.errors import StoreDown, StoreInUse
from penstock.store.engine import postgresql_url

POLL_S = 1.0
CONFIRMED_FOR_S = 5.0
"""How long an answer of the database vouches for it towards administrators."""
FRESH_FOR_S = 2.0
"""How long it vouches for the newest kill towards workers, whose `stop.freshness` runs from then on."""
TAKE_WITHIN_S = 3.0
"""How long a predecessor may take to stop: a service manager may start the next one at once."""
RETAKE_WITHIN_S = 40.0
"""How long the database may take to notice that this box's own old session is gone."""
_RETRY_S = 0.1
_LOCK = 7_305_611_970_447_102
"""The key of the advisory lock that all boxes share. A restore takes it alone, and so does a release that takes no
other box beside it."""

_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000000 AS bigint)"


def timed(statement: str) -> TextClause:
    """`statement` with the database's clock, which is the one that all boxes share, in place of the word NOW_NS: Unix
    nanoseconds."""
    return text(statement.replace("NOW_NS", _NOW))


_REGISTER = timed("""
    INSERT INTO boxes (id, node, release, state, started_at, seen_at)
    VALUES (:id, :node, :release, 'live', NOW_NS, NOW_NS)
    ON CONFLICT (id) DO UPDATE SET node = excluded.node, release = excluded.release, seen_at = excluded.seen_at,
        started_at = excluded.started_at, state = CASE boxes.state WHEN 'lost' THEN 'lost' ELSE 'live' END
    RETURNING state""")
_BEAT = timed("UPDATE boxes SET seen_at = NOW_NS WHERE id = :id RETURNING state")
_LEAVE = timed("UPDATE boxes SET seen_at = NOW_NS, state = 'stopped' WHERE id = :id AND state = 'live'")


class Box(Struct, frozen=True):
    """One data directory with its processes. `id`: kept in the directory; empty where the database belongs to this box
    alone. `node`: its name, which no other box on the database has. `data`: the directory, for messages."""

    id: str
    node: str
    data: str = ""

    def worker(self, told: str) -> str:
        """The name of the worker that calls itself `told`: `<node>/worker-0`."""
        return f"{self.node}/{told.rpartition('/')[2]}" if self.id else told


class Claim:
    """Of a database that nobody else can reach: there is nothing to take, to keep or to lose."""

    is_lost = False
    """Whether the other boxes have given this one up. It serves again once its workers have begun anew."""

    def guard(self, engine: Engine) -> None:
        """Lets `engine` connect only while the database is claimed; StoreDown otherwise."""

    async def take(self) -> None:
        """Raises StoreInUse when another process is this box, StoreDown when the database cannot be reached."""

    async def register(self, release: str) -> None:
        """Enters the box among those on the database, which has its schema by now. `release`: that of this process."""

    async def keep(self) -> None:
        """Runs for as long as the process. Raises StoreInUse when another process has become this box."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """Tells the others that this box has stopped in good order, with nothing left under way. Best effort."""

    async def release(self) -> None:
        """Gives the box's id up, where it is claimed."""

    def is_confirmed(self) -> bool:
        """Whether the database has answered within `CONFIRMED_FOR_S`."""
        return self.silent_s() < CONFIRMED_FOR_S

    def is_fresh(self) -> bool:
        """Whether the database has answered within `FRESH_FOR_S`, and nobody has given this box up."""
        return self.silent_s() < FRESH_FOR_S and not self.is_lost

    def require(self) -> None:
        """Raises StoreDown unless the database is confirmed."""
        if not self.is_confirmed():
            raise StoreDown("the store does not answer: try again")

    def silent_s(self) -> float:
        """For how long the database has not been heard of."""
        return 0.0


class RemoteClaim(Claim):
    """Of a box's place in a PostgreSQL database, on a connection of its own."""

    def __init__(self, url: URL, box: Box) -> None:
        self._engine = create_async_engine(postgresql_url(url), poolclass=NullPool, use_native_hstore=False)
        self._place = url.render_as_string(hide_password=True)
        self._box = box
        self._key = int.from_bytes(sha256(f"penstock box {box.id}".encode()).digest()[:8], "big", signed=True)
        self._session: AsyncConnection | None = None
        self._release: str | None = None
        self._answered_at_s = time.monotonic()

    def guard(self, engine: Engine) -> None:
        @event.listens_for(engine, "do_connect")
        def require_claim(*_: Any) -> None:
            if self._session is None:
                raise StoreDown("the store is not there, or not claimed again yet")

    async def take(self) -> None:
        try:
            await self._take(TAKE_WITHIN_S)
        except SQLAlchemyError as error:
            raise StoreDown(f"the store {self._place} cannot be reached: {reason(error)}") from error

    async def register(self, release: str) -> None:
        assert self._session is not None
        self._release = release
        await self._enter(self._session, release)

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if self._session is None:
                    await self._take(RETAKE_WITHIN_S)
                else:
                    await self._beat(self._session)
            except SQLAlchemyError:
                await self.release()

    async def leave(self) -> None:
        if self._session is not None and self._release is not None and self.is_confirmed():
            try:
                await self._session.execute(_LEAVE, {"id": self._box.id})
            except SQLAlchemyError:
                await self.release()

    async def release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.invalidate()
            await session.close()
        await self._engine.dispose()

    def silent_s(self) -> float:
        return time.monotonic() - self._answered_at_s

    async def _beat(self, session: AsyncConnection) -> None:
        if self._release is None:
            await session.execute(text("SELECT 1"))
        else:
            state = await session.scalar(_BEAT, {"id": self._box.id})
            if state is None:
                await self._enter(session, self._release)
            else:
                self.is_lost = state == "lost"
        self._answered_at_s = time.monotonic()

    async def _enter(self, session: AsyncConnection, release: str) -> None:
        values = {"id": self._box.id, "node": self._box.node, "release": release}
        self.is_lost = await session.scalar(_REGISTER, values) == "lost"

    async def _take(self, within_s: float) -> None:
        """Raises SQLAlchemyError when the database cannot be reached."""
        session = await self._engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        try:
            await self._lock(session, time.monotonic() + within_s)
        except BaseException:
            await session.invalidate()
            await session.close()
            raise
        self._session, self._answered_at_s = session, time.monotonic()

    async def _lock(self, session: AsyncConnection, deadline: float) -> None:
        alone = (
            f"a restore, or a gateway of an older release, has the store {self._place} to itself: try again after it"
        )
        await _wait_for(session, text("SELECT pg_try_advisory_lock_shared(:key)"), _LOCK, deadline, alone)
        twice = (
            f"another gateway on the store {self._place} is the box of {self._box.data} already; "
            "in a copy of a data directory, delete `box` and `journals` before it starts"
        )
        await _wait_for(session, text("SELECT pg_try_advisory_lock(:key)"), self._key, deadline, twice)


async def _wait_for(session: AsyncConnection, asked: TextClause, key: int, deadline: float, refusal: str) -> None:
    """Raises StoreInUse with `refusal` when the lock is not free by `deadline`."""
    while not await session.scalar(asked, {"key": key}):
        if time.monotonic() > deadline:
            raise StoreInUse(refusal)
        await asyncio.sleep(_RETRY_S)


def claim_on(url: URL, box: Box) -> Claim:
    """The claim that the database of `url` needs."""
    return Claim() if url.get_backend_name() == "sqlite" else RemoteClaim(url, box)


def take_alone(connection: Connection) -> None:
    """Keeps every gateway away from the database behind a synchronous connection until its transaction ends. Raises
    StoreInUse when one has it. On SQLite a transaction that writes is alone as it is."""
    if connection.dialect.name == "postgresql":
        taken = connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar()
        if not taken:
            raise StoreInUse("a gateway serves from the store: stop it first")


def reason(error: BaseException) -> str:
    """What the database or its driver said, in one line: the server's own words where there are any."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    if not lines:
        return type(error).__name__
    refusals = [line for line in lines if "FATAL:" in line]
    return " ".join((refusals or lines)[-1].split())
