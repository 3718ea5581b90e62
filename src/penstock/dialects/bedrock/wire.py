"""Converse on the wire: what a request may cost, what an answer or a stream says of itself.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream"; User Guide, "Inference request parameters", "Prompt
caching". The model is in the address.

What costs extra and is not priced: guardrails, by the text that they look at, latency-optimised inference, and the
`priority` tier of the models for which the catalogue does not know its price: they are billed at the standard rates.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects import eventstream
from penstock.dialects.anthropic.wire import MAX_ROUNDS, OVERHEAD_WITH_CITATIONS, document_pages
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
    read_object,
)
from penstock.dialects.bedrock import errors
from penstock.dialects.bedrock.codec import NAME, ConverseCodec
from penstock.dialects.bedrock.usage import normalise
from penstock.dialects.eventstream import Frame
from penstock.dialects.passed import whole
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

OVERHEAD_PER_REQUEST = 64
OVERHEAD_WITH_TOOLS = 1024
"""Tokens allowed for what the vendor adds around a request, and for the instructions before tools."""

_NO_TEXT = frozenset(
    {"inferenceConfig", "guardrailConfig", "requestMetadata", "performanceConfig", "serviceTier", "projectIdentifier"}
    | {"additionalModelResponseFieldPaths", "modelId"}
)
_CAPS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "maxTokens", "max_gen_len", "maxTokenCount")
_PRICED_ELSEWHERE = (*_CAPS, "maxTokensToSample", "max_tokens_to_sample", "n", "num_generations", "fallbacks", "speed")
"""Members of a model's own body that would change what a call may cost behind the gateway's back."""


# -- the request ------------------------------------------------------------------------------------------------------


class _Source(Struct):
    bytes: str | None = None
    text: str | None = None
    content: Raw = Raw(b"null")


class _Medium(Struct):
    format: str = ""
    source: _Source | None = None


class _Result(Struct):
    content: Raw = Raw(b"[]")


class _Block(Struct):
    image: _Medium | None = None
    document: _Medium | None = None
    video: _Medium | None = None
    audio: _Medium | None = None
    toolResult: _Result | None = None  # noqa: N815  the wire's name


class _Message(Struct):
    role: str
    content: list[_Block]


class _Inference(Struct):
    maxTokens: int | None = None  # noqa: N815  the wire's name


class _Tier(Struct):
    type: str = ""


_blocks_decoder = msgspec.json.Decoder(list[_Block])


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = read_object(body)
    messages = field(fields, "messages", list[_Message], "a list of messages, each with a 'role' and a 'content'")
    inference = field(fields, "inferenceConfig", _Inference, "an object whose 'maxTokens' is a whole number")
    tier = field(fields, "serviceTier", _Tier, "an object with a 'type'")
    _check_own_fields(fields)
    cap = in_range("inferenceConfig.maxTokens", inference.maxTokens if inference else None) or None
    call = Call(fields, checked_model(address.model), address.streaming, cap, "maxTokens", wants_usage=True)
    call.service_tier = tier.type if tier and tier.type != "default" else ""
    if messages is None or "promptVariables" in fields:  # a prompt that Bedrock keeps
        call.unseen = True
    media = sum([_read_blocks(call, message.content) for message in messages or ()])
    text_bytes = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT]) - media
    cited = bytes(fields.get("messages", b"")).count(b'"citations"')
    call.input_bound += text_bytes + OVERHEAD_PER_REQUEST + OVERHEAD_WITH_CITATIONS * cited
    if "toolConfig" in fields:
        call.input_bound += OVERHEAD_WITH_TOOLS
        if b'"systemTool"' in bytes(fields["toolConfig"]):
            call.unseen, call.rounds = True, MAX_ROUNDS
    call.input_estimate = -(-text_bytes // 3)
    return call


def _check_own_fields(fields: dict[str, Raw]) -> None:
    """Refuses a second cap that only the model would see."""
    own = field(fields, "additionalModelRequestFields", dict[str, Any], "an object") or {}
    nested = own.get("inferenceConfig")
    for name in (*own, *(nested if isinstance(nested, dict) else ())):
        if name in _PRICED_ELSEWHERE:
            raise InvalidRequest(
                f"'{name}' cannot stand in 'additionalModelRequestFields': say 'inferenceConfig.maxTokens'.",
                param="additionalModelRequestFields",
            )


def _read_blocks(call: Call, blocks: list[_Block]) -> int:
    """Counts the media; returns the bytes that are encoded media and not text."""
    media = 0
    for block in blocks:
        if block.image is not None:
            call.images += 1
            media += _size(block.image)
        if block.document is not None:
            media += _read_document(call, block.document)
        if block.video is not None or block.audio is not None:
            call.unseen = True
            call.audio_in = call.audio_in or block.audio is not None
            media += sum([_size(medium) for medium in (block.video, block.audio) if medium is not None])
        if block.toolResult is not None:
            try:
                media += _read_blocks(call, _blocks_decoder.decode(block.toolResult.content))
            except (msgspec.DecodeError, RecursionError):
                raise InvalidRequest("A 'toolResult' must have a list of blocks.", param="messages") from None
    return media


def _read_document(call: Call, document: _Medium) -> int:
    """PDFs are counted in pages; other documents are text, packed or elsewhere."""
    size, source = _size(document), document.source or _Source()
    if size and document.format == "pdf":
        call.images += 2 * document_pages(size)
        return size
    if size and document.format in ("txt", "md", "csv", "html"):
        return 0  # base64 is longer than the text in it
    call.unseen = call.unseen or (source.text is None and source.content == Raw(b"null"))
    return size


def _size(medium: _Medium) -> int:
    return len(medium.source.bytes) if medium.source and medium.source.bytes else 0


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's, with the injected cap. The model goes into the address."""
    fields: dict[str, Any] = dict(call.fields)
    fields.pop("modelId", None)
    if demand.cap is not None:
        given = fields.get("inferenceConfig")
        known = msgspec.json.decode(given, type=dict[str, Raw] | None) if given is not None else None
        fields["inferenceConfig"] = {**(known or {}), "maxTokens": demand.cap[1]}
    return encode_object(fields)


