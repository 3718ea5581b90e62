"""Laws of the chat codec: what is written is read again, whole or in any pieces, and nothing crashes it."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from penstock.dialects import openai_chat
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.openai_chat_codec import ChatCodec
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
from penstock.domain.stream import Begin, Ended, Event, Failed, collect, events_of
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed, UpstreamReset

NAME = "openai_chat"
CODEC = ChatCodec()
HEADING = Heading("alias", wants_usage=True, request=Request(NAME, "alias", ()), created=7, id="chatcmpl-ours")

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
IDS = st.builds("call_{}".format, st.integers(0, 999))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 10**30) | st.text('abc"\\\né', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=4,
)


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


EXTRAS = st.dictionaries(NAMES.map("x_{}".format), st.sampled_from([raw(1), raw("a"), raw([None])]), max_size=2)
CACHES = st.none() | st.sampled_from([Cache(), Cache("1h")])
COUNTS = st.integers(0, 10_000)
TEXTS: st.SearchStrategy[Any] = st.builds(Text, WORDS, cache=CACHES, extras=EXTRAS)
MEDIA: st.SearchStrategy[Any] = st.one_of(
    st.builds(Media, st.just("image"), st.just("image/png"), st.just("QUJD"), detail=st.sampled_from(["", "low"])),
    st.builds(Media, st.just("image"), url=st.just("https://example.com/a.png"), cache=CACHES, extras=EXTRAS),
    st.builds(Media, st.just("video"), url=st.just("https://example.com/a.mp4")),
    st.builds(Media, st.just("audio"), st.sampled_from(["audio/wav", "audio/mpeg", "audio/flac"]), st.just("QUJD")),
    st.builds(Media, st.just("document"), st.just("application/pdf"), st.just("QUJD"), name=st.just("a.pdf")),
    st.builds(Media, st.just("document"), file=st.just("file-1")),
    st.builds(Media, st.just("document"), url=st.just("https://example.com/a.pdf")),
)
OPAQUE: st.SearchStrategy[Any] = st.just(Opaque(NAME, "odd", raw({"type": "odd", "x": [1]})))
CALLS: st.SearchStrategy[Any] = st.one_of(
    st.builds(ToolCall, IDS, NAMES, WORDS, origin=st.just(NAME), extras=EXTRAS),
    st.builds(ToolCall, IDS, NAMES, WORDS, signature=WORDS, origin=st.just(NAME)),
    st.builds(ToolCall, IDS.map("custom_{}".format), NAMES, WORDS, custom=st.just(True), origin=st.just(NAME)),
)
FORMAT = {"format": raw("anthropic-claude-v1")}
THOUGHTS: st.SearchStrategy[list[Any]] = st.one_of(
    st.just([]),
    st.builds(lambda text: [Thinking(text, origin=NAME)], WORDS),
    st.lists(
        st.one_of(
            st.builds(Thinking, WORDS, signature=WORDS, origin=st.just(NAME), extras=st.just(FORMAT)),
            st.builds(Thinking, WORDS, summary=st.just(True), sealed=WORDS, origin=st.just(NAME), id=NAMES),
            st.builds(Thinking, sealed=WORDS, origin=st.just(NAME), extras=st.just(FORMAT)),
        ),
        min_size=1,
        max_size=3,
    ),
)
ASSISTANT = st.builds(
    lambda thoughts, text, refusal, calls: Message("assistant", (*thoughts, *text, *refusal, *calls)),
    THOUGHTS,
    st.lists(TEXTS, max_size=2),
    st.lists(st.builds(Refusal, WORDS), max_size=1),
    st.lists(CALLS, max_size=3, unique_by=lambda call: call.id),
)
SPOKEN = st.builds(
    lambda role, parts, name, extras: Message(role, tuple(parts), name, extras=extras),
    st.sampled_from(["system", "developer", "user"]),
    st.lists(TEXTS | MEDIA | OPAQUE, min_size=1, max_size=3),
    st.just("") | NAMES,
    EXTRAS,
)
RESULT = st.builds(
    ToolResult,
    IDS,
    st.lists(TEXTS, min_size=1, max_size=2).map(tuple),
    st.just("") | NAMES,
    cache=st.sampled_from([None, Cache("5m")]),
)
RESULTS = st.builds(lambda results: Message("user", tuple(results)), st.lists(RESULT, min_size=1, max_size=3))


def _is_results(message: Message | None) -> bool:
    return message is not None and isinstance(message.parts[0] if message.parts else None, ToolResult)


def _conversation(said: list[Message]) -> tuple[Message, ...]:
    """Results that stand together are one message."""
    pairs = zip(said, [None, *said], strict=False)
    return tuple(message for message, before in pairs if not (_is_results(message) and _is_results(before)))


CONVERSATIONS = st.lists(st.one_of(SPOKEN, ASSISTANT, RESULTS), min_size=1, max_size=5).map(_conversation)
TOOLS = st.one_of(
    st.builds(
        Tool, NAMES, st.just("") | WORDS, st.just(raw({"type": "object"})), st.none() | st.booleans(), cache=CACHES
    ),
    st.builds(Tool, NAMES.map("c_{}".format), WORDS, st.just(raw({"type": "text"})), custom=st.just(True)),
    st.just(ServerTool(NAME, "web", raw({"type": "web"}))),
)
CHOICES = st.none() | st.sampled_from(
    [
        ToolChoice("auto"),
        ToolChoice("none"),
        ToolChoice("required"),
        ToolChoice("tool", ("f",)),
        ToolChoice("allowed", ("f", "g"), True),
    ]
)
SAMPLINGS = st.builds(
    Sampling,
    st.none() | st.floats(0, 2),
    st.none() | st.floats(0, 1),
    st.none() | st.integers(1, 50),
    st.lists(WORDS, max_size=2).map(tuple),
    st.none() | st.integers(0, 2**60),
    st.none() | st.floats(-2, 2),
    st.none() | st.floats(-2, 2),
    st.none() | st.just(raw({"5": -100})),
    st.booleans(),
    st.none() | st.integers(0, 20),
    st.integers(1, 4),
)
REQUESTS = st.builds(
    Request,
    st.just(NAME),
    st.just("model-1"),
    CONVERSATIONS,
    st.lists(TOOLS, max_size=3).map(tuple),
    CHOICES,
    st.none() | st.booleans(),
    st.none() | st.integers(1, 1000),
    SAMPLINGS,
    st.none()
    | st.sampled_from([Format("text"), Format("json"), Format("json_schema", "n", "d", raw({"type": "object"}), True)]),
    st.none()
    | st.builds(
        Reasoning, st.sampled_from(["", "low", "none"]), st.none() | st.integers(1, 999), st.none() | st.booleans()
    ),
    st.booleans(),
    st.just("") | NAMES,
    st.none() | st.just(raw({"a": "b"})),
    st.sampled_from(["", "flex", "odd"]),
    st.sampled_from(["", "low"]),
    st.just("") | NAMES,
    st.none() | st.booleans(),
    st.sampled_from([(), ("text",), ("text", "audio")]),
    EXTRAS,
)


@settings(max_examples=80, deadline=None)
@given(REQUESTS)
def test_a_request_that_is_written_is_read_again(request: Request) -> None:
    encoded = CODEC.encode_request(request, TargetFacts("model-1"))
    call = openai_chat.parse(encoded.body)
    assert CODEC.decode_request(call) == request
    assert encoded.dropped == ()
    assert (call.max_output, call.choices) == (request.max_output, request.sampling.choices)


FINISHES: list[tuple[Finish, str]] = [
    ("stop", "stop"),
    ("length", "length"),
    ("tool_calls", "tool_calls"),
    ("content_filter", "content_filter"),
]
CITATIONS = st.one_of(
    st.builds(Citation, st.just("https://example.com/"), WORDS, st.just("") | WORDS, COUNTS, COUNTS),
    st.just(Citation(origin=NAME, raw=raw({"type": "odd", "x": 1}))),
)
LOGPROB = raw({"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []})
SPEECH = Media("audio", data="QUJD", file="audio_1", text="hello", extras={"expires_at": raw(5)})


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    parts: list[Part] = [*draw(THOUGHTS)]
    parts += draw(
        st.lists(
            st.builds(lambda text, cited: Text(text, tuple(cited)), WORDS, st.lists(CITATIONS, max_size=2)), max_size=1
        )
    )
    parts += draw(st.lists(st.builds(Refusal, WORDS), max_size=1))
    parts += draw(st.lists(CALLS, max_size=3, unique_by=lambda call: call.id))
    parts += draw(st.sampled_from([[], [Media("image", "image/png", "QUJD")], [SPEECH]]))
    finish, native = draw(st.sampled_from(FINISHES))
    if finish == "stop" and any(isinstance(part, ToolCall) for part in parts):  # which is to call tools
        finish, native = FINISHES[2]
    probable = draw(st.sampled_from([(), (LOGPROB,), (LOGPROB, LOGPROB)]))
    return Choice(tuple(parts), finish, native, "", probable, (), draw(EXTRAS))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    output, written = draw(COUNTS), draw(st.integers(0, 50))
    return Usage(
        draw(COUNTS),
        output,
        draw(COUNTS),
        {"5m": written} if written else {},
        draw(st.integers(0, output)),
        draw(COUNTS),
        draw(COUNTS),
    )


ANSWERS = st.builds(
    lambda said, usage, tier, extras: Answer(
        NAME, "chatcmpl-1", "model-1", tuple(said), 5, usage, tier if usage else "", extras
    ),
    st.lists(choices(), min_size=1, max_size=3),
    st.none() | usages(),
    st.sampled_from(["", "default"]),
    EXTRAS,
)


@settings(max_examples=80, deadline=None)
@given(ANSWERS)
def test_an_answer_that_is_written_is_read_again(answer: Answer) -> None:
    assert CODEC.decode_answer(CODEC.encode_answer(answer, HEADING)) == answer


def _streamed(answer: Answer) -> bytes:
    encoder = CODEC.encoder(HEADING)
    return b"".join(encoder.encode(event) for event in events_of(answer))


def _read(stream: bytes, seed: int | None = None) -> list[Event]:
    decoder, dice, told, at = CODEC.decoder(), random.Random(seed), [], 0
    while at < len(stream):
        size = len(stream) if seed is None else dice.choice((1, 2, 7, 40, 300))
        told += decoder.feed(stream[at : at + size])
        at += size
    return [*told, *decoder.close()]


@settings(max_examples=80, deadline=None)
@given(ANSWERS, st.integers(0, 99))
def test_a_stream_tells_the_plain_answer_in_any_pieces(answer: Answer, seed: int) -> None:
    stream = _streamed(answer)
    events = _read(stream)
    assert collect(events) == answer
    assert isinstance(events[0], Begin) and events[-1] == Ended()
    assert _read(stream, seed) == events


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.floats(0, 1))
def test_a_stream_that_breaks_off_is_never_taken_for_a_whole_one(answer: Answer, where: float) -> None:
    """Some vendors end without `[DONE]`. How many choices there must be the tee knows: see below."""
    stream = _streamed(structs.replace(answer, choices=answer.choices[:1]))
    last = stream.rindex(b'"finish_reason":"')
    with pytest.raises((UpstreamReset, UpstreamMalformed)):
        _read(stream[: int(where * last)])


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.floats(0, 1))
def test_a_stream_that_ends_without_done_must_have_finished_each_choice_that_was_asked_for(
    answer: Answer, where: float
) -> None:
    stream = _streamed(answer)
    last = stream.rindex(b'"finish_reason":"')
    tee = openai_chat.ChatTee(strips_usage=False, choices=len(answer.choices))
    tee.feed(stream[: int(where * last)])
    assert tee.close()[1] is False
    whole = openai_chat.ChatTee(strips_usage=False, choices=len(answer.choices))
    whole.feed(stream[: stream.rindex(b"data: [DONE]")])
    has_come = answer.usage is not None or b'"usage":null' not in stream
    assert whole.close()[1] is has_come, "some vendors say no `[DONE]`"


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_bytes_at_random_end_in_typed_errors(body: bytes) -> None:
    for read in (CODEC.decode_answer, _read, lambda body: _read(b"data: " + body + b"\n\n")):
        with pytest.raises((UpstreamMalformed, UpstreamReset)):
            read(body)


WORDS_OF_THE_DIALECT = (
    *("id", "model", "created", "choices", "usage", "error", "service_tier", "index", "message", "delta", "content"),
    *("reasoning_details", "reasoning_content", "tool_calls", "function", "finish_reason", "logprobs", "audio"),
    *("annotations", "images", "refusal", "type", "text", "name", "arguments", "extra_content", "google", "role"),
    *("citations", "search_results", "web_search", "context", "executed_tools", "base_resp", "object", "summary"),
)
MEMBERS_OF_A_REQUEST = ("tools", "tool_choice", "response_format", "reasoning", "stop", "user", "seed", "metadata")
LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, "", "a", "stop", [], {}, [1], ["a"], [[]]]
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.dictionaries(st.sampled_from(WORDS_OF_THE_DIALECT), inner, max_size=3)
    return members | st.lists(members, min_size=1, max_size=2)


MEMBERS = st.dictionaries(
    st.sampled_from(WORDS_OF_THE_DIALECT), LEAVES | _nested(LEAVES | _nested(LEAVES)), min_size=1, max_size=4
)


@settings(max_examples=80, deadline=None)
@given(MEMBERS)
def test_members_of_any_type_end_in_typed_errors(members: dict[str, Any]) -> None:
    body = json.dumps(members).encode()
    for read in (CODEC.decode_answer, lambda body: _read(b"data: " + body + b"\n\ndata: [DONE]\n\n")):
        try:
            read(body)
        except (UpstreamMalformed, UpstreamReset):
            continue


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(st.sampled_from(MEMBERS_OF_A_REQUEST), MEMBERS | LEAVES, max_size=3),
    st.lists(MEMBERS, min_size=1, max_size=2),
)
def test_a_caller_of_any_kind_is_answered_with_what_is_wrong(
    members: dict[str, Any], said: list[dict[str, Any]]
) -> None:
    messages = [{"role": "assistant", "content": None, **message} for message in said]
    try:
        call = openai_chat.parse(json.dumps({"model": "m", "messages": messages, **members}).encode())
        CODEC.decode_request(call)
    except InvalidRequest as error:
        assert error.message


def test_an_error_in_a_stream_ends_it() -> None:
    start = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    error = b'data: {"error":{"message":"No.","code":429,"type":"slow"}}\n\n'
    events = _read(start + error + start)
    assert events[-1] == Failed("No.", 429, "slow")
    assert len(events) == 4


def test_a_line_of_a_megabyte_is_read() -> None:
    text = "a" * 2**20
    stream = _streamed(Answer(NAME, "c", "m", (Choice((Text(text),), native="stop"),), 5))
    decoder = CODEC.decoder()
    pieces = [stream[at : at + 50_000] for at in range(0, len(stream), 50_000)]
    told = [event for piece in pieces for event in decoder.feed(piece)]
    assert collect(told).choices[0].parts == (Text(text),)
