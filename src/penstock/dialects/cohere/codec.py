"""The codec of the Chat dialect: its six ways, each in a file of its own."""

from penstock.dialects.codec import Heading
from penstock.dialects.cohere.answer import decode_answer, encode_answer
from penstock.dialects.cohere.request import decode_request
from penstock.dialects.cohere.stream import Decoder, Encoder
from penstock.dialects.cohere.target import encode_request


class ChatCodec:
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
