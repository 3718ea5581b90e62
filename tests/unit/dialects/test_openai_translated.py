"""What OpenAI's two conversations say and others do not, on the way to and from the others."""

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from tests.laws.conversations import decode_in_pieces

from penstock.dialects.base import Address
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Answer, Choice, Citation, Media, Opaque, Request, Text, ToolCall
from penstock.domain.stream import Failed, collect, events_of

PIXEL = "iVBORw0KGgo="
MADE = {
    "id": "ig_1",
    "type": "image_generation_call",
    "status": "completed",
    "result": PIXEL,
    "output_format": "webp",
    "quality": "high",
}


def heading(surface: str) -> Heading:
    return Heading("m", wants_usage=True, request=Request(DIALECTS[surface].name, "m", ()), created=5, id="ours")


def streamed(surface: str, answer: Answer) -> bytes:
    encoder = CODECS[surface].encoder(heading(surface))
    return b"".join(map(encoder.encode, events_of(answer)))


def response(*items: dict[str, Any]) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": list(items)}


def events(*told: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in told)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_several_citations_and_images_of_a_streamed_chat_are_added_up_by_the_official_sdk() -> None:
    cited = Text("Rain.", (Citation("https://a.example", "A", "", 0, 4), Citation("https://b.example", "B", "", 0, 4)))
    image = Media("image", "image/png", PIXEL)
    told = streamed("chat.completions", Answer("elsewhere", "c", "m", (Choice((cited, image, image)),)))
    state: Any = ChatCompletionStreamState()
    for line in told.splitlines():
        if line.startswith(b"data: {"):
            state.handle_chunk(ChatCompletionChunk.model_validate_json(line[6:]))
    message = state.get_final_completion().choices[0].message.model_dump()
    assert [one["url_citation"]["url"] for one in message["annotations"]] == ["https://a.example", "https://b.example"]
    assert [one["image_url"]["url"][-12:] for one in message["images"]] == [PIXEL, PIXEL]
    again = collect(decode_in_pieces(CODECS["chat.completions"].decoder(), told, 1)).choices[0].parts
    assert again == (cited, image, image)


