"""Anthropic Messages on the wire: bounds, usage, ends, errors."""

import json
from typing import Any

import pytest

from penstock.catalog.cost import Bounds, cost, worst_cost
from penstock.dialects.anthropic import CountTokens, Messages
from penstock.dialects.anthropic.wire import MAX_PAGES, MAX_ROUNDS
from penstock.dialects.base import Call, Demand
from penstock.domain.chat import Opaque
from penstock.domain.money import Rate, RateCard
from penstock.domain.stream import collect
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, Killed, Overloaded, UpstreamMalformed

DIALECT = Messages()


def parse(**members: Any) -> Call:
    body = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **members}
    return DIALECT.parse(json.dumps({name: value for name, value in body.items() if value is not None}).encode())


def content(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def base64_source(size: int) -> dict[str, str]:
    return {"type": "base64", "media_type": "application/pdf", "data": "A" * size}


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": content({"type": "image", "source": {"type": 1}})}, "messages"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"mcp_servers": {}}, "mcp_servers"),
        ({"fallbacks": [{"model": "another"}]}, "fallbacks"),
        ({"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "another"}]}, "tools"),
    ],
)
def test_a_refusal_names_the_member_at_fault(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(**members)
    assert refusal.value.param == param


def test_nothing_is_put_out_to_warm_the_cache() -> None:
    assert parse(max_tokens=0).max_output == 0


def test_text_is_bounded_by_its_bytes_and_members_that_are_no_prompt_do_not_count() -> None:
    short, long = parse(), parse(system="x" * 1000)
    assert long.input_bound - short.input_bound == 1002
    assert parse(metadata={"user_id": "u" * 500}, stop_sequences=["s" * 500]).input_bound == short.input_bound
    assert parse(unheard_of="y" * 500).input_bound == short.input_bound + 502


def test_media_are_counted_and_not_measured() -> None:
    image = parse(messages=content({"type": "image", "source": base64_source(90_000)}))
    assert image.images == 1
    assert image.input_bound < 400
    document = parse(messages=content({"type": "document", "source": base64_source(20_480)}))
    assert document.images == 20
    assert document.input_bound < 400
    assert parse(messages=content({"type": "document", "source": base64_source(9_000_000)})).images == 2 * MAX_PAGES


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": base64_source(5000)}]},
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "image", "source": base64_source(5000)}]},
        },
    ],
)
def test_media_inside_of_blocks_are_counted_too(block: dict[str, Any]) -> None:
    call = parse(messages=content(block))
    assert call.images == 1
    assert call.input_bound < 500


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
    ],
)
def test_what_lies_elsewhere_is_bounded_by_the_context_window(block: dict[str, Any]) -> None:
    assert parse(messages=content(block)).unseen


def test_tools_that_the_vendor_runs_read_the_context_again_in_every_round() -> None:
    assert parse(tools=[{"name": "f", "input_schema": {}}]).rounds == 1
    limited = parse(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}])
    assert (limited.rounds, limited.unseen, limited.web_searches) == (4, True, 3)
    many = parse(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 5_000}])
    assert (many.rounds, many.web_searches) == (MAX_ROUNDS, 5_000)
    assert parse(tools=[{"type": "web_search_20260209", "name": "web_search"}]).web_searches == MAX_ROUNDS
    assert parse(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]).rounds == MAX_ROUNDS
    assert parse(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]).web_searches == 0
    assert parse(mcp_servers=[{"type": "url", "url": "https://example.com", "name": "m"}]).rounds == MAX_ROUNDS
    compacted = parse(context_management={"edits": [{"type": "compact_20260112"}]})
    assert (compacted.rounds, compacted.unseen, compacted.predicted) == (2, True, 100)


def test_only_the_model_changes_on_the_way() -> None:
    sent = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "new": {"a": [1.50]}}
    body = DIALECT.rebuild(DIALECT.parse(json.dumps(sent).encode()), Demand("claude-opus-5"))
    assert json.loads(body) == sent | {"model": "claude-opus-5"}
    assert b"1.50" not in json.dumps(sent).encode() or b"1.5" in body


def test_speed_decides_the_tier_that_is_held() -> None:
    assert parse(speed="fast").service_tier == "fast"
    assert parse(speed="standard", service_tier="auto").service_tier == ""


def test_a_count_is_free_and_needs_no_cap() -> None:
    call = CountTokens().parse(b'{"model":"claude","messages":[{"role":"user","content":"Hello"}]}')
    assert (call.max_output, call.input_bound) == (0, 0)
    assert CountTokens().read(b'{"input_tokens":2095}').usage == Usage()


