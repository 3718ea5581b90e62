"""The vault of a running gateway: seals what comes in, opens what workers need, and has every opening recorded.

    vault = Vault(door, values, wrappers, settings.wrapper, node)
    await vault.open_new()                       # at the start, and when another box has changed something
    await vault.create("admin", {"name": "openai-main", "provider": "openai", "value": "sk-..."})

Data keys are wrapped and unwrapped in a thread and before a change begins, never while others wait for the database: a
key management service that hangs must not hold up a stop. What was unwrapped stays in this process's memory.
"""

import asyncio
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import nouns, replays, vault_entries
from penstock.control.actor import Actor
from penstock.control.door import Door
from penstock.control.replays import Answer, Request
from penstock.control.vault_entries import Credential, Rotation, Sealed, Serving, Version
from penstock.control.write import Write
from penstock.domain.snapshot import Secret
from penstock.domain.tenancy import DEFAULT_ORGANISATION
from penstock.errors import Conflict, PenstockError, SealBroken, VaultUnavailable
from penstock.records.receipts import rfc3339
from penstock.store.tables.vault import data_keys
from penstock.vault import envelope
from penstock.vault.wrappers import KeyWrapper

ACTOR = "vault"
"""Who opens values in the audit log."""

LOOK_S = 60.0
"""How often to look whether anything is due, new or changed, where nobody says so."""
AGAIN_S = 5.0
"""When to try again to open what could not be opened."""

log = structlog.get_logger()


class DataKey(Struct, frozen=True):
    """A row of the data keys. `wrapping_key`: which of the wrapper's keys it lies under."""

    id: str
    scope: str
    wrapper: str
    wrapping_key: str
    wrapped: bytes

    def __repr__(self) -> str:
        return f"DataKey({self.id})"


class Values:
    """The opened values, by the id of their version."""

    def __init__(self) -> None:
        self._opened: dict[str, Secret] = {}
        self._served: dict[tuple[str, ...], Secret] = {}

    def __call__(self, version: Serving) -> Secret | None:
        """The value; where this box has not opened it yet, the one that served before it: calls need not notice that
        another box has rotated it. None where there is none."""
        place = version[1:]
        if (value := self._opened.get(version.id)) is not None:
            self._served[place] = value
        return self._served.get(place)

    def __contains__(self, version_id: str) -> bool:
        return version_id in self._opened

    def holds(self, version_id: str, value: Secret) -> bool:
        """Whether the version is this value. Raises VaultUnavailable where it is not open here."""
        if (opened := self._opened.get(version_id)) is None:
            raise VaultUnavailable("the value that there is has not been opened here")
        return hmac.compare_digest(opened.reveal().encode(), value.reveal().encode())

    def put(self, version_id: str, value: Secret) -> None:
        self._opened[version_id] = value

    def keep_only(self, versions: Sequence[Version]) -> None:
        """Forgets the others, and what served of entries that are gone."""
        entries = {version.context[1:5] for version in versions}
        self._opened = {it.id: self._opened[it.id] for it in versions if it.id in self._opened}
        self._served = {place: value for place, value in self._served.items() if place in entries}


