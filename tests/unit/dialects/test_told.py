"""What callers are told: where a citation stands, which is in characters, bytes, parts or all of the text, plain and
streamed; and that the official client puts the pieces together."""

import json
from typing import Any

import pytest
from msgspec import Raw, structs
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from penstock.dialects.base import Address, Tee
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Answer, Choice, Citation, Media, Opaque, Request, Text, Thinking, ToolCall
from penstock.domain.stream import Failed, events_of
from penstock.domain.usage import Usage
from penstock.errors import UpstreamReset

ELSEWHERE = "anthropic_messages"
SAID = "As said: Größe. The end."
CITED = Citation("https://a.example", "A", "so big", origin=ELSEWHERE, raw=Raw(b'{"type":"x"}'))
ANSWER = Answer(
    ELSEWHERE,
    "id_1",
    "m",
    (
        Choice(
            (
                Text("As said: "),
                Opaque(ELSEWHERE, "web_search_tool_result", Raw(b"{}")),
                Text("Größe.", (CITED, CITED)),
                Text(" The end.", (Citation("https://b.example", "B", "", 1, 4),)),
            )
        ),
    ),
)


def _heading(origin: str) -> Heading:
    return Heading("m", wants_usage=True, request=Request(origin, "m", ()), created=7, id="ours")


def _plain(surface: str, answer: Answer = ANSWER) -> Any:
    return json.loads(CODECS[surface].encode_answer(answer, _heading(surface)))


def _streamed(surface: str, answer: Answer = ANSWER) -> list[Any]:
    encoder = CODECS[surface].encoder(_heading(surface))
    stream = b"".join([encoder.encode(event) for event in events_of(answer)])
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]


def _completion(answer: Answer) -> Any:
    """What the official client makes of the stream."""
    state = ChatCompletionStreamState()
    for chunk in _streamed("chat.completions", answer):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    return state.get_final_completion().choices[0].message


def test_places_are_places_in_the_content_of_a_chat() -> None:
    plain = _plain("chat.completions")["choices"][0]["message"]
    assert plain["content"] == SAID
    places = [one["url_citation"] for one in plain["annotations"]]
    assert [SAID[one["start_index"] : one["end_index"]] for one in places] == ["Größe.", "Größe.", "The"]
    streamed = _completion(ANSWER)
    assert [one.url_citation.model_dump() for one in streamed.annotations] == places
    assert streamed.content == SAID


def test_places_are_places_in_one_text_of_a_response() -> None:
    def told(output: list[Any]) -> list[Any]:
        texts = [text for item in output for text in item["content"]]
        return [text["text"][a["start_index"] : a["end_index"]] for text in texts for a in text["annotations"]]

    assert told(_plain("responses")["output"]) == ["Größe.", "Größe.", "The"]
    events = _streamed("responses")
    assert told(events[-1]["response"]["output"]) == ["Größe.", "Größe.", "The"]
    added = [event["annotation"] for event in events if event["type"] == "response.output_text.annotation.added"]
    assert added == [a for text in events[-1]["response"]["output"][-1]["content"] for a in text["annotations"]]


def test_places_are_bytes_of_a_part_for_callers_of_gemini_and_of_all_the_text_in_a_stream() -> None:
    (candidate,) = _plain("generateContent")["candidates"]
    parts = [part["text"] for part in candidate["content"]["parts"]]

    def told(metadata: Any, texts: list[str]) -> list[str]:
        segments = [support["segment"] for support in metadata["groundingSupports"]]
        data = [texts[one.get("partIndex", 0)].encode() for one in segments]
        found = [
            text[one.get("startIndex", 0) : one["endIndex"]].decode() for text, one in zip(data, segments, strict=True)
        ]
        assert found == [one["text"] for one in segments]
        return found

    assert told(candidate["groundingMetadata"], parts) == ["Größe.", "Größe.", "The"]
    pieces = [one["candidates"][0] for one in _streamed("generateContent")]
    said = "".join(part["text"] for piece in pieces for part in piece["content"]["parts"])
    assert said == SAID
    assert told(pieces[-1]["groundingMetadata"], [SAID]) == ["Größe.", "Größe.", "The"]


def test_citations_follow_their_text_for_callers_of_cohere() -> None:
    plain = _plain("cohere.chat")["message"]
    assert [(one["content_index"], one["text"]) for one in plain["citations"]] == [
        (1, "Größe."),
        (1, "Größe."),
        (2, "The"),
    ]
    events = [event for event in _streamed("cohere.chat") if "index" in event]
    told = [event["delta"]["message"]["citations"] for event in events if event["type"] == "citation-start"]
    assert told == plain["citations"]
    kinds = [event["type"] for event in events]
    assert kinds[3:6] == ["content-start", "content-delta", "citation-start"]


def test_the_client_puts_streamed_images_and_signed_calls_together() -> None:
    shown = (Media("image", "image/png", "AAAA"), Media("image", "image/png", "BBBB"))
    call = ToolCall("call_1", "f", '{"a":1}', signature="c2ln", origin="gemini")
    answer = Answer("gemini", "id_1", "m", (Choice((*shown, call), "tool_calls"),))
    message = _completion(answer)
    assert [image["image_url"]["url"][-4:] for image in message.images] == ["AAAA", "BBBB"]
    (told,) = message.tool_calls
    assert (told.function.name, told.function.arguments) == ("f", '{"a":1}')
    assert told.extra_content["google"]["thought_signature"]
    read = CODECS["chat.completions"].decode_answer(json.dumps(_plain("chat.completions", answer)).encode())
    assert [part.data for part in read.choices[0].parts if isinstance(part, Media)] == ["AAAA", "BBBB"]


