"""The claim: that one box has a database to itself, and that the database is there.

A database in the data directory is claimed by the lock on that directory. One on PostgreSQL can be reached from other
boxes, which must not serve from it too, as nothing divides limits between boxes. So the control process holds a
session's advisory lock on it for as long as it runs. Where that session is lost, nothing connects to the database
before it is claimed again; when somebody else has it by then, this process has to end.

The same session asks the database once a second whether it is there. Whoever must not wait for one that hangs looks at
`require` first (an administrator's question), or at `is_fresh` (a pulse that vouches for the newest kill).
"""

import asyncio
import time
from typing import Any

from sqlalchemy import Connection, Engine, event, text
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
_RETRY_S = 0.25
_LOCK = 7_305_611_970_447_102
"""The key of PostgreSQL's advisory lock; any number that is always the same, and not that of `store.migrate`."""


class Claim:
    """Of a database that nobody else can reach: there is nothing to take, to keep or to lose."""

    def guard(self, engine: Engine) -> None:
        """Lets `engine` connect only while the database is claimed; StoreDown otherwise."""

    async def take(self) -> None:
        """Raises StoreInUse when another box has the database, StoreDown when it cannot be reached."""

    async def keep(self) -> None:
        """Runs for as long as the process. Raises StoreInUse when another box has taken the database."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Gives the database up, where it is claimed."""

    def is_confirmed(self) -> bool:
        """Whether the database has answered within `CONFIRMED_FOR_S`."""
        return self.silent_s() < CONFIRMED_FOR_S

    def is_fresh(self) -> bool:
        """Whether the database has answered within `FRESH_FOR_S`."""
        return self.silent_s() < FRESH_FOR_S

    def require(self) -> None:
        """Raises StoreDown unless the database is confirmed."""
        if not self.is_confirmed():
            raise StoreDown("the store does not answer: try again")

    def silent_s(self) -> float:
        """For how long the database has not been heard of."""
        return 0.0


class RemoteClaim(Claim):
    """Of a PostgreSQL database, on a connection of its own."""

    def __init__(self, url: URL) -> None:
        self._engine = create_async_engine(postgresql_url(url), poolclass=NullPool)
        self._place = url.render_as_string(hide_password=True)
        self._session: AsyncConnection | None = None
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

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if self._session is None:
                    await self._take(RETAKE_WITHIN_S)
                else:
                    await self._session.execute(text("SELECT 1"))
                    self._answered_at_s = time.monotonic()
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

    async def _take(self, within_s: float) -> None:
        """Raises SQLAlchemyError when the database cannot be reached."""
        session = await self._engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        deadline = time.monotonic() + within_s
        try:
            while not await session.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
                if time.monotonic() > deadline:
                    raise StoreInUse(f"another gateway serves from the store {self._place}: a database has one box")
                await asyncio.sleep(_RETRY_S)
        except BaseException:
            await session.invalidate()
            await session.close()
            raise
        self._session, self._answered_at_s = session, time.monotonic()


def claim_on(url: URL) -> Claim:
    """The claim that the database of `url` needs."""
    return Claim() if url.get_backend_name() == "sqlite" else RemoteClaim(url)


def take_alone(connection: Connection) -> None:
    """Keeps every gateway away from the database behind a synchronous connection until its transaction ends. Raises
    StoreInUse when one has it. On SQLite a transaction that writes is alone as it is."""
    if connection.dialect.name == "postgresql":
        taken = connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar()
        if not taken:
            raise StoreInUse("a gateway serves from the store: stop it first")


def reason(error: BaseException) -> str:
    """What the database or its driver said, in one line."""
    said = str(getattr(error, "orig", None) or error).strip()
    return " ".join(said.splitlines()[-1].split()) if said else type(error).__name__