class Vault:
    """`wrappers`: those that are configured, by name; `wrapper`: the one for new data keys. `node`: this box."""

    def __init__(
        self, door: Door, values: Values, wrappers: Mapping[str, KeyWrapper], wrapper: str, node: str = ""
    ) -> None:
        self._door = door
        self._values = values
        self._wrappers = wrappers
        self._wrapper = wrappers[wrapper]
        self._node = node
        self._keys: dict[str, bytes] = {}
        self._by_scope: dict[str, str] = {}
        self._begins_at: int | None = None
        self._look_at_s = 0.0
        self.faults: dict[str, str] = {}
        self.due: dict[str, int] = {}
        self._said_overdue: dict[str, int] = {}

    # -- what administrators ask --------------------------------------------------------------------------------------

    async def create(self, actor: Actor | str, fields: Mapping[str, Any], again: Request | None = None) -> Answer:
        """The entry as it is shown. `again`: the request may come again. Raises InvalidNoun, Conflict,
        VaultUnavailable."""
        asked = nouns.validated(Credential, fields)
        value = vault_entries.checked_value(asked.value)
        async with self._door.read() as conn:
            place = await vault_entries.place_of(conn, asked)
        sealed, made = await self._seal(place, value)

        async def create(write: Write) -> dict[str, Any]:
            await self._add(write, made)
            shown = await vault_entries.create(write, place, asked.rotate_every, sealed)
            self._values.put(sealed.id, value)
            return shown

        return await self._door.change(actor, replays.once, again, create)

    async def rotate(
        self, actor: Actor | str, name: str, fields: Mapping[str, Any], again: Request | None = None
    ) -> Answer:
        """Gives the entry a new value, now or from a moment on. Calls under way go on with the one that they have."""
        asked = nouns.validated(Rotation, fields)
        value = vault_entries.checked_value(asked.value)
        async with self._door.read() as conn:
            entry = await nouns.fetch(conn, vault_entries.ENTRY, name)
        sealed, made = await self._seal(entry, value)

        async def rotate(write: Write) -> dict[str, Any]:
            await self._add(write, made)
            shown = await vault_entries.rotate(write, name, sealed, asked.active_from)
            self._values.put(sealed.id, value)
            return shown

        answer = await self._door.change(actor, replays.once, again, rotate)
        if asked.active_from is not None:
            self.look_soon()
        return answer

    async def is_newest(self, name: str, value: Secret) -> bool:
        """Whether the entry has this value already, serving or staged. Raises NotFoundNoun, and VaultUnavailable where
        this box has not opened it."""
        async with self._door.read() as conn:
            await nouns.fetch(conn, vault_entries.ENTRY, name)
            own = [version for version in await vault_entries.versions(conn) if version.credential == name]
        return self._values.holds(max(own, key=lambda version: version.version).id, value)

    async def rewrap(self, actor: Actor | str, also: Callable[[Write], Awaitable[None]]) -> dict[str, Any]:
        """Has every data key wrapped again by the present wrapper, under the newest version of its key; `also` is done
        in the same transaction. Raises VaultUnavailable, and Conflict for a data key that does not open."""
        async with self._door.read() as conn:
            keys = await _keys_of(conn, None)
        moved = [(key, await asyncio.to_thread(self._rewrapped, key)) for key in keys]

        async def rewrap(write: Write) -> None:
            await also(write)
            for key, wrapped in moved:
                place = {"wrapper": self._wrapper.name, "wrapping_key": self._wrapper.wrapping_key}
                unchanged = (data_keys.c.id == key.id) & (data_keys.c.wrapped == key.wrapped)
                values = {**place, "wrapped": wrapped, "wrapped_at": write.at}
                if (await write.conn.execute(update(data_keys).where(unchanged).values(values))).rowcount != 1:
                    raise Conflict("a data key was wrapped by somebody else meanwhile: try again")
                await vault_entries.record_key(write, "rewrap", key.id, {"scope": key.scope, **place})

        await self._door.change(actor, rewrap)
        return {"data_keys": len(moved), "wrapper": self._wrapper.name, "wrapping_key": self._wrapper.wrapping_key}

    def _rewrapped(self, key: DataKey) -> bytes:
        keeper = self._wrappers.get(key.wrapper)
        if keeper is None:
            raise Conflict(
                f"data key {key.id} is wrapped by {key.wrapper}: put its settings back (vault.{key.wrapper})"
            )
        try:
            if keeper is self._wrapper:
                return keeper.rewrap(key.wrapped, key.scope)
            return self._wrapper.wrap(keeper.unwrap(key.wrapped, key.scope), key.scope)
        except SealBroken as error:
            raise Conflict(f"data key {key.id}: {error}") from None

    async def shown(self) -> dict[str, Any]:
        """Who wraps now, and every data key without itself."""
        columns = ("id", "scope", "wrapper", "wrapping_key", "created_at", "wrapped_at")
        async with self._door.read() as conn:
            rows = (
                await conn.execute(select(*(data_keys.c[it] for it in columns)).order_by(data_keys.c.id))
            ).mappings()
            keys = [{**it, **{at: rfc3339(it[at]) for at in columns[-2:]}} for it in rows]
        return {"wrapper": self._wrapper.name, "wrapping_key": self._wrapper.wrapping_key, "data_keys": keys}

    # -- what happens by itself ---------------------------------------------------------------------------------------

    def look_soon(self) -> None:
        """Something has changed, perhaps on another box: the next `tend` looks at it. Not here and now, where a wrapper
        that does not answer would hold up whoever says so."""
        self._look_at_s = 0.0

    async def open_new(self) -> None:
        """Opens what is not open yet and publishes it. What cannot be opened is logged, stands in `faults`, and is
        tried again."""
        self._look_at_s = time.monotonic() + LOOK_S
        async with self._door.read() as conn:
            kept = await vault_entries.versions(conn)
            self.due = await vault_entries.due(conn)
            keys = await _keys_of(conn, {each.data_key for each in kept} - self._keys.keys())
        self._values.keep_only(kept)
        self._begins_at = min((each.active_from for each in kept if each.active_from > time.time_ns()), default=None)
        unlocked = await self._unlock(keys)
        opened, self.faults = [], {}
        for version in kept:
            if version.id in self._values:
                continue
            try:
                opened.append((version, self._open(version, unlocked)))
            except PenstockError as error:
                self.faults[version.credential] = str(error)
                log.warning(
                    "a credential of the vault cannot be opened", credential=version.credential, fault=str(error)
                )
        if self.faults:
            self._look_at_s = time.monotonic() + AGAIN_S
        self._say_overdue()
        if not opened:
            return

        async def record(write: Write) -> None:
            await vault_entries.record_opened(write, [version for version, _ in opened], self._node)
            for version, value in opened:
                self._values.put(version.id, value)

        await self._door.change(ACTOR, record)

    def overdue(self) -> list[str]:
        """The entries whose value is older than it may become."""
        return sorted(name for name, at in self.due.items() if at <= time.time_ns())

    def _say_overdue(self) -> None:
        """Once for each value."""
        for name in self.overdue():
            if self._said_overdue.get(name) != self.due[name]:
                self._said_overdue[name] = self.due[name]
                log.warning("a credential is due to be rotated", credential=name)

    async def tend(self) -> None:
        """Once a second: makes the versions serve whose time has come, and looks again where it has to."""
        if self._begins_at is not None and time.time_ns() >= self._begins_at:
            async with self._door.read() as conn:
                begun = await vault_entries.begun(conn, time.time_ns())
            for name in begun:
                await self._door.change(ACTOR, vault_entries.activate, name)
                log.info("a credential's next version serves", credential=name)
            self.look_soon()
        if time.monotonic() >= self._look_at_s:
            await self.open_new()

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def _seal(self, entry: Mapping[str, Any], value: Secret) -> tuple[Sealed, DataKey | None]:
        """The value under its tenant's data key, and that key where it was made for this and has to be kept."""
        scope = f"team:{entry['team']}" if entry["team"] else f"organisation:{DEFAULT_ORGANISATION}"
        key_id, made = await self._key_of(scope)
        version_id = vault_entries.new_id()
        bound = vault_entries.context(entry, version_id)
        content = envelope.seal(self._keys[key_id], value.reveal().encode(), bound)
        return Sealed(version_id, key_id, content), made

    async def _key_of(self, scope: str) -> tuple[str, DataKey | None]:
        """The id of the tenant's data key, which is in `_keys` from then on."""
        if scope in self._by_scope:
            return self._by_scope[scope], None
        async with self._door.read() as conn:
            query = select(data_keys.c.id).where(data_keys.c.scope == scope)
            newest = (await conn.execute(query.order_by(data_keys.c.created_at.desc()).limit(1))).scalar()
            locked = [] if newest is None else await _keys_of(conn, {newest} - self._keys.keys())
        if newest is not None:
            for fault in (await self._unlock(locked)).values():
                raise fault
            self._by_scope[scope] = newest
            return newest, None
        key, wrapper = envelope.new_key(), self._wrapper
        wrapped = await asyncio.to_thread(wrapper.wrap, key, scope)
        made = DataKey(f"dek_{uuid.uuid4().hex}", scope, wrapper.name, wrapper.wrapping_key, wrapped)
        self._keys[made.id] = key
        return made.id, made

    async def _add(self, write: Write, made: DataKey | None) -> None:
        """Keeps a data key that was made for this change."""
        if made is not None:
            row = {name: getattr(made, name) for name in made.__struct_fields__}
            await write.conn.execute(insert(data_keys).values({**row, "created_at": write.at, "wrapped_at": write.at}))
            await vault_entries.record_key(write, "create", made.id, {"scope": made.scope, "wrapper": made.wrapper})

    async def _unlock(self, keys: Sequence[DataKey]) -> dict[str, PenstockError]:
        """Unwraps data keys into memory; what went wrong with which."""
        faults: dict[str, PenstockError] = {}
        for key in keys:
            wrapper = self._wrappers.get(key.wrapper)
            if wrapper is None:
                faults[key.id] = SealBroken(
                    f"its data key is wrapped by {key.wrapper} ({key.wrapping_key}): keep the settings "
                    f"vault.{key.wrapper} until `penstock vault rewrap` has moved it"
                )
                continue
            try:
                self._keys[key.id] = await asyncio.to_thread(wrapper.unwrap, key.wrapped, key.scope)
            except PenstockError as error:
                faults[key.id] = error
        return faults

    def _open(self, version: Version, faults: Mapping[str, PenstockError]) -> Secret:
        if (fault := faults.get(version.data_key)) is not None:
            raise fault
        if (key := self._keys.get(version.data_key)) is None:
            raise SealBroken("its data key is not in the store")
        return Secret(envelope.unseal(key, version.sealed, version.context).decode())


async def _keys_of(conn: AsyncConnection, ids: set[str] | None) -> list[DataKey]:
    """The rows of these, or of all."""
    query = select(*(data_keys.c[name] for name in DataKey.__struct_fields__))
    if ids is not None:
        query = query.where(data_keys.c.id.in_(sorted(ids)))
    return [DataKey(*row) for row in await conn.execute(query)]
