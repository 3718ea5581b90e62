"""What vendors with a dialect of their own say beside what their references say, and rarely."""

import json
from typing import Any

import pytest

from penstock.dialects import eventstream
from penstock.dialects.base import Call
from penstock.dialects.codec import Heading
from penstock.dialects.eventstream import Frame
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Answer, Message, Opaque, Request, Text, ToolCall
from penstock.domain.stream import collect
from penstock.domain.usage import Usage
from penstock.errors import UpstreamMalformed, UpstreamReset

REQUEST = Request("", "model-1", (Message("user", (Text("How deep?"),)),), streaming=True)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(eventstream.encode(Frame(kind, json.dumps(told).encode())) for kind, told in events)


def read(surface: str, stream: bytes) -> Answer:
    decoder = CODECS[surface].decoder()
    return collect([*decoder.feed(stream), *decoder.close()])


def calls(answer: Answer) -> list[tuple[str, str]]:
    return [(part.name, part.arguments) for part in answer.choices[0].parts if isinstance(part, ToolCall)]


# -- Anthropic --------------------------------------------------------------------------------------------------------

RESULT = {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {"stdout": "7\n"}}
FOLLOWING = {"type": "tool_use", "id": "toolu_1", "name": "sound", "input": {"at": 3}, "caller": {"type": "direct"}}
DONE = {"type": "message_stop"}


def start(*content: dict[str, Any], stop_reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content}
    return {"type": "message_start", "message": {**message, "stop_reason": stop_reason, "usage": usage}}


def test_blocks_that_stand_in_the_start_of_a_message_are_told_to_callers_of_every_dialect() -> None:
    stream = sse(start(RESULT, FOLLOWING, stop_reason="tool_use", usage={"input_tokens": 0, "output_tokens": 0}), DONE)
    answer = read("messages", stream)
    result, call = answer.choices[0].parts
    assert isinstance(result, Opaque)
    assert json.loads(bytes(result.raw)) == RESULT
    assert call == ToolCall("toolu_1", "sound", '{"at": 3}')
    assert (answer.choices[0].finish, answer.usage) == ("tool_calls", Usage())
    for surface in CONVERSATIONS:
        encoder = CODECS[surface].encoder(Heading("model-1", True, REQUEST, 1_700_000_000, "id-1"))
        decoder = CODECS["messages"].decoder()
        told = b"".join(map(encoder.encode, [*decoder.feed(stream), *decoder.close()]))
        assert [name for name, _ in calls(read(surface, told))] == ["sound"]


def test_a_message_that_was_whole_when_it_started_is_believed_and_one_that_goes_on_must_end() -> None:
    usage = {"input_tokens": 9, "output_tokens": 1}
    tee = DIALECTS["messages"].tee(Call({}, "m"), False)
    tee.feed(sse(start(FOLLOWING, stop_reason="tool_use", usage=usage), DONE))
    assert tee.close() == (b"", True)
    assert (tee.reading.usage, tee.reading.finish_reason, tee.reading.hostile) == (Usage(9, 1), "tool_use", False)
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    began = start(RESULT, stop_reason=None, usage=usage)
    assert read("messages", sse(began, delta, DONE)).usage == Usage(9, 5)
    with pytest.raises(UpstreamReset):
        read("messages", sse(began))


def test_a_message_that_is_begun_again_is_the_same_and_another_is_a_fault() -> None:
    began = start(stop_reason=None, usage={"input_tokens": 9, "output_tokens": 1})
    said = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
    ]
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    answer = read("messages", sse(began, began, said[0], began, *said[1:], delta, DONE))
    assert (answer.choices[0].parts, answer.usage) == ((Text("Hi"),), Usage(9, 5))
    other = {**began, "message": {**began["message"], "id": "msg_2"}}
    with pytest.raises(UpstreamMalformed, match="began twice"):
        read("messages", sse(began, *said, other))


# -- Bedrock ----------------------------------------------------------------------------------------------------------

COUNTED = {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}


def test_a_call_of_the_callers_tool_is_one_whether_or_not_bedrock_names_its_type() -> None:
    named = {"toolUseId": "tooluse_1", "name": "sound", "type": "tool_use"}
    message = {"role": "assistant", "content": [{"toolUse": {**named, "input": {"at": 3}}}]}
    body = {"output": {"message": message}, "stopReason": "tool_use", "usage": COUNTED}
    assert calls(CODECS["converse"].decode_answer(json.dumps(body).encode())) == [("sound", '{"at": 3}')]
    streamed = frames(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": named}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": '{"at": 3}'}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": COUNTED}),
    )
    assert calls(read("converse", streamed)) == [("sound", '{"at": 3}')]


