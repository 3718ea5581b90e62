"""Callers that still offer `functions`: any model can be asked, and its call is told as they know it."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock.dialects.anthropic import Messages
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.openai_chat import ChatCompletions
from penstock.domain.chat import Answer, Choice, Request, Text, ToolCall, ToolChoice
from penstock.domain.stream import events_of
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest

CHAT = ChatCompletions()
WEATHER = {"name": "weather", "description": "Of a city.", "parameters": {"type": "object"}}
CALL = {"name": "weather", "arguments": '{"city":"Oslo"}'}
ASKED = {"role": "user", "content": "How is it in Oslo?"}
CALLED = {"role": "assistant", "content": None, "function_call": CALL}


def read(*messages: dict[str, Any], **more: Any) -> Request:
    body = {"model": "m", "max_tokens": 9, "functions": [WEATHER], "messages": list(messages), **more}
    return CHAT.codec.decode_request(CHAT.parse(json.dumps(body).encode()))


def answer(*parts: Any) -> Answer:
    return Answer("elsewhere", "id_1", "m", (Choice(parts, "tool_calls"),), usage=Usage(input=1, output=2))


def heading() -> Heading:
    call = CHAT.parse(json.dumps({"model": "m", "messages": [ASKED], "functions": [WEATHER]}).encode())
    return Heading("m", True, CHAT.codec.decode_request(call), 5, "ours", call.form)


def test_a_conversation_with_a_function_is_one_with_a_tool() -> None:
    request = read(ASKED, CALLED, {"role": "function", "name": "weather", "content": "Rain."}, function_call="auto")
    sent = json.loads(Messages.codec.encode_request(request, TargetFacts("claude")).body)
    assert [tool["name"] for tool in sent["tools"]] == ["weather"]
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    (use,), (result,) = sent["messages"][1]["content"], sent["messages"][2]["content"]
    assert (use["type"], use["name"], use["input"]) == ("tool_use", "weather", {"city": "Oslo"})
    assert result["tool_use_id"] == use["id"]
    assert result["content"] == [{"type": "text", "text": "Rain."}]


def test_a_result_answers_the_last_call_of_its_function() -> None:
    result = {"role": "function", "name": "weather", "content": "Rain."}
    request = read(ASKED, CALLED, result, CALLED, result)
    ids = [part.id for message in request.messages for part in message.parts if isinstance(part, ToolCall)]
    answered = [getattr(part, "call", None) for message in request.messages for part in message.parts]
    assert len(set(ids)) == 2
    assert [id for id in answered if id] == ids


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ({"name": "weather"}, ToolChoice("tool", ("weather",))),
        (None, None),
    ],
)
def test_the_choice_of_a_function_is_that_of_a_tool(written: Any, meant: ToolChoice | None) -> None:
    assert read(ASKED, function_call=written).tool_choice == meant


def test_a_choice_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="function_call"):
        read(ASKED, function_call="always")


def test_a_plain_answer_has_the_call_as_it_was_told_then() -> None:
    both = (Text("Let me see."), ToolCall("c1", "weather", CALL["arguments"]), ToolCall("c2", "weather", "{}"))
    told = json.loads(CHAT.codec.encode_answer(answer(*both), heading()))
    (choice,) = told["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == CALL
    assert choice["message"]["content"] == "Let me see."
    assert "tool_calls" not in choice["message"]
    assert ChatCompletion.model_validate(told).choices[0].message.function_call is not None


def test_a_stream_has_the_call_as_it_was_told_then() -> None:
    encoder = CHAT.codec.encoder(heading())
    both = answer(Text("Let me see."), ToolCall("c1", "weather", CALL["arguments"]), ToolCall("c2", "clock", "{}"))
    stream = b"".join(encoder.encode(event) for event in events_of(both))
    chunks = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    read_by_sdk = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    deltas = [choice.delta for chunk in read_by_sdk for choice in chunk.choices]
    calls = [delta.function_call for delta in deltas if delta.function_call is not None]
    assert "".join(call.name or "" for call in calls) == "weather"
    assert "".join(call.arguments or "" for call in calls) == CALL["arguments"]
    assert all(delta.tool_calls is None for delta in deltas)
    assert [choice.finish_reason for chunk in read_by_sdk for choice in chunk.choices if choice.finish_reason] == [
        "function_call"
    ]


def test_callers_of_tools_are_told_of_tools() -> None:
    call = CHAT.parse(json.dumps({"model": "m", "messages": [ASKED]}).encode())
    plain = Heading("m", True, CHAT.codec.decode_request(call), 5, "ours", call.form)
    told = json.loads(CHAT.codec.encode_answer(answer(ToolCall("c1", "weather", "{}")), plain))
    assert told["choices"][0]["finish_reason"] == "tool_calls"
    assert told["choices"][0]["message"]["tool_calls"]
