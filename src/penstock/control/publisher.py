"""The publisher: from the store to the snapshot that workers live from, one difference at a time.

It knows the last published snapshot. After a change it reads again what was touched (and what follows from it: a
provider's aliases), and what differs is the `Change` that goes out: the work is that of the change, not that of the
whole.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import structs
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import kills, prices, vault_entries
from penstock.control.limits import domain_limit, raises_in_force
from penstock.domain.http import Timeouts
from penstock.domain.money import PriceOverride
from penstock.domain.policy import Limit
from penstock.domain.snapshot import (
    Alias,
    Change,
    Credential,
    Deployment,
    Provider,
    Secret,
    ServerSettings,
    Snapshot,
    applied,
)
from penstock.domain.tenancy import Key, Project, Rights, Sharing, Team
from penstock.domain.trust import Trust
from penstock.store.chunks import chunks
from penstock.store.tables import control as tables
from penstock.store.tables.control import NO_SECRET

Resolve = Callable[[Provider, str, PriceOverride | None, int | None], Deployment]
"""Provider, its name for the model, the operator's price and output bound -> what the catalogue knows of both."""

Credentials = Callable[[str, str], tuple[Credential, ...]]
"""A provider's name and base URL -> its credentials. They are bound to that address: for any other there are none."""

OpenedValues = Callable[[vault_entries.Serving], Secret | None]
"""A version of an entry of the vault -> its value, where this box has opened it."""

Subscriber = Callable[[Change], None]
K = TypeVar("K")
V = TypeVar("V")
_IN_ONE_TURN = 100
_SECOND_NS = 1_000_000_000
_KEY_COLUMNS = tuple(
    tables.keys.c[name]
    for name in (
        *("id", "name", "digest", "old_digest", "old_until", "team", "project", "user", "parent"),
        *("models", "surfaces", "allowed_cidrs", "tags", "allowed_tags", "expires_at", "revoked_at"),
    )
)


@dataclass(frozen=True)
class Sources:
    """What is in a snapshot besides what the store holds."""

    resolve: Resolve
    credentials: Credentials
    vault: OpenedValues = lambda _: None
    server: ServerSettings = field(default_factory=ServerSettings)
    trust: Callable[[], Trust] = Trust


class Touched:
    """What has to be read again: per table names, or None for all of it."""

    def __init__(self, names: Mapping[str, set[str] | None]) -> None:
        self._names = names

    def of(self, kind: str) -> set[str] | None:
        return self._names.get(kind, set())

    @property
    def has_kills(self) -> bool:
        """Kills in force are few, and read together."""
        return "kill" in self._names


EVERYTHING = Touched(dict.fromkeys(("team", "project", "key", "provider", "model", "limit", "price", "trust", "kill")))
TRUST = Touched({"trust": None})
"""Whose word is taken, and by which keys."""
OUTSIDE = Touched({"provider": None, "model": None})
"""What depends on more than the store: credentials, and prices that change with time."""


