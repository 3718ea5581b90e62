"""The codec as the pipeline uses it."""

from penstock.dialects.codec import Heading
from penstock.dialects.openai_chat_codec.answer import decode_answer, encode_answer
from penstock.dialects.openai_chat_codec.request_in import decode_request
from penstock.dialects.openai_chat_codec.request_out import encode_request
from penstock.dialects.openai_chat_codec.stream_in import ChatDecoder
from penstock.dialects.openai_chat_codec.stream_out import ChatEncoder


class ChatCodec:
    content_type = "application/json"
    stream_type = "text/event-stream; charset=utf-8"
    several = True

    decode_request = staticmethod(decode_request)
    encode_request = staticmethod(encode_request)
    decode_answer = staticmethod(decode_answer)
    encode_answer = staticmethod(encode_answer)

    @staticmethod
    def decoder() -> ChatDecoder:
        return ChatDecoder()

    @staticmethod
    def encoder(heading: Heading) -> ChatEncoder:
        return ChatEncoder(heading)
