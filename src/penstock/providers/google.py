"""Google AI Studio. Source: "Gemini API reference" (`models.generateContent`, `models.countTokens`,
`models.batchEmbedContents`, `models.embedContent`), "Using Gemini API keys" (read 2026-11).

The model and whether the answer streams are in the address. Google's address for OpenAI's dialect is not used: it knows
neither what a vector is for nor the title of a document. The reference does not say that closing a stream stops the
bill.
"""

from functools import lru_cache
from urllib.parse import quote

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import NONE_MARKED, Outgoing, StopsBilling, origin_of

BASE_URL = "https://generativelanguage.googleapis.com/v1beta"

SURFACES = ("generateContent", "countTokens", "batchEmbedContents", "embedContent")


class Google:
    kind = "google"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = False
    marks_end = NONE_MARKED
    forwards = frozenset({"x-goog-api-client"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        return SURFACES

    def output_cap_field(self, surface: str) -> str:
        return "maxOutputTokens"

    def is_bad_credential(self, status: int, body: bytes) -> bool:
        """A key that is not valid is an invalid argument here."""
        return status == 400 and b"API_KEY_INVALID" in body

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, root = _root(provider.base_url or BASE_URL)
        fields = _headers(provider, credential)
        return HttpRequest("POST", origin, root + model_path(outgoing), fields, outgoing.body, provider.timeouts)


@lru_cache(maxsize=1024)
def _root(base_url: str) -> tuple[Origin, str]:
    return origin_of(base_url)


def model_path(outgoing: Outgoing) -> str:
    """`/models/MODEL:method`, with the form of a stream. A caller may have named the model: it stays one segment."""
    return f"/models/{quote(outgoing.model, safe='')}:{method(outgoing)}"


def method(outgoing: Outgoing) -> str:
    if not outgoing.streaming:
        return outgoing.surface
    return "streamGenerateContent" if outgoing.form == "list" else "streamGenerateContent?alt=sse"


def _headers(provider: Provider, credential: Credential | None) -> Headers:
    """The operator's headers, then ours: the credential is never overridden."""
    fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
    fields.append(("content-type", "application/json"))
    if credential is not None:
        fields.append(("x-goog-api-key", credential.value.reveal()))
    return fields
