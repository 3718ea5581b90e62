"""Clients that take the last block for the answer find what the model said there."""

import json
from typing import Any

import pytest

from penstock.dialects.base import Address
from penstock.dialects.codec import TargetFacts
from penstock.dialects.registry import DIALECTS
from penstock.dialects.translation import Passages

CALL = {"functionCall": {"name": "look", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"}


def _chunk(*parts: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}]}


def _passage(streaming: bool) -> Any:
    caller = DIALECTS["messages"]
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}], "stream": streaming}
    passages = Passages(caller, caller.parse(json.dumps(asked).encode(), Address()), 5, "ours")
    return passages.to(("generateContent",), TargetFacts("gemini-3-pro"))


def _told(*parts: dict[str, Any], streaming: bool) -> list[str]:
    """The types of the blocks that a caller of Messages is told."""
    passage = _passage(streaming)
    if not streaming:
        body = json.dumps(_chunk(*parts, finishReason="STOP")).encode()
        return [block["type"] for block in json.loads(passage.answer(body))["content"]]
    tee = passage.tee(False)
    chunks = [*map(_chunk, parts), _chunk({"text": ""}, finishReason="STOP")]
    stream = b"".join([tee.feed(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n") for chunk in chunks])
    stream += tee.close()[0]
    events = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: ")]
    return [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_proves_the_last_words_does_not_stand_behind_them(streaming: bool) -> None:
    proof = {"text": "", "thoughtSignature": "c2ln"}
    assert _told({"text": "12.4 m"}, proof, streaming=streaming) == ["text"]
    assert _told({"text": "12.4 m", "thoughtSignature": "c2ln"}, streaming=streaming) == ["text"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_proves_a_call_is_told(streaming: bool) -> None:
    assert _told({"text": "So."}, CALL, streaming=streaming) == ["text", "tool_use", "redacted_thinking"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_proves_words_before_others_is_told(streaming: bool) -> None:
    proven = {"text": "So.", "thoughtSignature": "c2ln"}
    assert _told(proven, CALL, streaming=streaming)[:3] == ["text", "thinking", "tool_use"]


@pytest.mark.parametrize("streaming", [False, True])
def test_reasoning_before_the_words_is_told(streaming: bool) -> None:
    thought = {"text": "Which gauge?", "thought": True}
    assert _told(thought, {"text": "12.4 m"}, streaming=streaming) == ["thinking", "text"]
