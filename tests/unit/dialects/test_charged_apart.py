"""What is charged beside the tokens: the searches by which Google grounds an answer, and the pictures that OpenAI draws
for one."""

import json
from typing import Any

import pytest
from msgspec import structs

from penstock.dialects.base import Address, Reading
from penstock.dialects.gemini import GeminiCodec, GenerateContent
from penstock.dialects.openai_responses import Responses
from penstock.dialects.openai_responses.wire import PICTURE_TOKENS
from penstock.domain.exchange import Exchange
from penstock.domain.money import Rate, RateCard
from penstock.domain.stream import collect
from penstock.domain.usage import Usage
from penstock.pipeline.attempt import tell_of_more

DIALECT, CODEC = GenerateContent(), GeminiCodec()
RESPONSES = Responses()
COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
ASK = {"contents": [{"parts": [{"text": "Who won?"}]}]}


def piece(text: str, model: str, *queries: Any, ends: bool = False, **more: Any) -> dict[str, Any]:
    grounding = {"groundingMetadata": {"webSearchQueries": list(queries)}} if queries else {}
    end = {"finishReason": "STOP"} if ends else {}
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, **end, **grounding}
    return {"candidates": [candidate], "usageMetadata": COUNTS, "modelVersion": model, **more}


def told(answer: dict[str, Any]) -> list[int | None]:
    """The searches in the usage that is charged and in the one that callers of other dialects are told."""
    body = json.dumps(answer).encode()
    read = (DIALECT.read(body).usage, CODEC.decode_answer(body).usage)
    return [usage.web_searches if usage else None for usage in read]


@pytest.mark.parametrize(
    ("model", "queries", "expected"),
    [
        ("gemini-3-flash-preview", ("cup final", "cup winner"), 2),
        ("gemini-3-flash-preview", ("", "cup final", "", "cup final"), 1),
        ("gemini-4-argon", ("", None, 7), 0),
        ("gemini-2.5-pro", ("cup final", "cup winner"), 1),
        ("gemini-2.5-pro", (), 0),
        ("publishers/google/models/gemini-2.0-flash", ("cup final", "cup winner"), 1),
    ],
)
def test_newer_models_are_charged_for_each_query_and_older_ones_for_the_prompt(
    model: str, queries: tuple[Any, ...], expected: int
) -> None:
    assert told(piece("Spain.", model, *queries, ends=True)) == [expected, expected]


def test_searches_for_pictures_are_searches_and_what_is_no_list_of_them_is_none() -> None:
    answer = piece("Spain.", "gemini-3", ends=True)
    answer["candidates"][0]["groundingMetadata"] = {"imageSearchQueries": ["a cup"], "webSearchQueries": "cup"}
    assert told(answer) == [1, 1]


def test_a_stream_is_charged_for_the_queries_of_all_its_pieces_once() -> None:
    model = "gemini-3-flash-preview"
    pieces = [
        piece("Sp", model, "cup final"),
        piece("ain", model, "cup final", "cup winner", ends=True),
        piece("", model),
    ]
    stream = b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in pieces)
    tee = DIALECT.tee(DIALECT.parse(json.dumps(ASK).encode(), Address("m", True, "sse")), False)
    decoder = CODEC.decoder()
    events = []
    for at in range(0, len(stream), 30):
        tee.feed(stream[at : at + 30])
        events += decoder.feed(stream[at : at + 30])
    events += decoder.close()
    usage, answered = tee.reading.usage, collect(events).usage
    assert usage == answered
    assert usage is not None
    assert (usage.web_searches, usage.input, usage.output) == (2, 5, 2)


@pytest.mark.parametrize(
    ("model", "tool", "expected"),
    [
        ("gemini-3-flash", "googleSearch", 10),
        ("smart", "google_search", 10),
        ("gemini-2.5-flash", "enterpriseWebSearch", 1),
        ("gemini-3-flash", "googleMaps", 0),
        ("gemini-3-flash", "urlContext", 0),
    ],
)
def test_searches_are_held_before_the_call(model: str, tool: str, expected: int) -> None:
    call = DIALECT.parse(json.dumps({**ASK, "tools": [{tool: {}}]}).encode(), Address(model))
    assert call.web_searches == expected


def test_an_answer_from_a_map_owes_more_than_it_reports() -> None:
    answer = piece("There.", "gemini-3", ends=True)
    assert not DIALECT.read(json.dumps(answer).encode()).is_more_owed
    answer["candidates"][0]["groundingMetadata"] = {"groundingChunks": [{"maps": {"title": "A café"}}]}
    assert DIALECT.read(json.dumps(answer).encode()).is_more_owed


# -- OpenAI's own tools -----------------------------------------------------------------------------------------------

DRAWN = {
    "input_tokens": 60,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 20},
    "output_tokens": 272,
    "output_tokens_details": {"image_tokens": 272, "text_tokens": 0},
    "total_tokens": 332,
}
PICTURE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORw0KGgo="}


def response(*output: dict[str, Any], **tool_usage: Any) -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    told = {"id": "resp_1", "status": "completed", "output": output, "usage": usage, "tool_usage": tool_usage}
    return json.dumps(told).encode()


