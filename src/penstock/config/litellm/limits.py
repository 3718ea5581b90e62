"""LiteLLM's budgets and rates as limits."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from penstock.config.litellm import quantities
from penstock.config.litellm.notes import Notes

_Key = tuple[tuple[tuple[str, str], ...], str, str, str]
"""What a limit counts: its `match`, `each`, unit and window."""


class Limits:
    """The limits that were met. Deployments that share what they are counted by share one limit, with their sum."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self._amounts: dict[_Key, Decimal | int] = {}
        self._alerts: dict[_Key, list[Decimal]] = {}

    def section(self) -> list[dict[str, Any]]:
        """The limits as a file here has them."""
        found = []
        for (match, each, unit, per), amount in self._amounts.items():
            limit: dict[str, Any] = {"match": dict(match)} if match else {}
            limit |= {"each": each} if each else {}
            limit |= {"unit": unit, "amount": amount}
            limit |= {} if unit == "concurrent" else {"per": per}
            alert_at = self._alerts.get((match, each, unit, per))
            found.append(limit | ({"alert_at": alert_at} if alert_at else {}))
        return found

    def add_rate(self, match: Mapping[str, str], unit: str, amount: Any, place: str, each: str = "") -> None:
        """So many of `unit` per minute, or at a time for `concurrent`."""
        if amount is None:
            return
        exact = quantities.whole(amount)
        if exact is None:
            self.notes.add(place, "is not a whole number above 0: left out")
            return
        self._add((tuple(sorted(match.items())), each, unit, "total" if unit == "concurrent" else "minute"), exact)

    def add_budget(
        self, match: Mapping[str, str], amount: Any, duration: Any, place: str, each: str = ""
    ) -> _Key | None:
        """So many dollars per `duration`. What was added, if it could be."""
        exact, window = quantities.dollars(amount), quantities.window(duration)
        if exact is None:
            self.notes.add(f"{place}.max_budget", "is not an amount above 0 with up to nine decimals: left out")
            return None
        if window is None:
            self.notes.add(f"{place}.budget_duration", "is not a duration such as 30d: the budget is left out")
            return None
        per, is_exact = window
        if not is_exact:
            sentence = (
                f"{duration} becomes {'a total' if per == 'total' else f'a calendar {per}'}, which allows no more"
            )
            self.notes.add(f"{place}.budget_duration", sentence)
        key = (tuple(sorted(match.items())), each, "usd", per)
        self._add(key, exact)
        return key

    def alert(self, key: _Key, soft: Any, place: str) -> None:
        """`soft_budget`: alert when this much of the limit is spent."""
        exact = quantities.dollars(soft)
        if exact is None or exact > self._amounts[key]:
            self.notes.add(place, "is not an amount within max_budget: left out")
        else:
            self._alerts[key] = [(exact / self._amounts[key]).quantize(Decimal("0.0001"))]

    def _add(self, key: _Key, amount: Decimal | int) -> None:
        self._amounts[key] = self._amounts.get(key, 0) + amount
