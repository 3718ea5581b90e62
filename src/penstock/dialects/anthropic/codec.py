"""The codec of the Messages dialect: its six ways, each in a file of its own."""

from penstock.dialects.anthropic.answer import decode_answer, encode_answer
from penstock.dialects.anthropic.request import decode_request
from penstock.dialects.anthropic.stream import Decoder, Encoder
from penstock.dialects.anthropic.target import encode_request
from penstock.dialects.codec import Heading


class MessagesCodec:
    content_type = "application/json"
    stream_type = "text/event-stream; charset=utf-8"
    several = False

    decode_request = staticmethod(decode_request)
    encode_request = staticmethod(encode_request)
    decode_answer = staticmethod(decode_answer)
    encode_answer = staticmethod(encode_answer)

    @staticmethod
    def decoder() -> Decoder:
        return Decoder()

    @staticmethod
    def encoder(heading: Heading) -> Encoder:
        return Encoder(heading)
