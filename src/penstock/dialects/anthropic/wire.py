"""Anthropic Messages on the wire: what a request may cost, what an answer or a stream says of itself.

Source: Anthropic API reference, "Create a Message", "Streaming messages", "Count tokens in a Message"; guides "Vision",
"PDF support", "Tool use" (the instructions that tools add), "Server tools" (the sampling loop and its ten rounds).

What cannot be bounded or priced from the request, and is not: searches of the web over the ten of a tool without
`max_uses`, the hours of a container, the surcharge for inference in one country, and that the compaction's summary may
be longer than the cap. What would be answered by another model than the one that was priced and allowed is refused:
`fallbacks`, an advisor.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects import sse
from penstock.dialects.anthropic import errors
from penstock.dialects.anthropic.blocks import NAME, NULL
from penstock.dialects.anthropic.codec import MessagesCodec
from penstock.dialects.anthropic.usage import merge, normalise, served_tier
from penstock.dialects.base import (
    MAX_OUTPUT_TOKENS,
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
    is_not_json,
    read_object,
)
from penstock.dialects.passed import Passed
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

OVERHEAD_PER_REQUEST = 64
"""Tokens allowed for what the vendor adds around a request."""

OVERHEAD_WITH_TOOLS = 1024
"""Tokens allowed for the instructions before tools (at most 804 for any model), and for each tool of the vendor's own
on top (`computer_*`, the longest, takes 735)."""

OVERHEAD_WITH_CITATIONS = 1024
"""Tokens allowed for each document that may be cited: the instructions, and the marks in its text."""

MAX_ROUNDS = 10
"""How often the vendor samples, at most, before it pauses a turn in which it runs tools itself."""

MAX_PAGES = 600
"""Of a PDF."""

_NO_TEXT = frozenset(
    (
        *("model", "stream", "max_tokens", "metadata", "service_tier", "speed", "stop_sequences", "temperature"),
        *("top_k", "top_p", "thinking", "inference_geo", "cache_control", "fallback_credit_token", "diagnostics"),
        *("anthropic_version", "anthropic_beta"),
    )
)
"""Members that never become a part of the prompt. Whatever else is sent is counted as text, known or not."""


# -- the request ------------------------------------------------------------------------------------------------------


class _Source(Struct):
    type: str = ""
    data: str = ""
    content: Raw = NULL


class _Block(Struct):
    type: str = ""
    source: Raw = Raw()
    content: Raw = Raw()


class _Message(Struct):
    role: str
    content: Raw


class _Tool(Struct):
    type: str | None = None
    max_uses: int | None = None


class _Head(Struct):
    """The members that decide what a call may cost, typed."""

    model: str | None = None
    messages: list[_Message] = []
    max_tokens: int | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    service_tier: str | None = None
    speed: str | None = None
    mcp_servers: list[Any] | None = None
    container: Any = None


_head_decoder = msgspec.json.Decoder(_Head)
_blocks_decoder = msgspec.json.Decoder(list[_Block])
_block_decoder = msgspec.json.Decoder(_Block)
_source_decoder = msgspec.json.Decoder(_Source)

_VENDORS_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "mcp_toolset", "tool_search_tool_")
"""How the types of the tools begin that the vendor runs itself, in rounds of one request."""

_WEB_SEARCH = "web_search_"
_UPLOAD = "container_upload"


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = read_object(body)
    head = _head_of(fields, body)
    if head.max_tokens is None:
        raise InvalidRequest("'max_tokens' is required.", param="max_tokens")
    if not 0 <= head.max_tokens <= MAX_OUTPUT_TOKENS:
        raise InvalidRequest(f"'max_tokens' must be between 0 and {MAX_OUTPUT_TOKENS}.", param="max_tokens")
    call = _bounded(fields, head, address)
    call.streaming = address.streaming or head.stream or False
    call.max_output = head.max_tokens
    call.cap_name = "max_tokens"
    if "context_management" in fields and b'"compact_' in bytes(fields["context_management"]):
        call.rounds, call.unseen, call.predicted = call.rounds + 1, True, head.max_tokens
    if head.speed not in (None, "standard"):
        call.service_tier = head.speed or ""
    return call


def _head_of(fields: dict[str, Raw], body: bytes) -> _Head:
    """The typed members; the refusal of the first that is missing or wrongly typed."""
    if "messages" not in fields:
        raise InvalidRequest("'messages' is required.", param="messages")
    try:
        head = _head_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        field(fields, "model", str, "a string")
        field(fields, "max_tokens", int, "a whole number")
        field(fields, "stream", bool, "true or false")
        field(fields, "messages", list[_Message], "a list of messages, each with a 'role' and a 'content'")
        field(fields, "tools", list[_Tool], "a list of tools")
        for name in ("service_tier", "speed"):
            field(fields, name, str, "a string")
        field(fields, "mcp_servers", list[Any], "a list")
        raise InvalidRequest("The request body is not a Messages request.") from None
    if not head.messages:
        raise InvalidRequest("'messages' must not be empty.", param="messages")
    if fields.get("fallbacks", NULL) != NULL:
        raise InvalidRequest(
            "'fallbacks' would have another model answer than the one that is priced and allowed. Ask an operator to"
            " give the model fallbacks here.",
            param="fallbacks",
        )
    return head


def _bounded(fields: dict[str, Raw], head: _Head, address: Address) -> Call:
    """The call with its bounds on what goes in."""
    call = Call(fields=fields, model=checked_model(address.model or head.model or ""))
    media = _read_blocks(call, fields.get("system"), "system")
    for message in head.messages:
        media += _read_blocks(call, message.content, "messages")
    text_bytes = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT]) - media
    cited = bytes(fields["messages"]).count(b'"citations"')
    call.input_bound += text_bytes + OVERHEAD_PER_REQUEST + OVERHEAD_WITH_CITATIONS * cited
    if head.tools:
        call.input_bound += OVERHEAD_WITH_TOOLS
        for tool in head.tools:
            _read_tool(call, tool)
    thread = bytes(fields.get("thread", NULL))
    call.threaded = thread != b"null"
    call.unseen = call.unseen or b"previous_message_id" in thread  # the vendor has the rest of the conversation
    if head.mcp_servers or head.container:
        call.unseen, call.rounds = True, MAX_ROUNDS
    call.rounds = min(call.rounds, MAX_ROUNDS)
    call.input_estimate = -(-text_bytes // 3)
    return call


def _read_tool(call: Call, tool: _Tool) -> None:
    kind = tool.type or "custom"
    if kind == "custom":
        return
    if kind.startswith("advisor_"):
        raise InvalidRequest("An advisor is another model than the one that is priced and allowed.", param="tools")
    call.input_bound += OVERHEAD_WITH_TOOLS
    if kind.startswith(_VENDORS_TOOLS):
        call.unseen = True
        uses = tool.max_uses if tool.max_uses is not None and tool.max_uses >= 0 else MAX_ROUNDS
        call.rounds += uses
        call.web_searches += uses if kind.startswith(_WEB_SEARCH) else 0


def _read_blocks(call: Call, content: Raw | None, param: str) -> int:
    """Counts the media in a content; returns the bytes of it that are encoded media and not text."""
    if content is None or not content or memoryview(content)[0] != ord("["):
        return 0
    try:
        blocks = _blocks_decoder.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"The content in '{param}' must be text, or a list of blocks.", param=param) from None
    # nearly every block is a text, and has none of these
    telling = [block for block in blocks if block.source or block.content or block.type == _UPLOAD]
    return sum([_read_block(call, block, param) for block in telling])


def _read_block(call: Call, block: _Block, param: str) -> int:
    """What a block holds decides, and not the type that it says it has."""
    media = 0
    if block.type == _UPLOAD:
        call.unseen = True
    if block.source and memoryview(block.source)[0] == ord("{"):
        media += _read_source(call, block, param)
    kind = memoryview(block.content)[0] if block.content else 0
    if kind == ord("["):
        media += _read_blocks(call, block.content, param)
    elif kind == ord("{"):  # the result of a tool of the vendor's, with a document in it
        try:
            media += _read_block(call, _block_decoder.decode(block.content), param)
        except (msgspec.DecodeError, RecursionError):
            return media
    return media


def _read_source(call: Call, block: _Block, param: str) -> int:
    try:
        source = _source_decoder.decode(block.source)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"A 'source' in '{param}' is not what the API allows.", param=param) from None
    is_document = block.type != "image"
    if source.type == "base64":
        call.images += 2 * document_pages(len(source.data)) if is_document else 1
        return len(source.data)
    if source.type == "content":
        return _read_blocks(call, source.content, param)
    if source.type != "text":
        call.images += 0 if is_document else 1
        call.unseen = call.unseen or is_document
    return 0


def document_pages(base64_size: int) -> int:
    """A bound on the pages of a PDF: a page is at least 2 KiB of base64. Each is held as two images, one for its
    picture and one for its text (1,500 to 3,000 tokens)."""
    return min(max(1, -(-base64_size // 2048)), MAX_PAGES)


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's members, with the target's model."""
    fields: dict[str, Any] = {**call.fields, "model": demand.model}
    if demand.cap is not None:
        fields["max_tokens"] = demand.cap[1]
    return encode_object(fields)


