"""The shapes of the answers, for the OpenAPI document. What a path answers is made in `control` and `records`; a test
compares the two. Times are RFC 3339; money in nano-USD is a whole number, money in USD decimal text.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Moment = str
"""RFC 3339, such as `2027-01-31T12:00:00Z`."""


class _Answer(BaseModel):
    # Nothing is ever read with these: they are worked out when somebody asks for the document.
    model_config = ConfigDict(defer_build=True)


class Provenance(_Answer):
    origin: str = Field(description="`file`: the configuration file declares it; `api`: it was made here")
    created_at: Moment
    created_by: str
    updated_at: Moment


class ShownOrganisation(Provenance):
    name: str


class ShownTeam(Provenance):
    name: str
    organisation: str
    required_tags: list[str]
    tags_from: dict[str, str] = Field(description="required tag -> the attribute of the key that stands in for it")


class ShownProject(Provenance):
    name: str
    team: str
    environment: str


class ShownUser(Provenance):
    name: str
    kind: str = Field(description="`person` or `service`")
    active: bool = Field(description="false: may not sign in, and its virtual keys are stopped")


class ShownBinding(Provenance):
    name: str
    user: str | None = Field(None, description="who has the role; or")
    group: str | None = Field(None, description="whose members have it")
    role: str
    scope: dict[str, str] = Field(description="`organisation`, `team` or `project`, and its name")


class ShownToken(Provenance):
    name: str
    user: str = Field(description="whose rights it has; empty for an identity provider's")
    purpose: str = Field(description="`admin`, or `provisioning` for SCIM")
    prefix: str
    expires_at: Moment
    revoked_at: Moment | None


class CreatedToken(ShownToken):
    secret: str | None = Field(
        description="shown once; null of a key that has none, and in the replay of a request with an Idempotency-Key"
    )


class SignedIn(_Answer):
    user: str
    expires_in_s: int


class Me(_Answer):
    name: str
    kind: str
    roles: list[dict[str, Any]] = Field(description="`role` and `scope`")
    permissions: list[str]


class Session(_Answer):
    name: str
    user: str
    how: str = Field(description="`password` or `oidc`")
    address: str
    created_at: Moment
    expires_at: Moment


class Sessions(_Answer):
    items: list[Session]


class Roles(_Answer):
    items: list[dict[str, Any]] = Field(description="`role`, `meaning`, `permissions`")
    permissions: dict[str, str] = Field(description="permission -> what it is about: `tenant`, `whole` or `shared`")


class ShownKey(Provenance):
    id: str
    name: str
    team: str
    project: str
    user: str
    parent: str
    prefix: str = Field(description="the first characters of the secret, to recognise it by")
    models: list[str]
    surfaces: list[str]
    allowed_cidrs: list[str]
    tokens_only: bool = Field(default=False, description="it has no secret; others get tokens of it")
    tags: dict[str, str]
    allowed_tags: dict[str, list[str]]
    expires_at: Moment | None
    revoked_at: Moment | None
    old_secret_until: Moment | None = Field(
        description="until then the secret before the last rotation is good as well"
    )
    last_used_at: Moment | None = Field(default=None, description="of a key that is read; some seconds late")


class CreatedKey(ShownKey):
    secret: str | None = Field(description="shown once; null in the replay of a request with an Idempotency-Key")


class ShownLimit(Provenance):
    id: str
    name: str
    match: dict[str, Any]
    each: str | None
    unit: str
    amount: str | int = Field(description="USD as decimal text for the unit `usd`, else a whole number")
    amount_nanousd: int | None = None
    per: str
    window: str
    timezone: str
    mode: str
    alert_at: list[float]
    max_values: int
    on_exceeded: str | dict[str, str]
    raises: list[dict[str, Any]] = Field(description="temporary increases: `amount`, `until`, `reason`, `by`, `at`")


class ShownProvider(Provenance):
    name: str
    kind: str
    base_url: str
    headers: dict[str, str]
    options: dict[str, Any]
    timeouts: dict[str, str]
    credentials: list[dict[str, Any]] = Field(description="names, and what refers to the vault; never values")


class ShownCredential(Provenance):
    name: str
    kind: str
    address: str = Field(description="the origin that it is sent to; empty: the vendor's own")
    team: str = Field(description="whose calls alone it serves; empty: everybody's")
    version: int
    rotate_every: str | None
    rotated_at: Moment
    active_from: Moment = Field(description="from when on the newest version serves")
    due_at: Moment | None = Field(description="when it is to be rotated")


class ShownVault(_Answer):
    wrapper: str = Field(description="`root`, `transit` or `kms`")
    wrapping_key: str = Field(description="which key it is; no secret")
    root: str = Field(description="`current`, or `previous` while the root secret is being replaced")
    data_keys: list[dict[str, str]]


class Rewrapped(_Answer):
    data_keys: int
    wrapper: str
    wrapping_key: str


class ShownModel(Provenance):
    name: str
    targets: list[dict[str, Any]]
    strategy: str
    price: dict[str, str] | None
    max_output: int | None
    replaced_by: str | None
    warn_at: str | None
    end_at: str | None


class RaisedKill(_Answer):
    generation: int


class ShownKill(_Answer):
    generation: int
    scope: dict[str, str | bool]
    reason: str
    by: str
    at: Moment
    lifted_at: Moment | None
    lifted_by: str | None
    lift_reason: str | None


class KillNode(_Answer):
    node: str
    state: str = Field(description="`confirmed`, `pending` or `unreachable`")
    confirmed_at: Moment | None
    streams_cut: int


class KillWithNodes(ShownKill):
    nodes: list[KillNode]


class Usage(_Answer):
    rows: list[dict[str, Any]]
    total: dict[str, Any]
    since: Moment | None
    until: Moment | None


class Receipt(_Answer):
    event_id: str
    request_id: str
    started_at: Moment
    ended_at: Moment
    node: str
    organisation: str
    team: str
    project: str
    environment: str
    key: str
    user: str
    customer: str
    tags: dict[str, str]
    surface: str
    streaming: bool
    alias: str
    provider: str
    model: str
    deployment: str
    status: int
    finish_reason: str
    error_code: str
    usage: dict[str, Any]
    cost_nanousd: int
    cost_usd: str
    cost_lines: list[dict[str, Any]]
    price_version: str
    cost_basis: str
    attempts: list[dict[str, Any]]
    limits_charged: list[dict[str, Any]]
    decision: dict[str, Any]
    latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    cache: str
    guardrails: list[str]
    dropped: list[str]
    cause: str
    flags: list[str]


class Balance(_Answer):
    limit: str
    window_start: Moment | None
    value: str
    settled: int
    held: int
    leased: int
    amount: int
    unit: str


class Ledger(_Answer):
    limits: list[Balance]


class ShownAdjustment(_Answer):
    id: str
    number: int
    at: Moment
    actor: str
    reason: str
    limit: str
    value: str
    window_start: Moment | None
    unit: str
    amount: int
    amount_usd: str | None = None


class CreatedAdjustment(ShownAdjustment):
    settled_before: int
    settled: int


class Fault(_Answer):
    kind: str
    detail: str


class Faults(_Answer):
    faults: list[Fault]


class AuditRecord(_Answer):
    seq: int
    at: Moment
    actor: str
    actor_kind: str = Field(description="`bootstrap`, `user`, `service`, `provisioning`, `system`")
    address: str = Field(description="the client's; empty for the gateway itself")
    request_id: str
    action: str
    kind: str
    name: str
    team: str = Field(description="whose object it is; empty for what is no team's")
    project: str
    organisation: str = Field(description="whose object it is, where it is an organisation's and no team's")
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ConfigVersion(_Answer):
    version: int
    digest: str
    applied_at: Moment
    how: str
    by: str
    node: str
    restores: int | None
    changes: dict[str, Any] | list[Any] | int


class ConfigVersionWithDocument(ConfigVersion):
    document: dict[str, Any] | None


class Step(_Answer):
    action: str
    kind: str
    name: str
    fields: dict[str, list[Any]]


class ConfigChange(_Answer):
    base: int
    version: int | None = Field(description="null for a plan")
    new_version: bool
    steps: list[Step]
    notes: list[str]


class ShownPriceEntry(_Answer):
    number: int
    price_version: str
    provider: str
    model: str
    effective_from: Moment
    price: dict[str, str] | None
    note: str
    state: str | None = Field(None, description="`in_force`, `coming` or `past`; in the list")
    created_at: Moment
    created_by: str


class AddedPrices(_Answer):
    entries: list[ShownPriceEntry]
    unchanged: int


class EffectivePrice(_Answer):
    model: str
    provider: str
    target: str
    price: dict[str, str] | None
    price_version: str


class EffectivePrices(_Answer):
    prices: list[EffectivePrice]


class Status(_Answer):
    release: str
    node: str
    pid: int
    started_at: Moment
    version: int
    generation: int
    journal_backlog_bytes: int
    failing_since: dict[str, Moment]
    config: dict[str, Any]
    listen: str
    listen_tls: bool = Field(description="whether the data plane speaks TLS")
    freshness_ms: int
    break_glass: dict[str, Any] | None
    ledger: dict[str, Any]
    credentials: dict[str, Any] = Field(description="those of providers that are set aside, missing, or do not open")
    nodes: list[dict[str, Any]]
    boxes: list[dict[str, Any]]


class Health(_Answer):
    status: str
    failing_since: dict[str, str] | None = None
