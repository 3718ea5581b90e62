"""The configuration file as values: the attributes mirror the file's own structure.

Durations are whole milliseconds (`..._ms`; in the file `5s`), dollar limits whole nano-USD, prices `Decimal` USD per
million, tags in a limit's `match` are flattened to `tag:<name>`. Secrets stay references until `resolve_secret`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from penstock.config.identity import Identity, TrustedGateway, TrustedIssuer, TrustRule
from penstock.config.place import DEFAULT_PLACE, MAX_WORKERS
from penstock.config.values import (
    MAX_NAME,
    AliasName,
    BaseUrl,
    Cidr,
    CredentialReference,
    Day,
    DurationMs,
    Each,
    FilePath,
    Fraction,
    GraceMs,
    HeaderFields,
    ListenAddress,
    ModelName,
    Moment,
    Name,
    PriceUsd,
    Reference,
    SpanS,
    StoreAddress,
    TagValue,
    TimeZone,
    amount_in,
    not_yet,
    one_of,
    shown,
    unique,
)
from penstock.domain.capabilities import CAPABILITIES
from penstock.domain.http import Timeouts
from penstock.domain.policy import MATCHABLE, MAX_VALUES, Mode, Unit, Window, WindowKind
from penstock.domain.snapshot import ServerSettings, TlsFiles
from penstock.domain.tenancy import ATTRIBUTES, DEFAULT_ORGANISATION, SURFACES
from penstock.domain.vendors import COMPATIBLE, needs_address

OWN_KINDS = ("openai", "anthropic", "azure", "bedrock", "cohere", "google", "vertex", "compatible", "simulated")
"""Those with a file of their own in `providers`; the others are entries of the catalogue."""
VENDOR_KINDS = tuple(COMPATIBLE)
VENDORS_TOLD = "and the vendors of docs/providers.md"
OPTIONS_OF = {
    "azure": ("api_version", "auth"),
    "simulated": ("latency_ms", "chunk_delay_ms", "tokens", "fail_status", "fail_every", "cut_after_chunks"),
    "vertex": ("project", "location"),
}
"""The options that a kind of provider has."""
WINDOWS = ("second", "minute", "hour", "day", "week", "month", "year", "total")
SLIDING = ("minute", "hour", "day", "week")
"""A second is too short to be made of shorter windows; months and years have no one length."""
CALENDAR = ("hour", "day", "week", "month", "year")
"""What begins at another moment in another time zone."""
UNITS = ("usd", "tokens", "input_tokens", "output_tokens", "requests", "concurrent")
MAX_TOKENS = 100_000_000

_UNNAMEABLE = re.compile(r"[^A-Za-z0-9._-]")


class _Section(BaseModel):
    # Worked out when it is used: most sections are, as a part of the whole file, and not for themselves.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)


def _read_as(model: type[_Section], convert: Callable[[Any], object]) -> GetPydanticSchema:
    """A field that is written as `model` and kept as what `convert` makes of it."""
    return GetPydanticSchema(
        lambda _, handler: core_schema.no_info_after_validator_function(convert, handler.generate_schema(model))
    )


def _written(section: _Section) -> dict[str, Any]:
    return section.model_dump(exclude_none=True)


class Tls(_Section):
    """Of a listener, PEM files: certificate chain, private key, and whose signature a caller's certificate must have
    (None: callers need none)."""

    cert: FilePath
    key: FilePath
    client_ca: FilePath | None = None

    def files(self) -> TlsFiles:
        return TlsFiles(self.cert, self.key, self.client_ca or "")


class UpstreamSettings(_Section):
    """`ca_bundle`: a PEM file of those whose certificates providers may have, in place of the system's."""

    ca_bundle: FilePath | None = None