def converse(*ending: tuple[str, dict[str, Any]]) -> bytes:
    said = {"contentBlockIndex": 0, "delta": {"text": "7 m"}}
    begun = (("messageStart", {"role": "assistant"}), ("contentBlockDelta", said))
    return frames(*begun, ("contentBlockStop", {"contentBlockIndex": 0}), *ending)


STOPPED = ("messageStop", {"stopReason": "end_turn"})
METERED = ("metadata", {"usage": COUNTED})
UNMETERED = ("metadata", {"metrics": {"latencyMs": 7}})


@pytest.mark.parametrize("ending", [(STOPPED, METERED), (METERED, STOPPED), (METERED, UNMETERED, STOPPED)])
def test_a_converse_stream_is_whole_when_its_end_and_its_usage_have_come_in_any_order(ending: Any) -> None:
    stream = converse(*ending)
    tee = DIALECTS["converse"].tee(Call({}, "m"), False)
    tee.feed(stream)
    assert tee.close() == (b"", True)
    assert (tee.reading.usage, tee.reading.hostile) == (Usage(9, 5), False)
    answer = read("converse", stream)
    assert (answer.choices[0].parts, answer.choices[0].finish, answer.usage) == ((Text("7 m"),), "stop", Usage(9, 5))


@pytest.mark.parametrize("ending", [(STOPPED,), (METERED,), (METERED, UNMETERED)])
def test_a_converse_stream_without_either_was_cut(ending: Any) -> None:
    stream = converse(*ending)
    tee = DIALECTS["converse"].tee(Call({}, "m"), False)
    tee.feed(stream)
    assert tee.close() == (b"", False)
    with pytest.raises(UpstreamReset):
        read("converse", stream)


def test_a_fault_of_a_model_at_bedrock_is_told_in_its_own_words_too() -> None:
    told = {"message": "Model Stream Error.", "originalStatusCode": 500, "originalMessage": "The pump has failed."}
    frame = Frame("modelStreamErrorException", json.dumps(told).encode(), is_exception=True)
    tee = DIALECTS["converse"].tee(Call({}, "m"), False)
    tee.feed(eventstream.encode(frame))
    assert (tee.reading.error, tee.reading.error_status) == ("Model Stream Error. The pump has failed.", 424)


# -- Google -----------------------------------------------------------------------------------------------------------


def gemini(finish: str, **metadata: Any) -> bytes:
    candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": "7 m"}]}, "finishReason": finish}
    counted = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}
    return json.dumps({"candidates": [candidate], "usageMetadata": {**counted, **metadata}}).encode()


def test_an_answer_that_google_would_go_on_with_is_one_that_was_cut_for_its_length() -> None:
    assert CODECS["generateContent"].decode_answer(gemini("CONTINUATION")).choices[0].finish == "length"


@pytest.mark.parametrize(
    ("told", "priced", "heard"),
    [
        ({"serviceTier": "standard"}, "standard", "default"),
        ({"serviceTier": "unspecified"}, "", ""),
        ({"trafficType": "ON_DEMAND"}, "standard", "default"),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority", "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex", "flex"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "", ""),
        ({"trafficType": ["ON_DEMAND"]}, "", ""),
    ],
)
def test_the_tier_that_google_served_is_the_one_that_is_charged(told: dict[str, Any], priced: str, heard: str) -> None:
    body = gemini("STOP", **told)
    assert DIALECTS["generateContent"].read(body).service_tier == priced
    assert CODECS["generateContent"].decode_answer(body).service_tier == heard


@pytest.mark.parametrize(
    ("told", "used"),
    [
        ({"promptTokenCount": 40, "cachedContentTokenCount": 30, "totalTokenCount": 45}, Usage(10, 5, 30)),
        ({"promptTokenCount": 40, "cachedContentTokenCount": 30, "totalTokenCount": 75}, Usage(40, 5, 30)),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 30, "totalTokenCount": 44}, Usage(9, 5, 30)),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 30, "totalTokenCount": 14}, Usage(9, 5, 30)),
    ],
)
def test_what_google_read_from_a_cache_is_counted_where_its_prompt_leaves_it_out(
    told: dict[str, int], used: Usage
) -> None:
    assert DIALECTS["generateContent"].read(gemini("STOP", **told)).usage == used