# -- usage ------------------------------------------------------------------------------------------------------------

ITERATIONS = [
    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, "cache_creation_input_tokens": 4},
    {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
]


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"input_tokens": 10, "output_tokens": 3}, Usage(10, 3)),
        ({"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 50}, Usage(10, 3, 50)),
        ({"input_tokens": 1, "output_tokens": 3, "cache_creation_input_tokens": 7}, Usage(1, 3, 0, {"5m": 7})),
        (
            {
                "input_tokens": 1,
                "output_tokens": 3,
                "cache_creation_input_tokens": 1670,
                "cache_creation": {"ephemeral_5m_input_tokens": 67, "ephemeral_1h_input_tokens": 1603},
            },
            Usage(1, 3, 0, {"5m": 67, "1h": 1603}),
        ),
        (
            {"input_tokens": 1, "output_tokens": 3, "cache_creation": {"ephemeral_12h_input_tokens": 9}},
            Usage(1, 3, 0, {"12h": 9}),
        ),
        (
            {
                "input_tokens": 1,
                "output_tokens": 3,
                "cache_creation_input_tokens": 12,
                "cache_creation": {"ephemeral_1h_input_tokens": 10},
            },
            Usage(1, 3, 0, {"1h": 12}),
        ),
        (
            {"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
            Usage(1, 9, 0, {}, 4),
        ),
        (
            {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": ITERATIONS},
            Usage(203_000, 4_500, 0, {"5m": 4}),
        ),
        ({"input_tokens": 5, "output_tokens": 1, "iterations": ITERATIONS[1:]}, Usage(5, 1)),
        (
            {"input_tokens": 5, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2}},
            Usage(5, 1, web_searches=2),
        ),
        ({"input_tokens": 5, "output_tokens": 1, "server_tool_use": None}, Usage(5, 1)),
    ],
)
def test_usage_is_told_in_disjoint_classes(reported: dict[str, Any], usage: Usage) -> None:
    reading = DIALECT.read(json.dumps({"type": "message", "stop_reason": "end_turn", "usage": reported}).encode())
    assert reading.usage == usage
    assert not reading.hostile


@pytest.mark.parametrize(
    "reported",
    [
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 10**18, "output_tokens": 1},
        {"input_tokens": 1.5, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": True},
        {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": "7"}},
        {"input_tokens": 1, "output_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": -5}]},
        {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": -1}},
        {},
        [3],
    ],
)
def test_counts_that_cannot_be_true_are_not_believed(reported: Any) -> None:
    reading = DIALECT.read(json.dumps({"type": "message", "usage": reported}).encode())
    assert reading.usage is None
    assert reading.hostile


def test_the_speed_that_was_served_is_the_tier_of_the_bill() -> None:
    def read(**usage: Any) -> str:
        told = {"usage": {"input_tokens": 1, "output_tokens": 1, **usage}}
        return DIALECT.read(json.dumps(told).encode()).service_tier

    assert read(service_tier="standard", speed="fast") == "fast"
    assert read(service_tier="batch", speed="standard") == "batch"


def test_the_hold_covers_a_cache_that_is_written_for_an_hour() -> None:
    rates = {"input": Rate(3_000_000_000), "cache_write:5m": Rate(3_750_000_000), "cache_write:1h": Rate(6_000_000_000)}
    card = RateCard({**rates, "output": Rate(15_000_000_000)}, "test")
    block = {"type": "text", "text": "x" * 500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    call = parse(messages=content(block))
    used = Usage(0, 100, 0, {"1h": call.input_bound})
    assert cost(card, used)[0] <= worst_cost(card, Bounds(call.input_bound, call.max_output or 0))


# -- streams ----------------------------------------------------------------------------------------------------------


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


START = event(
    "message_start", message={"id": "m", "usage": {"input_tokens": 9, "output_tokens": 1, "service_tier": "standard"}}
)
TEXT = event(
    "content_block_delta", index=0, delta={"type": "text_delta", "text": 'a long piece of text, "type":"error" and all'}
)
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 12})
STOP = event("message_stop")


