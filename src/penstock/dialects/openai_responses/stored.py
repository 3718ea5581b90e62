"""What is asked of a response that the vendor keeps. Free of charge.

Source: OpenAI API reference, "Get a model response", "Delete a model response", "Cancel a response", "List input
items"; Microsoft Learn, "Use the Azure OpenAI Responses API" (which has the same). Read 2026-11.

A stream is not asked for again: the vendor gives one of responses in the background alone, which are not served.
"""

from urllib.parse import parse_qsl, urlencode

from penstock.dialects.base import NO_ADDRESS, Address, Call, Demand, Reading, is_not_json
from penstock.dialects.openai_errors import envelope, error_body
from penstock.dialects.openai_responses.wire import ResponsesTee
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, NotFound, UpstreamMalformed

_OURS = frozenset({"api-version", "stream", "starting_after"})
"""Parameters that do not pass: the provider's own version goes instead of a caller's."""


def _parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """The model is that of the response, and is found with it. No body is looked at."""
    errand = address.errand
    if errand is None:
        raise NotFound("The address names no response.")
    asked = parse_qsl(errand.query, keep_blank_values=True)
    if any(name == "starting_after" or (name == "stream" and value.lower() != "false") for name, value in asked):
        raise InvalidRequest(
            "A response that is kept is not streamed again: leave 'stream' and 'starting_after' out.", param="stream"
        )
    errand = errand._replace(query=urlencode([pair for pair in asked if pair[0] not in _OURS]))
    return Call(fields={}, model="", max_output=0, refers={errand.id: "response_id"}, errand=errand)


def _rebuild(call: Call, demand: Demand) -> bytes:
    return b""


def _read(body: bytes) -> Reading:
    """What the response says of itself was said before; whoever looks uses nothing."""
    return Reading(Usage())


class StoredResponses:
    """`/v1/responses/{id}` and what is below it. It has answers and no stream."""

    name = "openai_stored_responses"
    surface = "responses.stored"

    parse = staticmethod(_parse)
    rebuild = staticmethod(_rebuild)
    read = staticmethod(_read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ResponsesTee:
        raise UpstreamMalformed("A response that is kept is not streamed.")