OSLO = {"text": "Oslo is the capital of Norway.", "fileSearchStore": "fileSearchStores/s"}
FOUND = {"groundingChunks": [{"retrievedContext": OSLO}]}
RESTS = {"segment": {"startIndex": 4, "endIndex": 8, "text": "Oslo"}, "groundingChunkIndices": [1]}


def chunk(part: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}, **more}]}


CODE = {"executableCode": {"language": "PYTHON", "code": "query()"}}
SEARCHED = [
    chunk(CODE, finishReason="STOP", groundingMetadata=FOUND),
    chunk({"text": "It's "}),
    chunk({"text": "Oslo"}),
    chunk({"text": "."}, finishReason="STOP", groundingMetadata={**FOUND, "groundingSupports": [RESTS]}),
]
RAN = [
    chunk({"text": "I ask."}),
    chunk(CODE, finishReason="STOP"),
    chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK"}}),
    chunk({"text": "Oslo."}, finishReason="STOP"),
    chunk({"text": "", "thoughtSignature": "c2VhbA=="}),
]


@pytest.mark.parametrize(
    ("stream", "is_whole"),
    [(sse(*SEARCHED[:number]), number == 4) for number in range(1, 5)]
    + [(sse(*RAN[:number]), number >= 4) for number in range(1, 6)]
    + [(sse(chunk(CODE, finishReason="MAX_TOKENS")), True)],
)
def test_an_answer_that_goes_on_behind_a_reason_to_have_finished_has_not_finished(
    stream: bytes, *, is_whole: bool
) -> None:
    tee = DIALECTS["generateContent"].tee(Call({}, "model-1", streaming=True), asked_usage=False)
    assert (tee.feed(stream), tee.close()) == (stream, (b"", is_whole))
    if is_whole:
        assert read("generateContent", stream).choices[0].finish in ("stop", "length")
    else:
        with pytest.raises(UpstreamReset):
            read("generateContent", stream)


def test_a_plain_answer_that_ends_with_code_has_stopped() -> None:
    body = json.dumps(chunk(CODE, finishReason="STOP")).encode()
    assert CODECS["generateContent"].decode_answer(body).choices[0].finish == "stop"


def test_sources_are_numbered_through_all_pieces_of_a_stream_where_their_own_holds_too_few() -> None:
    text = read("generateContent", sse(*SEARCHED)).choices[0].parts[-1]
    assert isinstance(text, Text)
    assert [(one.quote, one.start, one.end) for one in text.citations] == [(OSLO["text"], 4, 8)]


@pytest.mark.parametrize("is_split", [False, True])
def test_an_answer_rests_on_all_sources_where_no_text_is_told_to_rest_on_any(is_split: bool) -> None:
    sources = [{"maps": {"uri": "https://a.example"}}, {"image": {"sourceUri": "https://b.example"}}, {}, {"web": "c"}]
    last = {"finishReason": "STOP", "groundingMetadata": {"groundingChunks": sources}}
    pieces = (
        [chunk({"text": "It's "}), chunk({"text": "Oslo."}, **last)] if is_split else [chunk({"text": "O"}, **last)]
    )
    (text,) = read("generateContent", sse(*pieces)).choices[0].parts
    assert isinstance(text, Text)
    assert [(one.url, one.span(5)) for one in text.citations] == [
        ("https://a.example", (0, 5)),
        ("https://b.example", (0, 5)),
    ]


# -- Cohere -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "null", None])
def test_arguments_that_cohere_does_not_give_are_an_empty_object(said: str | None) -> None:
    function = {"name": "sound", **({} if said is None else {"arguments": said})}
    call = {"id": "sound_1", "type": "function", "function": function}
    body = {"id": "1", "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "TOOL_CALL"}
    assert calls(CODECS["cohere.chat"].decode_answer(json.dumps(body).encode())) == [("sound", "{}")]
    streamed = sse(
        {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}},
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {**call, "function": function}}}},
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    )
    assert calls(read("cohere.chat", streamed)) == [("sound", "{}")]
