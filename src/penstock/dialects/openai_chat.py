"""OpenAI Chat Completions, the wire language of `POST /v1/chat/completions`.

Source: OpenAI API reference, "Create chat completion" and "The chat completion chunk object"; usage members of other
vendors that speak the dialect are named where they are read.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

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
    members_of,
    read_object,
    stays_hostile,
)
from penstock.dialects.openai_chat_codec import ChatCodec
from penstock.dialects.openai_errors import envelope, error_body, fault_of
from penstock.dialects.openai_usage import ChatUsage, normalise, tells_half
from penstock.dialects.passed import Passed
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

OVERHEAD_PER_REQUEST = 64
"""Tokens allowed for what a vendor adds around a request. The JSON around each message (at least 22 bytes) is counted
as text and covers the four or so tokens that chat templates add per message."""

MAX_CHOICES = 128
_CAPS = ("max_tokens", "max_completion_tokens")

OVERHEAD_WITH_TOOLS = 1024
"""Tokens allowed for the instructions a vendor puts before tools."""

_QUOTE, _N = b'"n'
"""How JSON text and `null` begin."""

_TEXT_PARTS = frozenset({"text", "refusal", "input_text", "output_text", "thinking", "reasoning"})

_NO_TEXT = frozenset(
    (
        *("model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "modalities", "audio"),
        *("service_tier", "temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty"),
        *("logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "reasoning_effort", "verbosity", "store"),
        *("metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    )
)
"""Members that never become a part of the prompt. Whatever else is sent is counted as text, known or not: `tools`,
`response_format`, `prediction`, and what some servers put into their templates (`documents`, ...)."""


# -- the request ------------------------------------------------------------------------------------------------------


class _Url(Struct):
    url: str = ""


class _Audio(Struct):
    data: str = ""


class _File(Struct):
    file_data: str | None = None


class _Part(Struct):
    type: str = ""
    image_url: _Url | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None


_NULL = Raw(b"null")


class _Message(Struct):
    """`content` is text, or parts; only parts are worth a look."""

    role: str
    content: Raw = _NULL
    audio: Raw = _NULL


_parts_decoder = msgspec.json.Decoder(list[_Part])
_messages_decoder = msgspec.json.Decoder(list[_Message])


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Head(Struct):
    """The members that decide what a call may cost, typed. Most requests fit; for those that do not, `_complain` finds
    the member at fault."""

    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    modalities: list[str] | None = None
    service_tier: str | None = None


_head_decoder = msgspec.json.Decoder(_Head)


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = read_object(body)
    try:
        head = _head_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        _complain(fields)
        raise InvalidRequest("The request body is not a chat completion request.") from None
    text_bytes = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT])
    call = Call(
        fields=fields,
        model=checked_model(address.model or head.model or ""),
        streaming=head.stream or False,
        max_output=_cap(head),
        cap_name="max_completion_tokens" if head.max_tokens is None else "max_tokens",
        predicted=len(bytes(fields["prediction"])) if "prediction" in fields else 0,
        choices=_choices(head),
        wants_usage=bool(head.stream_options and head.stream_options.include_usage),
        audio_out="audio" in (head.modalities or ()),
        service_tier="" if head.service_tier in (None, "auto", "default") else head.service_tier or "",
        form="functions" if "functions" in fields else "",
    )
    text_bytes -= _read_messages(call, head.messages)
    tools = OVERHEAD_WITH_TOOLS if "tools" in fields or "functions" in fields else 0
    call.input_bound += text_bytes + OVERHEAD_PER_REQUEST + tools
    call.input_estimate = -(-text_bytes // 3)
    return call


def _complain(fields: dict[str, Raw]) -> None:
    """Raises the refusal of the first member that is missing or wrongly typed."""
    if "messages" not in fields:
        raise InvalidRequest("'messages' is required.", param="messages")
    try:
        _messages_decoder.decode(fields["messages"])
    except (msgspec.DecodeError, RecursionError):
        raise _bad_messages() from None
    field(fields, "model", str, "a string")
    field(fields, "stream", bool, "true or false")
    field(fields, "stream_options", _StreamOptions, "an object")
    for name in ("max_completion_tokens", "max_tokens", "n"):
        field(fields, name, int, "a whole number")
    field(fields, "modalities", list[str], "a list of strings")
    field(fields, "service_tier", str, "a string")


def _cap(head: _Head) -> int | None:
    """The caller's cap on one choice. Where both names are given the vendor decides, so the larger one is priced."""
    newer, older = head.max_completion_tokens, head.max_tokens
    if newer is None and older is None:
        return None
    return max(in_range("max_completion_tokens", newer), in_range("max_tokens", older))