@pytest.mark.parametrize("surface", ["chat.completions", "generateContent", "converse"])
def test_an_image_that_openai_made_reaches_callers_whose_dialect_has_images(surface: str) -> None:
    codec = CODECS["responses"]
    whole = codec.decode_answer(json.dumps(response(MADE)).encode())
    done = {"type": "response.output_item.done", "output_index": 0, "item": MADE}
    sent = events(
        {"type": "response.created", "response": {**response(), "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**MADE, "result": None}},
        done,
        {"type": "response.completed", "response": response(MADE)},
    )
    assert collect(decode_in_pieces(codec.decoder(), sent, 1)).choices[0].parts == whole.choices[0].parts
    for told in (
        CODECS[surface].decode_answer(CODECS[surface].encode_answer(whole, heading(surface))),
        collect(decode_in_pieces(CODECS[surface].decoder(), streamed(surface, whole), 1)),
    ):
        (image,) = told.choices[0].parts
        assert image == Media("image", "image/webp", PIXEL)


def test_an_image_that_openai_made_is_the_item_that_it_was_to_callers_of_responses() -> None:
    codec = CODECS["responses"]
    whole = codec.decode_answer(json.dumps(response(MADE)).encode())
    assert json.loads(codec.encode_answer(whole, heading("responses")))["output"] == [MADE]
    pending = {**MADE, "result": None}
    (part,) = codec.decode_answer(json.dumps(response(pending)).encode()).choices[0].parts
    assert isinstance(part, Opaque)


@pytest.mark.parametrize("surface", CONVERSATIONS)
@pytest.mark.parametrize("opening", [{"name": "x_keyword_search", "call_id": "xs_call-1"}, {}])
def test_a_search_that_xai_ran_itself_is_no_call_to_the_caller(surface: str, opening: dict[str, Any]) -> None:
    """It is written as a call of a custom tool, which the stream may open without its name."""
    item = {
        "id": "ctc_1",
        "type": "custom_tool_call",
        "name": "x_keyword_search",
        "call_id": "xs_call-1",
        "input": "{}",
    }
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}
    codec, place = CODECS["responses"], {"output_index": 0, "item_id": "ctc_1"}
    whole = codec.decode_answer(json.dumps(response(item, said)).encode())
    sent = events(
        {"type": "response.created", "response": {**response(), "status": "in_progress"}},
        {"type": "response.output_item.added", **place, "item": {"id": "ctc_1", "type": "custom_tool_call", **opening}},
        {"type": "response.custom_tool_call_input.delta", **place, "delta": "{}"},
        {"type": "response.custom_tool_call_input.done", **place, "input": "{}"},
        {"type": "response.output_item.done", **place, "item": item},
        {"type": "response.output_item.done", "output_index": 1, "item": said},
        {"type": "response.completed", "response": response(item, said)},
    )
    for answer in (whole, collect(decode_in_pieces(codec.decoder(), sent, 1))):
        (choice,) = answer.choices
        assert choice.finish == "stop"
        assert [type(part) for part in choice.parts] == [Opaque, Text]
        told = CODECS[surface].encode_answer(answer, heading(surface))
        again = CODECS[surface].decode_answer(told).choices[0]
        assert (again.parts[-1], again.finish) == (Text("Rain."), "stop")
        assert len(again.parts) == (2 if surface == "responses" else 1)


def test_a_search_that_perplexity_ran_itself_is_no_call_to_the_caller() -> None:
    """The stream begins it as a whole call of a function, and ends it as its results."""
    ran = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "search_web", "arguments": "{}"}
    found = {"type": "search_results", "queries": ["rain"], "results": []}
    own = {**ran, "name": "weather", "call_id": "call_2", "status": "completed"}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}
    codec = CODECS["responses"]

    def told(*done: dict[str, Any], begun: dict[str, Any]) -> Answer:
        sent = events(
            {"type": "response.created", "response": {**response(), "status": "in_progress"}},
            {"type": "response.output_item.added", "output_index": 0, "item": {**begun, "status": "completed"}},
            *({"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(done)),
            {"type": "response.completed", "response": response(*done)},
        )
        answer = collect(decode_in_pieces(codec.decoder(), sent, 1))
        assert answer == codec.decode_answer(json.dumps(response(*done)).encode())
        return answer

    (choice,) = told(found, said, begun=ran).choices
    assert ([type(part) for part in choice.parts], choice.finish) == ([Opaque, Text], "stop")
    (choice,) = told(own, begun=own).choices
    assert ([type(part) for part in choice.parts], choice.finish) == ([ToolCall], "tool_calls")


@pytest.mark.parametrize("surface", ["messages", "converse", "cohere.chat", "responses"])
def test_the_words_of_a_sound_reach_callers_whose_dialect_has_no_sounds(surface: str) -> None:
    answer = Answer("openai_chat", "c", "m", (Choice((Media("audio", data="QUJD", text="Rain."),)),))
    for told in (
        CODECS[surface].decode_answer(CODECS[surface].encode_answer(answer, heading(surface))),
        collect(decode_in_pieces(CODECS[surface].decoder(), streamed(surface, answer), 1)),
    ):
        assert [part.text for part in told.choices[0].parts if isinstance(part, Text)] == ["Rain."]


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ({"error": {"message": "x", "type": "server_error", "code": 500}}, Failed("x", 500, "500")),
        ({"error": "x"}, Failed("x")),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "x"}, Failed("x", 429, "rate_limit_exceeded")),
    ],
)
def test_an_error_in_a_stream_of_a_response_is_one_with_and_without_a_type(
    fault: dict[str, Any], failed: Failed
) -> None:
    sent = events({"type": "response.created", "response": response()}, fault)
    assert decode_in_pieces(CODECS["responses"].decoder(), sent, 1)[-1] == failed
    tee = DIALECTS["responses"].tee(DIALECTS["responses"].parse(b'{"model":"m","input":"a","stream":true}'), False)
    tee.feed(sent)
    assert (tee.reading.error, tee.ended) == ("x", True)


