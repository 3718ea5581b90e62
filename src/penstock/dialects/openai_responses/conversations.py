"""Conversations that the vendor keeps as such: made, looked at, changed and ended. Free of charge.

Source: OpenAI API reference, "Conversations" (create, retrieve, update, delete; items: create, list, retrieve, delete);
guide "Conversation state" (neither a conversation nor its items are lost after 30 days). Read 2026-11.

No member says which model a conversation is for, and so at which provider it is to lie: `model`, which does not reach
the vendor, may say it here.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    checked_model,
    decode_reply,
    encode_object,
    field,
    is_not_json,
    read_object,
)
from penstock.dialects.openai_errors import envelope, error_body
from penstock.dialects.openai_responses.references import Item, refer_by_item
from penstock.dialects.openai_responses.wire import ResponsesTee
from penstock.domain.kept import MAX_KEPT, Errand, is_id
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed

_NOTHING = Raw(b"[]")
_CREATE = Errand("POST", "")


class _Reply(Struct):
    id: Any = None
    data: Raw = _NOTHING


class _Named(Struct):
    id: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)
_items_decoder = msgspec.json.Decoder(list[_Named])


def _parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """What is asked of a conversation that is there must be the caller's own, and so must be what its items name."""
    errand = address.errand or _CREATE
    fields = read_object(body or b"{}") if errand.method == "POST" else {}
    model = field(fields, "model", str, "a string") if not errand.id else None
    call = Call(fields=fields, model=checked_model(model) if model else "", max_output=0, errand=errand)
    if not errand.id:
        fields.pop("model", None)
    else:
        call.refers[errand.id] = "conversation_id"
    for item in field(fields, "items", list[Item], "a list of items") or ():
        refer_by_item(call, item)
    call.keeps = errand.method != "DELETE"
    return call


def _rebuild(call: Call, demand: Demand) -> bytes:
    return encode_object(call.fields) if call.errand is not None and call.errand.method == "POST" else b""


def _read(body: bytes) -> Reading:
    """The conversation, the item or the items that an answer shows are kept. Whoever looks uses nothing."""
    reply = decode_reply(_reply_decoder, body)
    try:
        items = _items_decoder.decode(reply.data)
    except (msgspec.DecodeError, RecursionError):
        raise UpstreamMalformed("The provider's answer has no list of items.") from None
    shown = dict.fromkeys([id for id in (reply.id, *(item.id for item in items)) if is_id(id)])
    return Reading(Usage(), kept=tuple(shown)[:MAX_KEPT])


class Conversations:
    """`/v1/conversations` and what is below it. It has answers and no stream."""

    name = "openai_conversations"
    surface = "conversations"

    parse = staticmethod(_parse)
    rebuild = staticmethod(_rebuild)
    read = staticmethod(_read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ResponsesTee:
        raise InvalidRequest("A conversation is not streamed.", param="stream")
