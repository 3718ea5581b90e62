"""The snapshot: one immutable picture of everything a worker needs to decide.

The control process publishes it whole when a worker attaches and as a `Change` afterwards; the pipeline takes one
reference per exchange, so a request sees one consistent world. No secret of a caller is in it (keys are digests);
the credentials of providers are, because workers send them, and `Secret` keeps them out of every repr.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field, structs

from penstock.domain.http import Timeouts
from penstock.domain.money import RateCard
from penstock.domain.policy import Limit


class Secret(Struct, frozen=True, repr_omit_defaults=True):
    """A value that must never be shown. `reveal()` is the one way to it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


class Key(Struct, frozen=True):
    """A virtual key: who a caller is. `digest`: hex HMAC-SHA-256 of the secret under the gateway's pepper.
    `models`: alias patterns (`gpt-4.1`, `openai/*`); empty allows every alias and wildcard. `tags` are pinned: a caller
    cannot override them. `expires_at`: Unix seconds. `required_tags` come from the team."""

    id: str
    name: str
    digest: str
    organisation: str = "default"
    team: str = ""
    project: str = ""
    environment: str = ""
    user: str = ""
    models: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    required_tags: tuple[str, ...] = ()
    expires_at: float | None = None
    revoked_at: float | None = None


class Credential(Struct, frozen=True):
    """A provider's key. It is bound to the origin of its provider and sent nowhere else. `team`: the one whose calls it
    serves; empty: everybody's."""

    name: str
    value: Secret
    team: str = ""


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
    can put out, None when unknown. `image_tokens`: the declared bound for one image part."""

    provider: str
    model: str
    price: RateCard | None = None
    max_output: int | None = None
    context_window: int | None = None
    image_tokens: int = 2_000
    weight: int = 1


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


class ServerSettings(Struct, frozen=True):
    """What a worker needs to know of its own listener, in bytes, milliseconds and Unix seconds."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    max_body_bytes: int = 32 * 1024 * 1024
    header_read_timeout_ms: int = 15_000
    drain_timeout_ms: int = 30_000
    freshness_ms: int = 45_000
    max_concurrent_calls: int = 2_000


class Snapshot(Struct, frozen=True):
    """`version` grows with each change; `generation` is the newest kill, lifted ones included."""

    version: int = 0
    generation: int = 0
    keys: dict[str, Key] = field(default_factory=dict)
    """By digest."""
    providers: dict[str, Provider] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)
    limits: dict[str, Limit] = field(default_factory=dict)
    """By id."""
    kills: dict[int, Kill] = field(default_factory=dict)
    """Those in force, by generation."""
    server: ServerSettings = ServerSettings()


class Change(Struct, frozen=True):
    """What differs from the version before: `put` holds whole objects, `drop` the names that are gone."""

    version: int
    generation: int
    put_keys: dict[str, Key] = field(default_factory=dict)
    put_providers: dict[str, Provider] = field(default_factory=dict)
    put_aliases: dict[str, Alias] = field(default_factory=dict)
    put_limits: dict[str, Limit] = field(default_factory=dict)
    put_kills: dict[int, Kill] = field(default_factory=dict)
    drop_keys: tuple[str, ...] = ()
    drop_providers: tuple[str, ...] = ()
    drop_aliases: tuple[str, ...] = ()
    drop_limits: tuple[str, ...] = ()
    drop_kills: tuple[int, ...] = ()


def applied(snapshot: Snapshot, change: Change) -> Snapshot:
    """The snapshot after `change`. Tables that the change does not touch are shared, not copied."""
    tables: dict[str, Any] = {}
    for table in ("keys", "providers", "aliases", "limits", "kills"):
        put: Mapping[Any, Any] = getattr(change, f"put_{table}")
        drop = getattr(change, f"drop_{table}")
        if put or drop:
            merged = {**getattr(snapshot, table), **put}
            for name in drop:
                merged.pop(name, None)
            tables[table] = merged
    return structs.replace(snapshot, version=change.version, generation=change.generation, **tables)