def test_what_a_response_tells_only_when_it_is_done_is_told_then() -> None:
    """The arguments of a call without an item's end, a text without pieces, and its citations."""
    cited = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 4}
    text = {"type": "output_text", "text": "Rain.", "annotations": [cited]}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [text]}
    at = {"output_index": 0, "content_index": 0}
    sent = events(
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}},
        {"type": "response.content_part.added", **at, "part": {**text, "text": "", "annotations": []}},
        {"type": "response.content_part.done", **at, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": ""}},
        {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": '{"a":1}'},
        {"type": "response.completed", "response": response(message, call)},
    )
    whole = CODECS["responses"].decode_answer(json.dumps(response(message, call)).encode())
    assert collect(decode_in_pieces(CODECS["responses"].decoder(), sent, 1)).choices == whole.choices


def test_a_failed_call_of_a_tool_is_not_the_failure_of_its_response() -> None:
    item = {"type": "mcp_call", "id": "mcp_1", "error": {"message": "no"}, "name": "f", "arguments": "{}"}
    sent = events(
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response(item)},
    )
    tee = DIALECTS["responses"].tee(DIALECTS["responses"].parse(b'{"model":"m","input":"a","stream":true}'), False)
    tee.feed(sent)
    assert (tee.reading.error, tee.ended) == (None, True)


# -- requests ---------------------------------------------------------------------------------------------------------

ASKED = {"role": "user", "content": "a"}
NOTED = {"role": "assistant", "content": "b", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}
IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example"}}
SHOWN = {"role": "assistant", "content": "b", "images": [IMAGE]}
ODD = {"role": "user", "content": [{"type": "text", "text": "a", "odd": 1}]}
PDF = "data:application/pdf;base64,JVBE"
DETAILED = {"type": "input_file", "filename": "a.pdf", "file_data": PDF, "detail": "high"}
COMMENTED = {"role": "assistant", "content": "b", "phase": "commentary"}

SAID: list[tuple[str, dict[str, Any], str]] = [
    ("chat.completions", {"messages": [{**ASKED, "odd": 1}]}, "messages.odd"),
    ("chat.completions", {"messages": [ODD]}, "content.odd"),
    ("chat.completions", {"messages": [ASKED, NOTED, ASKED]}, "messages.annotations"),
    ("chat.completions", {"messages": [ASKED, SHOWN, ASKED]}, "messages.images"),
    ("responses", {"input": [ASKED, COMMENTED, ASKED]}, "messages.phase"),
    ("responses", {"input": [{"role": "user", "content": [DETAILED]}]}, "content.detail"),
    ("responses", {"input": "a", "text": {"odd": 1}}, "text"),
]


@pytest.mark.parametrize(("surface", "members", "name"), SAID, ids=[name for _, _, name in SAID])
def test_what_only_one_dialect_says_is_named_when_another_cannot_be_told(
    surface: str, members: dict[str, Any], name: str
) -> None:
    call = DIALECTS[surface].parse(json.dumps({"model": "m", **members}).encode(), Address("m"))
    request = CODECS[surface].decode_request(call)
    for target in CONVERSATIONS:
        dropped = CODECS[target].encode_request(request, TargetFacts("m", 32_768)).dropped
        assert (name in dropped) is (target != surface), target


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-sonnet-4-5"])
def test_a_summary_of_reasoning_that_is_asked_for_is_asked_of_anthropic(model: str) -> None:
    body = {"model": "m", "input": "a", "max_output_tokens": 9_000, "reasoning": {"effort": "low", "summary": "auto"}}
    request = CODECS["responses"].decode_request(DIALECTS["responses"].parse(json.dumps(body).encode()))
    asked = json.loads(CODECS["messages"].encode_request(request, TargetFacts(model, 32_768)).body)
    assert asked["thinking"]["display"] == "summarized"


