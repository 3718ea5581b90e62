"""Which model takes over a call that a limit denied."""

from penstock.admission.admit import find_alias
from penstock.admission.deprecation import follow
from penstock.domain.exchange import Exchange
from penstock.domain.snapshot import Alias, Snapshot
from penstock.errors import GatewayError, ModelNotFound, NotPermitted


def taking_over(snapshot: Snapshot, exchange: Exchange, denied: GatewayError) -> Alias | None:
    """The model that the denying limit names. None: it names none, the call asked for that one already, or its key may
    not use it."""
    name = denied.denial.limit.downgrade if denied.denial is not None else ""
    if not name or exchange.alias is None or exchange.principal is None:
        return None
    try:
        named = find_alias(snapshot, exchange.principal, name)
    except (ModelNotFound, NotPermitted):
        return None
    alias, _ = follow(snapshot, named, exchange.started_at / 1e9)
    return None if alias.name == exchange.alias.name else alias