# -- the answer -------------------------------------------------------------------------------------------------------


class _Reply(Struct):
    stop_reason: Any = None
    usage: Any = None
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def read(body: bytes) -> Reading:
    """What a plain answer says about itself."""
    reply = decode_reply(_reply_decoder, body)
    return _reading(merge({}, reply.usage), reply.stop_reason, reply.error, reply.usage is not None)


def _reading(reported: dict[str, Any], finish: Any, error: Any, is_told: bool) -> Reading:
    usage = normalise(reported) if reported else None
    is_whole = usage is not None and None not in (reported.get("input_tokens"), reported.get("output_tokens"))
    return Reading(
        usage,
        finish if isinstance(finish, str) else "",
        *errors.read_error(error),
        is_told and not is_whole,
        served_tier(reported),
    )


# -- the stream -------------------------------------------------------------------------------------------------------

_TELLING = re.compile(rb'"type"\s*:\s*"(?:message_start|message_delta|message_stop|error)"')


class _StreamDelta(Struct):
    stop_reason: Any = None
    text: Any = None
    thinking: Any = None
    partial_json: Any = None

    def sizes(self) -> list[int]:
        return [len(text.encode()) for text in (self.text, self.thinking, self.partial_json) if isinstance(text, str)]


class _Started(Struct):
    stop_reason: Any = None
    usage: Any = None


