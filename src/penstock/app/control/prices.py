"""The catalogue's prices, which change with time and are no part of the store."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from penstock.catalog.prices import Catalog
from penstock.domain.money import PriceOverride
from penstock.domain.snapshot import Deployment, Provider

MAX_KNOWN = 20_000


class Prices:
    """The catalogue with a memory, because every change asks it again for the aliases that it touches."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._catalog = Catalog()
        self._now = now
        self._known: dict[bytes, tuple[Deployment, datetime | None]] = {}

    def resolve(
        self, provider: Provider, model: str, override: PriceOverride | None, max_output: int | None
    ) -> Deployment:
        """What `model` at `provider` costs and can do at this moment."""
        now = self._now()
        asked = msgspec.msgpack.encode((provider.kind, provider.base_url, provider.name, model, override, max_output))
        known = self._known.get(asked)
        if known is None or (known[1] is not None and known[1] <= now):
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._catalog.deployment(provider, model, at=now, override=override, max_output=max_output)
            until = None if override is not None else self._catalog.next_change(provider, model, now)
            known = self._known[asked] = (found, until)
        return known[0]
