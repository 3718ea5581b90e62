"""The codec as the pipeline uses it."""

from penstock.dialects.codec import Heading
from penstock.dialects.openai_responses.answer import decode_answer, encode_answer
from penstock.dialects.openai_responses.request_in import decode_request
from penstock.dialects.openai_responses.request_out import encode_request
from penstock.dialects.openai_responses.stream_in import ResponsesDecoder
from penstock.dialects.openai_responses.stream_out import ResponsesEncoder


class ResponsesCodec:
    content_type = "application/json"
    stream_type = "text/event-stream; charset=utf-8"
    several = False

    decode_request = staticmethod(decode_request)
    encode_request = staticmethod(encode_request)
    decode_answer = staticmethod(decode_answer)
    encode_answer = staticmethod(encode_answer)

    @staticmethod
    def decoder() -> ResponsesDecoder:
        return ResponsesDecoder()

    @staticmethod
    def encoder(heading: Heading) -> ResponsesEncoder:
        return ResponsesEncoder(heading)
