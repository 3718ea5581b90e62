"""Alerts of limits on concurrent calls: nothing of them is ever settled, so their marks are held against the calls in
flight, as workers count them."""

from collections.abc import Mapping
from decimal import Decimal

from penstock.domain.policy import Limit
from penstock.ledger.committer import Alert

REARM_S = 60.0
"""A mark that was crossed is told of again when nothing was over it for so long: calls come and go by the second."""


class Crowds:
    """Remembers which marks were told of."""

    def __init__(self) -> None:
        self._last_over_s: dict[tuple[str, str, float], float] = {}

    def crossed(
        self, limits: Mapping[str, Limit], in_flight: Mapping[tuple[str, str], int], now_s: float
    ) -> list[Alert]:
        """The marks that are crossed now and were not told of. `in_flight`: limit id and value -> calls at once."""
        last = {mark: at for mark, at in self._last_over_s.items() if now_s - at < REARM_S}
        alerts = []
        for (limit_id, value), count in in_flight.items():
            if (limit := limits.get(limit_id)) is None:
                continue
            for fraction in limit.alert_at:
                mark = (limit_id, value, fraction)
                if count < Decimal(str(fraction)) * limit.amount:
                    continue
                if mark not in last:
                    alerts.append(Alert(limit, 0, value, fraction, count))
                last[mark] = now_s
        self._last_over_s = last
        return alerts