# -- the answer -------------------------------------------------------------------------------------------------------


class _Reply(Struct):
    stopReason: Any = None  # noqa: N815  the wire's name
    usage: Any = None
    serviceTier: Any = None  # noqa: N815  the wire's name


_reply_decoder = msgspec.json.Decoder(_Reply)


def read(body: bytes) -> Reading:
    """What a plain answer says about itself."""
    return _reading(decode_reply(_reply_decoder, body))


def _reading(reply: _Reply) -> Reading:
    usage = normalise(reply.usage) if reply.usage is not None else None
    finish = reply.stopReason if isinstance(reply.stopReason, str) else ""
    tier = reply.serviceTier.get("type") if isinstance(reply.serviceTier, dict) else ""
    is_hostile = reply.usage is not None and (usage is None or reply.usage.get("outputTokens") is None)
    return Reading(usage, finish, hostile=is_hostile, service_tier=tier if isinstance(tier, str) else "")


# -- the stream -------------------------------------------------------------------------------------------------------


class _ToolDelta(Struct):
    input: str = ""


class _ReasoningDelta(Struct):
    text: str = ""


class _Delta(Struct):
    text: str = ""
    toolUse: _ToolDelta | None = None  # noqa: N815  the wire's name
    reasoningContent: _ReasoningDelta | None = None  # noqa: N815  the wire's name


class _Grown(Struct):
    delta: _Delta | None = None


_grown_decoder = msgspec.json.Decoder(_Grown)


class ConverseTee:
    """Reads a binary event stream while it passes, untouched, and checks its checksums."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.reading = Reading()
        self._splitter = eventstream.Splitter()
        self._is_counted = False
        self._sizes: list[int] = []

    def feed(self, data: bytes) -> bytes:
        held = self._splitter.rest()
        for frame in self._splitter.feed(data):
            self.begun = True
            self._observe(frame)
        return whole(held, data, len(self._splitter.rest()))

    def close(self) -> tuple[bytes, bool]:
        return b"", self.ended and self._splitter.is_between()

    def counted_output(self) -> int:
        return estimate_tokens(self._sizes)

    def error_event(self, error: GatewayError) -> bytes:
        return errors.error_event(error)

    def _observe(self, frame: Frame) -> None:
        if frame.is_exception:
            message, status = errors.told_by(frame)
            self.reading = structs.replace(self.reading, error=message, error_status=status)
        elif frame.kind == "contentBlockDelta":
            self._sizes.append(_text_size(frame.payload))
            if len(self._sizes) > 1024:
                self._sizes = self._folded()
        elif frame.kind in ("messageStop", "metadata"):
            self._learn(frame)

    def _folded(self) -> list[int]:
        """The sizes so far as one piece that counts the same: four bytes a token."""
        return [4 * estimate_tokens(self._sizes)]

    def _learn(self, frame: Frame) -> None:
        try:
            new = _reading(_reply_decoder.decode(frame.payload))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        known = self.reading
        if frame.kind == "messageStop":
            self.reading = structs.replace(known, finish_reason=new.finish_reason)
        else:
            self._is_counted = True
            told = new if new.usage is not None or new.hostile else known
            self.reading = structs.replace(
                told, finish_reason=known.finish_reason, error=known.error, error_status=known.error_status
            )
        self.ended = self._is_counted and bool(self.reading.finish_reason)


def _text_size(payload: bytes) -> int:
    try:
        delta = _grown_decoder.decode(payload).delta
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return len(payload)  # what cannot be read is counted whole: an estimate must not lose spend
    if delta is None:
        return 0
    texts = (delta.text, delta.toolUse and delta.toolUse.input, delta.reasoningContent and delta.reasoningContent.text)
    return sum([len(text.encode()) for text in texts if text])


class Converse:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "converse"
    codec = ConverseCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ConverseTee:
        return ConverseTee()

    @staticmethod
    def is_stream(call: Call, content_type: str) -> bool:
        return content_type.startswith(eventstream.CONTENT_TYPE)


# -- counting ---------------------------------------------------------------------------------------------------------


class CountTokens:
    """`CountTokens`, of a conversation or of an invocation. Free of charge at the vendor; it is not streamed."""

    name = "bedrock_count_tokens"

    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)

    def __init__(self, surface: str = "converse.count_tokens") -> None:
        self.surface = surface

    @staticmethod
    def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
        fields = read_object(body)
        field(fields, "input", dict[str, Any], "an object with 'converse' or 'invokeModel'")
        return Call(fields=fields, model=checked_model(address.model), max_output=0)

    @staticmethod
    def rebuild(call: Call, demand: Demand) -> bytes:
        return encode_object(call.fields)

    @staticmethod
    def read(body: bytes) -> Reading:
        """What was counted was not used."""
        return structs.replace(read(body), usage=Usage())

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ConverseTee:
        raise UpstreamMalformed("A count of tokens is not streamed.")

    @staticmethod
    def is_stream(call: Call, content_type: str) -> bool:
        return False
