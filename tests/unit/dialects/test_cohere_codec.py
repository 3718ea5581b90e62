"""Cohere's Chat as a conversation: what others are told of it, and what it is told of them."""

import json
from typing import Any

import pytest
from msgspec import Raw

from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.cohere import CohereChat
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Format,
    Media,
    Message,
    Reasoning,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.stream import Begin, Failed, PartBegin, PartDelta, PartEnd, collect, events_of
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed

CODEC = CohereChat.codec
ASK = (Message("user", (Text("Where is the Po?"),)),)
HEADING = Heading("m", wants_usage=True, request=Request("cohere_chat", "m", ASK), id="ours")
SCHEMA = Raw(b'{"type":"object"}')


def _read(**members: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "Where is the Po?"}], **members}
    return CODEC.decode_request(CohereChat().parse(json.dumps(body).encode()))


def _written(model: str = "command-a-reasoning", **members: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    encoded = CODEC.encode_request(
        Request("anthropic_messages", "m", members.pop("messages", ASK), **members), TargetFacts(model)
    )
    return json.loads(encoded.body), encoded.dropped


def test_documents_stand_before_the_question_that_they_are_about() -> None:
    asked = _read(documents=["As is.", {"id": "1", "data": {"title": "Po", "text": "652 km"}}, {"data": {"km": 652}}])
    assert [(part.name, part.text) for part in asked.messages[0].parts if isinstance(part, Media)] == [
        ("", "As is."),
        ("Po", "652 km"),
        ("", '{"km":652}'),
    ]
    body, dropped = _written(messages=asked.messages)
    assert body["documents"][1] == {"data": {"title": "Po", "text": "652 km"}}
    assert (body["messages"], dropped) == ([{"role": "user", "content": "Where is the Po?"}], ())


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [{"role": "bard", "content": "x"}]}, "messages[0].role"),
        ({"tool_choice": "SOME"}, "tool_choice"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"documents": [7]}, "document"),
    ],
)
def test_a_wrong_member_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _read(**members)
    assert refused.value.param == param


def test_of_a_choice_of_one_tool_that_one_alone_is_told_and_required() -> None:
    tools = (Tool("here", schema=SCHEMA), Tool("there"))
    body, dropped = _written(tools=tools, tool_choice=ToolChoice("tool", ("there",)))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["there"]
    assert (body["tool_choice"], dropped) == ("REQUIRED", ())


def test_what_is_said_before_calls_is_the_plan() -> None:
    called = Message("assistant", (Text("I look it up."), ToolCall("c", "here")))
    body, _ = _written(messages=(*ASK, called), tools=(Tool("here", schema=SCHEMA),))
    assert body["messages"][1]["tool_plan"] == "I look it up."
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert "content" not in body["messages"][1]


def test_what_is_out_of_range_is_brought_into_it_or_named() -> None:
    sampling = Sampling(top_p=1.0, top_k=900, frequency_penalty=-1.0, presence_penalty=0.5, stop=tuple("abcdef"))
    body, dropped = _written(sampling=sampling)
    assert (body["p"], body["k"], body["presence_penalty"], body["stop_sequences"]) == (0.99, 500, 0.5, list("abcde"))
    assert dropped == ("stop", "frequency_penalty")


def test_a_form_of_the_answer_does_not_go_with_tools() -> None:
    form = Format("json_schema", schema=SCHEMA)
    assert _written(format=form)[0]["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}
    body, dropped = _written(format=form, tools=(Tool("here", schema=SCHEMA),))
    assert ("response_format" in body, dropped) == (False, ("response_format",))


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "dropped"),
    [
        ("command-a-reasoning", Reasoning(effort="low"), {"type": "enabled", "token_budget": 1024}, ()),
        ("command-a-reasoning", Reasoning(budget=-1), {"type": "enabled"}, ()),
        ("command-a-reasoning", Reasoning(budget=0), {"type": "disabled"}, ()),
        ("command-a-reasoning", Reasoning(show=True), None, ()),
        ("command-r7b-12-2024", Reasoning(effort="high"), None, ("reasoning",)),
        ("command-r7b-12-2024", Reasoning(effort="none"), None, ()),
    ],
)
def test_thinking_is_asked_of_models_that_think(
    model: str, reasoning: Reasoning, thinking: dict[str, Any] | None, dropped: tuple[str, ...]
) -> None:
    body, named = _written(model, reasoning=reasoning)
    assert (body.get("thinking"), named) == (thinking, dropped)


def test_another_vendors_citation_is_told_with_its_place_plain_and_streamed() -> None:
    text = Text("The Po is in Italy.", (Citation("https://example.com", "Po", "A river.", 4, 6),))
    answer = Answer("anthropic_messages", "1", "m", (Choice((text,)),), usage=Usage(input=3, output=4, cache_read=2))
    wanted = {
        "start": 4,
        "end": 6,
        "text": "Po",
        "sources": [
            {
                "type": "document",
                "id": "https://example.com",
                "document": {"url": "https://example.com", "title": "Po", "snippet": "A river."},
            }
        ],
        "content_index": 0,
        "type": "TEXT_CONTENT",
    }
    plain = json.loads(CODEC.encode_answer(answer, HEADING))
    assert plain["message"]["citations"] == [wanted]
    assert plain["usage"]["billed_units"] == {"input_tokens": 5, "output_tokens": 4}
    assert plain["usage"]["cached_tokens"] == 2
    encoder = CODEC.encoder(HEADING)
    stream = b"".join(encoder.encode(event) for event in events_of(answer))
    told = [json.loads(line[6:]) for line in stream.decode().split("\n") if line.startswith("data: {")]
    (cited,) = [one for one in told if one["type"] == "citation-start"]
    assert cited["delta"]["message"]["citations"] == wanted


