"""OpenAI Responses on the wire: what a request may cost, what an answer or a stream says of itself.

Source: OpenAI API reference, "Create a model response", "Streaming events" and "Get input token counts"; guides
"Conversation state" and "Background mode".

What cannot be bounded or priced from the request, and is not: the flat charges of hosted tools (each search of files,
the hours of a container, each image that is made), searches of the web over the ten of a call without `max_tool_calls`,
and that tools which the vendor runs itself may have it sample more often than `MAX_ROUNDS`. A call in the background
ends where nobody sees it, so it is refused.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects import sse
from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    checked_model,
    decode_reply,
    encode_object,
    estimate_tokens,
    field,
    in_range,
    is_not_json,
    read_object,
)
from penstock.dialects.openai_chat import OVERHEAD_PER_REQUEST, OVERHEAD_WITH_TOOLS, audio_tokens, document_pages
from penstock.dialects.openai_errors import envelope, error_body, status_in_words, status_of
from penstock.dialects.openai_responses.codec import ResponsesCodec
from penstock.dialects.openai_responses.references import (
    NULL,
    Item,
    Tool,
    kept_by,
    refer,
    refer_by_item,
    refer_by_tools,
)
from penstock.dialects.openai_responses.usage import (
    ResponseUsage,
    is_more_owed,
    normalise,
    searches_in,
    tells_half,
    tells_searches,
    with_pictures,
)
from penstock.dialects.passed import Passed
from penstock.domain.kept import is_id
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

MAX_ROUNDS = 10
"""How often the vendor is taken to sample, at most, where it runs tools itself; `max_tool_calls` says less."""

_WEB_SEARCH = "web_search"
"""How the types of the tool begin; the older ones end in `_preview` and a date."""

_PICTURES = "image_generation"
MAX_PICTURES = 4
"""That a call is taken to have drawn, where its caller does not say so: many clients offer the tool with every call."""
PICTURE_TOKENS = 6_240
"""Of one picture that a tool of the vendor's makes: of high quality, 1024 by 1536 pixels (guide "Image generation").
They are charged beside the output, and the cap on that does not bound them."""

_CALLERS_TOOLS = frozenset({"function", "custom"})

_NO_TEXT = frozenset(
    (
        *("model", "stream", "stream_options", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "store"),
        *("top_logprobs", "parallel_tool_calls", "reasoning", "service_tier", "metadata", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "include", "truncation", "background"),
        *("previous_response_id", "conversation", "context_management", "moderation"),
    )
)
"""Members that never become a part of the prompt. Whatever else is sent is counted as text, known or not."""


# -- the request ------------------------------------------------------------------------------------------------------


class _Audio(Struct):
    data: str = ""


class _Part(Struct):
    """A part of a content or of a tool's output; what it holds decides, and not the type that it says it has."""

    image_url: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    input_audio: _Audio | None = None


class _Head(Struct):
    """The members that decide what a call may cost, typed."""

    model: str
    input: str | list[Item] | None = None
    instructions: str | list[Item] | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    previous_response_id: Raw = NULL
    conversation: Raw = NULL
    prompt: Raw = NULL
    background: bool | None = None
    store: Any = None
    service_tier: str | None = None
    tools: list[Tool] | None = None