def test_what_was_used_to_draw_is_used_beside_what_the_model_used() -> None:
    body = response(PICTURE, image_gen=DRAWN, web_search={"num_requests": 0})
    expected = Usage(input=70, output=277, image_in=40, image_out=272)
    tee = RESPONSES.tee(RESPONSES.parse(b'{"model":"m","input":"Draw."}'), False)
    tee.feed(b'data: {"type":"response.completed","response":' + body + b"}\n\n")
    for reading in (RESPONSES.read(body), tee.reading):
        assert (reading.usage, reading.is_more_owed, reading.hostile) == (expected, True, False)


@pytest.mark.parametrize("told", [None, [], {}, {"image_gen": None}, {"image_gen": {"output_tokens": -5}}])
def test_a_report_of_the_tools_that_says_nothing_leaves_the_models_own(told: Any) -> None:
    body = json.loads(response())
    reading = RESPONSES.read(json.dumps({**body, "tool_usage": told}).encode())
    assert (reading.usage, reading.is_more_owed) == (Usage(input=10, output=5), False)


@pytest.mark.parametrize(
    ("kind", "is_more_owed"),
    [("file_search_call", True), ("code_interpreter_call", True), ("web_search_call", False), ("function_call", False)],
)
def test_tools_that_no_rate_card_prices_are_told(kind: str, is_more_owed: bool) -> None:
    said = {"type": "message", "content": [{"type": "output_text", "text": "file_search_call"}]}
    odd = {"type": {"a": 1}, "id": "b"}
    assert RESPONSES.read(response(said, odd, {"type": kind, "id": "a"})).is_more_owed is is_more_owed


@pytest.mark.parametrize(("more", "pictures"), [({}, 4), ({"max_tool_calls": 1}, 1), ({"tools": []}, 0)])
def test_pictures_are_held_before_the_call(more: dict[str, Any], pictures: int) -> None:
    asked = {"model": "m", "input": "Draw.", "tools": [{"type": "image_generation"}], **more}
    assert RESPONSES.parse(json.dumps(asked).encode()).predicted == pictures * PICTURE_TOKENS


def test_xai_says_how_often_it_searched_the_web_and_x() -> None:
    """Its items are pages that it opened, too."""
    ran = {"web_search_calls": 1, "x_search_calls": 2, "code_interpreter_calls": 0}
    body = json.loads(response(*[{"type": "web_search_call", "id": "a", "action": {"type": "search"}}] * 5))
    for told, searches in ((ran, 3), ({"web_search_calls": -1}, 0), ([], 5)):
        body["usage"]["server_side_tool_usage_details"] = told
        usage = RESPONSES.read(json.dumps(body).encode()).usage
        assert usage is not None
        assert usage.web_searches == searches


def streamed(*done: Any, output: Any) -> Reading:
    """The reading of a stream that tells these items as they are done, and this output at its end."""
    ending = {**json.loads(response()), "output": output}
    events = [
        *({"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(done)),
        {"type": "response.completed", "response": ending},
    ]
    tee = RESPONSES.tee(RESPONSES.parse(b'{"model":"m","input":"Who won?","stream":true}'), False)
    for event in events:
        tee.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    return tee.reading


SEARCHES = [
    {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "cup final"}},
    {"type": "web_search_call", "id": "ws_2", "action": {"type": "open_page", "url": "https://a.example"}},
    {"type": "web_search_call", "action": {"type": "search", "query": "cup winner"}},
]


@pytest.mark.parametrize("output", [[], None, SEARCHES])
def test_searches_are_charged_once_whether_the_end_of_a_stream_lists_them_or_not(output: Any) -> None:
    reading = streamed(*SEARCHES, SEARCHES[0], output=output)
    assert reading.usage == Usage(input=10, output=5, web_searches=2)
    assert (reading.is_more_owed, reading.hostile) == (False, False)


def test_what_the_end_of_a_stream_does_not_list_is_kept_and_owed_for_all_the_same() -> None:
    ran = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1 + 1"}
    reading = streamed(ran, "no item", {"type": "message", "id": "msg_1", "content": []}, output=[])
    assert (reading.is_more_owed, reading.kept) == (True, ("resp_1", "ci_1", "cntr_1", "msg_1"))


def test_a_stream_that_ends_within_an_item_is_cut() -> None:
    event = b'data: {"type":"response.output_item.done","item":' + json.dumps(SEARCHES[0]).encode()
    tee = RESPONSES.tee(RESPONSES.parse(b'{"model":"m","input":"Who won?","stream":true}'), False)
    assert tee.feed(event) == b""
    assert tee.close() == (event, False)


# -- what the charge rests on -----------------------------------------------------------------------------------------

LISTED = RateCard({"input": Rate(1), "output": Rate(1)}, "list")
PRICED = RateCard({**LISTED.rates, "web_searches": Rate(1)}, "list")
SEARCHED = Reading(Usage(5, 2, web_searches=1))


@pytest.mark.parametrize(
    ("reading", "card", "is_flagged"),
    [
        (SEARCHED, PRICED, False),
        (SEARCHED, LISTED, True),
        (SEARCHED, structs.replace(LISTED, is_own=True), False),
        (SEARCHED, None, False),
        (Reading(Usage(5, 2)), LISTED, False),
        (Reading(Usage(5, 2), is_more_owed=True), PRICED, True),
    ],
)
def test_an_operator_is_told_of_a_charge_without_all_that_is_owed(
    reading: Reading, card: RateCard | None, is_flagged: bool
) -> None:
    exchange = Exchange("r1", "n1", "responses", {}, 0)
    tell_of_more(reading, card, exchange)
    assert exchange.flags == ({"charged_apart"} if is_flagged else set())
