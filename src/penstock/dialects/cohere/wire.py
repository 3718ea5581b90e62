"""Cohere's Chat (v2) and Rerank on the wire. Source: Cohere API reference, "Chat V2", "Chat with Streaming", "Errors".

What cannot be bounded or priced from the request, and is not: the searches of a connector.
"""

from typing import Any

import msgspec
from msgspec import Struct, structs

from penstock.dialects import sse
from penstock.dialects.base import (
    MAX_OUTPUT_TOKENS,
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    as_whole,
    believed,
    checked_model,
    decode_reply,
    encode_object,
    estimate_tokens,
    field,
    in_range,
    is_not_json,
    model_name,
    read_object,
)
from penstock.dialects.cohere.codec import ChatCodec
from penstock.dialects.cohere.usage import Reported, normalise, reported_of, tells_half, units_of
from penstock.dialects.passed import Passed
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest

OVERHEAD_PER_REQUEST = 64
"""Tokens allowed for what the vendor adds around a request and bills."""

_NO_TEXT = frozenset(
    (
        *("model", "stream", "max_tokens", "temperature", "p", "k", "seed", "stop_sequences", "frequency_penalty"),
        *("presence_penalty", "logprobs", "thinking", "safety_mode", "citation_options", "priority", "raw_prompting"),
    )
)
"""Members that never become a part of the prompt. Whatever else is sent is counted as text, known or not."""


# -- the request ------------------------------------------------------------------------------------------------------


class _Url(Struct):
    url: str = ""


