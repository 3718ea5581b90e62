"""The catalogue's prices, which change with time and are no part of the store.

What was asked is remembered, and kept in the data directory for the next start: the price list is a tenth of what a
control process loads, and calls would wait for it. What was kept is taken where the catalogue is the same to the byte
and the price is still in force; otherwise, or where the file cannot be read, the catalogue is asked.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import Struct

from penstock.app.control.files import replace_file
from penstock.app.control.spared import PRICE_UPDATES, spared
from penstock.catalog.edition import edition
from penstock.domain.money import PriceOverride
from penstock.domain.snapshot import Deployment, Provider

if TYPE_CHECKING:
    from penstock.catalog.prices import Catalog

MAX_KNOWN = 20_000
MAX_KEPT_BYTES = 64 * 1024 * 1024

log = structlog.get_logger()


class Known(Struct, frozen=True, array_like=True):
    """An answer, and when it is the catalogue's: from `since` to before `until` (None: for good)."""

    deployment: Deployment
    since: datetime
    until: datetime | None


class Kept(Struct, frozen=True, array_like=True):
    """`known`: by what was asked."""

    edition: bytes
    known: dict[bytes, Known]


class Prices:
    """The catalogue with a memory, because every change asks it again for the aliases that it touches. `file`: where
    the memory is kept; None: nowhere."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), file: Path | None = None) -> None:
        self._now = now
        self._file = file
        self._edition = edition() if file is not None else None
        self._kept = self._read()
        self._known: dict[bytes, Known] = {}
        self._is_news = False
        self._loaded: Catalog | None = None
        self._loading = threading.Lock()

    def resolve(
        self, provider: Provider, model: str, override: PriceOverride | None, max_output: int | None
    ) -> Deployment:
        """What `model` at `provider` costs and can do at this moment."""
        now = self._now()
        asked = msgspec.msgpack.encode((provider.kind, provider.base_url, provider.name, model, override, max_output))
        known = self._known.get(asked)
        if known is None or not _holds(known, now):
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._kept.pop(asked, None)
            if known is None or not _holds(known, now):
                catalog = self.load()
                found = catalog.deployment(provider, model, at=now, override=override, max_output=max_output)
                until = None if override is not None else catalog.next_change(provider, model, now)
                known, self._is_news = Known(found, now, until), True
            self._known[asked] = known
        return known.deployment

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def load(self) -> "Catalog":
        """The catalogue itself, which takes a moment the first time; in any thread."""
        with self._loading:
            if self._loaded is None:
                with spared([PRICE_UPDATES]):
                    self._loaded = import_module("penstock.catalog.prices").Catalog()
            return self._loaded

    def keep(self) -> None:
        """Writes down what has been asked since the start, where there is something new. Not being able to costs the
        next start a moment, and is logged."""
        if self._file is None or self._edition is None or not self._is_news:
            return
        self._is_news = False
        payload = msgspec.msgpack.encode(Kept(self._edition, self._known))
        try:
            replace_file(self._file, sha256(payload).digest() + payload)
        except OSError as error:
            log.warning("the prices could not be kept for the next start", file=str(self._file), reason=error.strerror)

    def _read(self) -> dict[bytes, Known]:
        if self._file is None or self._edition is None:
            return {}
        try:
            with self._file.open("rb") as file:
                content = file.read(MAX_KEPT_BYTES + 1)
            digest, payload = content[:32], content[32:]
            if sha256(payload).digest() != digest:
                return {}
            kept = msgspec.msgpack.decode(payload, type=Kept)
        except (OSError, msgspec.MsgspecError):
            return {}
        return kept.known if kept.edition == self._edition else {}


def _holds(known: Known, now: datetime) -> bool:
    return known.since <= now and (known.until is None or now < known.until)
