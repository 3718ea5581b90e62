"""The exchange: one caller request and all that happened to it.

The one mutable value of the domain: the pipeline fills it in from room to room, and what it holds at the end becomes
the usage event. Times are Unix nanoseconds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from penstock.domain.events import AttemptRecord, Cause, LimitCharged, UsageEvent
from penstock.domain.idempotency import KeyUse
from penstock.domain.kept import Kept
from penstock.domain.money import CostLine
from penstock.domain.policy import Charges
from penstock.domain.snapshot import Alias, Credential
from penstock.domain.tenancy import Principal
from penstock.domain.usage import Usage


class Deprecation(Struct, frozen=True):
    """The caller's alias is on its way out. `since` and `ends_at`: Unix seconds. `is_over`: the call went to
    `replaced_by` already."""

    alias: str
    replaced_by: str
    since: float
    ends_at: float | None
    is_over: bool


class Admitted(Protocol):
    """Leave to dispatch one attempt. Only the ledger's `reserve` makes one, so that an unmetered way to a provider
    cannot be written by accident."""

    @property
    def attempt_id(self) -> str: ...

    @property
    def charges(self) -> Charges: ...

    def dispatch(self, draft: UsageEvent) -> None: ...


class Exchange:
    """`dims` are the dimensions that limits and kills match on: team, key, model, `tag:<name>` ...;
    `replaced` is the name that the caller wrote where another alias took its place, and counts as a model too.

    `cut(cause)` is set while the call can be interrupted: it stops the call where it stands, and the call settles.
    `tried`: the credentials that the present target has refused. `path`: of the request, decoded. `peer`: the address
    at the other end of the connection.
    `dropped`: what the target could not be told. `key_use`: the Idempotency-Key that the call has taken.
    `kept`: what its answer has left at the provider.
    """

    __slots__ = (
        "alias",
        "attempts",
        "cause",
        "charged",
        "cost_lines",
        "cost_nanousd",
        "cut",
        "cut_by",
        "decision",
        "deprecation",
        "dims",
        "dropped",
        "error_code",
        "finish_reason",
        "first_byte_at",
        "flags",
        "headers",
        "kept",
        "key_use",
        "node",
        "path",
        "peer",
        "price_version",
        "principal",
        "recorded",
        "request_id",
        "started_at",
        "status",
        "streaming",
        "surface",
        "tags",
        "tried",
        "upstream_ns",
        "usage",
    )

    def __init__(self, request_id: str, node: str, surface: str, headers: Mapping[str, str], started_at: int) -> None:
        self.request_id = request_id
        self.node = node
        self.surface = surface
        self.headers = headers
        self.started_at = started_at
        self.path = ""
        self.peer = ""
        self.principal: Principal | None = None
        self.key_use: KeyUse | None = None
        self.kept: Kept | None = None
        self.alias: Alias | None = None
        self.tags: dict[str, str] = {}
        self.dims: dict[str, str] = {}
        self.deprecation: Deprecation | None = None
        self.streaming = False
        self.dropped: tuple[str, ...] = ()
        self.attempts: list[AttemptRecord] = []
        self.usage = Usage(requests=0)
        self.cost_nanousd = 0
        self.cost_lines: tuple[CostLine, ...] = ()
        self.price_version = ""
        self.recorded = False
        self.charged: tuple[LimitCharged, ...] = ()
        self.flags: set[str] = set()
        self.decision: dict[str, Any] = {}
        self.finish_reason = ""
        self.status = 0
        self.error_code = ""
        self.cause: Cause = "completed"
        self.tried: list[Credential] = []
        self.first_byte_at = 0
        self.upstream_ns = 0
        self.cut: Callable[[Cause], None] | None = None
        self.cut_by: Cause | None = None
