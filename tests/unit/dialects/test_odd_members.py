"""Members of answers that are not what the reference says cost nobody the answer, nor what it used; those of requests
are named where a target cannot be told."""

import json
from typing import Any

import pytest

from penstock.dialects.anthropic import Messages
from penstock.dialects.base import Address, Call
from penstock.dialects.codec import TargetFacts
from penstock.dialects.cohere import CohereChat
from penstock.dialects.members import Members, callers_fault, reply_members
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.dialects.translation import Passages
from penstock.domain.chat import Opaque, Text, ToolCall
from penstock.domain.stream import Event, collect
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed

CALLED = {"id": 7, "type": "function", "index": 0.0, "function": {"name": "f", "arguments": {"a": 1}}}
CHAT = {"id": "c", "choices": [{"index": "0", "finish_reason": "tool_calls", "message": {"tool_calls": [CALLED]}}]}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def told(surface: str, stream: bytes) -> list[Event]:
    decoder = CODECS[surface].decoder()
    return [*decoder.feed(stream), *decoder.close()]


def test_numbers_that_are_written_as_others_are_read() -> None:
    (choice,) = CODECS["chat.completions"].decode_answer(json.dumps(CHAT).encode()).choices
    (call,) = choice.parts
    assert isinstance(call, ToolCall)
    assert (call.id, call.name, call.arguments) == ("7", "f", '{"a": 1}')


@pytest.mark.parametrize("odd", [7, True, "x", [], {}, [7, None]])
def test_what_no_answer_hangs_on_loses_only_itself(odd: Any) -> None:
    message = {"content": "Hi", "annotations": odd, "reasoning": odd, "refusal": odd if odd != "x" else None}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "native_finish_reason": odd, "logprobs": odd}
    answer = CODECS["chat.completions"].decode_answer(json.dumps({"id": "c", "choices": [choice]}).encode())
    assert Text("Hi") in answer.choices[0].parts


def test_objects_are_kept_from_a_list_that_has_others() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://e.com", "start_index": 0.0, "end_index": "2"}}
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "Hi", "annotations": [None, cited, 7]}}
    (read,) = CODECS["chat.completions"].decode_answer(json.dumps({"id": "c", "choices": [choice]}).encode()).choices
    (part,) = read.parts
    assert isinstance(part, Text)
    assert [(one.url, one.start, one.end) for one in part.citations] == [("https://e.com", 0, 2)]


@pytest.mark.parametrize("name", ["content", "tool_calls"])
def test_what_is_the_answer_is_the_providers_fault(name: str) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {name: True}}
    with pytest.raises(UpstreamMalformed):
        CODECS["chat.completions"].decode_answer(json.dumps({"id": "c", "choices": [choice]}).encode())


def test_a_caller_is_told_of_a_member_of_another_type() -> None:
    assert reply_members(b'{"user": []}').text("user") == ""
    with pytest.raises(InvalidRequest, match="user"):
        Members(reply_members(b'{"user": []}').rest(), callers_fault).text("user")


@pytest.mark.parametrize(
    ("surface", "usage"),
    [
        ("messages", {"usage": {"input_tokens": 9.0, "output_tokens": 2.0, "cache_read_input_tokens": 4.0}}),
        (
            "converse",
            {"usage": {"inputTokens": 9.0, "outputTokens": 2.0, "totalTokens": 15.0, "cacheReadInputTokens": 4.0}},
        ),
        (
            "generateContent",
            {
                "usageMetadata": {
                    "promptTokenCount": 13.0,
                    "candidatesTokenCount": 2.0,
                    "totalTokenCount": 15.0,
                    "cachedContentTokenCount": 4.0,
                }
            },
        ),
        (
            "chat.completions",
            {
                "usage": {
                    "prompt_tokens": 13.0,
                    "completion_tokens": 2.0,
                    "total_tokens": 15.0,
                    "num_cached_tokens": 4.0,
                }
            },
        ),
    ],
)
def test_counts_with_a_fraction_of_zero_are_believed(surface: str, usage: dict[str, Any]) -> None:
    reading = DIALECTS[surface].read(json.dumps(usage).encode())
    assert (reading.usage, reading.hostile) == (Usage(9, 2, 4), False)


def test_what_else_is_told_of_cache_writes_is_no_count() -> None:
    written = {"ephemeral_1h_input_tokens": 5, "kinds": [{"a": 1}], "unit": "tokens"}
    usage = {"input_tokens": 9, "output_tokens": 2, "cache_creation_input_tokens": 5, "cache_creation": written}
    assert Messages.read(json.dumps({"usage": usage}).encode()).usage == Usage(9, 2, cache_write={"1h": 5})
    usage["cache_creation"] = {"ephemeral_1h_input_tokens": "5"}
    assert Messages.read(json.dumps({"usage": usage}).encode()).hostile


STARTED = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9, "output_tokens": 1}}}
STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}


def test_an_empty_report_behind_a_whole_one_takes_nothing_back() -> None:
    tee = Messages.tee(Call({}, "m"), False)
    tee.feed(sse(STARTED, STOPPED, {"type": "message_delta", "delta": {}, "usage": {}}, {"type": "message_stop"}))
    assert (tee.reading.usage, tee.reading.hostile) == (Usage(9, 2), False)


def test_a_report_without_what_came_out_is_still_not_believed() -> None:
    tee = Messages.tee(Call({}, "m"), False)
    tee.feed(sse(STARTED, {**STOPPED, "usage": {}}, {"type": "message_stop"}))
    assert tee.reading.hostile


