"""Recorded Responses traffic, replayed behind a real gateway: the caller gets what the provider sent, and it costs what
it said; callers of other dialects get the same answer in their own, read by the official SDKs."""

import json
from typing import Any

import anthropic
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.conformance.stage import MATERIAL, PRICES_NANOUSD, Stage, published, recordings_of
from tests.laws.conversations import decode_in_pieces

from penstock.dialects.codec import Heading
from penstock.dialects.openai_chat import ChatCompletions
from penstock.dialects.openai_responses import Responses
from penstock.domain.chat import Answer as ToldAnswer
from penstock.domain.chat import Opaque, Refusal, Request, Text, ToolCall
from penstock.domain.stream import Failed, collect
from penstock.testing.caller import Answer
from penstock.testing.replay import Recording

COUNT = "responses.input_tokens"
PATHS = {
    "responses": "/v1/responses",
    COUNT: "/v1/responses/input_tokens",
    "completions": "/v1/completions",
    "moderations": "/v1/moderations",
}

RECORDINGS = recordings_of(*PATHS)
ANSWERED = [one for one in RECORDINGS if one.response.status == 200 and one.surface == "responses"]
CHATS = [
    one
    for one in recordings_of("chat.completions")
    if one.response.status == 200 and "midstream_error" not in one.features
]
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)
every_answer = pytest.mark.parametrize("recording", ANSWERED, ids=lambda recording: recording.id)
every_chat = pytest.mark.parametrize("recording", CHATS, ids=lambda recording: recording.id)
needs_specs = pytest.mark.skipif(not (MATERIAL / "specs").is_dir(), reason="the published OpenAPI document is not here")

PRICES = {**PRICES_NANOUSD, "cache_write": PRICES_NANOUSD["5m"]}
CODEC = Responses.codec
CHAT = ChatCompletions.codec
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def _body(recording: Recording) -> dict[str, Any]:
    return {**recording.request.json, "model": recording.id}


def _call(stage: Stage, recording: Recording) -> Answer:
    return stage.caller().post(PATHS[recording.surface], _body(recording))


# -- through the gateway ----------------------------------------------------------------------------------------------


