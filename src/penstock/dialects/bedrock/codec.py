"""The codec of the Converse dialect: its six ways, each in a file of its own."""

from penstock.dialects.bedrock.answer import decode_answer, encode_answer
from penstock.dialects.bedrock.blocks import NAME
from penstock.dialects.bedrock.request import decode_request
from penstock.dialects.bedrock.stream import Decoder, Encoder
from penstock.dialects.bedrock.target import encode_request
from penstock.dialects.codec import Heading
from penstock.dialects.eventstream import CONTENT_TYPE

__all__ = ["NAME", "ConverseCodec"]


class ConverseCodec:
    content_type = "application/json"
    stream_type = CONTENT_TYPE
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