class Publisher:
    """`snapshot` is the last one published. `clock`: Unix nanoseconds; the first version comes from it, so that
    versions go on growing when the control process starts again."""

    def __init__(self, sources: Sources, clock: Callable[[], int] = time.time_ns) -> None:
        self._sources = sources
        self._subscribers: list[Subscriber] = []
        self._clock = clock
        self._raised_until: dict[str, int] = {}
        self._book: prices.Book = {}
        self._book_at = 0
        self._prepared: tuple[Change | None, prices.Book, int] = (None, {}, 0)
        self.snapshot = Snapshot(version=clock() // 1_000_000, server=sources.server)

    def subscribe(self, subscriber: Subscriber) -> None:
        """`subscriber(change)` is called on the event loop, in order, and must not wait."""
        self._subscribers.append(subscriber)

    def deployment(self, provider: str, model: str) -> Deployment | None:
        """An undeclared model of a provider, for aliases that end in `/*`. None: there is no such provider."""
        known = self.snapshot.providers.get(provider)
        return None if known is None else self._deployment(known, model, None, None, self._book)

    async def prepare(self, conn: AsyncConnection, touched: Touched) -> Change | None:
        """The difference that `conn` sees, in what was touched; None when there is none. Publishes nothing yet."""
        old = self.snapshot
        book, book_at, is_priced_anew = self._book, self._book_at, touched.of("price") != set()
        if is_priced_anew:
            book, book_at = await prices.read_book(conn), self._clock()
        # Providers are few, so what becomes of an entry of the vault is looked for in all of them.
        provider_names = None if touched.of("credential") else touched.of("provider")
        new_providers = await self._read_providers(conn, provider_names)
        old_providers = _among(old.providers, provider_names)
        all_providers = {name: it for name, it in old.providers.items() if name not in old_providers} | new_providers
        aliases = self._touched_aliases(touched)
        new_aliases = await self._read_aliases(conn, aliases, all_providers, book)
        new_keys = await _read_keys(conn, touched.of("key"))
        new_teams = await _read_teams(conn, touched.of("team"))
        new_projects = await _read_projects(conn, touched.of("project"))
        limit_names = touched.of("limit")
        new_limits = await self._read_limits(conn, limit_names)
        old_limits = old.limits if limit_names is None else _where(old.limits, lambda it: it.name in limit_names)
        trust = self._sources.trust() if touched.of("trust") is None else old.trust
        generation, in_force = old.generation, old.kills
        if touched.has_kills:
            generation, in_force = await kills.newest_and_in_force(conn)
        put_providers, drop_providers = _difference(old_providers, new_providers)
        put_aliases, drop_aliases = _difference(_among(old.aliases, aliases), new_aliases)
        put_keys, drop_keys = _difference(_among(old.keys, touched.of("key")), new_keys)
        put_teams, drop_teams = _difference(_among(old.teams, touched.of("team")), new_teams)
        put_projects, drop_projects = _difference(_among(old.projects, touched.of("project")), new_projects)
        put_limits, drop_limits = _difference(old_limits, new_limits)
        put_kills, drop_kills = _difference(old.kills, in_force)
        change = Change(
            version=old.version + 1,
            generation=generation,
            put_keys=put_keys,
            put_teams=put_teams,
            put_projects=put_projects,
            put_providers=put_providers,
            put_aliases=put_aliases,
            put_limits=put_limits,
            put_kills=put_kills,
            put_trust=None if trust == old.trust else trust,
            drop_keys=drop_keys,
            drop_teams=drop_teams,
            drop_projects=drop_projects,
            drop_providers=drop_providers,
            drop_aliases=drop_aliases,
            drop_limits=drop_limits,
            drop_kills=drop_kills,
        )
        # A price may count for models that no alias names: workers ask again for those after any change.
        if change == Change(old.version + 1, old.generation) and not (touched.of("price") or book != self._book):
            return None
        self._prepared = (change, book, book_at)
        return change

    def deliver(self, change: Change | None) -> None:
        """Makes the change the published truth and tells every subscriber."""
        if change is None:
            return
        if self._prepared[0] is change:
            _, self._book, self._book_at = self._prepared
        self.snapshot = applied(self.snapshot, change)
        for subscriber in self._subscribers:
            subscriber(change)

    def raises_over(self) -> set[str]:
        """The names of the limits of which a temporary increase has ended since they were published."""
        now = self._clock()
        return {name for name, until in self._raised_until.items() if until <= now}

    def prices_begun(self) -> set[str]:
        """The models of which an entry of the price book has begun since they were published."""
        return prices.beginning(self._book, self._book_at, self._clock())

    async def _read_limits(self, conn: AsyncConnection, names: set[str] | None) -> dict[str, Limit]:
        found, now, table = {}, self._clock(), tables.limits
        for name in self.raises_over() if names is None else names & self.raises_over():
            del self._raised_until[name]
        async for row in _rows(conn, select(table), table.c.name, names):
            whole = row._asdict()
            found[row.id] = domain_limit(whole, now)
            if current := raises_in_force(whole, now):
                # The earlier moment stays: a change that is not committed after all must not move it.
                until = min(it["until"] for it in current)
                self._raised_until[row.name] = min(until, self._raised_until.get(row.name, until))
        return found

    async def _read_providers(self, conn: AsyncConnection, names: set[str] | None) -> dict[str, Provider]:
        rows = [row async for row in _rows(conn, select(tables.providers), tables.providers.c.name, names)]
        entries = {term["vault"] for row in rows for term in row.credential_terms.values() if "vault" in term}
        kept = await vault_entries.serving(conn, entries, self._clock()) if entries else {}
        return {
            row.name: Provider(
                name=row.name,
                kind=row.kind,
                base_url=row.base_url,
                credentials=self._credentials(row, kept),
                timeouts=msgspec.convert(row.timeouts, Timeouts),
                options=row.options,
                headers=row.headers,
                needs_credential=bool(row.credentials),
            )
            for row in rows
        }

    def _credentials(self, row: Any, kept: Mapping[str, Sequence[vault_entries.Serving]]) -> tuple[Credential, ...]:
        """The provider's credentials that are known here, in their order. An entry of the vault goes to the kind and
        address that it was made for and nowhere else, whatever refers to it."""
        known = {it.name: it for it in self._sources.credentials(row.name, row.base_url)} if row.credentials else {}
        meant = (row.kind, vault_entries.address_of(row.base_url))
        found = []
        for name in row.credentials:
            terms = row.credential_terms.get(name, {})
            entry, weight = terms.get("vault"), terms.get("weight", 1)
            if entry is None:
                found += [structs.replace(known[name], weight=weight)] if name in known else []
                continue
            for each in kept.get(entry, ()):
                value = self._sources.vault(each) if (each.kind, each.address) == meant else None
                if value is not None:
                    found.append(Credential(name, value, each.team, weight))
                    break
        return tuple(found)

    def _touched_aliases(self, touched: Touched) -> set[str] | None:
        """The aliases themselves, and those with a target at a touched provider or of a touched price."""
        names, at, priced = touched.of("model"), touched.of("provider"), touched.of("price")
        if names is None or at is None or priced is None:
            return None

        def follows(target: Deployment) -> bool:
            return target.provider in at or prices.audited((target.provider, target.model)) in priced

        return names | set(_where(self.snapshot.aliases, lambda it: any(follows(target) for target in it.targets)))

    async def _read_aliases(
        self, conn: AsyncConnection, names: set[str] | None, known: Mapping[str, Provider], book: prices.Book
    ) -> dict[str, Alias]:
        found = {}
        async for row in _rows(conn, select(tables.models), tables.models.c.name, names):
            body = row.body
            price = None if body["price"] is None else msgspec.convert(body["price"], PriceOverride)
            targets = tuple(
                _as_declared(
                    self._deployment(known[target["provider"]], target["model"], price, body["max_output"], book),
                    target,
                )
                for target in body["targets"]
            )
            found[row.name] = Alias(row.name, targets, body["strategy"], body["max_output"], *_replacement(row))
        return found

    def _deployment(
        self, provider: Provider, model: str, price: PriceOverride | None, max_output: int | None, book: prices.Book
    ) -> Deployment:
        """What the alias says of the price goes first, then the book, then the catalogue."""
        entry = prices.in_force(book.get((provider.name, model), ()), self._clock()) if price is None else None
        override = price if entry is None else entry.price
        deployment = self._sources.resolve(provider, model, override, max_output)
        if entry is not None and entry.price is not None:
            deployment = prices.priced(deployment, entry)
        return structs.replace(deployment, provider=provider.name, model=model)


def _as_declared(deployment: Deployment, target: Mapping[str, Any]) -> Deployment:
    lacks = dict.fromkeys((*deployment.lacks, *target.get("lacks", ())))
    return structs.replace(deployment, weight=target["weight"], lacks=tuple(lacks))


async def _read_keys(conn: AsyncConnection, names: set[str] | None) -> dict[str, Key]:
    sharing = Sharing()
    query = select(*_KEY_COLUMNS)
    return {row.name: sharing.shared(_key(row)) async for row in _rows(conn, query, tables.keys.c.name, names)}


async def _read_teams(conn: AsyncConnection, names: set[str] | None) -> dict[str, Team]:
    table = tables.teams
    rows = _rows(conn, select(table), table.c.name, names)
    return {row.name: Team(row.name, row.organisation, tuple(row.required_tags), row.tags_from) async for row in rows}


async def _read_projects(conn: AsyncConnection, names: set[str] | None) -> dict[str, Project]:
    table = tables.projects
    rows = _rows(conn, select(table), table.c.name, names)
    return {row.name: Project(row.name, row.environment, row.team) async for row in rows}


async def _rows(
    conn: AsyncConnection, query: Select[Any], column: ColumnElement[Any], names: set[str] | None
) -> AsyncIterator[Any]:
    """The rows whose `column` is among `names`; all of them for None. Others get their turn on the event loop."""
    selections: Iterable[Select[Any]] = [query]
    if names is not None:
        selections = [query.where(column.in_(chunk)) for chunk in chunks(sorted(names))]
    for selection in selections:
        for count, row in enumerate(await conn.execute(selection), 1):
            yield row
            if count % _IN_ONE_TURN == 0:
                await asyncio.sleep(0)


def _key(row: Any) -> Key:
    """A row of `_KEY_COLUMNS`."""
    return Key(
        id=row.id,
        name=row.name,
        digest="" if row.digest.startswith(NO_SECRET) else row.digest,
        team=row.team,
        project=row.project,
        user=row.user,
        rights=_rights(row),
        expires_at=None if row.expires_at is None else row.expires_at / _SECOND_NS,
        revoked_at=None if row.revoked_at is None else row.revoked_at / _SECOND_NS,
        parent=row.parent,
        old_digest=row.old_digest,
        old_until=row.old_until / _SECOND_NS,
    )


def _rights(row: Any) -> Rights:
    allowed = {tag: tuple(values) for tag, values in row.allowed_tags.items()}
    return Rights(tuple(row.models), row.tags, allowed, tuple(row.surfaces), tuple(row.allowed_cidrs))


def _replacement(row: Any) -> tuple[str, float | None, float | None]:
    """Who takes the place of a model, when callers begin to be told, and when it ends: Unix seconds. What has neither
    date has ended when it was written, and what has no date of its own to begin began then."""
    if not (replaced_by := row.body.get("replaced_by")):
        return "", None, None
    written = row.updated_at / _SECOND_NS
    warn_at, end_at = _seconds(row.body["warn_at"]), _seconds(row.body["end_at"])
    if warn_at is None and end_at is None:
        return replaced_by, written, written
    return replaced_by, warn_at if warn_at is not None else min(written, end_at or written), end_at


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def _among(objects: Mapping[str, V], names: set[str] | None) -> Mapping[str, V]:
    return objects if names is None else {name: objects[name] for name in names if name in objects}


def _where(objects: dict[K, V], holds: Callable[[V], bool]) -> dict[K, V]:
    return {name: value for name, value in objects.items() if holds(value)}


def _difference(old: Mapping[K, V], new: Mapping[K, V]) -> tuple[dict[K, V], tuple[K, ...]]:
    """What to put and what to drop, to come from `old` to `new`."""
    put = {name: value for name, value in new.items() if name not in old or old[name] != value}
    return put, tuple(name for name in old if name not in new)