def test_the_last_cumulative_report_counts_and_keeps_what_it_does_not_repeat() -> None:
    tee = DIALECT.tee(parse(stream=True), asked_usage=False)
    later = event(
        "message_delta", delta={"stop_reason": "pause_turn"}, usage={"output_tokens": 15, "input_tokens": None}
    )
    for piece in (START, event("ping"), TEXT, END, later, STOP):
        assert tee.feed(piece) == piece
    assert tee.close() == (b"", True)
    assert tee.reading.usage == Usage(9, 15)
    assert tee.reading.finish_reason == "pause_turn"
    assert tee.reading.service_tier == "standard"
    assert tee.reading.error is None


def test_a_stream_that_is_cut_is_counted_by_its_text() -> None:
    tee = DIALECT.tee(parse(stream=True), asked_usage=False)
    tee.feed(START + TEXT)
    assert tee.close() == (b"", False)
    assert tee.counted_output() == 11


def test_an_error_in_a_stream_is_read_with_its_status() -> None:
    tee = DIALECT.tee(parse(stream=True), asked_usage=False)
    tee.feed(START + event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert (tee.reading.error, tee.reading.error_status) == ("Overloaded", 529)
    assert not tee.ended


def test_a_stream_that_lies_about_its_usage_is_not_believed() -> None:
    tee = DIALECT.tee(parse(stream=True), asked_usage=False)
    tee.feed(START + event("message_delta", delta={}, usage={"output_tokens": -3}) + STOP)
    assert tee.reading.usage is None
    assert tee.reading.hostile


@pytest.mark.parametrize("last", [None, {}, {"input_tokens": 9}, "many", 7])
def test_a_stream_that_tells_no_output_at_its_end_is_not_believed_as_a_whole(last: Any) -> None:
    tee = DIALECT.tee(parse(stream=True), asked_usage=False)
    tee.feed(START + event("message_delta", delta={"stop_reason": "end_turn"}, usage=last) + STOP)
    assert tee.ended
    assert tee.reading.hostile
    assert tee.reading.usage is not None and tee.reading.usage.total_input > 0


@pytest.mark.parametrize("told", [{"input_tokens": 9}, {"output_tokens": 9}])
def test_half_a_report_is_not_believed_as_a_whole(told: dict[str, int]) -> None:
    assert DIALECT.read(json.dumps({"usage": told}).encode()).hostile


# -- errors -----------------------------------------------------------------------------------------------------------


def test_our_errors_have_the_surfaces_envelope_and_our_code() -> None:
    told = json.loads(DIALECT.error_body(Killed("Stopped by an operator.")))
    assert told["type"] == "error"
    assert told["error"] == {"type": "permission_error", "message": "Stopped by an operator.", "code": "killed"}
    cut = DIALECT.tee(parse(stream=True), asked_usage=False).error_event(Overloaded("Try again."))
    assert cut.startswith(b"event: error\ndata: ")
    assert json.loads(cut.partition(b"data: ")[2])["error"]["type"] == "overloaded_error"


def test_a_vendors_error_passes_and_a_strangers_is_wrapped() -> None:
    own = b'{"type":"error","error":{"type":"not_found_error","message":"model: x"},"request_id":"req_1"}'
    assert DIALECT.envelope(own, 404) is own
    foreign = json.loads(DIALECT.envelope(b'{"error":{"message":"No.","code":7}}', 429))
    assert foreign["error"]["type"] == "rate_limit_error"
    assert foreign["error"]["message"] == "No."
    assert foreign["error"]["upstream"] == {"error": {"message": "No.", "code": 7}}
    assert json.loads(DIALECT.envelope(b"<html>", 502))["error"]["message"] == "The provider answered 502."


def test_what_is_no_json_is_malformed() -> None:
    with pytest.raises(UpstreamMalformed):
        DIALECT.read(b"<html>")


@pytest.mark.parametrize("kind", ["server_tool_use", "mcp_tool_use"])
def test_a_call_of_the_vendors_own_that_the_cap_cut_off_is_told_as_it_is(kind: str) -> None:
    block = {"type": kind, "id": "s1", "name": "web_search", "input": {}}
    stream = (
        event("message_start", message={"id": "m", "usage": {"input_tokens": 3}})
        + event("content_block_start", index=0, content_block=block)
        + event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"query": "unf'})
        + event("content_block_stop", index=0)
        + event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 4})
        + event("message_stop")
    )
    (choice,) = collect(Messages.codec.decoder().feed(stream)).choices
    (call,) = choice.parts
    assert isinstance(call, Opaque)
    assert json.loads(bytes(call.raw)) == {**block, "input": {"INVALID_JSON": '{"query": "unf'}}
    assert choice.finish == "length"
