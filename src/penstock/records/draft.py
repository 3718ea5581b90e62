"""From an exchange to its usage event. Worker-safe: no store is imported here."""

from penstock.domain.events import AttemptRecord, CostBasis, UsageEvent
from penstock.domain.exchange import Exchange
from penstock.domain.tenancy import Principal

NS_PER_MS = 1_000_000

_NOBODY = Principal("", "", organisation="")
_NO_ATTEMPT = AttemptRecord(0, "", "", "", 0, 0)


def event_of(exchange: Exchange, ended_at: int) -> UsageEvent:
    """The usage event of an exchange as it stands at `ended_at` (Unix nanoseconds)."""
    principal, last = exchange.principal or _NOBODY, exchange.attempts[-1] if exchange.attempts else _NO_ATTEMPT
    return UsageEvent(
        event_id=exchange.request_id.replace("req_", "evt_", 1),
        request_id=exchange.request_id,
        started_at=exchange.started_at,
        ended_at=ended_at,
        node=exchange.node,
        organisation=principal.organisation,
        team=principal.team,
        project=principal.project,
        environment=principal.environment,
        key=principal.key,
        user=principal.user,
        customer=exchange.tags.get("customer", ""),
        tags=exchange.tags,
        surface=exchange.surface,
        streaming=exchange.streaming,
        alias=exchange.alias.name if exchange.alias else "",
        provider=last.provider,
        model=last.model,
        deployment=last.deployment,
        status=exchange.status,
        finish_reason=exchange.finish_reason,
        error_code=exchange.error_code,
        usage=exchange.usage,
        cost_nanousd=exchange.cost_nanousd,
        cost_lines=exchange.cost_lines,
        price_version=exchange.price_version,
        cost_basis=_basis(exchange),
        attempts=tuple(exchange.attempts),
        limits_charged=exchange.charged,
        decision=exchange.decision,
        latency_ms=(ended_at - exchange.started_at) / NS_PER_MS,
        ttft_ms=(exchange.first_byte_at - exchange.started_at) / NS_PER_MS if exchange.first_byte_at else None,
        overhead_ms=max(0, ended_at - exchange.started_at - exchange.upstream_ns) / NS_PER_MS,
        dropped=exchange.dropped,
        cause=exchange.cause,
        flags=tuple(sorted(exchange.flags)),
        kept=exchange.kept,
    )


def draft_of(exchange: Exchange, attempt: AttemptRecord, worst_nanousd: int) -> UsageEvent:
    """The event that goes with a HOLD: who called what, and what it costs at worst. It becomes the event of the call
    only when nobody lives to write the real one."""
    principal, alias = exchange.principal, exchange.alias
    assert principal is not None and alias is not None
    return UsageEvent(
        event_id=exchange.request_id.replace("req_", "evt_", 1),
        request_id=exchange.request_id,
        started_at=exchange.started_at,
        ended_at=attempt.ended_at,
        node=exchange.node,
        organisation=principal.organisation,
        team=principal.team,
        project=principal.project,
        environment=principal.environment,
        key=principal.key,
        user=principal.user,
        customer=exchange.tags.get("customer", ""),
        tags=exchange.tags,
        surface=exchange.surface,
        streaming=exchange.streaming,
        alias=alias.name,
        provider=attempt.provider,
        model=attempt.model,
        deployment=attempt.deployment,
        cost_nanousd=exchange.cost_nanousd + worst_nanousd,
        decision=exchange.decision,
        attempts=(*exchange.attempts, attempt),
    )


def _basis(exchange: Exchange) -> CostBasis:
    """The weakest basis of any attempt: one estimate makes the whole an estimate."""
    bases = {attempt.basis for attempt in exchange.attempts}
    if "estimated" in bases:
        return "estimated"
    return "unpriced" if "unpriced" in bases else "computed"