class Server(_Section):
    """`listen`: the data plane; `admin`: the admin API; each with its TLS. `data`: journals, store and secrets of this
    box. `metrics_token`: what `/metrics` asks for; None: it is open.
    `box_lost_after_ms`: a box that the shared database has not heard of for that long is given up by the others.
    `trusted_proxies`: the networks of the proxies whose `X-Forwarded-For` is believed."""

    listen: ListenAddress = DEFAULT_PLACE.listen
    admin: ListenAddress = "127.0.0.1:8081"
    workers: int = Field(default=DEFAULT_PLACE.workers, ge=1, le=MAX_WORKERS)
    data: str = Field(default=DEFAULT_PLACE.data, min_length=1)
    max_body_mb: int = Field(default=32, ge=1, le=1024)
    max_concurrent_calls: int = Field(default=2_000, ge=1, le=100_000)
    header_timeout_ms: DurationMs = Field(default=15_000, alias="header_timeout")
    drain_timeout_ms: DurationMs = Field(default=30_000, alias="drain_timeout")
    box_lost_after_ms: DurationMs = Field(default=600_000, alias="box_lost_after")
    trusted_proxies: Annotated[list[Cidr], unique("the network")] = []
    tls: Tls | None = None
    admin_tls: Tls | None = None
    metrics_token: Reference | None = None

    @model_validator(mode="after")
    def _two_addresses(self) -> "Server":
        if self.listen == self.admin:
            raise ValueError("`listen` and `admin` must be two addresses: load on one must not block the other")
        return self


class Stop(_Section):
    """`freshness_ms`: a worker that has not confirmed the newest kill for that long answers 503."""

    freshness_ms: DurationMs = Field(default=45_000, alias="freshness")


class Retention(_Section):
    """How long records stay. The roll-ups, the audit log and what balances come to have no end."""

    usage_events_days: int = Field(default=90, ge=1, le=36_500)
    ledger_entries_days: int = Field(default=400, ge=31, le=36_500)


class TransitSettings(_Section):
    """A key of the transit engine of HashiCorp Vault or OpenBao. `mount`: where the engine is. `token`: a reference,
    read again for each use. `ca`: a file with the certificates that sign the server's."""

    address: BaseUrl
    key: Name
    token: Reference
    mount: str = Field(default="transit", min_length=1, max_length=256)
    namespace: str = Field(default="", max_length=256)
    ca: str = ""


class KmsSettings(_Section):
    """A symmetric key of AWS KMS: its id, alias (`alias/...`) or ARN. `endpoint`: another address than AWS's own."""

    key: str = Field(min_length=1, max_length=2_048)
    region: Name
    endpoint: BaseUrl = ""


class RotationSettings(_Section):
    """Where the next value of an entry of the vault comes from. `command`: a program and its arguments, run without a
    shell once the value is older than `every`; what it writes to its standard output is the value. `file`: read once a
    minute; another content is the next value."""

    credential: Name
    command: list[Annotated[str, Field(min_length=1, max_length=4_096)]] = Field(default=[], max_length=64)
    every: SpanS | None = None
    file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "RotationSettings":
        if bool(self.command) == bool(self.file):
            raise ValueError("name a command or a file, one of them")
        if bool(self.command) != bool(self.every):
            raise ValueError("a command needs `every`, such as 30d; a file is looked at once a minute")
        if self.command and not self.command[0].startswith("/"):
            raise ValueError("a command begins with the absolute path of a program")
        return self