def encoded(source: str, target: str, **members: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a target gets of a caller's request, and what is dropped."""
    named = {} if source in ("converse", "generateContent") else {"model": "m"}
    call = DIALECTS[source].parse(json.dumps({**named, **members}).encode(), Address("m"))
    told = CODECS[target].encode_request(CODECS[source].decode_request(call), TargetFacts("m", 32_768))
    return json.loads(told.body), told.dropped


def test_a_cap_that_is_too_small_for_responses_is_the_smallest_that_they_take_and_named() -> None:
    body, dropped = encoded("chat.completions", "responses", messages=[ASKED], max_tokens=7)
    assert (body["max_output_tokens"], dropped) == (16, ("max_output",))
    body, dropped = encoded("chat.completions", "responses", messages=[ASKED], max_tokens=16)
    assert (body["max_output_tokens"], dropped) == (16, ())
    body, dropped = encoded("responses", "responses", input="a", max_output_tokens=7)
    assert (body["max_output_tokens"], dropped) == (7, ())


def test_responses_are_not_asked_about_sounds() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}
    said = {"role": "user", "content": [{"type": "text", "text": "a"}, sound]}
    body, dropped = encoded("chat.completions", "responses", messages=[said])
    assert body["input"][0]["content"] == [{"type": "input_text", "text": "a"}]
    assert dropped == ("input_audio",)


@pytest.mark.parametrize(("target", "most"), [("chat.completions", 40), ("responses", 64)])
def test_ids_of_calls_that_are_too_long_for_openai_are_shortened_alike_in_call_and_result(
    target: str, most: int
) -> None:
    names = ["c" * 100, "d" * 100, "short"]
    used = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in names]
    results = [{"type": "tool_result", "tool_use_id": name, "content": "r"} for name in names]
    messages = [ASKED, {"role": "assistant", "content": used}, {"role": "user", "content": results}]
    body, _ = encoded("messages", target, messages=messages, max_tokens=99)
    if target == "responses":
        called = [item["call_id"] for item in body["input"] if item["type"] == "function_call"]
        answered = [item["call_id"] for item in body["input"] if item["type"] == "function_call_output"]
    else:
        called = [call["id"] for call in body["messages"][1]["tool_calls"]]
        answered = [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]
    assert called == answered
    assert len(set(called)) == 3
    assert max(map(len, called)) == most
    assert called[2] == "short"


# -- reasoning that goes back -----------------------------------------------------------------------------------------


def sent_back(surface: str, told: dict[str, Any]) -> dict[str, Any]:
    """The turn that a caller sends with a plain answer in it, as it was told."""
    if surface == "messages":
        return {"max_tokens": 9, "messages": [ASKED, {"role": "assistant", "content": told["content"]}, ASKED]}
    if surface == "generateContent":
        said = {"role": "user", "parts": [{"text": "a"}]}
        return {"contents": [said, told["candidates"][0]["content"], said]}
    if surface == "converse":
        said = {"role": "user", "content": [{"text": "a"}]}
        return {"messages": [said, told["output"]["message"], said]}
    return {"input": [ASKED, *told["output"], ASKED]}


@pytest.mark.parametrize("surface", ["messages", "generateContent", "converse", "responses"])
@pytest.mark.parametrize(
    "members",
    [
        {"reasoning_content": "They ask."},  # DeepSeek, which wants it with the results of tools
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "c2VhbA", "format": "xai-responses-v1"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "a", "signature": "c2ln", "format": "unknown"}]},
    ],
)
def test_reasoning_goes_back_to_its_vendor_with_all_that_the_vendor_said_of_it(
    surface: str, members: dict[str, Any]
) -> None:
    message = {"role": "assistant", "content": "Rain.", **members}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = CODECS["chat.completions"].decode_answer(json.dumps({"id": "c", "choices": [choice]}).encode())
    told = json.loads(CODECS[surface].encode_answer(answer, heading(surface)))
    body, dropped = encoded(surface, "chat.completions", **sent_back(surface, told))
    again = body["messages"][1]
    for entry in again.get("reasoning_details", ()):
        entry.pop("index")
    assert {name: again[name] for name in members} == members
    assert dropped == ()
