"""A reasoning item of Responses that has both the reasoning and a summary of it: callers of every dialect are told
both, and both go back as the one item that they came as."""

import json
from typing import Any

import pytest
from msgspec import structs

from penstock.dialects.base import Address
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.domain.chat import Answer, Message, Request, Text, Thinking
from penstock.domain.stream import collect

CODEC = CODECS["responses"]
REQUEST = Request("", "model-1", (Message("user", (Text("Hi."),)),), max_output=99)
ITEM = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Looks."}],
    "content": [{"type": "reasoning_text", "text": "I look at it."}],
    "encrypted_content": "c2VhbGVk",
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"}
RESPONSE = {"id": "resp_1", "model": "m", "status": "completed", "output": [ITEM, CALL]}


def answer() -> Answer:
    return CODEC.decode_answer(json.dumps(RESPONSE).encode())


def streamed(*deltas: dict[str, Any]) -> Answer:
    where = {"item_id": "rs_1", "output_index": 0}
    events = [
        {"type": "response.created", "response": {**RESPONSE, "output": []}},
        *({**where, **delta} for delta in deltas),
        {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {"type": "response.completed", "response": RESPONSE},
    ]
    decoder = CODEC.decoder()
    told = decoder.feed(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))
    return collect([*told, *decoder.close()])


THOUGHT = {"type": "response.reasoning_text.delta", "content_index": 0, "delta": "I look at it."}
SUMMED = {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "Looks."}


def test_the_reasoning_and_its_summary_are_thoughts_of_one_item() -> None:
    thoughts = [part for part in answer().choices[0].parts if isinstance(part, Thinking)]
    assert [(one.text, one.summary, one.sealed, one.id) for one in thoughts] == [
        ("I look at it.", False, "c2VhbGVk", "rs_1"),
        ("Looks.", True, "c2VhbGVk", "rs_1"),
    ]


@pytest.mark.parametrize("deltas", [(), (THOUGHT,), (THOUGHT, SUMMED)])
def test_a_stream_tells_both_as_a_plain_answer_does(deltas: tuple[dict[str, Any], ...]) -> None:
    assert streamed(*deltas).choices == answer().choices


def test_a_stream_that_tells_the_summary_first_loses_neither() -> None:
    told = [part for part in streamed(SUMMED, THOUGHT).choices[0].parts if isinstance(part, Thinking)]
    assert [(one.text, one.sealed) for one in sorted(told, key=lambda one: one.text)] == [
        ("I look at it.", "c2VhbGVk"),
        ("Looks.", "c2VhbGVk"),
    ]


@pytest.mark.parametrize("caller", ["chat.completions", "messages", "converse", "generateContent"])
def test_both_go_back_as_the_item_that_they_came_as(caller: str) -> None:
    request = structs.replace(REQUEST, origin=DIALECTS[caller].name)
    heading = Heading("model-1", True, request, 1_700_000_000, "id_1")
    told = json.loads(CODECS[caller].encode_answer(answer(), heading))
    body = json.loads(CODECS[caller].encode_request(request, TargetFacts("model-1")).body)
    if caller == "chat.completions":
        body["messages"].append(told["choices"][0]["message"])
    elif caller == "messages":
        body["messages"].append({"role": "assistant", "content": told["content"]})
    elif caller == "converse":
        body["messages"].append(told["output"]["message"])
    else:
        body["contents"].append(told["candidates"][0]["content"])
    back = CODECS[caller].decode_request(DIALECTS[caller].parse(json.dumps(body).encode(), Address("model-1")))
    encoded = CODEC.encode_request(back, TargetFacts("gpt-5"))
    items = json.loads(encoded.body)["input"]
    assert [item for item in items if item["type"] == "reasoning"] == [{**ITEM}]
    assert encoded.dropped == ()
