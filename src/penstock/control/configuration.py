"""The declared configuration of a running gateway: what would change, the change, and the way back.

An administrator brings a file from anywhere. What it cannot carry is secrets: its references mean something only on the
box, where `serve` reads a file of its own, and only what that file refers to is resolved here (see `credentials`).
That file is read again each time, so that a new secret needs no restart, and a fault in it keeps what was known.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog
from msgspec import Struct

from penstock.config.loading import load, parse, restored
from penstock.config.settings import Config
from penstock.control import declared, vault_entries
from penstock.control.actor import Actor
from penstock.control.credentials import BoxReferences, DeclaredCredentials
from penstock.control.declared import Applied, Asked, Step
from penstock.control.door import Door
from penstock.control.write import Write
from penstock.errors import ConfigError, ConfigFaults, Conflict, InvalidFile, InvalidNoun, PenstockError

FILE = "penstock.yaml"
"""What a file that came over the network is called in its faults."""
SETTINGS = ("server", "stop", "vault", "retention", "sign_in")
"""The sections that are the process's own."""

log = structlog.get_logger()


class Outcome(Struct, frozen=True):
    """`base`: the newest version before this; `version`: that which is in force now, None of what is only planned.
    `new_version`: whether there is something to keep. `notes`: what the file says and this does not do."""

    base: int
    version: int | None
    new_version: bool
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """`dry_run`: say what would happen, and change nothing. `base`: refuse when another version than this is the newest
    one."""

    dry_run: bool = False
    base: int | None = None


class Configuration:
    """`config`: the file that `serve` read at its start. `node`: the name of this box."""

    def __init__(self, door: Door, credentials: DeclaredCredentials, config: Config, node: str, pepper: bytes) -> None:
        self._door = door
        self._credentials = credentials
        self._running = self._newest = config
        self._mark: tuple[int, ...] | None = None
        self._references = BoxReferences(config)
        self._node = node
        self._pepper = pepper

    async def apply(self, actor: Actor | str, content: bytes, terms: Terms) -> Outcome:
        """Puts the file `content` in force. Raises InvalidFile with all that is wrong with it, or with the references
        that this box must not resolve; Conflict as `declared.put_in_force`."""
        try:
            config = await asyncio.to_thread(parse, content, FILE)
        except ConfigFaults as error:
            raise InvalidFile(error.faults) from None
        digest = await asyncio.to_thread(self._read_own_file)
        own = self._node if digest == config.digest else ""
        applied = await self._put(actor, config, Asked("apply", terms.base, own), terms.dry_run)
        return _outcome(applied, terms, _notes(config, self._running))

    async def roll_back(self, actor: Actor | str, version: int, terms: Terms) -> Outcome:
        """Puts a version of the history in force again, as a new version. Raises NotFoundNoun, and as `apply`."""
        async with self._door.read() as conn:
            kept = await declared.show(conn, version)
        if kept["document"] is None:
            raise Conflict(f"an older release applied version {version} and has not kept what it declared")
        try:
            config = restored(kept["document"], Path(f"version {version}"), kept["digest"])
        except ConfigFaults as error:
            raise InvalidFile(error.faults) from None
        await asyncio.to_thread(self._read_own_file)
        asked = Asked("rollback", terms.base, restores=version)
        return _outcome(await self._put(actor, config, asked, terms.dry_run), terms)

    async def know_providers(self) -> None:
        """Resolves the credentials of providers that another box has put in force, where the file of this box has them
        and they were not known here yet."""
        await asyncio.to_thread(self._read_own_file)
        for fault in self._credentials.adopt_new(self._newest.providers):
            log.warning("a provider that another box put in force has no credential here", reason=fault)
        await self._door.refresh()

    async def look_again(self) -> list[str]:
        """Reads the file of this box again and looks behind all references, of credentials and of declared keys. What
        does not resolve keeps what it held; the sentences say which. A provider's new credential is there before an
        administrator of another box makes it count."""
        faults = self._credentials.refresh()
        await asyncio.to_thread(self._read_own_file)
        faults += self._credentials.adopt_new(self._newest.providers)
        await self._door.refresh()
        try:
            if self._references.have_files():
                await self._door.change(declared.ACTOR, declared.rotate, self._pepper, self._references, "file:")
        except PenstockError as error:
            faults.append(str(error))
        return faults

    async def _put(self, actor: Actor | str, config: Config, asked: Asked, dry_run: bool) -> Applied:
        if faults := self._references.faults_of(config):
            raise InvalidFile(faults)

        async def put(write: Write) -> Applied:
            applied = await declared.put_in_force(write, self._pepper, config, asked)
            await _require_entries(write, config)
            if not dry_run:
                self._credentials.adopt(config.providers)
            return applied

        try:
            return await (self._door.rehearse if dry_run else self._door.change)(actor, put)
        except ConfigError as error:
            raise InvalidFile([str(error)]) from None

    def _read_own_file(self) -> str:
        """Takes in the references of the file that `serve` reads, as it is now; its digest. A file that nobody has
        touched is not read again: a large one takes seconds."""
        mark = _mark(self._running.path)
        if mark is not None and mark == self._mark:
            return self._newest.digest
        self._mark = mark
        try:
            config = load(self._running.path)
        except ConfigFaults as error:
            log.warning("the configuration file of this box has a fault; what it said before counts", fault=str(error))
            return self._newest.digest
        self._newest = config
        self._references.add(config)
        return config.digest


async def _require_entries(write: Write, config: Config) -> None:
    """Refuses references to entries that the vault does not have, or has for another provider. `serve` does not: its
    file may be there before the vault is filled."""
    faults = []
    for provider in config.providers:
        try:
            await vault_entries.require(write.conn, provider)
        except InvalidNoun as error:
            faults.append(f"providers.{provider.name}.{error.place}: {error.message}")
    if faults:
        raise InvalidFile(faults)


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes with a file's content; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _outcome(applied: Applied, terms: Terms, notes: tuple[str, ...] = ()) -> Outcome:
    version = None if terms.dry_run else applied.version
    return Outcome(applied.base, version, applied.new_version, applied.steps, notes)


def _notes(config: Config, running: Config) -> tuple[str, ...]:
    """The settings of the process that the file writes otherwise than the one by which it runs."""
    differing = [
        f"{section}.{type(own).model_fields[name].alias or name}"
        for section in SETTINGS
        for own in (getattr(config, section),)
        for name in sorted(own.model_fields_set)
        if getattr(own, name) != getattr(getattr(running, section), name)
    ]
    if config.store not in {running.store, "sqlite"}:
        differing.append("store")
    return tuple(f"{name} stays as it is: `serve` reads it from its own file, at its start" for name in differing)
