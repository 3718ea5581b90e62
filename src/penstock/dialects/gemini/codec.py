"""The codec of the dialect: see `request`, `target`, `answer`, `stream`, `caller`."""

from penstock.dialects.base import Call
from penstock.dialects.codec import Encoded, Heading, StreamDecoder, StreamEncoder, TargetFacts
from penstock.dialects.gemini import answer, caller, request, target
from penstock.dialects.gemini.caller import GeminiEncoder
from penstock.dialects.gemini.stream import GeminiDecoder
from penstock.domain.chat import Answer, Request


class GeminiCodec:
    content_type = "application/json; charset=UTF-8"
    stream_type = "text/event-stream"
    several = True

    def decode_request(self, call: Call) -> Request:
        return request.decode_request(call)

    def encode_request(self, wanted: Request, facts: TargetFacts) -> Encoded:
        return target.encode_request(wanted, facts)

    def decode_answer(self, body: bytes) -> Answer:
        return answer.decode_answer(body)

    def encode_answer(self, told: Answer, heading: Heading) -> bytes:
        return caller.encode_answer(told, heading)

    def decoder(self) -> StreamDecoder:
        return GeminiDecoder()

    def encoder(self, heading: Heading) -> StreamEncoder:
        return GeminiEncoder(heading)