@every_recording
def test_the_caller_gets_what_the_provider_sent(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    answer = _call(stage, recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    assert {**received.json(), "model": 0, "stream_options": 0} == {
        **_body(recording),
        "model": 0,
        "stream_options": 0,
    }
    if recording.response.status == 401:
        assert answer.error["code"] == "upstream_credential"
    elif recording.response.status >= 400:
        assert answer.status == recording.response.status
        assert answer.error["message"]
    elif recording.surface == "completions" and recording.streaming:
        assert b"data: [DONE]" in answer.body
    else:
        assert answer.body == recording.response.content


@pytest.mark.parametrize(
    "recording", [one for one in ANSWERED if one.response_kind == "sse"], ids=lambda recording: recording.id
)
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    """Also what follows its last event: OpenRouter's `[DONE]`."""
    whole = _call(stage, recording).body
    try:
        for cuts in ("random", "bytes") if len(recording.response.content) < 5_000 else ("random",):
            stage.replay.cuts = cuts
            assert _call(stage, recording).body == whole == recording.response.content
    finally:
        stage.replay.cuts = "recorded"


def _said(recording: Recording) -> list[dict[str, Any]]:
    text = recording.response.content.decode()
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"] or [json.loads(text)]


@every_answer
def test_the_receipt_says_what_the_recording_says(stage: Stage, recording: Recording) -> None:
    last = _said(recording)[-1]
    usage = last.get("response", last)["usage"]
    details = usage.get("input_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    stated = {"input": usage["input_tokens"] - read - written, "cache_read": read, "cache_write": written}
    stated["output"] = max(usage["output_tokens"], usage["total_tokens"] - usage["input_tokens"])
    receipt = stage.gateway.receipt(_call(stage, recording).request_id)
    told = {**receipt["usage"], "cache_write": sum(receipt["usage"].get("cache_write", {}).values())}
    assert {name: told.get(name, 0) for name in stated} == stated
    assert receipt["cost_nanousd"] == sum(count * PRICES[name] for name, count in stated.items())
    assert (receipt["cost_basis"], receipt["cause"]) == ("computed", "completed")


def _is_told(recording: Recording) -> ToldAnswer:
    content = recording.response.content
    if recording.response_kind != "sse":
        return CODEC.decode_answer(content)
    return collect(decode_in_pieces(CODEC.decoder(), content, 1))


def _texts(answer: ToldAnswer) -> str:
    return "".join(part.text for part in answer.choices[0].parts if isinstance(part, Text))


def _calls(answer: ToldAnswer) -> list[tuple[str, Any]]:
    calls = [part for part in answer.choices[0].parts if isinstance(part, ToolCall)]
    return [(call.name, json.loads(call.arguments or "{}")) for call in calls]


@every_answer
@pytest.mark.parametrize("stream", [False, True])
def test_the_official_sdk_of_chats_reads_it_translated(stage: Stage, recording: Recording, stream: bool) -> None:
    """The answer comes as it was recorded, plain or streamed; the gateway makes of it what the caller asked for."""
    if (recording.response_kind == "sse") is not stream:
        pytest.skip("recorded in the other form")
    told = _is_told(recording)
    url = f"{stage.gateway.url}/v1"
    client = openai.OpenAI(base_url=url, api_key=stage.key, max_retries=0, http_client=stage.http)
    asked: dict[str, Any] = {"model": recording.id, "messages": [{"role": "user", "content": "a"}]}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            try:
                completion: Any = events.get_final_completion()
            except openai.LengthFinishReasonError as cut_off:
                completion = cut_off.completion
    else:
        completion = client.chat.completions.create(**asked)
    message = completion.choices[0].message
    assert (message.content or "") == _texts(told)
    assert [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or ()] == _calls(told)


@every_answer
@pytest.mark.parametrize("stream", [False, True])
def test_the_official_sdk_of_messages_reads_it_translated(stage: Stage, recording: Recording, stream: bool) -> None:
    if (recording.response_kind == "sse") is not stream:
        pytest.skip("recorded in the other form")
    told = _is_told(recording)
    url = stage.gateway.url
    client = anthropic.Anthropic(base_url=url, api_key=stage.key, max_retries=0, http_client=stage.http)
    asked: dict[str, Any] = {"model": recording.id, "messages": [{"role": "user", "content": "a"}], "max_tokens": 9}
    if stream:
        with client.messages.stream(**asked) as events:
            message: Any = events.get_final_message()
    else:
        message = client.messages.create(**asked)
    refused = "".join(part.text for part in told.choices[0].parts if isinstance(part, Refusal))
    assert "".join(block.text for block in message.content if block.type == "text") == _texts(told) + refused
    assert [(b.name, b.input) for b in message.content if b.type == "tool_use"] == _calls(told)
    assert told.usage is not None
    assert message.usage.output_tokens == told.usage.output


# -- other dialects' answers as responses -----------------------------------------------------------------------------


@every_chat
def test_a_chats_answer_is_a_response_that_the_sdk_takes(recording: Recording) -> None:
    """Every event is exactly of the type that the SDK declares, and together they are the plain answer."""
    content = recording.response.content
    request = Request("openai_responses", "alias", ())
    heading = Heading("alias", True, request, 5, "resp_ours")
    if recording.response_kind == "sse":
        events = decode_in_pieces(CHAT.decoder(), content, 1)
        if any(isinstance(event, Failed) for event in events):
            pytest.skip("the stream breaks off with an error")
        encoder = CODEC.encoder(heading)
        stream = b"".join(encoder.encode(event) for event in events)
        told = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: ")]
        for event in told:
            EVENTS.validate_python(event, strict=False)
        answer = collect(events)
        again = collect(decode_in_pieces(CODEC.decoder(), stream, 2))
        calls_tools = any(isinstance(part, ToolCall) for part in again.choices[0].parts)
        assert calls_tools or again.choices[0].finish == answer.choices[0].finish
        final = told[-1]["response"]
    else:
        answer = CHAT.decode_answer(content)
        final = json.loads(CODEC.encode_answer(answer, heading))
    response = Response.model_validate(final)
    assert response.output_text == _texts(answer)
    calls = [(item.name, item.arguments) for item in response.output if item.type == "function_call"]
    parts = answer.choices[0].parts
    assert calls == [(part.name, part.arguments) for part in parts if isinstance(part, ToolCall)]


# -- the published description ----------------------------------------------------------------------------------------


@needs_specs
@every_chat
def test_a_chats_answer_fits_the_published_description(recording: Recording) -> None:
    """Both as a response and as a chat completion of ours."""
    content = recording.response.content
    if recording.response_kind == "sse":
        events = decode_in_pieces(CHAT.decoder(), content, 1)
        if any(isinstance(event, Failed) for event in events):
            pytest.skip("the stream breaks off with an error")
        answer = collect(events)
    else:
        answer = CHAT.decode_answer(content)
    answer = ToldAnswer("elsewhere", answer.id, answer.model, answer.choices, answer.created, answer.usage)
    request = Request("openai_responses", "alias", ())
    heading = Heading("alias", True, request, 5, "ours")
    published("Response").validate(json.loads(CODEC.encode_answer(answer, heading)))
    published("CreateChatCompletionResponse").validate(json.loads(CHAT.encode_answer(answer, heading)))


@needs_specs
@every_answer
def test_a_responses_answer_fits_the_published_description_of_chats(recording: Recording) -> None:
    answer = _is_told(recording)
    heading = Heading("alias", True, Request("openai_chat", "alias", ()), 5, "ours")
    published("CreateChatCompletionResponse").validate(json.loads(CHAT.encode_answer(answer, heading)))
    if not any(isinstance(part, Opaque) for part in answer.choices[0].parts):
        heading = Heading("alias", True, Request("openai_responses", "alias", ()), 5, "ours")
        published("Response").validate(json.loads(CODEC.encode_answer(answer, heading)))
