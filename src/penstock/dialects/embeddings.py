"""OpenAI Embeddings, the wire language of `POST /v1/embeddings`.

Source: OpenAI API reference, "Create embeddings". An embedding has input alone: no output, no stream.
"""

from typing import Any

import msgspec
from msgspec import Struct

from penstock.dialects import openai_errors
from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    Tee,
    believed,
    checked_model,
    decode_reply,
    encode_object,
    is_not_json,
    model_name,
    read_object,
)
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest

OVERHEAD_PER_INPUT = 8
"""Tokens allowed for the markers a vendor puts around each input."""

_NO_TEXT = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
"""Members that never become a part of the prompt. Whatever else is sent is counted as text."""

_input_decoder = msgspec.json.Decoder(str | list[str | int | list[int] | dict[str, Any]])


class _Reply(Struct):
    usage: Any = None
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault. Input given as token numbers is bounded by its
    JSON text, which has at least one byte for each; each object in it may be an image."""
    fields = read_object(body)
    raw = fields.get("input")
    if raw is None:
        raise InvalidRequest("'input' is required.", param="input")
    try:
        inputs = _input_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(
            "'input' must be a string, or a list of strings or token numbers.", param="input"
        ) from None
    if not inputs:
        raise InvalidRequest("'input' must not be empty.", param="input")
    count = len(inputs) if isinstance(inputs, list) else 1
    size = len(bytes(raw)) + sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT])
    objects = [part for part in inputs if isinstance(part, dict)] if isinstance(inputs, list) else []
    return Call(
        fields=fields,
        model=checked_model(address.model) if address.model else model_name(fields),
        max_output=0,
        input_bound=size + OVERHEAD_PER_INPUT * count,
        input_estimate=-(-size // 3),
        images=bytes(raw).count(b"{") if objects else 0,
    )


def rebuild(call: Call, demand: Demand) -> bytes:
    return encode_object({**call.fields, "model": demand.model})


def read(body: bytes) -> Reading:
    """What the answer says about itself. Voyage reports `total_tokens` alone."""
    reply = decode_reply(_reply_decoder, body)
    message, status = openai_errors.read_error(reply.error)
    reported = reply.usage
    if reported is None:
        return Reading(error=message, error_status=status)
    told = reported if isinstance(reported, dict) else {}
    tokens = told.get("total_tokens") if told.get("prompt_tokens") is None else told["prompt_tokens"]
    if tokens is None or not believed(tokens):
        return Reading(error=message, error_status=status, hostile=True)
    return Reading(usage=Usage(input=tokens), error=message, error_status=status)


class Embeddings:
    """The dialect as the pipeline uses it."""

    name = "openai_embeddings"
    surface = "embeddings"

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(openai_errors.error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(openai_errors.envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> Tee:
        raise InvalidRequest("Embeddings are not streamed.", param="stream")