def _choices(head: _Head) -> int:
    return in_range("n", head.n, MAX_CHOICES) or 1


def _bad_messages() -> InvalidRequest:
    return InvalidRequest(
        "'messages' must be a list of messages, each with a 'role' and a 'content'.", param="messages"
    )


def _read_messages(call: Call, messages: list[_Message]) -> int:
    """Checks the messages and counts their parts; returns the bytes that are encoded media and not text."""
    if not messages:
        raise InvalidRequest("'messages' must not be empty.", param="messages")
    media = 0
    for message in messages:
        if message.audio is not _NULL and memoryview(message.audio)[0] != _N:  # an earlier answer that the vendor keeps
            call.unseen = call.audio_in = True
        kind = memoryview(message.content)[0]
        if kind in (_QUOTE, _N):
            continue
        try:
            parts = _parts_decoder.decode(message.content)
        except (msgspec.DecodeError, RecursionError):
            raise _bad_messages() from None
        for part in parts:
            media += _read_part(call, part)
    return media


def _read_part(call: Call, part: _Part) -> int:
    """Counts one part of a message; returns the bytes of it that are encoded media. What it holds decides, and not the
    type that it says it has, which some vendors do not look at."""
    media = 0
    if part.image_url is not None:
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        media += len(url) if url.startswith("data:") else 0
        call.images += 1
    if part.input_audio is not None:
        call.audio_in = True
        if _is_elsewhere(part.input_audio.data):
            call.unseen = True
        else:
            media += len(part.input_audio.data)
            call.input_bound += audio_tokens(len(part.input_audio.data))
    if part.file is not None:
        if _is_elsewhere(part.file.file_data):
            call.unseen = True
        else:
            media += len(part.file.file_data or "")
            call.images += document_pages(len(part.file.file_data or ""))
    is_medium = part.image_url is not None or part.input_audio is not None or part.file is not None
    if not is_medium and part.type not in _TEXT_PARTS:
        call.unseen = call.audio_in = True
    return media


def _is_elsewhere(data: str | None) -> bool:
    """Whether media are not here: named by an id beside it, or by a URL that the vendor fetches."""
    return not data or data.startswith(("http:", "https:", "gs:", "s3:"))


