"""Amazon Bedrock.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream",
"CountTokens"; User Guide, "Anthropic Claude Messages API" (`anthropic_version`, `anthropic_beta`), "Amazon Titan
Embeddings", "Amazon Nova Multimodal Embeddings", "Cohere Embed v3", "Cohere Embed v4", "Amazon Bedrock API keys". Read
2026-11.

A credential is an access key, `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`, with which requests are signed, or an API key
of Bedrock's, which is a bearer token. The region is the one in the base URL.

Anthropic's models are served in their own dialect by InvokeModel, whose streams have each event of theirs, as base64,
in a frame of Amazon's binary event stream; to callers of Messages they are told as the event stream that the dialect
has. Models that make embeddings are served by InvokeModel as well, each in its maker's dialect: Amazon's Titan, Nova
and Cohere's. What was billed is counted in a header (`x-amzn-bedrock-input-token-count`), and is told in the body where
the dialect has it there. Everything else is served by Converse. The reference does not say whether closing a stream
stops the bill.
"""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from penstock.dialects import eventstream
from penstock.dialects.base import encode_object, members_of
from penstock.dialects.bedrock.invoke import ANTHROPIC_VERSION, Unpacked
from penstock.domain.http import Headers, HttpRequest, Origin, header
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import NONE_MARKED, Outgoing, Reframer, StopsBilling, origin_of
from penstock.providers.sigv4 import AccessKey, Scope, sign

_REGION = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")
DEFAULT_REGION = "us-east-1"
_ACCESS_KEY = re.compile(r"(A[A-Z0-9]{15,127}):([^:\s]+)(?::(\S+))?")
_NOT_TAKEN = (b"security token", b"signature", b"Signature", b"API Key is valid", b"API key is valid")
"""What Bedrock says of a credential that it does not take (AWS, "Common Errors")."""
_BILLED = "x-amzn-bedrock-input-token-count"
_BILLED_IN = {
    **dict.fromkeys(("cohere.embed", "invoke.cohere"), ("meta", "billed_units", "input_tokens")),
    "invoke.nova": ("inputTokenCount",),
}
"""Where the dialects of models whose answers do not count their tokens have them."""
_NAMES_THE_CLIENT = "claude-code-"
"""How a beta begins that says who calls; Bedrock refuses what it does not know."""


class Bedrock:
    kind = "bedrock"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = False
    marks_end = NONE_MARKED
    forwards = frozenset(
        {"x-amzn-bedrock-guardrailidentifier", "x-amzn-bedrock-guardrailversion", "x-amzn-bedrock-trace"}
    )

    def surfaces(self, model: str) -> tuple[str, ...]:
        if "anthropic." in model:
            return ("messages", "converse", "invoke", "invoke.count_tokens", "converse.count_tokens")
        if "cohere.embed" in model:
            return ("cohere.embed", "invoke.cohere")
        if "titan-embed-text" in model:
            return ("invoke.titan",)
        if "nova" in model and "embedding" in model:
            return ("invoke.nova",)
        return ("converse", "converse.count_tokens")

    def output_cap_field(self, surface: str) -> str:
        return "maxTokens" if surface == "converse" else "max_tokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, base, region = _target(provider.base_url)
        path = f"{base}/model/{quote(outgoing.model, safe='')}/{_operation(outgoing)}"
        body = outgoing.body
        if outgoing.surface == "messages":
            body = _invocation(outgoing)
        elif outgoing.surface == "cohere.embed":
            body = _embedding(outgoing)
        fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
        fields.append(("content-type", "application/json"))
        if credential is not None:
            secret = credential.value.reveal()
            key = _ACCESS_KEY.fullmatch(secret)
            if key is None:
                fields.append(("authorization", f"Bearer {secret}"))
            else:
                signed: Headers = [("content-type", "application/json"), ("host", _host(origin))]
                access = AccessKey(key[1], key[2], key[3] or "")
                fields += sign(("POST", path, signed, body), access, Scope(region, "bedrock"), outgoing.now_s)
        return HttpRequest("POST", origin, path, fields, body, provider.timeouts)

    def is_bad_credential(self, status: int, body: bytes) -> bool:
        """The 403 of a key, a token or a signature that is not taken; any other speaks of a model or a right."""
        return status == 403 and any(mark in body for mark in _NOT_TAKEN)

    def reframer(self, outgoing: Outgoing, headers: Headers) -> Reframer | None:
        """How a binary stream is told to a caller whose dialect has another, and what was billed where the dialect has
        it in the body; None where the answer is the dialect's own."""
        is_stream = (header(headers, "content-type") or "").startswith(eventstream.CONTENT_TYPE)
        if outgoing.surface == "messages" and is_stream:
            return Unpacked()
        billed = header(headers, _BILLED) or ""
        if outgoing.surface in _BILLED_IN and billed.isascii() and billed.isdigit() and len(billed) < 16:
            return Billed(_BILLED_IN[outgoing.surface], int(billed))
        return None


