"""The snapshot: one immutable picture of everything a worker needs to decide.

The control process publishes it whole when a worker attaches and as a `Change` afterwards; the pipeline takes one
reference per exchange, so a request sees one consistent world. No secret of a caller is in it (keys are digests);
the credentials of providers are, because workers send them, and `Secret` keeps them out of every repr.

There can be a hundred thousand keys, and a change of one costs no more for that: keys lie in a `Table`, and what a team
or a project means for its keys stands once, with the team or project.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field, structs

from penstock.domain.http import Timeouts
from penstock.domain.money import RateCard
from penstock.domain.policy import Limit
from penstock.domain.table import Table, table_of
from penstock.domain.tenancy import Key, Project, Team
from penstock.domain.trust import Trust


class Secret(Struct, frozen=True, repr_omit_defaults=True):
    """A value that must never be shown. `reveal()` is the one way to it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


class Credential(Struct, frozen=True):
    """A provider's key. It is bound to the origin of its provider and sent nowhere else. `team`: the one whose calls it
    serves; empty: everybody's. `weight`: its share of the calls; 0: only where no other can serve."""

    name: str
    value: Secret
    team: str = ""
    weight: int = 1


class Provider(Struct, frozen=True):
    """A vendor account as the operator declared it. `kind` names the file in `providers/`. `needs_credential`: it was
    declared with one, so that without any that is known here nothing is sent to it."""

    name: str
    kind: str
    base_url: str
    credentials: tuple[Credential, ...] = ()
    timeouts: Timeouts = Timeouts()
    options: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    needs_credential: bool = False


class Deployment(Struct, frozen=True):
    """A provider's model with what it can do and cost. `price` None: unknown. `max_output`: the most tokens the model
    can put out, None when unknown. `image_tokens`: the declared bound for one image part. `lacks`: what it cannot be
    asked for, of `domain.capabilities`."""

    provider: str
    model: str
    price: RateCard | None = None
    max_output: int | None = None
    context_window: int | None = None
    image_tokens: int = 2_000
    weight: int = 1
    lacks: tuple[str, ...] = ()


class Alias(Struct, frozen=True):
    """The model name that callers use. A name that ends in `/*` admits undeclared `provider/model` names.

    `replaced_by`: the alias that takes its place, or empty. From `warn_at` on callers are told, from `end_at` on their
    calls go there; Unix seconds, None: never."""

    name: str
    targets: tuple[Deployment, ...] = ()
    strategy: str = "ordered"
    max_output: int | None = None
    replaced_by: str = ""
    warn_at: float | None = None
    end_at: float | None = None


class Kill(Struct, frozen=True):
    """A stop in force. `scope`: dimension -> value, or `{"all": "true"}`."""

    generation: int
    scope: dict[str, str]
    reason: str = ""


BREAK_GLASS = Kill(0, {"all": "true"}, "break-glass file")
"""The stop that a file in the data directory means: in force on that box alone, before every generation."""


class TlsFiles(Struct, frozen=True):
    """The files of a TLS listener, PEM: certificate chain, private key, and who signs callers' certificates (empty:
    callers need none)."""

    cert: str
    key: str
    client_ca: str = ""


class ServerSettings(Struct, frozen=True):
    """What a worker needs to know of its own sockets, in bytes, milliseconds and Unix seconds. `tls` None: plain HTTP.
    `ca_bundle`: whom it trusts upstream, empty for the system's certificates."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    max_body_bytes: int = 32 * 1024 * 1024
    header_read_timeout_ms: int = 15_000
    drain_timeout_ms: int = 30_000
    freshness_ms: int = 45_000
    max_concurrent_calls: int = 2_000
    trusted_proxies: tuple[str, ...] = ()
    """The networks of the proxies whose `X-Forwarded-For` is believed."""
    tls: TlsFiles | None = None
    ca_bundle: str = ""


class Snapshot(Struct, frozen=True):
    """`version` grows with each change; `generation` is the newest kill, lifted ones included. `keys`: by name.
    `digests`: digest of a secret -> name of its key. Over the link both travel apart from the rest, in parts."""

    version: int = 0
    generation: int = 0
    keys: Mapping[str, Key] = Table()
    digests: Mapping[str, str] = Table()
    teams: dict[str, Team] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)
    providers: dict[str, Provider] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)
    limits: dict[str, Limit] = field(default_factory=dict)
    """By id."""
    kills: dict[int, Kill] = field(default_factory=dict)
    """Those in force, by generation."""
    server: ServerSettings = ServerSettings()
    trust: Trust = Trust()


class Change(Struct, frozen=True, omit_defaults=True):
    """What differs from the version before: `put` holds whole objects, `drop` the names that are gone."""

    version: int
    generation: int
    put_keys: dict[str, Key] = field(default_factory=dict)
    put_teams: dict[str, Team] = field(default_factory=dict)
    put_projects: dict[str, Project] = field(default_factory=dict)
    put_providers: dict[str, Provider] = field(default_factory=dict)
    put_aliases: dict[str, Alias] = field(default_factory=dict)
    put_limits: dict[str, Limit] = field(default_factory=dict)
    put_kills: dict[int, Kill] = field(default_factory=dict)
    put_trust: Trust | None = None
    drop_keys: tuple[str, ...] = ()
    drop_teams: tuple[str, ...] = ()
    drop_projects: tuple[str, ...] = ()
    drop_providers: tuple[str, ...] = ()
    drop_aliases: tuple[str, ...] = ()
    drop_limits: tuple[str, ...] = ()
    drop_kills: tuple[int, ...] = ()


SMALL = ("teams", "projects", "providers", "aliases", "limits", "kills")
"""The tables that a change copies whole."""


def applied(snapshot: Snapshot, change: Change) -> Snapshot:
    """The snapshot after `change`. Tables that the change does not touch are shared, not copied."""
    tables: dict[str, Any] = {}
    for table in SMALL:
        put: Mapping[Any, Any] = getattr(change, f"put_{table}")
        drop = getattr(change, f"drop_{table}")
        if put or drop:
            merged = {**getattr(snapshot, table), **put}
            for name in drop:
                merged.pop(name, None)
            tables[table] = merged
    if change.put_keys or change.drop_keys:
        tables |= _keys_after(snapshot, change)
    if change.put_trust is not None:
        tables["trust"] = change.put_trust
    return structs.replace(snapshot, version=change.version, generation=change.generation, **tables)


def _keys_after(snapshot: Snapshot, change: Change) -> dict[str, Mapping[str, Any]]:
    before = table_of(snapshot.keys)
    old = [key for name in (*change.put_keys, *change.drop_keys) if (key := before.get(name)) is not None]
    gone = [digest for key in old for digest in key.digests()]
    put = {key.name: key for key in change.put_keys.values()}
    return {
        "keys": before.changed(put, change.drop_keys),
        "digests": table_of(snapshot.digests).changed(names_by_digest(put.values()), gone),
    }


def names_by_digest(keys: Iterable[Key]) -> dict[str, str]:
    """Digest of a secret -> name of the key that it opens."""
    return {digest: key.name for key in keys for digest in key.digests()}


def with_keys(snapshot: Snapshot, *keys: Key) -> Snapshot:
    """The snapshot with these keys and no others."""
    return structs.replace(snapshot, keys=Table({key.name: key for key in keys}), digests=Table(names_by_digest(keys)))
