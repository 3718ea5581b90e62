"""Laws of the Responses codec: what is written is read again, whole or in any pieces, and nothing crashes it."""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.laws.conversations import IDS, JSON_OBJECTS, NAMES, SCHEMAS, WORDS, decode_in_pieces, usages

from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.openai_responses import Responses
from penstock.domain.chat import (
    Answer,
    Cache,
    Choice,
    Citation,
    Finish,
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.domain.stream import Begin, Ended, collect, events_of
from penstock.errors import InvalidRequest, UpstreamMalformed, UpstreamReset

NAME = "openai_responses"
DIALECT = Responses()
CODEC = DIALECT.codec
HEADING = Heading("alias", wants_usage=True, request=Request(NAME, "alias", ()), created=7, id="resp_ours")


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


EXTRAS = st.dictionaries(NAMES.map("x_{}".format), st.sampled_from([raw(1), raw("a"), raw([None])]), max_size=2)
TEXTS: st.SearchStrategy[Any] = st.builds(Text, WORDS, cache=st.sampled_from([None, Cache()]), extras=EXTRAS)
MEDIA: st.SearchStrategy[Any] = st.sampled_from(
    [
        Media("image", "image/png", "QUJD", detail="low"),
        Media("image", url="https://example.com/a.png", detail="auto"),
        Media("image", file="file-1", detail="high"),
        Media("document", "application/pdf", "QUJD", name="a.pdf"),
        Media("document", url="https://example.com/a.pdf"),
        Media("document", file="file-2", name="b.pdf"),
        Media("audio", "audio/mpeg", "QUJD"),
    ]
)
THOUGHTS: st.SearchStrategy[Any] = st.builds(
    Thinking, st.just("") | WORDS, sealed=WORDS, origin=st.just(NAME), id=NAMES.map("rs_{}".format)
) | st.builds(Thinking, WORDS, summary=st.just(True), origin=st.just(NAME), id=NAMES.map("rs_{}".format))
CALLS: st.SearchStrategy[Any] = st.one_of(
    st.builds(ToolCall, IDS, NAMES, JSON_OBJECTS, origin=st.just(NAME), item=NAMES.map("fc_{}".format), extras=EXTRAS),
    st.builds(
        ToolCall,
        IDS.map("custom_{}".format),
        NAMES,
        WORDS,
        st.just(True),
        origin=st.just(NAME),
        item=NAMES.map("ctc_{}".format),
    ),
)
OPAQUE: st.SearchStrategy[Any] = st.just(
    Opaque(NAME, "web_search_call", raw({"type": "web_search_call", "id": "ws_1", "status": "completed"}))
)
SAID: st.SearchStrategy[list[Any]] = st.lists(TEXTS | st.builds(Refusal, WORDS), max_size=2)


@st.composite
def turns(draw: st.DrawFn) -> Message:
    """What a model did between two things that were said to it: with at most one message of text."""
    before = draw(st.lists(THOUGHTS | CALLS | OPAQUE, max_size=2))
    said, after = draw(SAID), draw(st.lists(CALLS, max_size=2))
    parts = (*before, *said, *after)
    return Message(
        "assistant", parts or (Text("a"),), id="msg_1" if said else "", extras={} if not said else draw(EXTRAS)
    )


SHOWN = Media("image", url="https://example.com/a.png", detail="auto")
RESULTS = st.builds(
    lambda results: Message("user", tuple(results)),
    st.lists(
        st.builds(ToolResult, IDS, st.sampled_from([(Text("a"),), (Text("a"), SHOWN)]), extras=EXTRAS),
        min_size=1,
        max_size=2,
    ),
)
SPOKEN = st.builds(
    lambda role, parts: Message(role, tuple(parts)),
    st.sampled_from(["system", "developer", "user"]),
    st.lists(TEXTS | MEDIA, min_size=1, max_size=3),
)
CONVERSATIONS = st.lists(st.tuples(SPOKEN, turns(), st.none() | RESULTS), min_size=1, max_size=3).map(
    lambda rounds: tuple(message for round in rounds for message in round if message is not None)
)
TOOLS = st.one_of(
    st.builds(Tool, NAMES, st.just("") | WORDS, SCHEMAS, st.none() | st.booleans(), extras=EXTRAS),
    st.builds(Tool, NAMES.map("c_{}".format), WORDS, st.just(raw({"type": "text"})), custom=st.just(True)),
    st.just(ServerTool(NAME, "web_search", raw({"type": "web_search"}))),
)
CHOICES = st.sampled_from(
    [
        *(None, ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")),
        *(ToolChoice("tool", ("f",)), ToolChoice("allowed", ("f", "g"), True)),
    ]
)
FORMATS = st.sampled_from(
    [None, Format("text"), Format("json"), Format("json_schema", "n", "d", raw({"type": "object"}), True)]
)
REQUESTS = st.builds(
    Request,
    st.just(NAME),
    st.just("model-1"),
    CONVERSATIONS,
    st.lists(TOOLS, max_size=3).map(tuple),
    CHOICES,
    st.none() | st.booleans(),
    st.none() | st.integers(16, 1000),
    st.builds(Sampling, st.none() | st.floats(0, 2), st.none() | st.floats(0, 1), logprobs=st.booleans()),
    FORMATS,
    st.sampled_from([None, Reasoning("low"), Reasoning("high", show=True, summary="auto")]),
    st.booleans(),
    st.just("") | NAMES,
    st.none() | st.just(raw({"a": "b"})),
    st.sampled_from(["", "flex", "odd"]),
    st.sampled_from(["", "low"]),
    st.just("") | NAMES,
    st.none() | st.booleans(),
    extras=EXTRAS,
)


@settings(max_examples=50, deadline=None)
@given(REQUESTS)
def test_a_request_that_is_written_is_read_again(request: Request) -> None:
    encoded = CODEC.encode_request(request, TargetFacts("model-1"))
    call = DIALECT.parse(encoded.body)
    assert CODEC.decode_request(call) == request
    assert encoded.dropped == ()
    assert call.max_output == request.max_output


FINISHES: list[tuple[Finish, str]] = [
    ("length", "max_output_tokens"),
    ("content_filter", "content_filter"),
    ("stop", "completed"),
]
CITATIONS = st.one_of(
    st.builds(Citation, st.just("https://example.com/"), WORDS, st.just(""), st.integers(0, 9), st.integers(0, 9)),
    st.just(Citation(title="a.txt", origin=NAME, raw=raw({"type": "file_citation", "index": 1, "filename": "a.txt"}))),
)
LOGPROB = raw({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []})
CITED = st.builds(lambda text, cited: Text(text, tuple(cited)), WORDS, st.lists(CITATIONS, max_size=2))


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    parts: list[Part] = [*draw(st.lists(THOUGHTS | OPAQUE, max_size=2)), *draw(st.lists(CALLS, max_size=2))]
    said = draw(st.lists(CITED | st.builds(Refusal, WORDS), max_size=2))
    ends_in_text = bool(said) and isinstance(said[-1], Text)
    logprobs = draw(st.sampled_from([(), (LOGPROB,)])) if ends_in_text else ()
    finish, native = draw(st.sampled_from(FINISHES))
    if finish == "stop" and any(isinstance(part, ToolCall) for part in parts):
        finish = "tool_calls"
    choice = Choice((*parts, *said), finish, native, logprobs=logprobs)
    usage = draw(st.none() | usages(lifetimes=("5m",)))
    return Answer(NAME, "resp_1", "model-1", (choice,), 5, usage, "default" if usage else "")


@settings(max_examples=80, deadline=None)
@given(answers())
def test_an_answer_that_is_written_is_read_again(answer: Answer) -> None:
    assert CODEC.decode_answer(CODEC.encode_answer(answer, HEADING)) == answer


def _streamed(answer: Answer) -> bytes:
    encoder = CODEC.encoder(HEADING)
    return b"".join(encoder.encode(event) for event in events_of(answer))


def _events(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: ")]


@settings(max_examples=80, deadline=None)
@given(answers(), st.integers(0, 99))
def test_a_stream_tells_the_plain_answer_in_any_pieces(answer: Answer, seed: int) -> None:
    stream = _streamed(answer)
    decoder = CODEC.decoder()
    events = [*decoder.feed(stream), *decoder.close()]
    assert collect(events) == answer
    assert isinstance(events[0], Begin) and events[-1] == Ended()
    assert decode_in_pieces(CODEC.decoder(), stream, seed) == events


@settings(max_examples=60, deadline=None)
@given(answers())
def test_a_stream_is_numbered_and_ends_with_the_plain_answer(answer: Answer) -> None:
    stream = _streamed(answer)
    told = _events(stream)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    plain = json.loads(CODEC.encode_answer(answer, HEADING))
    last = told[-1]["response"]
    assert told[-1]["type"] == f"response.{plain['status']}"
    assert _without_ids(last["output"]) == _without_ids(plain["output"])
    assert {**last, "output": 0, "completed_at": 0} == {**plain, "output": 0, "completed_at": 0}
    added = [event["output_index"] for event in told if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert added == list(range(len(last["output"])))
    assert sorted(map(json.dumps, done)) == sorted(map(json.dumps, last["output"]))


def _without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "id": 0, "status": 0} for item in items]


@settings(max_examples=60, deadline=None)
@given(answers(), st.floats(0, 1))
def test_a_stream_that_breaks_off_is_never_taken_for_a_whole_one(answer: Answer, where: float) -> None:
    stream = _streamed(answer)
    cut = stream[: int(where * (len(stream) - 3))]
    with pytest.raises((UpstreamReset, UpstreamMalformed)):
        decode_in_pieces(CODEC.decoder(), cut, 1)
    tee = DIALECT.tee(DIALECT.parse(b'{"model":"m","input":"a"}'), False)
    passed = tee.feed(cut)
    assert cut.startswith(passed)
    assert re.search(rb'"response.(completed|incomplete)"', cut) or tee.close() == (cut[len(passed) :], False)


LEAVES: st.SearchStrategy[Any] = st.sampled_from([None, True, 0, -1, 10**30, 1.5, "", "a", [], {}, [1], ["a"], [[]]])
KINDS = st.sampled_from(
    [
        *("response.created", "response.output_item.added", "response.output_item.done", "response.completed", "error"),
        *("response.output_text.delta", "response.output_text.done", "response.reasoning_summary_text.delta"),
        *("response.function_call_arguments.delta", "message", "reasoning", "function_call", "custom_tool_call"),
        *("response.content_part.added", "response.output_text.annotation.added", "response.failed", "item_reference"),
    ]
)
WORDS_OF_THE_DIALECT = (
    *("id", "model", "created_at", "output", "usage", "error", "service_tier", "status", "content", "summary", "item"),
    *("response", "delta", "output_index", "content_index", "part", "annotation", "arguments", "call_id", "text"),
    *("encrypted_content", "role", "name", "incomplete_details", "reason", "logprobs", "message", "code"),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.builds(
        lambda kind, rest: {"type": kind, **rest},
        KINDS,
        st.dictionaries(st.sampled_from(WORDS_OF_THE_DIALECT), inner, max_size=3),
    )
    return members | st.lists(members, min_size=1, max_size=2)


MEMBERS = _nested(LEAVES | _nested(LEAVES | _nested(LEAVES)))


@settings(max_examples=120, deadline=None)
@given(MEMBERS, st.binary(max_size=30))
def test_members_of_any_type_end_in_typed_errors(members: Any, noise: bytes) -> None:
    begun = b'data: {"type":"response.created","response":{"id":"r"}}\n\n'
    for body in (json.dumps(members).encode(), noise):
        with suppress(UpstreamMalformed):
            CODEC.decode_answer(body)
        with suppress(UpstreamMalformed, UpstreamReset):
            decode_in_pieces(CODEC.decoder(), begun + b"data: " + body + b"\n\n", 1)


@settings(max_examples=80, deadline=None)
@given(MEMBERS, st.sampled_from(["input", "instructions", "tools", "tool_choice", "text", "reasoning", "include"]))
def test_a_caller_of_any_kind_is_answered_with_what_is_wrong(members: Any, name: str) -> None:
    body = {"model": "m", "input": "a", name: members}
    try:
        CODEC.decode_request(DIALECT.parse(json.dumps(body).encode()))
    except InvalidRequest as error:
        assert error.message


@pytest.mark.parametrize("origin", ["anthropic_messages", "gemini", "openai_chat"])
def test_reasoning_of_another_dialect_comes_back_whole(origin: str) -> None:
    """Also from a caller that keeps no more of an item than its encrypted content."""
    thought = Thinking("because", signature="proof", origin=origin)
    call = ToolCall("call_1", "f", "{}", signature="mark", origin=origin)
    answer = Answer(origin, "a", "m", (Choice((thought, call), "tool_calls"),))
    plain = json.loads(CODEC.encode_answer(answer, HEADING))["output"]
    streamed = _events(_streamed(answer))[-1]["response"]["output"]
    for output in (plain, streamed):
        kept = [{**item, "summary": []} if item["type"] == "reasoning" else item for item in output]
        body = {"model": "m", "input": [{"role": "user", "content": "a"}, *kept]}
        request = CODEC.decode_request(DIALECT.parse(json.dumps(body).encode()))
        found = request.messages[1].parts
        assert found[0] == thought
        assert isinstance(found[1], ToolCall)
        assert (found[1].id, found[1].signature, found[1].origin) == ("call_1", "mark", origin)