def test_a_zero_takes_nothing_back_of_what_was_counted() -> None:
    tee, zeros = Messages.tee(Call({}, "m"), False), {"input_tokens": 0, "cache_read_input_tokens": 0}
    stream = sse(STARTED, {**STOPPED, "usage": {**zeros, "output_tokens": 2}}, {"type": "message_stop"})
    tee.feed(stream)
    assert tee.reading.usage == Usage(9, 2)
    assert collect(told("messages", stream)).usage == Usage(9, 2)


def test_the_tier_that_a_stream_told_holds_for_its_last_report() -> None:
    said = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    report = {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}
    answer = collect(told("chat.completions", sse({**said, "service_tier": "flex"}, report)))
    assert (answer.service_tier, answer.usage) == ("flex", Usage(9, 2))


def test_events_of_a_new_kind_may_come_before_an_answer_begins() -> None:
    said = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}
    begun = {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}}
    ended = {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}
    answer = collect(told(CohereChat.surface, sse({"type": "new"}, begun, said, ended)))
    assert answer.choices[0].parts == (Text("Hi"),)
    with pytest.raises(UpstreamMalformed):
        told(CohereChat.surface, sse(said, begun, ended))


def test_an_answers_block_may_have_more_beside_what_it_is() -> None:
    content = [{"new": 1, "text": "Hi"}, {"new": {"a": 1}, "newer": 2}]
    body = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}
    (choice,) = CODECS["converse"].decode_answer(json.dumps(body).encode()).choices
    assert choice.parts[0] == Text("Hi")
    assert isinstance(choice.parts[1], Opaque)
    assert json.loads(bytes(choice.parts[1].raw)) == {"new": {"a": 1}}
    asked = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    call = DIALECTS["converse"].parse(asked, Address("m"))
    with pytest.raises(InvalidRequest):
        CODECS["converse"].decode_request(call)


@pytest.mark.parametrize("odd", [7, True, "x", [], {}])
def test_an_odd_head_or_end_of_an_answer_costs_nobody_the_answer(odd: Any) -> None:
    usage = {"input_tokens": 9, "output_tokens": 2}
    message = {
        "type": "message",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    message |= {"id": odd, "model": odd, "stop_sequence": odd, "stop_details": odd}
    (choice,) = CODECS["messages"].decode_answer(json.dumps(message).encode()).choices
    assert (choice.parts, choice.finish) == ((Text("Hi"),), "stop")
    spoken = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP", "groundingMetadata": odd}
    google = {"candidates": [spoken], "responseId": odd, "modelVersion": odd}
    (choice,) = CODECS["generateContent"].decode_answer(json.dumps(google).encode()).choices
    assert (choice.parts, choice.finish) == ((Text("Hi"),), "stop")
    response = {"id": "r", "status": "completed", "incomplete_details": odd, "usage": usage, "output": []}
    assert DIALECTS["responses"].read(json.dumps(response).encode()).usage == Usage(9, 2)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_what_a_target_cannot_be_told_of_a_converse_request_is_named_at_every_level() -> None:
    tool = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}, "newOfTool": 1}}
    body = {
        "messages": [{"role": "user", "content": [{"text": "Hi"}], "newOfMessage": 1}],
        "inferenceConfig": {"maxTokens": 9, "temperature": 1, "newOfInference": 1, "topP": None},
        "toolConfig": {"tools": [tool]},
    }
    converse = DIALECTS["converse"]
    call = converse.parse(json.dumps(body).encode(), Address("m"))
    passage = Passages(converse, call, 5, "ours").to(("messages",), TargetFacts("m"))
    assert set(passage.dropped) == {"messages.newOfMessage", "tools.newOfTool", "inferenceConfig"}
    del body["inferenceConfig"]["newOfInference"]  # type: ignore[attr-defined]
    call = converse.parse(json.dumps(body).encode(), Address("m"))
    assert "inferenceConfig" not in Passages(converse, call, 5, "ours").to(("messages",), TargetFacts("m")).dropped


def test_a_model_that_is_null_in_the_body_may_be_in_the_address() -> None:
    body = {"model": None, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
    for surface in ("chat.completions", "messages"):
        assert DIALECTS[surface].parse(json.dumps(body).encode(), Address("gpt")).model == "gpt"
        with pytest.raises(InvalidRequest, match="'model' is required"):
            DIALECTS[surface].parse(json.dumps(body).encode())


def test_what_nobody_knows_of_a_chat_requests_tools_pictures_and_form_is_named() -> None:
    chat = DIALECTS["chat.completions"]
    picture = {"type": "image_url", "newOfPart": 1, "image_url": {"url": "https://a.example/b.png", "newOfPicture": 1}}
    tool = {"type": "function", "newOfTool": 1, "function": {"name": "f", "newOfFunction": 1}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "newOfForm": 1}}
    said = [{"role": "user", "content": [picture]}]
    asked = {"model": "m", "messages": said, "tools": [tool], "response_format": form}
    call = chat.parse(json.dumps(asked).encode())
    passage = Passages(chat, call, 5, "ours").to(("messages",), TargetFacts("m"))
    named = {"content.newOfPart", "content.newOfPicture", "tools.newOfTool", "tools.newOfFunction"}
    named.add("response_format.newOfForm")
    assert named <= set(passage.dropped)
