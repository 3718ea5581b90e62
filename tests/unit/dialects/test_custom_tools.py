"""Tools of free text on models that know functions alone: the caller gets its text, plain and streamed."""

import json

import pytest

from penstock.dialects.base import Call, Demand
from penstock.dialects.codec import TargetFacts
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.dialects.translation import Passages

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