class _Event(Struct):
    type: str = ""
    message: _Started | None = None
    delta: _StreamDelta | None = None
    usage: Any = None
    error: Any = None


_event_decoder = msgspec.json.Decoder(_Event)


class _Passed(Passed):
    def count(self, piece: bytes) -> int:
        tokens = 0
        for event in sse.events(piece):
            data = sse.data_of(event)
            if b"_delta" in data:
                tokens += estimate_tokens(_text_sizes(data))
            elif event.startswith(b"{"):  # an answer that is no stream at all
                tokens += estimate_tokens([len(event)])
        return tokens


class MessagesTee:
    """Reads a stream of Messages events while it passes, untouched. Only events that tell something are parsed."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.reading = Reading()
        self._splitter = sse.Splitter()
        self._reported: dict[str, Any] = {}
        self._is_told = False
        self._is_counted = False
        self._passed = _Passed()

    def feed(self, data: bytes) -> bytes:
        run = self._splitter.feed(data)
        if run:
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
        return errors.error_event(error)

    def _observe(self, run: bytes) -> None:
        self.begun = True
        self._passed.keep(run)
        if _TELLING.search(run) is not None or run.startswith(b"{"):
            for event in sse.events(run):
                if _TELLING.search(event) is not None or event.startswith(b"{"):
                    self._learn(sse.data_of(event) or event.strip())

    def _learn(self, data: bytes) -> None:
        """A report whose members are of other types than the reference has is not believed; the stream is the caller's
        all the same."""
        try:
            event = _event_decoder.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if event.type == "message_stop":
            self.ended = True
            if self._is_told and not self._is_counted:  # the beginning cannot know what comes out
                self.reading = structs.replace(self.reading, hostile=True)
        elif event.type == "message_start":
            started = event.message or _Started()
            self._is_counted = bool(started.stop_reason)  # there is nothing to go on with
            self._take(started.usage, started.stop_reason)
        elif event.type == "message_delta":
            if event.usage is not None:
                told = event.usage if isinstance(event.usage, dict) else {}
                self._is_counted = self._is_counted or told.get("output_tokens") is not None
            self._take(event.usage, event.delta.stop_reason if event.delta else None)
        elif event.error:
            message, status = errors.read_error(event.error)
            self.reading = structs.replace(self.reading, error=message, error_status=status)

    def _take(self, usage: Any, finish: Any) -> None:
        known = self.reading
        self._reported = merge(self._reported, usage)
        self._is_told = self._is_told or usage is not None
        new = _reading(self._reported, finish, None, self._is_told)
        self.reading = structs.replace(
            new,
            finish_reason=new.finish_reason or known.finish_reason,
            error=known.error,
            error_status=known.error_status,
        )


def _text_sizes(data: bytes) -> list[int]:
    try:
        event = _event_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return [len(data)]  # what cannot be read is counted whole: an estimate must not lose spend
    return event.delta.sizes() if event.delta and event.type == "content_block_delta" else []


# -- the dialects -----------------------------------------------------------------------------------------------------


def _tokens_counted(body: bytes) -> Reading:
    """Counting is free: what was counted was not used."""
    reply = decode_reply(_reply_decoder, body)
    return Reading(Usage(), "", *errors.read_error(reply.error))


def _parse_count(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """As `parse`, without a cap: nothing is put out, and nothing is billed."""
    fields = read_object(body)
    call = _bounded(fields, _head_of(fields, body), address)
    return Call(fields, call.model, max_output=0, input_estimate=call.input_estimate, images=0)


class Messages:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "messages"
    codec = MessagesCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(errors.error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> MessagesTee:
        return MessagesTee()


class CountTokens:
    """`POST /v1/messages/count_tokens`. Free of charge at the vendor; it has an answer and no stream."""

    name = "anthropic_count_tokens"
    surface = "messages.count_tokens"

    parse = staticmethod(_parse_count)
    rebuild = staticmethod(rebuild)
    read = staticmethod(_tokens_counted)
    error_body = staticmethod(errors.error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> MessagesTee:
        raise UpstreamMalformed("A count of tokens is not streamed.")
