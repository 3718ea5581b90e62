"""InvokeModel with the bodies of Anthropic's models: Messages in Bedrock's envelope.

Source: Amazon Bedrock API reference, "InvokeModel", "InvokeModelWithResponseStream"; User Guide, "Anthropic Claude
Messages API". The model and whether the answer streams are in the address, and each event of a stream is in a frame of
the binary event stream, as base64. The bodies of other models are not read: Converse serves those.
"""

import base64

import msgspec
from msgspec import Raw, Struct

from penstock.dialects import eventstream, sse
from penstock.dialects.anthropic import Messages
from penstock.dialects.anthropic import errors as anthropic_errors
from penstock.dialects.anthropic.stream import Decoder, Encoder
from penstock.dialects.base import NO_ADDRESS, Address, Call, Demand, Reading, Tee, encode_object, read_object
from penstock.dialects.bedrock import errors
from penstock.dialects.bedrock.errors import told_by
from penstock.dialects.codec import Heading
from penstock.dialects.eventstream import CONTENT_TYPE, Frame
from penstock.dialects.passed import whole
from penstock.domain.stream import Event, Failed
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed, UpstreamReset

ANTHROPIC_VERSION = "bedrock-2023-05-31"

_MESSAGES = Messages()
_IN_THE_ADDRESS = ("model", "stream")


class _Chunk(Struct):
    bytes: str = ""


class _Kind(Struct):
    type: str = ""


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_kind_decoder = msgspec.json.Decoder(_Kind)


class Unpacked:
    """Frames -> the events that they carry, verbatim, as server-sent events."""

    content_type = "text/event-stream"

    def __init__(self) -> None:
        self._splitter = eventstream.Splitter()

    def feed(self, data: bytes) -> bytes:
        return b"".join([_event(frame) for frame in self._splitter.feed(data)])

    def rest(self) -> bytes:
        """What came after the last whole frame."""
        return self._splitter.rest()

    def is_between(self) -> bool:
        """Whether no frame was cut."""
        return self._splitter.is_between()

    def close(self) -> None:
        """Raises `UpstreamReset` when a frame was cut."""
        if not self.is_between():
            raise UpstreamReset("The provider's stream broke off inside of a frame.")


def _event(frame: Frame) -> bytes:
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


def _packed(run: bytes) -> bytes:
    """Whole server-sent events as frames."""
    datas = [sse.data_of(event) for event in sse.events(run)]
    payloads = [encode_object({"bytes": base64.b64encode(data).decode()}) for data in datas if data]
    return b"".join([eventstream.encode(Frame("chunk", payload)) for payload in payloads])


class InvokeTee:
    """Reads a stream while it passes, untouched."""

    def __init__(self) -> None:
        self._own = _MESSAGES.tee(Call({}, ""), False)
        self._unpacked = Unpacked()

    @property
    def begun(self) -> bool:
        return self._own.begun

    @property
    def ended(self) -> bool:
        return self._own.ended

    @property
    def reading(self) -> Reading:
        return self._own.reading

    def feed(self, data: bytes) -> bytes:
        held = self._unpacked.rest()
        self._own.feed(self._unpacked.feed(data))
        return whole(held, data, len(self._unpacked.rest()))

    def close(self) -> tuple[bytes, bool]:
        _, was_seen = self._own.close()
        return b"", was_seen and self._unpacked.is_between()

    def counted_output(self) -> int:
        return self._own.counted_output()

    def error_event(self, error: GatewayError) -> bytes:
        return errors.error_event(error)


class _FrameDecoder:
    """Frames -> events of the conversation."""

    def __init__(self) -> None:
        self._unpacked = Unpacked()
        self._decoder = Decoder()

    def feed(self, data: bytes) -> list[Event]:
        return self._decoder.feed(self._unpacked.feed(data))

    def close(self) -> list[Event]:
        self._unpacked.close()
        return self._decoder.close()


class _FrameEncoder:
    """Events of the conversation -> frames."""

    def __init__(self, heading: Heading) -> None:
        self._encoder = Encoder(heading)

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Failed):
            return errors.exception_frame(event.message, event.status or 500, event.kind)
        return _packed(self._encoder.encode(event))


class InvokeCodec:
    """That of Messages, in frames."""

    content_type = "application/json"
    stream_type = CONTENT_TYPE
    several = False

    decode_request = staticmethod(_MESSAGES.codec.decode_request)
    encode_request = staticmethod(_MESSAGES.codec.encode_request)
    decode_answer = staticmethod(_MESSAGES.codec.decode_answer)
    encode_answer = staticmethod(_MESSAGES.codec.encode_answer)

    @staticmethod
    def decoder() -> _FrameDecoder:
        return _FrameDecoder()

    @staticmethod
    def encoder(heading: Heading) -> _FrameEncoder:
        return _FrameEncoder(heading)


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = read_object(body)
    if "messages" not in fields or "schemaVersion" in fields:
        raise InvalidRequest(
            "InvokeModel takes the Messages bodies of Anthropic's models here. Call other models by Converse.",
            param="messages",
        )
    fields.pop("anthropic_version", None)  # the one that there is; a target gets it again where it wants it
    where = {"model": address.model, "stream": address.streaming}
    written = {name: Raw(msgspec.json.encode(value)) for name, value in where.items()}
    return _MESSAGES.parse(encode_object({**fields, **written}), address)


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's members, with the version."""
    own = {name: value for name, value in call.fields.items() if name not in _IN_THE_ADDRESS}
    cap = {} if demand.cap is None else {"max_tokens": demand.cap[1]}
    return encode_object({"anthropic_version": ANTHROPIC_VERSION, **own, **cap})


class InvokeModel:
    """The dialect as the pipeline uses it."""

    name = _MESSAGES.name
    surface = "invoke"
    codec = InvokeCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(_MESSAGES.read)
    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> Tee:
        return InvokeTee()

    @staticmethod
    def is_stream(call: Call, content_type: str) -> bool:
        return content_type.startswith(CONTENT_TYPE)