class Billed:
    """An answer that comes whole, with the tokens that a header says were billed, at the `place` where its dialect has
    them."""

    content_type = "application/json"

    def __init__(self, place: tuple[str, ...], tokens: int) -> None:
        self._name = place[0]
        self._told: Any = tokens
        for name in reversed(place[1:]):
            self._told = {name: self._told}

    def feed(self, data: bytes) -> bytes:
        if b'"embeddings"' not in data:
            return data
        return encode_object({self._name: self._told, **members_of(data)})

    def close(self) -> None:
        """There is nothing that could be cut."""


@lru_cache(maxsize=1024)
def _target(base_url: str) -> tuple[Origin, str, str]:
    """Origin, path and region of a base URL."""
    origin, path = origin_of(base_url)
    region = _REGION.search(origin.host)
    return origin, path, region[1] if region else DEFAULT_REGION


def _host(origin: Origin) -> str:
    """The `host` line as the transport writes it."""
    default = 443 if origin.scheme == "https" else 80
    return origin.host if origin.port == default else f"{origin.host}:{origin.port}"


def _operation(outgoing: Outgoing) -> str:
    if outgoing.surface.endswith("count_tokens"):
        return "count-tokens"
    if outgoing.surface in ("cohere.embed", "invoke.cohere", "invoke.titan", "invoke.nova"):
        return "invoke"
    if outgoing.surface in ("messages", "invoke"):
        return "invoke-with-response-stream" if outgoing.streaming else "invoke"
    return "converse-stream" if outgoing.streaming else "converse"


def _invocation(outgoing: Outgoing) -> bytes:
    """A Messages body as InvokeModel takes it: the model and the streaming are in the address, the version of the
    dialect and its betas in the body."""
    fields: dict[str, Any] = msgspec.json.decode(outgoing.body, type=dict[str, Raw])
    for name in ("model", "stream"):
        fields.pop(name, None)
    fields.setdefault("anthropic_version", ANTHROPIC_VERSION)
    named = [beta.strip() for beta in outgoing.headers.get("anthropic-beta", "").split(",")]
    betas = [beta for beta in named if beta and not beta.startswith(_NAMES_THE_CLIENT)]
    if betas and "anthropic_beta" not in fields:
        fields["anthropic_beta"] = betas
    return msgspec.json.encode(fields)


_CUTS = {b'"START"': Raw(b'"LEFT"'), b'"END"': Raw(b'"RIGHT"')}
"""What Embed v4 calls the ends of an input that is too long."""


def _embedding(outgoing: Outgoing) -> bytes:
    """A body for Cohere as InvokeModel takes it: the model is in the address, and vectors come by their types where a
    type is asked for."""
    fields: dict[str, Any] = msgspec.json.decode(outgoing.body, type=dict[str, Raw])
    fields.pop("model", None)
    fields.setdefault("embedding_types", ["float"])
    if "embed-v4" in outgoing.model and bytes(fields.get("truncate", b"")) in _CUTS:
        fields["truncate"] = _CUTS[bytes(fields["truncate"])]
    return msgspec.json.encode(fields)
