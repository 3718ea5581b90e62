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


class Exchange(Struct, eq=False):
    """`dims` are the dimensions that limits and kills match on: team, key, model, `tag:<name>` ...;
    `replaced` is the name that the caller wrote where another alias took its place, and counts as a model too.

    `cut(cause)` is set while the call can be interrupted: it stops the call where it stands, and the call settles.
    `tried`: the credentials that the present target has refused. `path`: of the request, decoded. `peer`: the address
    at the other end of the connection.
    `dropped`: what the target could not be told. `key_use`: the Idempotency-Key that the call has taken.
    `kept`: what its answer has left at the provider.
    """

    request_id: str
    node: str
    surface: str
    headers: Mapping[str, str]
    started_at: int
    path: str = ""
    peer: str = ""
    principal: Principal | None = None
    key_use: KeyUse | None = None
    kept: Kept | None = None
    alias: Alias | None = None
    tags: dict[str, str] = {}
    dims: dict[str, str] = {}
    deprecation: Deprecation | None = None
    streaming: bool = False
    dropped: tuple[str, ...] = ()
    attempts: list[AttemptRecord] = []
    usage: Usage = Usage(requests=0)
    cost_nanousd: int = 0
    cost_lines: tuple[CostLine, ...] = ()
    price_version: str = ""
    recorded: bool = False
    charged: tuple[LimitCharged, ...] = ()
    flags: set[str] = set()
    decision: dict[str, Any] = {}
    finish_reason: str = ""
    status: int = 0
    error_code: str = ""
    cause: Cause = "completed"
    tried: list[Credential] = []
    first_byte_at: int = 0
    upstream_ns: int = 0
    cut: Callable[[Cause], None] | None = None
    cut_by: Cause | None = None
