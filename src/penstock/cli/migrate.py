"""`penstock migrate`: bring the store to this release's schema, before or instead of the next start."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from penstock.cli.options import ConfigFile, config_file
from penstock.cli.output import CommandFailed, print_line, remark
from penstock.config.environment import Environment
from penstock.config.loading import load
from penstock.errors import ConfigFaults
from penstock.store.claim import reason
from penstock.store.engine import control_engine, database_url
from penstock.store.migrate import newest_revision, require_known, revision, upgrade

EXIT_FAULTY = 2


def migrate(
    config: ConfigFile = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: exit 1 when there is something to do.")
    ] = False,
) -> None:
    """Bring the store to this release's schema and print its revision."""
    path = config_file(config)
    try:
        found = load(path)
    except ConfigFaults as error:
        for fault in error.faults:
            remark(fault)
        raise typer.Exit(EXIT_FAULTY) from None
    data = Environment.read().data or Path(found.server.data)
    try:
        url = database_url(found.store, data)
        if found.store == "sqlite" and not Path(url.database or "").exists():
            _prepare(data, check)
        before, after = asyncio.run(_migrate(url, check))
    except (SQLAlchemyError, OSError) as error:
        raise CommandFailed(f"the store cannot be used: {reason(error)}") from None
    if check and before != after:
        raise CommandFailed(
            f"the store is {_at(before)}, this release is at revision {after}: penstock migrate brings it there"
        )
    print_line(f"the store is at revision {after}" + ("" if before == after else f"; it was {_at(before)}"))


async def _migrate(url: URL, check: bool) -> tuple[str | None, str]:
    """The revisions before and after. `check`: nothing is changed, and the second is this release's."""
    engine = control_engine(url)
    try:
        before = await revision(engine)
        require_known(before)
        return before, newest_revision() if check else await upgrade(engine)
    finally:
        await engine.dispose()


def _prepare(data: Path, check: bool) -> None:
    """The directory for a new database, as `serve` makes it: the owner's alone."""
    if check:
        raise CommandFailed("the store is not there yet: penstock migrate makes it, and so does penstock serve")
    os.umask(0o077)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)


def _at(found: str | None) -> str:
    return "empty" if found is None else f"at revision {found}"