class VaultSettings(_Section):
    """Who wraps the data keys of the vault from now on. The settings of another wrapper may stay beside it for as long
    as it still keeps some of them. `rotations`: where entries get their next values from."""

    wrapper: Annotated[str, one_of("root", "transit", "kms")] = "root"
    transit: TransitSettings | None = None
    kms: KmsSettings | None = None
    rotations: list[RotationSettings] = Field(default=[], max_length=1_000)

    @model_validator(mode="after")
    def _described(self) -> "VaultSettings":
        names = [rotation.credential for rotation in self.rotations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rotations name the credential {twice[0]!r} twice")
        if self.wrapper != "root" and getattr(self, self.wrapper) is None:
            raise ValueError(f"the wrapper {self.wrapper} needs its settings: vault.{self.wrapper}")
        return self


class OidcSettings(_Section):
    """An OpenID provider. `user_claim`: what names the user; `groups_claim`: which groups bindings are looked up for.
    `create_users`: whether somebody who is not known yet becomes a user, without a role of their own."""

    issuer: BaseUrl
    client_id: str = Field(min_length=1, max_length=256)
    client_secret: Reference
    scopes: list[str] = Field(default=["openid", "email", "profile"], min_length=1, max_length=32)
    user_claim: str = Field(default="email", min_length=1, max_length=64)
    groups_claim: str = Field(default="groups", min_length=1, max_length=64)
    create_users: bool = True

    @field_validator("scopes")
    @classmethod
    def _openid(cls, value: list[str]) -> list[str]:
        if "openid" not in value:
            raise ValueError("must have `openid` among them")
        return value


class SignIn(_Section):
    """How people sign in to the admin listener. `url`: by which address their browsers know it."""

    url: BaseUrl | None = None
    oidc: OidcSettings | None = None

    @model_validator(mode="after")
    def _known_address(self) -> "SignIn":
        if self.oidc is not None and self.url is None:
            raise ValueError("`oidc` needs `url`: where the identity provider sends browsers back to")
        return self


class DeclaredCredential(_Section):
    """`weight`: its share of the calls, beside the provider's others; 0: only where no other can serve."""

    name: Name
    value: CredentialReference
    weight: int = Field(default=1, ge=0, le=1_000)


class TimeoutSettings(_Section):
    """Bounds on one upstream call; see `domain.http.Timeouts`."""

    connect: DurationMs = Timeouts().connect_ms
    first_byte: DurationMs = Timeouts().first_byte_ms
    between_chunks: DurationMs = Timeouts().between_chunks_ms
    total: DurationMs = Timeouts().total_ms

    def bounds(self) -> Timeouts:
        return Timeouts(self.connect, self.first_byte, self.between_chunks, self.total)


class ProviderOptions(_Section):
    """What only some kinds of provider have, see `OPTIONS_OF`. Absent: the provider's own default."""

    latency_ms: int | None = Field(default=None, ge=0, le=600_000)
    chunk_delay_ms: int | None = Field(default=None, ge=0, le=600_000)
    tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    fail_status: int | None = Field(default=None, ge=400, le=599)
    fail_every: int | None = Field(default=None, ge=1)
    cut_after_chunks: int | None = Field(default=None, ge=0)
    api_version: str | None = Field(default=None, pattern=r"^[0-9A-Za-z.-]{1,40}$")
    auth: Annotated[str | None, one_of("key", "bearer")] = None
    project: str | None = Field(default=None, pattern=r"^[a-z0-9.:-]{1,63}$")
    location: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,40}$")


class DeclaredProvider(_Section):
    """A vendor account. `base_url` empty: the vendor's own address. Without `credentials` no key is sent."""

    name: Name
    kind: Annotated[str, one_of(*OWN_KINDS, more=VENDOR_KINDS, told=VENDORS_TOLD)]
    base_url: BaseUrl = ""
    credentials: list[DeclaredCredential] = []
    timeouts: Annotated[Timeouts, _read_as(TimeoutSettings, TimeoutSettings.bounds)] = Timeouts()
    headers: HeaderFields = {}
    options: Annotated[dict[str, Any], _read_as(ProviderOptions, _written)] = {}

    @model_validator(mode="after")
    def _address(self) -> "DeclaredProvider":
        if not self.base_url and needs_address(self.kind):
            raise ValueError(f"a provider of kind {self.kind} needs its base_url")
        if self.kind == "simulated" and (self.base_url or self.credentials or self.headers):
            raise ValueError("a provider of kind simulated has no base_url, credentials or headers: nothing is sent")
        unknown = [name for name in self.options if name not in OPTIONS_OF.get(self.kind, ())]
        if unknown:
            raise ValueError(f"a provider of kind {self.kind} has no option '{unknown[0]}'")
        if self.kind == "vertex" and "project" not in self.options:
            raise ValueError("a provider of kind vertex needs the option `project`")
        if self.credentials and not any(credential.weight for credential in self.credentials):
            raise ValueError("has no credential with a weight above 0: nothing would be in the turn")
        return self


