"""`POST /v1/responses/compact`: a conversation in fewer tokens, to go on with.

Source: OpenAI API reference, "Compact a response"; guide "Compaction"; Microsoft Learn, "Compact a conversation" (which
has the same). Read 2026-11. Charged like a response, and bounded like one but for its output: no member caps it, so it
may be all that the model can put out.

What comes back is encrypted for its vendor and of use to no other, so it is never translated.
"""

from msgspec import structs

from penstock.dialects.base import NO_ADDRESS, Address, Call, Reading, is_not_json
from penstock.dialects.openai_errors import envelope, error_body
from penstock.dialects.openai_responses.wire import ResponsesTee, parse, read, rebuild
from penstock.errors import InvalidRequest, UpstreamMalformed


def _parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    call = parse(body, address)
    if call.streaming:
        raise InvalidRequest("A compaction is not streamed: leave 'stream' out.", param="stream")
    call.max_output, call.cappable = None, False
    return call


def _read(body: bytes) -> Reading:
    """It has no `status`: what came is complete."""
    reading = read(body)
    return structs.replace(reading, finish_reason=reading.finish_reason or "completed")


class Compaction:
    """It has an answer and no stream."""

    name = "openai_compaction"
    surface = "responses.compact"

    parse = staticmethod(_parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(_read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ResponsesTee:
        raise UpstreamMalformed("A compaction is not streamed.")