class _Part(Struct):
    image_url: _Url | str | None = None


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = read_object(body)
    messages = field(fields, "messages", list[_Message], "a list of messages, each with a 'role' and a 'content'")
    if not messages:
        raise InvalidRequest("'messages' is required.", param="messages")
    call = Call(fields=fields, model=address.model or model_name(fields), cap_name="max_tokens")
    call.streaming = field(fields, "stream", bool, "true or false") or False
    cap = field(fields, "max_tokens", int, "a whole number")
    call.max_output = in_range("max_tokens", cap, MAX_OUTPUT_TOKENS) or None
    media = 0
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.image_url is not None:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                media += len(url) if url.startswith("data:") else 0
                call.images += 1
    text_bytes = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT]) - media
    call.input_bound = text_bytes + OVERHEAD_PER_REQUEST
    call.input_estimate = -(-text_bytes // 3)
    return call


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's members, with the target's model and the injected cap."""
    cap = {} if demand.cap is None else {demand.cap[0]: demand.cap[1]}
    return encode_object({**call.fields, "model": demand.model, **cap})


# -- the answer -------------------------------------------------------------------------------------------------------


class _Reply(Struct):
    finish_reason: Any = None
    usage: Any = None
    message: Any = None
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def read(body: bytes) -> Reading:
    """What a plain answer says about itself. An error is one whose `message` is text."""
    reply = decode_reply(_reply_decoder, body)
    if isinstance(reply.message, str):
        return Reading(error=reply.message[:1000])
    return _reading(reply.usage, reply.finish_reason)


def _reading(told: Any, finish: Any) -> Reading:
    reported = reported_of(told)
    usage = normalise(reported) if reported is not None else None
    hostile = reported is not None and (usage is None or tells_half(reported))
    return Reading(usage, finish if isinstance(finish, str) else "", hostile=hostile)


# -- the stream -------------------------------------------------------------------------------------------------------


class _Event(Struct):
    type: str = ""
    delta: Any = None
    message: Any = None


_event_decoder = msgspec.json.Decoder(_Event)
_delta_decoder = msgspec.json.Decoder(_Reply)


class _Passed(Passed):
    def count(self, piece: bytes) -> int:
        return sum([estimate_tokens([_text_size(sse.data_of(event))]) for event in sse.events(piece)])


class CohereTee:
    """Reads a stream of chat events while it passes, untouched. `message-end` is its ending."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.reading = Reading()
        self._splitter = sse.Splitter()
        self._passed = _Passed()

    def feed(self, data: bytes) -> bytes:
        run = self._splitter.feed(data)
        self._observe(run)
        return run

    def close(self) -> tuple[bytes, bool]:
        rest = self._splitter.rest()
        if rest.strip():
            self._observe(rest + b"\n\n")
        return rest, self.ended

    def counted_output(self) -> int:
        return self._passed.tokens()

    def error_event(self, error: GatewayError) -> bytes:
        return error_event(error)

    def _observe(self, run: bytes) -> None:
        if not run:
            return
        self.begun = True
        self._passed.keep(run)
        if b"message-end" in run or b'"message":"' in run or run.startswith(b"{"):
            for event in sse.events(run):
                self._learn(sse.data_of(event) or event.strip())

    def _learn(self, data: bytes) -> None:
        """A report whose members are of other types than the reference has is not believed."""
        try:
            event = _event_decoder.decode(data)
            if event.type == "message-end":
                self.ended = True
                delta = _delta_decoder.decode(msgspec.json.encode(event.delta))
                self.reading = _reading(delta.usage, delta.finish_reason)
                if isinstance(delta.error, str) and delta.error:
                    self.reading = structs.replace(self.reading, error=delta.error[:1000])
            elif isinstance(event.message, str):
                self.reading = structs.replace(self.reading, error=event.message[:1000])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return


def _text_size(data: bytes) -> int:
    """Of what the model wrote in one event."""
    if b"-delta" not in data and b"tool-call-start" not in data:
        return 0
    try:
        delta = _event_decoder.decode(data).delta
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return len(data)
    return _written(delta)


def _written(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(_written(one) for one in inner)


# -- errors -----------------------------------------------------------------------------------------------------------


def error_body(error: GatewayError) -> bytes:
    """Cohere's error has a message, and here also the code."""
    return encode_object({"message": error.message, "error_type": error.code})


def error_event(error: GatewayError) -> bytes:
    return b"data: " + error_body(error) + b"\n\n"


class _Enveloped(Struct):
    message: str


_enveloped_decoder = msgspec.json.Decoder(_Enveloped)


def envelope(body: bytes, status: int) -> bytes:
    """A provider's error body in this envelope: verbatim when it is one, else that it answered so."""
    try:
        _enveloped_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return encode_object({"message": f"The provider answered {status}."})
    return body


class CohereChat:
    """The dialect as the pipeline uses it."""

    name = "cohere_chat"
    surface = "cohere.chat"
    codec = ChatCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(error_body)
    error_event = staticmethod(error_event)
    envelope = staticmethod(envelope)
    is_stream = staticmethod(is_not_json)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> CohereTee:
        return CohereTee()


# -- rerank -----------------------------------------------------------------------------------------------------------


class _Ranked(Struct):
    meta: Any = None
    tokens: Any = None
    usage: Any = None
    message: Any = None


_ranked_decoder = msgspec.json.Decoder(_Ranked)


class Rerank:
    """`POST /v1/rerank`. Source: Cohere API reference, "Rerank V2" (a search unit is up to 100 documents); Voyage AI,
    "Rerankers", which bills tokens, as SiliconFlow does ("Create rerank", `tokens`). Search units are counted as
    requests; they have no price per token."""

    name = "cohere_rerank"
    surface = "rerank"

    rebuild = staticmethod(rebuild)
    error_body = staticmethod(error_body)
    error_event = staticmethod(error_event)
    envelope = staticmethod(envelope)

    @staticmethod
    def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
        """The query is read again with each document, so it is counted with each."""
        fields = read_object(body)
        query = field(fields, "query", str, "a string")
        documents = field(fields, "documents", list[str | dict[str, Any]], "a list of texts or objects")
        if not query or not documents:
            missing = "documents" if query else "query"
            raise InvalidRequest(f"'{missing}' is required.", param=missing)
        size = len(bytes(fields["documents"])) + len(query.encode()) * len(documents)
        call = Call(fields=fields, model=checked_model(model_name(fields)), max_output=0)
        call.input_bound, call.input_estimate = size + 8 * len(documents), -(-size // 3)
        return call

    @staticmethod
    def read(body: bytes) -> Reading:
        reply = decode_reply(_ranked_decoder, body)
        if isinstance(reply.message, str):
            return Reading(error=reply.message[:1000])
        meta = reported_of(reply.meta) or Reported()
        searches = as_whole(units_of(meta.billed_units).search_units)
        tokens = reply.usage.get("total_tokens") if isinstance(reply.usage, dict) else None
        if searches is None and tokens is None:
            through = reply.tokens or meta.tokens
            usage = None if through is None else normalise(Reported(tokens=through))
            return Reading(usage, hostile=through is not None and usage is None)
        if not believed(searches, tokens):
            return Reading(hostile=True)
        return Reading(Usage(input=tokens or 0, requests=max(searches or 1, 1)))

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> CohereTee:
        raise InvalidRequest("Reranking is not streamed.", param="stream")

    @staticmethod
    def is_stream(call: Call, content_type: str) -> bool:
        return False
