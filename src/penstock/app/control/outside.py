"""What a snapshot depends on and the store does not hold: prices that change with time, and secrets that rotate."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from penstock.catalog.prices import Catalog
from penstock.config.settings import Config
from penstock.control import declared
from penstock.control.credentials import DeclaredCredentials
from penstock.control.door import Door
from penstock.domain.money import PriceOverride
from penstock.domain.snapshot import Deployment, Provider
from penstock.errors import PenstockError

MAX_KNOWN = 20_000

log = structlog.get_logger()


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


class Outside:
    """`refresh` brings the published snapshot up to date with the world outside the store."""

    def __init__(self, config: Config, credentials: DeclaredCredentials, pepper: bytes, node: str) -> None:
        self._config = config
        self._credentials = credentials
        self._pepper = pepper
        self._node = node

    async def refresh(self, door: Door) -> int:
        """Resolves prices and references again and publishes what differs. How many references do not resolve now:
        they keep what they held, and the log says which."""
        faults = self._credentials.refresh()
        await door.refresh()
        if any(key.secret.startswith("file:") for key in self._config.keys):
            try:
                await door.change(declared.ACTOR, declared.apply, self._pepper, self._config, self._node)
            except PenstockError as error:
                faults.append(str(error))
        for fault in faults:
            log.warning("a secret could not be resolved again; the old one stays", reason=fault)
        return len(faults)
