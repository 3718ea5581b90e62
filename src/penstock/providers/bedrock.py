"""Amazon Bedrock.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"; User
Guide, "Anthropic Claude Messages API" (`anthropic_version`, `anthropic_beta`), "Amazon Bedrock API keys". Read 2026-11.

A credential is an access key, `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`, with which requests are signed, or an API key
of Bedrock's, which is a bearer token. The region is the one in the base URL.

Anthropic's models are served in their own dialect by InvokeModel, whose streams have each event of theirs, as base64,
in a frame of Amazon's binary event stream; they are told as the event stream that the dialect has. Everything else, and
whoever speaks it, is served by Converse. The reference does not say whether closing a stream stops the bill.
"""

import base64
import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from penstock.dialects import eventstream
from penstock.dialects.anthropic import errors as anthropic_errors
from penstock.dialects.bedrock.errors import told_by
from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.errors import UpstreamMalformed, UpstreamReset
from penstock.providers.base import Outgoing, Reframer, StopsBilling, origin_of
from penstock.providers.sigv4 import AccessKey, Scope, sign

ANTHROPIC_VERSION = "bedrock-2023-05-31"

_REGION = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")
DEFAULT_REGION = "us-east-1"
_ACCESS_KEY = re.compile(r"(A[A-Z0-9]{15,127}):([^:\s]+)(?::(\S+))?")
_NOT_TAKEN = (b"security token", b"signature", b"Signature", b"API Key is valid", b"API key is valid")
"""What Bedrock says of a credential that it does not take (AWS, "Common Errors")."""
_NAMES_THE_CLIENT = "claude-code-"
"""How a beta begins that says who calls; Bedrock refuses what it does not know."""


class Bedrock:
    kind = "bedrock"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = False
    forwards = frozenset(
        {"x-amzn-bedrock-guardrailidentifier", "x-amzn-bedrock-guardrailversion", "x-amzn-bedrock-trace"}
    )

    def surfaces(self, model: str) -> tuple[str, ...]:
        return ("messages", "converse") if "anthropic." in model else ("converse",)

    def output_cap_field(self, surface: str) -> str:
        return "max_tokens" if surface == "messages" else "maxTokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, base, region = _target(provider.base_url)
        path = f"{base}/model/{quote(outgoing.model, safe='')}/{_operation(outgoing)}"
        body = _invocation(outgoing) if outgoing.surface == "messages" else outgoing.body
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

    def reframer(self, outgoing: Outgoing, content_type: str) -> Reframer | None:
        """How a binary stream is told to a caller whose dialect has another; None where it is the dialect's own."""
        if outgoing.surface == "messages" and content_type.startswith(eventstream.CONTENT_TYPE):
            return _Unpacked()
        return None


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
    if outgoing.surface == "messages":
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


class _Chunk(Struct):
    bytes: str = ""


class _Kind(Struct):
    type: str = ""


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_kind_decoder = msgspec.json.Decoder(_Kind)


class _Unpacked:
    """Frames of InvokeModelWithResponseStream -> the events that they carry, verbatim."""

    content_type = "text/event-stream"

    def __init__(self) -> None:
        self._splitter = eventstream.Splitter()

    def feed(self, data: bytes) -> bytes:
        return b"".join([_event(frame) for frame in self._splitter.feed(data)])

    def close(self) -> None:
        """Raises `UpstreamReset` when a frame was cut."""
        if not self._splitter.is_between():
            raise UpstreamReset("The provider's stream broke off inside of a frame.")


def _event(frame: eventstream.Frame) -> bytes:
    if frame.is_exception:
        message, status = told_by(frame)
        told = {"type": "error", "error": {"type": anthropic_errors.type_of(status or 500), "message": message}}
        return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
    if frame.kind != "chunk":
        return b""
    try:
        event = base64.b64decode(_chunk_decoder.decode(frame.payload).bytes, validate=True)
        kind = _kind_decoder.decode(event).type
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise UpstreamMalformed("The provider's event stream holds what is no event.") from None
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), event.replace(b"\n", b" "))