class DeclaredTarget(_Section):
    provider: Name
    model: ModelName
    weight: int = Field(default=1, ge=1)
    lacks: Annotated[list[Annotated[str, one_of(*CAPABILITIES)]], unique("the capability")] = []

    @field_validator("weight")
    @classmethod
    def _even(cls, value: int) -> int:
        if value != 1:
            raise ValueError("other than 1 needs the weighted strategy, which is not available in this release")
        return value


class DeclaredPrice(_Section):
    """USD per million units; `request` in USD per call, `web_search` in USD per search. None: not written, and priced
    as the meter it is part of."""

    input: PriceUsd
    output: PriceUsd
    cache_read: PriceUsd | None = None
    cache_write: PriceUsd | None = None
    cache_write_1h: PriceUsd | None = None
    audio_in: PriceUsd | None = None
    audio_out: PriceUsd | None = None
    request: PriceUsd | None = None
    web_search: PriceUsd | None = None


class DeclaredModel(_Section):
    """An alias, or with a name that ends in `/*` the admission of undeclared `provider/model` names.

    `replaced_by`: the alias that takes its place. `warn_at` and `end_at`, UTC: when callers begin to be told, and when
    calls go there. With neither they go there now; with `end_at` alone callers are told from now on; with `warn_at`
    alone they are told and no more."""

    name: AliasName
    targets: list[DeclaredTarget] = []
    strategy: Annotated[str, one_of("ordered", later=("weighted", "latency", "cost", "least_busy"))] = "ordered"
    price: DeclaredPrice | None = None
    max_output: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    rules: Annotated[None, not_yet("routing by rules")] = None
    fallbacks: Annotated[None, not_yet("falling back to other aliases")] = None
    replaced_by: ModelName | None = None
    warn_at: Day | None = None
    end_at: Day | None = None

    @property
    def wildcard(self) -> str | None:
        """The provider whose undeclared models this admits; None for an alias."""
        return self.name[:-2] if self.name.endswith("/*") else None

    @property
    def is_replaced_for_good(self) -> bool:
        """Whether calls have gone to its replacement since before this was written, so that it needs no target."""
        return self.replaced_by is not None and self.warn_at is None and self.end_at is None

    @model_validator(mode="after")
    def _dates(self) -> "DeclaredModel":
        if self.replaced_by is None and (self.warn_at or self.end_at):
            raise ValueError("warn_at and end_at are dates of a replacement: name it in replaced_by")
        if self.replaced_by == self.name:
            raise ValueError("a model is not replaced by itself")
        if self.warn_at and self.end_at and self.end_at <= self.warn_at:
            raise ValueError("end_at must be later than warn_at")
        return self

    @model_validator(mode="after")
    def _targets(self) -> "DeclaredModel":
        if self.wildcard is not None:
            if self.targets or self.price:
                raise ValueError(
                    "a name that ends in /* has no targets and no price: declare the models that need them"
                )
            if self.replaced_by:
                raise ValueError("a name that ends in /* is not replaced: declare the models that are")
        elif not self.targets and not self.is_replaced_for_good:
            raise ValueError("needs at least one target")
        pairs = [(target.provider, target.model) for target in self.targets]
        for index, (provider, model) in enumerate(pairs):
            if (provider, model) in pairs[:index]:
                raise ValueError(f"names the target {shown(f'{provider}: {model}')} twice")
        return self


class DeclaredOrganisation(_Section):
    """Whose teams they are, where one gateway serves several. The organisation `default` is there by itself."""

    name: Name

    @field_validator("name")
    @classmethod
    def _another(cls, value: str) -> str:
        if value == DEFAULT_ORGANISATION:
            raise ValueError(f"{shown(value)} is there by itself: give this one another name")
        return value


