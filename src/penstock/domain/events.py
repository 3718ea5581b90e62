"""The usage event: what one exchange did. Sinks, exports, roll-ups and receipts share these names.

One is made per exchange, admitted or refused. It carries no content and no secret.
"""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from penstock.domain.kept import Kept
from penstock.domain.money import CostLine
from penstock.domain.policy import Charge, Limit
from penstock.domain.usage import Usage

CostBasis = Literal["computed", "provider", "estimated", "unpriced"]
Cause = Literal["completed", "refused", "failed", "aborted", "killed"]


class AttemptRecord(Struct, frozen=True, array_like=True):
    """One try at one target. `status` is the upstream's, 0 when none came. Times are Unix nanoseconds."""

    n: int
    provider: str
    model: str
    deployment: str
    started_at: int
    ended_at: int
    status: int = 0
    error_code: str = ""
    usage: Usage = Usage(requests=0)
    cost_nanousd: int = 0
    basis: CostBasis = "computed"


class LimitCharged(Struct, frozen=True, array_like=True):
    limit: str
    window_start: int
    value: str
    unit: str
    amount: int


def charged(charge: Charge, limits: Mapping[str, Limit]) -> LimitCharged:
    """A charge as people read it: by the limit's name. A limit deleted in the meantime is told by its id."""
    limit = limits.get(charge.limit)
    name, unit = (limit.name, limit.unit) if limit is not None else (charge.limit, "")
    return LimitCharged(name, charge.window_start, charge.value, unit, charge.amount)


class UsageEvent(Struct, frozen=True, kw_only=True, array_like=True):
    """The public names are those of the fields. Times are Unix nanoseconds here and RFC 3339 in every public form.

    In the journal and in the store an event is an array, less than half the size of a mapping: a new field goes to the
    end and has a default.
    """

    event_id: str
    request_id: str
    started_at: int
    ended_at: int
    node: str = ""
    organisation: str = ""
    team: str = ""
    project: str = ""
    environment: str = ""
    key: str = ""
    user: str = ""
    customer: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    surface: str = ""
    streaming: bool = False
    alias: str = ""
    provider: str = ""
    model: str = ""
    deployment: str = ""
    status: int = 0
    finish_reason: str = ""
    error_code: str = ""
    usage: Usage = Usage(requests=0)
    cost_nanousd: int = 0
    cost_lines: tuple[CostLine, ...] = ()
    price_version: str = ""
    cost_basis: CostBasis = "computed"
    attempts: tuple[AttemptRecord, ...] = ()
    limits_charged: tuple[LimitCharged, ...] = ()
    decision: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    overhead_ms: float = 0.0
    cache: str = "off"
    guardrails: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    cause: Cause = "completed"
    flags: tuple[str, ...] = ()
    """What an operator should look at: `hostile_usage`, `hold_exceeded`, `usage_missing`, `charged_apart`, ..."""
    kept: Kept | None = None
    """What the call has left at its provider; no public form has it."""
