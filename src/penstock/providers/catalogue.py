"""A vendor of the catalogue (`domain/vendors.toml`): what its entry says, in OpenAI's dialect."""

from functools import lru_cache

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.domain.vendors import CompatibleVendor
from penstock.providers.base import NONE_MARKED, Outgoing, StopsBilling, origin_of
from penstock.providers.openai import MARKED, addressed

STORED = "responses.stored"


class Catalogued:
    """One entry as the pipeline uses it. No vendor of the catalogue says that closing a stream stops the bill."""

    cancel_stops_billing: StopsBilling = "unknown"
    forwards: frozenset[str] = frozenset()

    def __init__(self, kind: str, entry: CompatibleVendor) -> None:
        self.kind = kind
        self.asks_usage = entry.usage == "asked"
        self.marks_end = MARKED if entry.ending == "done" else NONE_MARKED
        self._entry = entry

    def surfaces(self, model: str) -> tuple[str, ...]:
        """Who has Responses may also keep them."""
        surfaces = self._entry.serves(model)
        return (*surfaces, STORED) if "responses" in surfaces else surfaces

    def output_cap_field(self, surface: str) -> str:
        return "max_output_tokens" if surface == "responses" else self._entry.cap

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, path = _target(provider.base_url or self._entry.base_url, self._entry.paths[_behind(outgoing.surface)])
        fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
        fields.append(("content-type", "application/json"))
        if credential is not None:
            fields.append(self._proof(credential))
        return addressed(outgoing, HttpRequest("POST", origin, path, fields, outgoing.body, provider.timeouts))

    def _proof(self, credential: Credential) -> tuple[str, str]:
        secret = credential.value.reveal()
        return ("authorization", f"Bearer {secret}") if self._entry.auth == "bearer" else (self._entry.auth, secret)


def _behind(surface: str) -> str:
    return "responses" if surface == STORED else surface


@lru_cache(maxsize=1024)
def _target(base_url: str, path: str) -> tuple[Origin, str]:
    origin, base = origin_of(base_url)
    return origin, base + path
