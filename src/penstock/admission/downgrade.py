"""Which model takes over a call that a limit denied, and how it shows."""

from collections.abc import Mapping
from typing import Any

from penstock.admission.admit import find_alias
from penstock.admission.deprecation import follow
from penstock.domain.exchange import Exchange
from penstock.domain.snapshot import Alias, Snapshot
from penstock.errors import GatewayError, ModelNotFound, NotPermitted

MAX_HANDOVERS = 5
"""How often one call may be handed on, each time to a model that it has not been with."""


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


def hand_over(exchange: Exchange, denied: GatewayError, alias: Alias) -> None:
    """Lets the call go on as one for `alias`. What it decides shows: the first step with where the call came from, and
    the steps after it in `then`."""
    assert denied.denial is not None and exchange.alias is not None
    limit = denied.denial.limit.name
    if (made := exchange.decision.get("downgrade")) is None:
        exchange.decision["downgrade"] = {"limit": limit, "from": exchange.alias.name, "to": alias.name}
    else:
        made.setdefault("then", []).append({"limit": limit, "to": alias.name})
    exchange.alias, exchange.dims["model"] = alias, alias.name
    exchange.dims.pop("replaced", None)


def limits_of(downgrade: Mapping[str, Any]) -> list[str]:
    """The limits that handed the call over, in their order."""
    return [downgrade["limit"], *(step["limit"] for step in downgrade.get("then", ()))]