def test_calls_that_overlap_are_told_one_after_the_other() -> None:
    encoder = CODEC.encoder(HEADING)
    events = [
        Begin("openai_chat", "1"),
        PartBegin(0, 0, ToolCall("a", "here")),
        PartBegin(0, 1, ToolCall("b", "there")),
        PartDelta(0, 1, "{}"),
        PartDelta(0, 0, "{}"),
        PartEnd(0, 0),
        PartEnd(0, 1),
    ]
    stream = b"".join(map(encoder.encode, events)).decode()
    told = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: ")][1:]
    assert [(one["type"], one["index"]) for one in told] == [
        (f"tool-call-{step}", index) for index in (0, 1) for step in ("start", "delta", "end")
    ]


def test_a_fault_in_a_stream_is_a_failure_and_not_an_end() -> None:
    start = b'data: {"type":"message-start","id":"1"}\n\n'
    for fault in (b'{"type":"message-end","delta":{"error":"broke"}}', b'{"message":"broke"}'):
        decoder = CODEC.decoder()
        assert decoder.feed(start + b"data: " + fault + b"\n\n")[1:] == [Failed("broke", 500)]
        assert decoder.close() == []
    with pytest.raises(UpstreamMalformed):
        CODEC.decoder().feed(b'data: {"type":"content-delta"}\n\n')
    assert CODEC.encoder(HEADING).encode(Failed("broke", 500, "x")) == (
        b'data: {"message":"broke","error_type":"x"}\n\n'
    )


def _events(*told: dict[str, Any]) -> bytes:
    return b"".join([b"data: " + json.dumps(event).encode() + b"\n\n" for event in told])


START = {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}
TEXT = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Po."}}}}


def test_what_a_stream_says_of_its_prompt_is_passed_over() -> None:
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 3}}}}
    decoder = CODEC.decoder()
    events = decoder.feed(_events({"type": "debug", "prompt": "<BOS>"}, START, TEXT, end))
    assert collect(events).choices[0].parts == (Text("Po."),)
    assert decoder.close() == []


def test_an_error_in_the_end_of_a_stream_is_seen_by_who_counts_too() -> None:
    stream = _events(START, TEXT, {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "It broke."}})
    tee = CohereChat.tee(CohereChat().parse(b'{"model":"m","messages":[{"role":"user","content":"a"}]}'), False)
    tee.feed(stream)
    assert tee.reading.error == "It broke."
    assert [event.message for event in CODEC.decoder().feed(stream) if isinstance(event, Failed)] == ["It broke."]


def test_a_citation_of_what_a_tool_put_out_names_its_source() -> None:
    output = {"url": "https://a.example", "title": "A", "text": "It rains."}
    cited = {"start": 0, "end": 2, "text": "Po", "sources": [{"type": "tool", "id": "f:0", "tool_output": output}]}
    message = {"role": "assistant", "content": [{"type": "text", "text": "Po."}], "citations": [cited]}
    answer = CODEC.decode_answer(json.dumps({"id": "c1", "finish_reason": "COMPLETE", "message": message}).encode())
    (text,) = answer.choices[0].parts
    assert isinstance(text, Text)
    assert [(one.url, one.title, one.quote) for one in text.citations] == [("https://a.example", "A", "It rains.")]


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"billed_units": {}, "tokens": {"input_tokens": 7, "output_tokens": 2}}, Usage(7, 2)),
        ({"billed_units": {"output_tokens": 1}, "tokens": {"input_tokens": 7, "output_tokens": 2}}, Usage(7, 1)),
        ({"billed_units": {"output_tokens": 1}}, None),
    ],
)
def test_what_is_not_told_of_the_bill_is_what_went_through_the_model(reported: Any, usage: Usage | None) -> None:
    body = {"id": "c1", "finish_reason": "COMPLETE", "message": {"role": "assistant"}, "usage": reported}
    assert CohereChat.read(json.dumps(body).encode()).usage == usage


def test_each_source_of_a_citation_is_told_to_others_and_all_of_them_once_to_cohere() -> None:
    sources = [
        {"type": "document", "id": "doc:0", "document": {"id": "doc:0", "title": "A", "snippet": "It rains."}},
        {"type": "document", "id": "doc:1", "document": {"id": "doc:1", "url": "https://b.example"}},
    ]
    cited = {"start": 0, "end": 2, "text": "Po", "sources": sources, "content_index": 0, "type": "TEXT_CONTENT"}
    message = {"role": "assistant", "content": [{"type": "text", "text": "Po."}], "citations": [cited]}
    answer = CODEC.decode_answer(json.dumps({"id": "c1", "finish_reason": "COMPLETE", "message": message}).encode())
    (text,) = answer.choices[0].parts
    assert isinstance(text, Text)
    assert [(one.url, one.title, one.start, one.end) for one in text.citations] == [
        ("", "A", 0, 2),
        ("https://b.example", "doc:1", 0, 2),
    ]
    again = json.loads(CODEC.encode_answer(answer, HEADING))["message"]["citations"]
    assert again == [cited]
    encoder = CODEC.encoder(HEADING)
    stream = b"".join([encoder.encode(event) for event in events_of(answer)])
    assert stream.count(b'"citation-start"') == 1
    assert collect(CODEC.decoder().feed(stream)).choices == answer.choices
