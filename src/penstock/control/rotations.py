"""Credentials of the vault that rotate by themselves: from a command, once they are old, or with a file.

What a command gives is staged and begins to serve half a minute later, when every box has it; calls notice nothing. One
that fails leaves everything as it is, is alerted, and is tried again. On a database with several boxes one of them runs
a command, whichever comes first.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.config.environment import MAX_SECRET_BYTES, for_commands, one_line, read_secret_file
from penstock.config.settings import RotationSettings
from penstock.control import nouns, vault_entries
from penstock.control.commands import output_of
from penstock.control.door import Door
from penstock.control.vault import Vault
from penstock.domain.snapshot import Secret
from penstock.errors import ConfigError, PenstockError
from penstock.store.claim import reason

ACTOR = "rotation"
"""Who rotates by itself, in the audit log."""
LOOK_S = 60.0
AGAIN_S = 600.0
"""When a command that failed is run again."""
STAGED_FOR_S = 30

log = structlog.get_logger()


class Rotations:
    """`settings`: those of the file that `serve` reads, and of nothing else. `failed` counts errors."""

    def __init__(
        self,
        door: Door,
        vault: Vault,
        settings: Sequence[RotationSettings],
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._door = door
        self._vault = vault
        self._settings = settings
        self._count_failure = failed
        self._again_at_s: dict[str, float] = {}
        self.faults: dict[str, str] = {}

    async def look(self) -> None:
        """Once a minute. What goes wrong with one stands in `faults` and holds up none of the others."""
        for each in self._settings:
            if self._again_at_s.get(each.credential, 0.0) > time.monotonic():
                continue
            try:
                await (self._follow(each, Path(each.file)) if each.file else self._renew(each))
                self.faults.pop(each.credential, None)
            except (PenstockError, SQLAlchemyError) as error:
                self._failed(each, reason(error) if isinstance(error, SQLAlchemyError) else str(error))

    async def _follow(self, each: RotationSettings, path: Path) -> None:
        value = read_secret_file(path)
        if not await self._vault.is_newest(each.credential, value):
            await self._rotate(each, value)

    async def _renew(self, each: RotationSettings) -> None:
        if not await self._is_due(each):
            return
        async with _alone(self._door.engine, each.credential) as is_alone:
            if not is_alone or not await self._is_due(each):
                return
            environment = {**for_commands(), "CREDENTIAL": each.credential}
            written = await output_of(each.command, environment, MAX_SECRET_BYTES)
            value = Secret(one_line(written.decode(errors="replace"), f"the output of {each.command[0]}"))
            if await self._vault.is_newest(each.credential, value):
                raise ConfigError(f"{each.command[0]} gave the value that there is already")
            await self._rotate(each, value)

    async def _is_due(self, each: RotationSettings) -> bool:
        async with self._door.read() as conn:
            row = await nouns.fetch(conn, vault_entries.ENTRY, each.credential)
        return bool(time.time_ns() >= row["rotated_at"] + (each.every or 0) * 10**9)

    async def _rotate(self, each: RotationSettings, value: Secret) -> None:
        begins = datetime.now(UTC) + timedelta(seconds=STAGED_FOR_S)
        fields: Mapping[str, Any] = {"value": value.reveal(), "active_from": begins.isoformat()}
        await self._vault.rotate(ACTOR, each.credential, fields)
        log.info("a credential has its next value, which serves soon", credential=each.credential)

    def _failed(self, each: RotationSettings, fault: str) -> None:
        if each.command:
            self._again_at_s[each.credential] = time.monotonic() + AGAIN_S
        self._count_failure("rotation")
        if self.faults.get(each.credential) != fault:
            log.error(
                "a credential cannot be rotated; the one that there is serves on",
                credential=each.credential,
                fault=fault,
            )
        self.faults[each.credential] = fault


@asynccontextmanager
async def _alone(engine: AsyncEngine, name: str) -> AsyncIterator[bool]:
    """Whether no other box is at it, for as long as the block lasts."""
    if engine.dialect.name != "postgresql":
        yield True
        return
    key = int.from_bytes(sha256(f"penstock rotation {name}".encode()).digest()[:8], "big", signed=True)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
        taken = bool(await conn.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}))
        try:
            yield taken
        finally:
            if taken:
                await conn.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
