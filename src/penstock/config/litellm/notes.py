"""What could not be carried, with its place in the file that it stands in."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

NO_COUNTERPART = "has no counterpart here"

HINTS = {
    "alerting": "limits have `alert_at`, and the metrics are made to be alerted on",
    "cache": "this release has no cache",
    "cache_params": "this release has no cache",
    "callbacks": "calls are in the receipts, the metrics and the log",
    "failure_callback": "calls are in the receipts, the metrics and the log",
    "success_callback": "calls are in the receipts, the metrics and the log",
    "content_policy_fallbacks": "falling back by content policy is not available in this release",
    "context_window_fallbacks": "falling back by context window is not available in this release",
    "database_url": "the store is SQLite in the data directory, or `store: postgresql://user@host/database`",
    "drop_params": "members of a request that a provider does not know are passed on to it",
    "enforce_model_rate_limits": "limits are always enforced",
    "environment_variables": "set them where `penstock serve` runs; their values are not copied",
    "master_key": "the administrator's key is PENSTOCK_ADMIN_KEY",
    "num_retries": "each target is tried once; name further targets",
    "routing_strategy": "targets are tried in the order in which they are written",
    "salt_key": "the root secret is PENSTOCK_SECRET",
    "weight": "targets are tried in the order in which they are written",
    "order": "targets are tried in the order in which they are written",
}
"""What to say of settings that people ask about; of all others that they have no counterpart."""


class Note(Struct, frozen=True):
    """`place`: as `router_settings.num_retries`; `sentence` holds no value that could be a secret."""

    place: str
    sentence: str

    def line(self) -> str:
        return f"{self.place}: {self.sentence}"


class Notes(list[Note]):
    """All of them, in the order in which they were met; each once."""

    def add(self, place: str, sentence: str) -> None:
        note = Note(place, sentence)
        if note not in self:
            self.append(note)

    def add_rest(self, place: str, rest: Mapping[str, Any]) -> None:
        """A note for everything that nobody has read."""
        for name in rest:
            self.add(f"{place}.{name}" if place else name, HINTS.get(name, NO_COUNTERPART))