def test_members_of_another_dialects_call_are_not_told() -> None:
    call = ToolCall("call_1", "f", "{}", extras={"caller": Raw(b'{"type":"direct"}')})
    answer = Answer(ELSEWHERE, "id_1", "m", (Choice((call,), "tool_calls"),))
    (told,) = _plain("chat.completions", answer)["choices"][0]["message"]["tool_calls"]
    assert set(told) == {"id", "type", "function"}
    assert set(_completion(answer).tool_calls[0].model_extra) == {"index"}


def test_sealed_reasoning_that_the_client_put_together_goes_back_as_it_was() -> None:
    thought = Thinking("They ask.", True, sealed="c2VhbGVk", origin="openai_responses", id="rs_1")
    answer = Answer("openai_responses", "id_1", "m", (Choice((thought, Text("Rain."))),))
    kept = _completion(answer).model_dump(exclude_none=True)
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}, kept, {"role": "user", "content": "b"}]}
    asked = CODECS["chat.completions"].decode_request(DIALECTS["chat.completions"].parse(json.dumps(body).encode()))
    encoded = CODECS["responses"].encode_request(asked, TargetFacts("m"))
    told = next(item for item in json.loads(encoded.body)["input"] if item["type"] == "reasoning")
    assert (told["id"], told["encrypted_content"]) == ("rs_1", "c2VhbGVk")
    assert told["summary"] == [{"type": "summary_text", "text": "They ask."}]


SAYING = Answer("", "id_1", "m", (Choice((Text("As said."), Text("The end."))),), usage=Usage(input=3, output=2))


def _all_of(surface: str, form: str) -> bytes:
    encoder = CODECS[surface].encoder(structs.replace(_heading(surface), form=form))
    return b"".join([encoder.encode(event) for event in events_of(SAYING)])


def _tee(surface: str, form: str) -> Tee:
    texts = {"content": [{"text": "a"}] if surface == "converse" else "a", "role": "user"}
    body = {"model": "m", "max_tokens": 9, "messages": [texts], "input": "a", "contents": [{"parts": [{"text": "a"}]}]}
    needed = {"generateContent": ("contents",), "responses": ("model", "input"), "converse": ("messages",)}
    named = needed.get(surface, ("model", "max_tokens", "messages"))
    asked = json.dumps({name: body[name] for name in named}).encode()
    return DIALECTS[surface].tee(DIALECTS[surface].parse(asked, Address("m", True, form)), False)


@pytest.mark.parametrize(("surface", "form"), [*((one, "sse") for one in CONVERSATIONS), ("generateContent", "list")])
def test_where_a_stream_is_cut_its_error_stands_by_itself(surface: str, form: str) -> None:
    """What is no whole event yet has not passed, so that clients can read the error that takes its place."""
    stream = _all_of(surface, form)
    for at in range(1, len(stream) - 30, 3):
        tee = _tee(surface, form)
        passed = tee.feed(stream[: at // 2]) + tee.feed(stream[at // 2 : at])
        assert stream.startswith(passed)
        if tee.ended:
            break
        ended = passed + tee.error_event(UpstreamReset("It broke."))
        if form == "list":
            assert json.loads(ended)[-1]["error"]["message"] == "It broke."
        elif surface in ("chat.completions", "messages", "converse", "cohere.chat", "generateContent"):
            events = CODECS[surface].decoder().feed(ended)
            assert [event.message for event in events if isinstance(event, Failed)] == ["It broke."]
        else:
            assert json.loads(ended.splitlines()[-2].removeprefix(b"data: "))["message"] == "It broke."


@pytest.mark.parametrize(("surface", "form"), [*((one, "sse") for one in CONVERSATIONS), ("generateContent", "list")])
@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_a_stream_passes_whole_however_it_was_cut(surface: str, form: str, size: int) -> None:
    stream, tee = _all_of(surface, form), _tee(surface, form)
    passed = b"".join([tee.feed(stream[at : at + size]) for at in range(0, len(stream), size)])
    rest, seen = tee.close()
    assert (passed + rest, seen) == (stream, True)


@pytest.mark.parametrize("surface", ["chat.completions", "responses", "messages", "cohere.chat"])
def test_an_answer_without_an_id_has_one_of_ours(surface: str) -> None:
    answer = Answer("bedrock_converse", "", "", (Choice((Text("Rain."),)),))
    told = [_plain(surface, answer), _streamed(surface, answer)[0]]
    ids = [one.get("id") or next(one[name]["id"] for name in ("message", "response") if name in one) for one in told]
    assert [id.removeprefix("resp_") for id in ids] == ["ours", "ours"]


def test_the_words_of_a_document_without_an_address_are_told_to_callers_of_gemini() -> None:
    cited = Citation("", "Paper", "It rains.", origin=ELSEWHERE, raw=Raw(b"{}"))
    answer = Answer(ELSEWHERE, "id_1", "m", (Choice((Text("Rain.", (cited,)),)),))
    (candidate,) = _plain("generateContent", answer)["candidates"]
    chunks = candidate["groundingMetadata"]["groundingChunks"]
    assert chunks == [{"retrievedContext": {"title": "Paper", "text": "It rains."}}]
    body = json.dumps({"candidates": [candidate]}).encode()
    (text,) = CODECS["generateContent"].decode_answer(body).choices[0].parts
    assert isinstance(text, Text)
    assert [(one.title, one.quote) for one in text.citations] == [("Paper", "It rains.")]
