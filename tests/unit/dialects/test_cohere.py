"""Cohere's Chat and Rerank: what a call may cost, what an answer says of itself, and that streams pass untouched."""

import json
from typing import Any

import pytest

from penstock.dialects.base import Demand
from penstock.dialects.cohere import CohereChat, Rerank
from penstock.domain.snapshot import Provider
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest
from penstock.providers.base import Outgoing
from penstock.providers.cohere import Cohere

CHAT, RERANK = CohereChat(), Rerank()
ASK: dict[str, Any] = {"model": "command-a", "messages": [{"role": "user", "content": "Name a river."}]}
EVENTS = [
    {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "The Po, of course, as ever."}}}},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "COMPLETE",
            "usage": {
                "billed_units": {"input_tokens": 65, "output_tokens": 63},
                "tokens": {"input_tokens": 508, "output_tokens": 86, "reasoning_tokens": 28},
            },
        },
    },
]
STREAM = b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in EVENTS)


def test_a_request_is_bounded_by_its_text_and_its_images_by_their_number() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    call = CHAT.parse(json.dumps({**ASK, "max_tokens": 9, "messages": [{"role": "user", "content": [image]}]}).encode())
    assert (call.max_output, call.images, call.streaming) == (9, 1, False)
    assert call.input_bound < 400
    documents = CHAT.parse(json.dumps({**ASK, "documents": ["x" * 500]}).encode())
    assert documents.input_bound > 500
    assert json.loads(CHAT.rebuild(documents, Demand("real", ("max_tokens", 7))))["max_tokens"] == 7


@pytest.mark.parametrize(
    ("body", "param"),
    [({"model": "m"}, "messages"), ({**ASK, "max_tokens": 0}, "max_tokens"), ({**ASK, "stream": 1}, "stream")],
)
def test_a_wrong_member_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        CHAT.parse(json.dumps(body).encode())
    assert refused.value.param == param


def test_what_is_billed_is_what_is_owed() -> None:
    usage = {"billed_units": {"input_tokens": 62.0, "output_tokens": 38}, "tokens": {"input_tokens": 1531}}
    reading = CHAT.read(json.dumps({"finish_reason": "TOOL_CALL", "message": {}, "usage": usage}).encode())
    assert (reading.usage, reading.finish_reason) == (Usage(input=62, output=38), "TOOL_CALL")
    assert CHAT.read(b'{"message": "no such model"}').error == "no such model"
    assert CHAT.read(b'{"usage": {"billed_units": {"input_tokens": -1}}}').hostile
    assert CHAT.read(b'{"usage": {"billed_units": {"input_tokens": 5}}}').hostile


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_passes_untouched_and_tells_its_usage_at_its_end(size: int) -> None:
    tee, out = CHAT.tee(CHAT.parse(json.dumps(ASK).encode()), False), b""
    for start in range(0, len(STREAM), size):
        out += tee.feed(STREAM[start : start + size])
    assert (out, tee.close(), tee.ended) == (STREAM, (b"", True), True)
    assert tee.reading.usage == Usage(input=65, output=63, reasoning=28)
    assert tee.counted_output() == 7


def test_a_cut_stream_is_flagged() -> None:
    tee = CHAT.tee(CHAT.parse(json.dumps(ASK).encode()), False)
    passed = tee.feed(STREAM[:300])
    rest, seen = tee.close()
    assert (passed + rest, seen) == (STREAM[:300], False)


def test_search_units_count_as_requests_and_tokens_as_input() -> None:
    body = {"model": "rerank-v3.5", "query": "ruby", "documents": ["a", {"text": "b"}], "top_n": 1}
    call = RERANK.parse(json.dumps(body).encode())
    assert (call.max_output, call.input_bound) == (0, len('["a", {"text": "b"}]') + 2 * 4 + 16)
    assert RERANK.read(b'{"results": [], "meta": {"billed_units": {"search_units": 3}}}').usage == Usage(requests=3)
    assert RERANK.read(b'{"data": [], "usage": {"total_tokens": 43}}').usage == Usage(input=43)
    with pytest.raises(InvalidRequest, match="'documents' is required"):
        RERANK.parse(b'{"model": "m", "query": "q"}')


@pytest.mark.parametrize(
    ("surface", "path"),
    [
        ("cohere.chat", "/v2/chat"),
        ("cohere.embed", "/v2/embed"),
        ("rerank", "/v2/rerank"),
    ],
)
def test_each_dialect_has_its_address_at_cohere(surface: str, path: str) -> None:
    request = Cohere().request(Provider("p", "cohere", ""), None, Outgoing(surface, b"{}", "m"))
    assert (request.origin.host, request.path) == ("api.cohere.com", path)


@pytest.mark.parametrize("where", ['"tokens":%s', '"meta":{"tokens":%s}'])
def test_a_ranking_may_be_billed_by_its_tokens(where: str) -> None:
    told = '{"id":"r","results":[],' + where + "}"
    reading = RERANK.read((told % '{"input_tokens":90,"output_tokens":0}').encode())
    assert reading.usage == Usage(input=90)
    assert RERANK.read((told % '{"input_tokens":-1}').encode()).hostile