class DeclaredTeam(_Section):
    """`required_tags`: tags that every call of the team must carry. `tags_from`: required tag -> the attribute of the
    key that stands in for it where a call does not carry it."""

    name: Name
    organisation: Name = DEFAULT_ORGANISATION
    required_tags: Annotated[list[Name], unique("the tag")] = []
    tags_from: dict[Name, Annotated[str, one_of(*ATTRIBUTES)]] = {}

    @model_validator(mode="after")
    def _required(self) -> "DeclaredTeam":
        for tag in self.tags_from:
            if tag not in self.required_tags:
                raise ValueError(f"tags_from names {shown(tag)}, which is not in required_tags")
        return self


class DeclaredProject(_Section):
    name: Name
    team: Name
    environment: Name = ""


Surfaces = Annotated[list[Annotated[str, one_of(*SURFACES)]], unique("the surface")]
Cidrs = Annotated[list[Cidr], Field(max_length=1_000), unique("the network")]
AllowedTags = dict[Name, Annotated[list[TagValue], Field(min_length=1, max_length=1_000), unique("the value")]]


def refuse_pins(tags: Mapping[str, str], allowed: Mapping[str, Sequence[str]]) -> None:
    """ValueError when a tag is pinned to a value that is not among those allowed: no call could ever be made."""
    for tag, value in tags.items():
        if value not in allowed.get(tag, (value,)):
            raise ValueError(f"tags pins {shown(tag)} to {shown(value)}, which allowed_tags does not list")


class DeclaredKey(_Section):
    """`secret`: where the caller's key stands; one that is for `tokens_only` has none. `models`: aliases and
    `provider/*` patterns; empty: every declared alias. `tags` are pinned: a caller cannot override them.
    `allowed_tags`: the values that a tag may have. `expires_at`: UTC. An unwritten `team` is the project's, or that of
    the key `parent`, under which it stands. `rotation_grace_ms`: how long the old secret is good as well, once there is
    another."""

    name: Name
    secret: Reference = ""
    tokens_only: bool = False
    team: Name = ""
    project: Name = ""
    user: TagValue = ""
    models: Annotated[list[AliasName], unique("the model")] = []
    tags: dict[Name, TagValue] = {}
    allowed_tags: AllowedTags = {}
    surfaces: Surfaces = []
    allowed_cidrs: Cidrs = []
    parent: Name = ""
    expires_at: Moment | None = None
    rotation_grace_ms: GraceMs = Field(default=0, alias="rotation_grace")

    @model_validator(mode="after")
    def _pinned(self) -> "DeclaredKey":
        refuse_pins(self.tags, self.allowed_tags)
        return self

    @model_validator(mode="after")
    def _known_by(self) -> "DeclaredKey":
        if bool(self.secret) == self.tokens_only:
            raise ValueError("needs its secret, or else tokens_only: true")
        return self


