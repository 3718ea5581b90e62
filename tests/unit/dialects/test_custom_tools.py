"""Tools of free text on models that know functions alone: the caller gets its text, plain and streamed."""

import json

import pytest
from msgspec import structs

from penstock.dialects.base import Call, Demand
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.dialects.translation import Passages
from penstock.domain.chat import Answer, Choice, Request, ToolCall
from penstock.domain.stream import Begin, Ended, Event, Finished, PartBegin, PartDelta, PartEnd, collect
from penstock.domain.usage import Usage

PATCH = '*** Begin Patch\n+ "twelve" metres\n*** End Patch'
TARGETS = ["messages", "converse", "generateContent"]


def asked(streaming: bool) -> Call:
    body = {
        "model": "m",
        "max_tokens": 100,
        "stream": streaming,
        "messages": [{"role": "user", "content": "Patch it."}],
        "tools": [{"type": "custom", "custom": {"name": "apply_patch"}}],
    }
    return DIALECTS["chat.completions"].parse(json.dumps(body).encode())


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "tool_use", "id": "toolu_1", "name": "apply_patch", "input": {"input": PATCH}}],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 7},
}


def test_a_plain_answer_has_the_text() -> None:
    passage = Passages(DIALECTS["chat.completions"], asked(streaming=False), 0).to(["messages"], TargetFacts("claude"))
    sent = json.loads(passage.dialect.rebuild(passage.call, Demand("m")))
    assert sent["tools"][0]["input_schema"]["required"] == ["input"]
    told = json.loads(passage.answer(json.dumps(MESSAGE).encode()))
    (call,) = told["choices"][0]["message"]["tool_calls"]
    assert call["type"] == "custom"
    assert call["custom"] == {"name": "apply_patch", "input": PATCH}


def test_a_stream_has_the_text() -> None:
    passage = Passages(DIALECTS["chat.completions"], asked(streaming=True), 0).to(["messages"], TargetFacts("claude"))
    text = json.dumps({"input": PATCH})
    start = {"type": "tool_use", "id": "toolu_1", "name": "apply_patch", "input": {}}
    events = [
        {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        *[
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in (text[:9], text[9:])
        ],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    tee = passage.tee(asked_usage=False)
    stream = b"".join([b"data: " + json.dumps(event).encode() + b"\n\n" for event in events])
    told = tee.feed(stream) + tee.close()[0]
    decoder = CODECS["chat.completions"].decoder()
    decoder.feed(told)
    assert json.dumps(PATCH).encode()[1:-1] in told
    assert b'\\"input\\"' not in told


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_told_the_tool_as_a_function_with_an_input(target: str) -> None:
    passage = Passages(DIALECTS["chat.completions"], asked(streaming=False), 0).to([target], TargetFacts("m"))
    assert b'"apply_patch"' in passage.dialect.rebuild(passage.call, Demand("m"))
    assert b'"required":["input"]' in passage.dialect.rebuild(passage.call, Demand("m"))


# -- a call of free text for callers who have no such tools -----------------------------------------------------------


@pytest.mark.parametrize("surface", ["messages", "converse", "cohere.chat", "chat.completions"])
def test_a_call_of_free_text_is_a_call_of_a_function_where_the_dialect_or_the_caller_has_no_other(surface: str) -> None:
    """Plain and streamed, and beside a call that it overlaps with."""
    codec, name = CODECS[surface], DIALECTS[surface].name
    calls = (ToolCall("call_1", "apply_patch", PATCH, custom=True), ToolCall("call_2", "f", '{"a":1}'))
    answer = Answer("openai_responses", "id_1", "m", (Choice(calls, "tool_calls"),), usage=Usage(input=1, output=1))
    heading = Heading("m", wants_usage=True, request=Request(name, "m", ()))
    encoder = codec.encoder(heading)
    events: list[Event] = [Begin("openai_responses", "id_1")]
    events += [PartBegin(0, at, structs.replace(call, arguments="")) for at, call in enumerate(calls)]
    events += [PartDelta(0, at, call.arguments[:5]) for at, call in enumerate(calls)]
    events += [PartDelta(0, at, call.arguments[5:]) for at, call in enumerate(calls)]
    events += [*[PartEnd(0, at) for at in range(len(calls))], Finished(0, "tool_calls"), Ended()]
    stream = b"".join(map(encoder.encode, events))
    decoder = codec.decoder()
    streamed = collect([*decoder.feed(stream), *decoder.close()])
    for told in (codec.decode_answer(codec.encode_answer(answer, heading)), streamed):
        parts = [part for part in told.choices[0].parts if isinstance(part, ToolCall)]
        assert [(part.name, json.loads(part.arguments), part.custom) for part in parts] == [
            ("apply_patch", {"input": PATCH}, False),
            ("f", {"a": 1}, False),
        ]
