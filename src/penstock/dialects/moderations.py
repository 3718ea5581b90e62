"""OpenAI Moderations, the wire language of `POST /v1/moderations`.

Source: OpenAI API reference, "Create moderation"; "Pricing", where it is free. It has an answer and no stream.
"""

from typing import Any

import msgspec
from msgspec import Struct

from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    Tee,
    checked_model,
    decode_reply,
    encode_object,
    field,
    is_not_json,
    read_object,
)
from penstock.dialects.openai_errors import envelope, error_body, read_error
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest

DEFAULT_MODEL = "omni-moderation-latest"
"""What the vendor takes where no model is named."""


class _Reply(Struct):
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault. Nothing of it is billed or bounded."""
    fields = read_object(body)
    if fields.get("input") is None:
        raise InvalidRequest("'input' is required.", param="input")
    return Call(
        fields=fields, model=checked_model(field(fields, "model", str, "a string") or DEFAULT_MODEL), max_output=0
    )


def rebuild(call: Call, demand: Demand) -> bytes:
    return encode_object({**call.fields, "model": demand.model})


def read(body: bytes) -> Reading:
    return Reading(Usage(), "", *read_error(decode_reply(_reply_decoder, body).error))


class Moderations:
    """The dialect as the pipeline uses it."""

    name = "openai_moderations"
    surface = "moderations"

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> Tee:
        raise InvalidRequest("Moderations are not streamed.", param="stream")