class MatchSettings(_Section):
    """The dimensions of `match` as the file writes them: `tag` is a mapping of its own."""

    organisation: Name | None = None
    team: Name | None = None
    project: Name | None = None
    environment: Name | None = None
    key: Name | None = None
    user: TagValue | None = None
    customer: TagValue | None = None
    model: ModelName | None = None
    provider: Name | None = None
    tag: dict[Name, TagValue] = {}

    @field_validator("tag")
    @classmethod
    def _of_one_customer(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        named = info.data.get("customer")
        if named is not None and value.get("customer", named) != named:
            raise ValueError("can match nothing: `customer` is the tag `customer`, and another one is named there")
        return value

    def pairs(self) -> dict[str, str]:
        """Sorted by dimension; tags as `tag:<name>`."""
        fields = {name: value for name in MATCHABLE if (value := getattr(self, name)) is not None}
        return dict(sorted((fields | {f"tag:{name}": value for name, value in self.tag.items()}).items()))


def limit_name(match: Mapping[str, str], each: str | None, unit: str, per: str, more: Sequence[str] = ()) -> str:
    """The name of a limit that is given none: `team-growth.each-customer.usd-day`. The same limit always gets the
    same name. A part that a name cannot hold, or one that is too long, is told apart by a digest. `more`: what is not
    as it mostly is."""
    parts = [f"{dimension}-{value}" for dimension, value in sorted(match.items())]
    if each:
        parts.append(f"each-{each}")
    parts += [unit if unit == "concurrent" else f"{unit}-{per}", *more]
    whole = ".".join(parts)
    plain = _UNNAMEABLE.sub("-", whole.replace("tag:", "tag-"))
    if plain == whole.replace("tag:", "tag-") and len(plain) <= MAX_NAME:
        return plain
    return f"{plain[: MAX_NAME - 9]}-{sha256(whole.encode()).hexdigest()[:8]}"


class OnExceeded(_Section):
    """What becomes of a call that a limit denies: another model takes over."""

    downgrade: ModelName


def _reaction(value: object, read: Callable[[object], Any]) -> str:
    """`refuse` -> empty; `{downgrade: MODEL}` -> the model."""
    if value is None or value == "refuse":
        return ""
    if not isinstance(value, dict):
        raise ValueError("must be refuse or {downgrade: MODEL}")  # noqa: TRY004 - a fault, gathered by pydantic
    return str(read(value).downgrade)


_Reaction = GetPydanticSchema(
    lambda _, handler: core_schema.no_info_wrap_validator_function(_reaction, handler.generate_schema(OnExceeded))
)


class DeclaredLimit(_Section):
    """`amount`: whole nano-USD for `usd`, pieces for the rest. `match`: dimension -> value, tags as `tag:<name>`.
    `on_exceeded`: the model that takes over, empty for none. `name` is made from the rest when unwritten."""

    match: Annotated[dict[str, str], _read_as(MatchSettings, MatchSettings.pairs)] = {}
    each: Each | None = None
    unit: Annotated[Unit, one_of(*UNITS)]
    amount: int
    per: Window = Field(default=None, validate_default=True)
    mode: Annotated[Mode, one_of("strict", "metered", "observe")] = "strict"
    window: Annotated[WindowKind, one_of("fixed", "sliding")] = "fixed"
    timezone: TimeZone = "UTC"
    alert_at: Annotated[list[Fraction], unique("the fraction")] = []
    on_exceeded: Annotated[str, _Reaction] = ""
    max_values: int = Field(default=MAX_VALUES, ge=1, le=10 * MAX_VALUES)
    name: Name = ""

    @field_validator("amount", mode="plain")
    @classmethod
    def _in_unit(cls, value: object, info: ValidationInfo) -> int:
        return amount_in(info.data.get("unit"), value)

    @field_validator("per", mode="before")
    @classmethod
    def _for_unit(cls, value: object, info: ValidationInfo) -> object:
        concurrent = info.data.get("unit") == "concurrent"
        if concurrent and value not in {None, "total"}:
            raise ValueError("a limit on concurrent calls has no window: leave `per` out")
        if value is None and not concurrent:
            raise ValueError("is missing; available: " + ", ".join(WINDOWS))
        if value is not None and value not in WINDOWS:
            raise ValueError(f"{shown(value)} is not known here; available: " + ", ".join(WINDOWS))
        return value or "total"

    @field_validator("window")
    @classmethod
    def _slides(cls, value: str, info: ValidationInfo) -> str:
        per = info.data.get("per")
        if value == "sliding" and per is not None and per not in SLIDING:
            raise ValueError(f"sliding is for limits per {', '.join(SLIDING)}")
        return value

    @field_validator("timezone")
    @classmethod
    def _has_a_zone(cls, value: str, info: ValidationInfo) -> str:
        per = info.data.get("per")
        if value != "UTC" and per is not None and per not in CALENDAR:
            raise ValueError(f"means something for limits per {', '.join(CALENDAR)} alone: leave it out")
        if value != "UTC" and info.data.get("window") == "sliding":
            raise ValueError("a sliding window is the same in every time zone: leave it out")
        return value

    @field_validator("on_exceeded")
    @classmethod
    def _another_takes_over(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("match", {}).get("model") == value:
            raise ValueError("downgrades to the model that the limit counts: name another")
        return value

    @field_validator("max_values")
    @classmethod
    def _of_each(cls, value: int, info: ValidationInfo) -> int:
        if value != MAX_VALUES and info.data.get("each") is None:
            raise ValueError("bounds the values of `each`, which this limit has not: leave it out")
        return value

    @model_validator(mode="after")
    def _named(self) -> "DeclaredLimit":
        if not self.name:
            # Frozen means that nobody changes it once it is made; it is being made here.
            usual = {"fixed", "UTC", "strict"}
            more = [part.replace("/", "-") for part in (self.window, self.timezone, self.mode) if part not in usual]
            object.__setattr__(self, "name", limit_name(self.match, self.each, self.unit, self.per, more))
        return self


class Contents(_Section):
    """Everything that a file can say."""

    identity: Identity = Identity()
    server: Server = Server()
    stop: Stop = Stop()
    store: StoreAddress = "sqlite"
    vault: VaultSettings = VaultSettings()
    retention: Retention = Retention()
    upstream: UpstreamSettings = UpstreamSettings()
    sign_in: SignIn = SignIn()
    providers: list[DeclaredProvider] = []
    models: list[DeclaredModel] = []
    organisations: list[DeclaredOrganisation] = []
    teams: list[DeclaredTeam] = []
    projects: list[DeclaredProject] = []
    keys: list[DeclaredKey] = []
    limits: list[DeclaredLimit] = []


OBJECTS = ("providers", "models", "organisations", "teams", "projects", "keys", "limits")
"""The sections that declare objects of the control plane; the others are the process's own settings."""


class Config(Contents):
    """A file without a fault. `digest`: hex SHA-256 of its bytes, by which an applied file is known. `written`: its
    `OBJECTS` as it wrote them, in plain values; secrets are references there as well."""

    path: Path
    digest: str
    written: dict[str, Any]

    def server_settings(self) -> ServerSettings:
        """What a worker needs to know of its listener."""
        host, _, port = self.server.listen.rpartition(":")
        return ServerSettings(
            listen_host=host.strip("[]"),
            listen_port=int(port),
            max_body_bytes=self.server.max_body_mb * 2**20,
            header_read_timeout_ms=self.server.header_timeout_ms,
            drain_timeout_ms=self.server.drain_timeout_ms,
            freshness_ms=self.stop.freshness_ms,
            max_concurrent_calls=self.server.max_concurrent_calls,
            trusted_proxies=tuple(self.server.trusted_proxies),
            tls=None if self.server.tls is None else self.server.tls.files(),
            ca_bundle=self.upstream.ca_bundle or "",
        )


SHAPES: dict[tuple[str, ...], type[BaseModel]] = {
    (): Contents,
    ("identity",): Identity,
    ("identity", "issuers"): TrustedIssuer,
    ("identity", "issuers", "rules"): TrustRule,
    ("identity", "gateway"): TrustedGateway,
    ("server",): Server,
    ("server", "tls"): Tls,
    ("server", "admin_tls"): Tls,
    ("upstream",): UpstreamSettings,
    ("stop",): Stop,
    ("retention",): Retention,
    ("vault",): VaultSettings,
    ("vault", "transit"): TransitSettings,
    ("vault", "kms"): KmsSettings,
    ("vault", "rotations"): RotationSettings,
    ("sign_in",): SignIn,
    ("sign_in", "oidc"): OidcSettings,
    ("providers",): DeclaredProvider,
    ("providers", "credentials"): DeclaredCredential,
    ("providers", "timeouts"): TimeoutSettings,
    ("providers", "options"): ProviderOptions,
    ("models",): DeclaredModel,
    ("models", "targets"): DeclaredTarget,
    ("models", "price"): DeclaredPrice,
    ("organisations",): DeclaredOrganisation,
    ("teams",): DeclaredTeam,
    ("projects",): DeclaredProject,
    ("keys",): DeclaredKey,
    ("limits",): DeclaredLimit,
    ("limits", "match"): MatchSettings,
    ("limits", "on_exceeded"): OnExceeded,
}
"""Which fields stand where, list indices left out."""