_head_decoder = msgspec.json.Decoder(_Head)
_parts_decoder = msgspec.json.Decoder(_Part | list[_Part])


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields, head = _read_head(body)
    if head.background:
        raise InvalidRequest(
            "'background' is not served: such a call ends where its cost cannot be seen.", param="background"
        )
    elsewhere = (head.previous_response_id, head.conversation, head.prompt)
    if head.input is None and all(bytes(raw) == b"null" for raw in elsewhere):
        raise InvalidRequest("'input' is required.", param="input")
    text_bytes = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT])
    call = Call(
        fields=fields,
        model=checked_model(head.model),
        streaming=head.stream or False,
        max_output=in_range("max_output_tokens", head.max_output_tokens) or None,
        cap_name="max_output_tokens",
        wants_usage=True,
        unseen=any(bytes(raw) != b"null" for raw in elsewhere),
        service_tier="" if head.service_tier in (None, "auto", "default") else head.service_tier or "",
        keeps=head.store is not False,
    )
    _refer(call, head)
    for items in (head.input, head.instructions):
        if isinstance(items, list):
            text_bytes -= sum(_read_item(call, item) for item in items)
    call.rounds = _rounds(head)
    call.web_searches = _at_most(head, _WEB_SEARCH, MAX_ROUNDS)
    call.predicted = _at_most(head, _PICTURES, MAX_PICTURES) * PICTURE_TOKENS
    call.unseen = call.unseen or call.rounds > 1 or bool(call.refers)
    call.input_bound += text_bytes + OVERHEAD_PER_REQUEST + (OVERHEAD_WITH_TOOLS if head.tools else 0)
    call.input_estimate = -(-text_bytes // 3)
    return call


def _read_head(body: bytes) -> tuple[dict[str, Raw], _Head]:
    fields = read_object(body)
    try:
        return fields, _head_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        _complain(fields)
        raise InvalidRequest("The request body is not a request for a response.") from None


def _refer(call: Call, head: _Head) -> None:
    """Notes what the request names of what the vendor keeps."""
    refer(call, head.previous_response_id, head.conversation)
    for items in (head.input, head.instructions):
        for item in items if isinstance(items, list) else ():
            refer_by_item(call, item)
    refer_by_tools(call, head.tools or ())


def _complain(fields: dict[str, Raw]) -> None:
    """Raises the refusal of the first member that is missing or wrongly typed."""
    if "model" not in fields:
        raise InvalidRequest("'model' is required.", param="model")
    field(fields, "model", str, "a string")
    for name in ("input", "instructions"):
        field(fields, name, str | list[Item], "a string or a list of items")  # type: ignore[arg-type]
    for name in ("stream", "background"):
        field(fields, name, bool, "true or false")
    for name in ("max_output_tokens", "max_tool_calls"):
        field(fields, name, int, "a whole number")
    field(fields, "service_tier", str, "a string")
    field(fields, "tools", list[Tool], "a list of tools")


def _rounds(head: _Head) -> int:
    """How often the vendor may sample for this call: once, but for tools that it runs itself."""
    if all(tool.type in _CALLERS_TOOLS for tool in head.tools or ()):
        return 1
    calls = head.max_tool_calls
    return MAX_ROUNDS if calls is None or calls < 0 else min(calls + 1, MAX_ROUNDS)


def _at_most(head: _Head, kind: str, unsaid: int) -> int:
    """How often the vendor may run its tool of this kind for this call."""
    if not any(tool.type.startswith(kind) for tool in head.tools or ()):
        return 0
    calls = head.max_tool_calls
    return unsaid if calls is None or calls < 0 else calls


def _read_item(call: Call, item: Item) -> int:
    """Counts one item; returns the bytes of it that are encoded media."""
    media = 0
    if item.type == "image_generation_call" and bytes(item.result) != b"null":
        call.images += 1
        media += len(bytes(item.result))
    for raw in (item.content, item.output, item.outputs):
        if not bytes(raw).startswith((b"[", b"{")):
            continue
        try:
            parts = _parts_decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidRequest("'input' has an item that is not what the API allows.", param="input") from None
        media += sum(_read_part(call, part) for part in (parts if isinstance(parts, list) else [parts]))
    return media


def _read_part(call: Call, part: _Part) -> int:
    """Counts one part; returns the bytes of it that are encoded media."""
    media = 0
    if part.image_url is not None:
        call.images += 1
        media += len(part.image_url) if part.image_url.startswith("data:") else 0
    if part.file_data is not None:
        call.images += document_pages(len(part.file_data))
        media += len(part.file_data)
    if part.file_id is not None or part.file_url is not None:
        call.images += 1
        call.unseen = True
    if part.input_audio is not None:
        call.audio_in = True
        call.input_bound += audio_tokens(len(part.input_audio.data))
        media += len(part.input_audio.data)
    return media


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's members, with the target's model and the injected cap."""
    fields: dict[str, Any] = {**call.fields, "model": demand.model}
    if demand.cap is not None:
        name, tokens = demand.cap
        fields.pop("max_output_tokens", None)
        fields[name] = tokens
    return encode_object(fields)


# -- the answer -------------------------------------------------------------------------------------------------------


class _Response(Struct):
    id: Any = None
    store: Any = None
    conversation: Any = None
    output: Raw = NULL
    status: Any = None
    usage: Raw = NULL
    tool_usage: Any = None
    error: Any = None
    incomplete_details: Any = None
    service_tier: Any = None


_response_decoder = msgspec.json.Decoder(_Response)
_usage_decoder = msgspec.json.Decoder(ResponseUsage | None)


def read(body: bytes) -> Reading:
    """What a response says about itself."""
    return _reading(decode_reply(_response_decoder, body))


def _reading(response: _Response) -> Reading:
    try:
        reported = decode_reply(_usage_decoder, bytes(response.usage))
        usage = normalise(reported) if reported is not None else None
        hostile = reported is not None and (usage is None or tells_half(reported))
        if usage is not None and reported is not None and not tells_searches(reported):
            usage = structs.replace(usage, web_searches=searches_in(response.output) or usage.web_searches)
        if usage is not None and response.tool_usage is not None:
            usage = with_pictures(usage, response.tool_usage)
    except UpstreamMalformed:
        usage, hostile = None, True
    reason = response.incomplete_details.get("reason") if isinstance(response.incomplete_details, dict) else None
    finish = reason if isinstance(reason, str) else response.status if isinstance(response.status, str) else ""
    message, status = read_response_error(response.error)
    tier = response.service_tier if isinstance(response.service_tier, str) else ""
    kept = () if response.store is False else kept_by(response.id, response.output, response.conversation)
    return Reading(usage, finish, message, status, hostile, tier, kept, is_more_owed(response.output))


def read_response_error(error: Any) -> tuple[str | None, int]:
    """The message and the status of an `error` member, or of an `error` event."""
    if not error:
        return None, 0
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else "The provider reported an error.")[:1000], 0
    if error.get("error"):
        return read_response_error(error["error"])
    code = error.get("code")
    status = status_of(code) or status_in_words(code) or status_in_words(error.get("type"))
    return str(error.get("message") or "The provider reported an error.")[:1000], status


# -- the stream -------------------------------------------------------------------------------------------------------

ENDINGS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TELLING = re.compile(
    rb'"type"\s*:\s*"(?:response\.(?:completed|incomplete|failed|cancelled|output_item\.done)|error)"'
    rb'|"error"\s*:\s*[{"]'
)
_PREAMBLE = re.compile(rb'"type"\s*:\s*"response\.(?:created|in_progress|queued)"')
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')


class _Event(Struct):
    type: str = ""
    response: _Response | None = None
    item: Raw = NULL
    error: Any = None


class _Delta(Struct):
    delta: Any = None


_event_decoder = msgspec.json.Decoder(_Event)
_delta_decoder = msgspec.json.Decoder(_Delta)
_any_decoder = msgspec.json.Decoder(dict[str, Any])


class _Item(Struct, omit_defaults=True):
    """What of an item says what it cost and what of it is kept."""

    type: Any = None
    id: Any = None
    action: Any = None
    container_id: Any = None
    environment: Any = None


_item_decoder = msgspec.json.Decoder(_Item)

_MOST_ITEMS = 10_000
"""Items of one answer that are told apart."""


class _Items:
    """The items that a stream told as they were done. Some vendors leave them out of the response that ends it."""

    def __init__(self) -> None:
        self._done: dict[Any, _Item] = {}

    def take(self, told: Raw) -> None:
        """One more, or one that was told before; nothing is known of what is no item."""
        if len(self._done) >= _MOST_ITEMS:
            return
        try:
            item = _item_decoder.decode(told)
        except (msgspec.DecodeError, RecursionError):
            return
        self._done[item.id if is_id(item.id) else len(self._done)] = item

    def output(self, listed: Raw) -> Raw:
        """The output as the response lists it; where it lists none, what was told of it."""
        return listed if bytes(listed) not in (b"null", b"[]") else Raw(msgspec.json.encode(list(self._done.values())))


class _Passed(Passed):
    """Also finds the number of the newest event."""

    __slots__ = ("_numbered",)

    def __init__(self) -> None:
        super().__init__()
        self._numbered = -1

    def count(self, piece: bytes) -> int:
        if numbers := _NUMBER.findall(piece):
            self._numbered = max(self._numbered, min(int(numbers[-1][:18]), 2**53))
        data = [sse.data_of(event) for event in sse.events(piece)]
        return sum([estimate_tokens([_delta_size(each)]) for each in data if b'"delta"' in each])

    def newest_number(self) -> int:
        """-1 before the first."""
        self.tokens()
        return self._numbered


class ResponsesTee:
    """Reads a stream of typed events while it passes. Only the last one is parsed, and those of items that are done."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.reading = Reading()
        self._splitter = sse.Splitter()
        self._passed = _Passed()
        self._items = _Items()

    def feed(self, data: bytes) -> bytes:
        run = self._splitter.feed(data)
        if run:
            self._observe(run)
        return run

    def close(self) -> tuple[bytes, bool]:
        rest = self._splitter.rest()
        try:
            if rest.strip():
                self._observe(rest + b"\n\n")
        except UpstreamMalformed:  # cut off inside of an event
            return rest, False
        return rest, self.ended

    def counted_output(self) -> int:
        return self._passed.tokens()

    def error_event(self, error: GatewayError) -> bytes:
        """The event takes the next number in the sequence."""
        told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        number = self._passed.newest_number() + 1
        return b"event: error\ndata: " + encode_object({**told, "sequence_number": number}) + b"\n\n"

    def _observe(self, run: bytes) -> None:
        """A stream begins with what is more than its head: until then another target can still answer."""
        self._passed.keep(run)
        if not self.begun:
            self.begun = any(
                event.lstrip()[:1] not in b":" and not _PREAMBLE.search(event) for event in sse.events(run)
            )
        if _TELLING.search(run):
            for event in sse.events(run):
                if _TELLING.search(event):
                    self._learn(sse.data_of(event))

    def _learn(self, data: bytes) -> None:
        event = decode_reply(_event_decoder, data)
        if event.type == "response.output_item.done":
            self._items.take(event.item)
        elif event.type in ENDINGS and event.response is not None:
            event.response.output = self._items.output(event.response.output)
            new, known = _reading(event.response), self.reading
            self.reading = new if new.usage is not None else structs.replace(new, usage=known.usage)
            if event.type == "response.failed" and self.reading.error is None:
                self.reading = structs.replace(self.reading, error="The provider reported an error.")
            self.ended = True
        elif event.type == "error" or (event.error and not event.type):  # servers that raise an error name no type
            message, status = read_response_error(decode_reply(_any_decoder, data))
            self.reading = structs.replace(self.reading, error=message, error_status=status)
            self.ended = True


def _delta_size(data: bytes) -> int:
    try:
        delta = _delta_decoder.decode(data).delta
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return len(data)  # what cannot be read is counted whole: an estimate must not lose spend
    return len(delta.encode()) if isinstance(delta, str) else 0


def _envelope(body: bytes, status: int) -> bytes:
    """A provider's error body in OpenAI's envelope, also of an error that came as an event of a stream."""
    try:
        told = decode_reply(_any_decoder, body)
    except UpstreamMalformed:
        return envelope(body, status)
    response = told.get("response")
    error = response.get("error") if isinstance(response, dict) else told if told.get("type") == "error" else None
    if not isinstance(error, dict) or isinstance(error.get("error"), dict):
        return envelope(body, status)
    names = ("message", "type", "param", "code")
    said = {name: error[name] for name in names if isinstance(error.get(name), str) and error[name] != "error"}
    defaults = {"message": f"The provider answered {status}.", "type": "upstream_error", "param": None, "code": None}
    return encode_object({"error": defaults | said})


class Responses:
    """The dialect as the pipeline uses it."""

    name = "openai_responses"
    surface = "responses"
    codec = ResponsesCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(_envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ResponsesTee:
        return ResponsesTee()


# -- counting ---------------------------------------------------------------------------------------------------------


def _parse_count(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """The same members as a request's; nothing is sampled, and nothing is charged."""
    fields, head = _read_head(body)
    call = Call(fields=fields, model=checked_model(head.model), max_output=0)
    _refer(call, head)
    return call


def _tokens_counted(body: bytes) -> Reading:
    """Counting is free: what was counted was not used."""
    return Reading(Usage(), "", *read_response_error(decode_reply(_response_decoder, body).error))


class InputTokens:
    """`POST /v1/responses/input_tokens`. Free of charge at the vendor; it has an answer and no stream."""

    name = "openai_input_tokens"
    surface = "responses.input_tokens"

    parse = staticmethod(_parse_count)
    rebuild = staticmethod(rebuild)
    read = staticmethod(_tokens_counted)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ResponsesTee:
        raise UpstreamMalformed("A count of tokens is not streamed.")