def audio_tokens(base64_size: int) -> int:
    """A bound on the tokens of an audio part. OpenAI counts 10 tokens a second of input audio; the densest compressed
    speech in use is about 1 KiB a second, so a token is at least 100 bytes, and one per 64 base64 bytes is a bound."""
    return -(-base64_size // 64)


def document_pages(base64_size: int) -> int:
    """A bound on the pages of a document part, each priced as one image: a page is at least 2 KiB of base64."""
    return max(1, -(-base64_size // 2048))


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's members, with the target's model, the injected cap and the usage report."""
    fields: dict[str, Any] = dict(call.fields)
    fields["model"] = demand.model
    if demand.cap is not None:
        name, tokens = demand.cap
        for known in _CAPS:
            fields.pop(known, None)
        fields[name] = tokens
    if demand.ask_usage or call.wants_usage:
        options = call.fields.get("stream_options")
        given = read_object(bytes(options)) if options is not None and bytes(options) != b"null" else {}
        fields["stream_options"] = {**given, "include_usage": True}
    return encode_object(fields)


# -- the answer -------------------------------------------------------------------------------------------------------


class _Groq(Struct):
    usage: ChatUsage | None = None


class _Choice(Struct):
    finish_reason: Any = None
    usage: ChatUsage | None = None  # Moonshot


class _Reply(Struct):
    usage: ChatUsage | None = None
    choices: list[_Choice] | None = None
    x_groq: _Groq | None = None
    service_tier: Any = None

    def reported(self) -> ChatUsage | None:
        apart = self.x_groq.usage if self.x_groq else None
        return self.usage or apart or next((one.usage for one in self.choices or () if one.usage), None)


class _BareChoice(Struct):
    finish_reason: Any = None


class _BareReply(Struct):
    choices: list[_BareChoice] | None = None


_reply_decoder = msgspec.json.Decoder(_Reply)
_bare_decoder = msgspec.json.Decoder(_BareReply)


def read(body: bytes) -> Reading:
    """What a plain answer, or one chunk of a stream, says about itself. A report whose members are of other types than
    the reference has is not believed; the answer is the caller's all the same."""
    fault = fault_of(body)
    try:
        reply = decode_reply(_reply_decoder, body)
    except UpstreamMalformed:
        bare = decode_reply(_bare_decoder, body)
        return Reading(None, _finish(bare.choices), fault.message, fault.status, True)
    reported = reply.reported()
    usage = normalise(reported) if reported is not None else None
    finish = _finish(reply.choices)
    tier = reply.service_tier if isinstance(reply.service_tier, str) else ""
    hostile = reported is not None and (usage is None or tells_half(reported))
    return Reading(usage, finish, fault.message, fault.status, hostile, tier)


def _finish(choices: Sequence[_Choice | _BareChoice] | None) -> str:
    return next((c.finish_reason for c in choices or () if isinstance(c.finish_reason, str)), "")


# -- the stream -------------------------------------------------------------------------------------------------------

_TELLING = re.compile(
    rb'"usage"\s*:\s*\{|"finish_reason"\s*:\s*"|"error"\s*:\s*[{"]|"object"\s*:\s*"error"|"base_resp"\s*:\s*\{'
    rb'|"(?:message|detail)"\s*:\s*["\[]'
)
_FAULTY = re.compile(rb'"(?:error"|base_resp"|message"\s*:\s*["\[]|detail"\s*:\s*["\[])')
_NO_USAGE_YET = re.compile(rb'"usage"\s*:\s*null')
_NULL_USAGE = b',"usage":null'
_LAST_NULL_USAGE = re.compile(rb',"usage":null((?:,"obfuscation":"[^"\\]*")?\}\r?\n)')
"""`usage: null` as the last member of a chunk, or before OpenAI's padding: the closing brace and the line's end behind
it prove that it is the chunk's own and not a nested one, so it can go without parsing."""
_EARLY_NULL_USAGE = re.compile(rb'^(data: \{(?:"\w+":(?:"[^"\\]*"|\d+|null),)*)"usage":null,', re.MULTILINE)
"""The same among the plain members before the first nested one."""


_SOUND_PER_TOKEN = 3_200
"""Characters of base64."""


class _Named(Struct):
    name: str = ""
    arguments: str = ""


class _ToolCall(Struct):
    function: _Named | None = None


class _Sound(Struct):
    """A piece of what is spoken, and of its words. A streamed sound is 16-bit PCM at 24 kHz, and 20 tokens a second."""

    data: str | None = None
    transcript: str | None = None

    def sizes(self) -> list[int]:
        return [len((self.transcript or "").encode()), 4 * (len(self.data or "") // _SOUND_PER_TOKEN)]


class _Delta(Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Named | None = None
    audio: _Sound | None = None

    def sizes(self) -> list[int]:
        texts = [self.content, self.reasoning_content or self.reasoning, self.refusal]
        texts += _texts_in(self.content) if isinstance(self.content, list) else []
        calls = [call.function for call in self.tool_calls or ()] + [self.function_call]
        texts += [call.name + call.arguments for call in calls if call is not None]
        sizes = [len(text.encode()) for text in texts if isinstance(text, str)]
        return sizes if self.audio is None else [*sizes, *self.audio.sizes()]


def _texts_in(parts: Any) -> list[str]:
    """The texts in a content that is a list: Mistral's and Databricks's, where thoughts lie deeper."""
    if isinstance(parts, list):
        return [text for part in parts for text in _texts_in(part)]
    if not isinstance(parts, dict):
        return []
    text = parts.get("text")
    deeper = [text for name in ("thinking", "summary") for text in _texts_in(parts.get(name))]
    return [text, *deeper] if isinstance(text, str) else deeper


class _StreamChoice(Struct):
    delta: _Delta | None = None
    text: Any = None  # Completions

    def sizes(self) -> list[int]:
        text = [len(self.text.encode())] if isinstance(self.text, str) else []
        return text + (self.delta.sizes() if self.delta is not None else [])


class _Chunk(Struct):
    choices: list[_StreamChoice] | None = None


class _Shape(Struct):
    usage: Raw | msgspec.UnsetType = msgspec.UNSET
    choices: Raw = Raw(b"[]")


class _EndingChoice(Struct):
    index: Any = 0
    finish_reason: Any = None


class _EndingChunk(Struct):
    choices: list[_EndingChoice] | None = None


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_ending_decoder = msgspec.json.Decoder(_EndingChunk)
_shape_decoder = msgspec.json.Decoder(_Shape)


class _Passed(Passed):
    def count(self, piece: bytes) -> int:
        tokens = 0
        for event in sse.events(piece):
            data = sse.data_of(event)
            if data.lstrip().startswith(b"{"):
                tokens += estimate_tokens(_text_sizes(data))
            elif event.startswith(b"{"):  # an answer that is no stream at all
                tokens += estimate_tokens([len(event)])
        return tokens


class ChatTee:
    """Reads a stream of chat completion chunks while it passes.

    Only chunks that tell something (usage, a finish reason, an error) are parsed. An error that no client would see is
    told in the dialect's own form.
    `choices`: how many were asked for. Some vendors end without `[DONE]`; then each of them must have finished, and the
    report must have come that `usage: null` on earlier chunks says is to come.
    """

    def __init__(self, strips_usage: bool, choices: int = 1) -> None:
        self.begun = False
        self.ended = False
        self.reading = Reading()
        self._splitter = sse.Splitter()
        self._strips = strips_usage
        self._choices = choices
        self._finished: set[int] = set()
        self._is_usage_to_come = False
        self._passed = _Passed()

    def feed(self, data: bytes) -> bytes:
        run = self._splitter.feed(data)
        if run:
            known = self.reading.error
            self._observe(run)
            run = run if self.reading.error is known else _in_own_form(run)
        return self._stripped(run) if self._strips else run

    def close(self) -> tuple[bytes, bool]:
        rest = self._splitter.rest()
        if not self.begun and rest.lstrip().startswith(b"{"):  # an answer that is no stream at all
            is_broken = False
            self._passed.keep(rest)
            self._learn(rest)
            rest = _in_own_form(rest)
        elif is_broken := bool(rest.strip()) and _is_broken(rest):
            self._passed.keep(rest)
        elif rest.strip():
            closed = rest + b"\n\n"
            self._observe(closed)
            told = _in_own_form(closed) if self.reading.error is not None else closed
            rest = rest if told == closed else told
        has_finished = bool(self.reading.finish_reason) and len(self._finished) >= self._choices
        is_cut = is_broken or (self._is_usage_to_come and self.reading.usage is None and not self.reading.hostile)
        seen = self.ended or (has_finished and not is_cut)  # some report usage all along
        return rest, seen

    def counted_output(self) -> int:
        return self._passed.tokens()

    def error_event(self, error: GatewayError) -> bytes:
        return b"data: " + error_body(error) + b"\n\n"

    def _observe(self, run: bytes) -> None:
        self.begun = True
        self._is_usage_to_come = self._is_usage_to_come or _NO_USAGE_YET.search(run) is not None
        self._passed.keep(run)
        if _may_tell(run):
            after = 0
            for match in _TELLING.finditer(run):
                if match.start() < after:
                    continue
                start, after = _event_around(run, match.start())
                self._learn(sse.data_of(run[start:after]))
        if b"[DONE]" in run and any(sse.data_of(event).strip() == b"[DONE]" for event in sse.events(run)[-3:]):
            self.ended = True

    def _learn(self, data: bytes) -> None:
        if not data.lstrip().startswith(b"{"):
            return
        new, known = read(data), self.reading
        if new.finish_reason:
            self._finished.update(_finished(data) if self._choices > 1 else (0,))
        self.reading = Reading(
            new.usage or known.usage,
            new.finish_reason or known.finish_reason,
            new.error or known.error,
            new.error_status or known.error_status,
            stays_hostile(known, new),
            new.service_tier or known.service_tier,
        )

    def _stripped(self, run: bytes) -> bytes:
        """The run without the usage report that the caller did not ask for."""
        if b'"usage"' not in run:
            return run
        run = _LAST_NULL_USAGE.sub(rb"\1", run)
        if b'"usage"' not in run:
            return run
        run = _EARLY_NULL_USAGE.sub(rb"\1", run)
        return b"".join(map(_without_usage, sse.events(run))) if b'"usage"' in run else run


def _in_own_form(run: bytes) -> bytes:
    """A run, or an answer that is no stream, with what only its words say to be an error told as one."""
    return b"".join(map(_as_error, sse.events(run)))


def _as_error(event: bytes) -> bytes:
    data = sse.data_of(event) or event
    if not data.lstrip().startswith(b"{") or not (fault := fault_of(data)).is_bare:
        return event
    return b"data: " + envelope(data, fault.status) + b"\n\n"


def _is_broken(rest: bytes) -> bool:
    """Whether a stream ends within an event, and not just before the empty line that closes it."""
    data = sse.data_of(rest + b"\n\n")
    try:
        _shape_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return data.strip() != b"[DONE]" and not rest.lstrip().startswith(b":")
    return False


def _finished(data: bytes) -> list[int]:
    """The choices that a chunk gives a finish reason."""
    chunk = decode_reply(_ending_decoder, data)
    ended = [choice.index for choice in chunk.choices or () if isinstance(choice.finish_reason, str)]
    return [index if isinstance(index, int) else 0 for index in ended]


def _may_tell(run: bytes) -> bool:
    """Whether the closer look at a run is worth it: counting is many times faster, and most runs tell nothing."""
    return (
        run.count(b'"finish_reason"') != run.count(b'"finish_reason":null')
        or run.count(b'"usage"') != run.count(b'"usage":null')
        or _FAULTY.search(run) is not None
    )


def _event_around(run: bytes, at: int) -> tuple[int, int]:
    """Where the event that covers position `at` begins and ends."""
    starts = (run.rfind(b"\n\n", 0, at) + 2, run.rfind(b"\n\r\n", 0, at) + 3)
    start = max(start if start > 2 else 0 for start in starts)
    ends = [end + size for end, size in ((run.find(b"\n\n", at), 2), (run.find(b"\n\r\n", at), 3)) if end >= 0]
    return start, min(ends, default=len(run))


def _without_usage(event: bytes) -> bytes:
    """One event without what `include_usage` added: nothing is left of the usage-only chunk, `usage: null` goes from
    the others, and a report on a chunk with choices stays, because the vendor sends that unasked."""
    if b'"usage"' not in event:
        return event
    data = sse.data_of(event)
    if not data.lstrip().startswith(b"{"):
        return event
    shape = decode_reply(_shape_decoder, data)
    if shape.usage is msgspec.UNSET:
        return event
    if bytes(shape.usage) != b"null":
        return b"" if bytes(shape.choices) == b"[]" else event
    if event.count(b'"usage"') == 1 and _NULL_USAGE in event:
        return event.replace(_NULL_USAGE, b"")
    members = members_of(data)
    del members["usage"]
    return b"data: " + encode_object(members) + b"\n\n"


def _text_sizes(data: bytes) -> list[int]:
    try:
        chunk = _chunk_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return [len(data)]  # what cannot be read is counted whole: an estimate must not lose spend
    return [size for choice in chunk.choices or () for size in choice.sizes()]


class ChatCompletions:
    """The dialect as the pipeline uses it."""

    name = "openai_chat"
    surface = "chat.completions"
    codec = ChatCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ChatTee:
        return ChatTee(asked_usage and not call.wants_usage, call.choices)
