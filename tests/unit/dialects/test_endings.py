"""Why there is no answer, or no more of it: the vendor's words reach callers of every dialect, plain and streamed."""

import json
from typing import Any

import pytest
from msgspec import structs

from penstock.dialects import eventstream
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.eventstream import Frame
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Answer, Choice, Message, Refusal, Request, Sampling, Text
from penstock.domain.stream import Event, collect, events_of
from penstock.errors import AnswerFailed

REQUEST = Request("", "model-1", (Message("user", (Text("Hi."),)),), max_output=9)
WORDS = "This was declined by policy."
DETAILS = {"type": "refusal", "category": "cyber", "explanation": WORDS}


def heading(caller: str, **sampling: Any) -> Heading:
    request = structs.replace(REQUEST, origin=DIALECTS[caller].name, sampling=Sampling(**sampling))
    return Heading("model-1", True, request, 1_700_000_000, "id_1")


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def read(surface: str, stream: bytes) -> list[Event]:
    decoder = CODECS[surface].decoder()
    return [*decoder.feed(stream), *decoder.close()]


def message(**members: Any) -> dict[str, Any]:
    known = {"type": "message", "id": "m", "role": "assistant", "model": "c", "content": []}
    return {**known, "stop_reason": "refusal", "usage": {"input_tokens": 1, "output_tokens": 1}, **members}


def candidate(**members: Any) -> dict[str, Any]:
    return {"candidates": [{"index": 0, **members}], "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}}


FILTERED = candidate(finishReason="SAFETY", finishMessage=WORDS)
BLOCKED = {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": WORDS}, "usageMetadata": {}}
REFUSED = [
    ("messages", json.dumps(message(stop_details=DETAILS)).encode()),
    ("generateContent", json.dumps(FILTERED).encode()),
    ("generateContent", json.dumps(BLOCKED).encode()),
]
REFUSED_STREAMS = [
    sse(
        {"type": "message_start", "message": message(stop_reason=None)},
        {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": DETAILS}, "usage": {}},
        {"type": "message_stop"},
    ),
    sse(FILTERED),
    sse(BLOCKED),
]


def words_in(caller: str, body: bytes) -> list[str]:
    """Where a caller of this dialect finds why it was refused."""
    told = json.loads(body)
    if caller == "chat.completions":
        assert told["choices"][0]["finish_reason"] == "content_filter"
        return [told["choices"][0]["message"]["refusal"]]
    if caller == "responses":
        assert told["incomplete_details"] == {"reason": "content_filter"}
        return [part["refusal"] for item in told["output"] for part in item["content"]]
    if caller == "messages":
        assert told["stop_reason"] == "refusal"
        return [told["stop_details"]["explanation"]]
    if caller == "converse":
        assert told["stopReason"] == "content_filtered"
        return [block["text"] for block in told["output"]["message"]["content"]]
    if caller == "generateContent":
        assert told["candidates"][0]["finishReason"] == "SAFETY"
        return [told["candidates"][0]["finishMessage"]]
    return [block["text"] for block in told["message"]["content"]]


@pytest.mark.parametrize("caller", CONVERSATIONS)
@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_the_explanation_of_a_refusal_reaches_callers_of_every_other_dialect(number: int, caller: str) -> None:
    target, body = REFUSED[number]
    answer = CODECS[target].decode_answer(body)
    assert answer.choices[0].explanation == WORDS
    assert collect(read(target, REFUSED_STREAMS[number])).choices == answer.choices
    if caller == target:
        return
    assert words_in(caller, CODECS[caller].encode_answer(answer, heading(caller))) == [WORDS]
    encoder = CODECS[caller].encoder(heading(caller))
    streamed = collect(read(caller, b"".join(map(encoder.encode, events_of(answer)))))
    plain = CODECS[caller].decode_answer(CODECS[caller].encode_answer(answer, heading(caller)))
    assert streamed.choices[0].parts == plain.choices[0].parts
    assert streamed.choices[0].explanation == plain.choices[0].explanation


@pytest.mark.parametrize("target", ["messages", "generateContent"])
def test_a_vendors_own_callers_behind_another_address_get_its_own_members(target: str) -> None:
    body = dict(REFUSED)[target] if target == "messages" else REFUSED[1][1]
    answer = CODECS[target].decode_answer(body)
    told = json.loads(CODECS[target].encode_answer(answer, heading(target)))
    sent = json.loads(body)
    if target == "messages":
        assert (told["stop_details"], told["content"]) == (DETAILS, [])
    else:
        assert told["candidates"][0]["finishMessage"] == sent["candidates"][0]["finishMessage"]
    again = CODECS[target].decode_answer(CODECS[target].encode_answer(answer, heading(target)))
    assert again.choices == answer.choices


def test_a_models_own_refusal_stops_a_message_as_one() -> None:
    answer = Answer("openai_chat", "1", "m", (Choice((Refusal("I cannot "), Refusal("do that.")), "stop", "stop"),))
    codec = CODECS["messages"]
    body = codec.encode_answer(answer, heading("messages"))
    told = json.loads(body)
    assert told["stop_reason"] == "refusal"
    assert told["stop_details"] == {"type": "refusal", "category": None, "explanation": "I cannot do that."}
    assert [block["text"] for block in told["content"]] == ["I cannot ", "do that."]
    encoder = codec.encoder(heading("messages"))
    stream = b"".join(map(encoder.encode, events_of(answer)))
    assert collect(read("messages", stream)).choices == codec.decode_answer(body).choices


# -- faults -----------------------------------------------------------------------------------------------------------

MALFORMED = candidate(finishReason="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: look(")


def test_an_answer_that_ended_in_a_fault_is_an_error_to_callers_of_messages() -> None:
    answer = CODECS["generateContent"].decode_answer(json.dumps(MALFORMED).encode())
    with pytest.raises(AnswerFailed, match=r"Malformed function call: look\("):
        CODECS["messages"].encode_answer(answer, heading("messages"))
    encoder = CODECS["messages"].encoder(heading("messages"))
    stream = b"".join(map(encoder.encode, events_of(answer)))
    assert b"message_delta" not in stream
    told = json.loads(stream.split(b"event: error\ndata: ")[1])
    message = "Malformed function call: look("
    assert told == {"type": "error", "error": {"type": "api_error", "message": message}}


def test_an_answer_that_is_nothing_but_a_fault_is_an_error_to_callers_of_chat() -> None:
    answer = CODECS["generateContent"].decode_answer(json.dumps(MALFORMED).encode())
    codec = CODECS["chat.completions"]
    with pytest.raises(AnswerFailed, match=r"Malformed function call: look\("):
        codec.encode_answer(answer, heading("chat.completions"))
    encoder = codec.encoder(heading("chat.completions"))
    stream = b"".join(map(encoder.encode, events_of(answer)))
    told = json.loads(stream.split(b"data: ")[-1])
    assert told["error"]["message"] == "Malformed function call: look("
    assert b"[DONE]" not in stream


@pytest.mark.parametrize("caller", ["chat.completions", "responses", "converse", "generateContent", "cohere.chat"])
def test_a_fault_is_told_in_its_words_where_the_dialect_has_one(caller: str) -> None:
    answer = Answer("elsewhere", "1", "m", (Choice((Text("Ra"),), "error", "FELL", explanation="It fell."),))
    told = json.loads(CODECS[caller].encode_answer(answer, heading(caller)))
    at = {
        "chat.completions": lambda: told["choices"][0]["native_finish_reason"] == "FELL",
        "responses": lambda: (told["status"], told["error"]["message"]) == ("failed", "It fell."),
        "converse": lambda: told["stopReason"] == "malformed_model_output",
        "generateContent": lambda: told["candidates"][0]["finishMessage"] == "It fell.",
        "cohere.chat": lambda: told["finish_reason"] == "ERROR",
    }
    assert at[caller]()


def test_an_answer_without_any_reason_to_have_stopped_is_taken_for_whole() -> None:
    answer = Answer("openai_chat", "1", "m", (Choice((Text("Rain."),), "error"),))
    told = json.loads(CODECS["messages"].encode_answer(answer, heading("messages")))
    assert told["stop_reason"] == "end_turn"


# -- stop sequences ---------------------------------------------------------------------------------------------------


def converse(**members: Any) -> dict[str, Any]:
    output = {"output": {"message": {"role": "assistant", "content": [{"text": "Ra"}]}}}
    return {**output, "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, **members}


def frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(eventstream.encode(Frame(kind, json.dumps(told).encode())) for kind, told in events)


def test_bedrock_is_asked_which_stop_sequence_was_met_and_callers_of_messages_hear_it() -> None:
    request = structs.replace(REQUEST, origin="anthropic_messages", sampling=Sampling(stop=("END", "STOP")))
    for streaming, path in ((False, "/stop_sequence"), (True, "/delta/stop_sequence")):
        asking = structs.replace(request, streaming=streaming)
        encoded = CODECS["converse"].encode_request(asking, TargetFacts("any.model"))
        assert json.loads(encoded.body)["additionalModelResponseFieldPaths"] == [path]
        assert not encoded.dropped
    met = {"stop_sequence": "STOP"}
    own = {"additionalModelResponseFields": met}
    plain = CODECS["converse"].decode_answer(json.dumps(converse(stopReason="stop_sequence", **own)).encode())
    streamed = collect(
        read(
            "converse",
            frames(
                ("messageStart", {"role": "assistant"}),
                ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Ra"}}),
                ("contentBlockStop", {"contentBlockIndex": 0}),
                ("messageStop", {"stopReason": "stop_sequence", "additionalModelResponseFields": {"delta": met}}),
                ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}),
            ),
        )
    )
    assert (streamed.choices[0].finish, streamed.choices[0].stop_sequence) == ("stop_sequence", "STOP")
    assert streamed.choices[0].parts == plain.choices[0].parts
    told = json.loads(CODECS["messages"].encode_answer(plain, heading("messages", stop=("END", "STOP"))))
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "STOP")


@pytest.mark.parametrize("own", [None, [], {"stop_sequence": 7}, {"delta": 7}, {"delta": {"stop_sequence": None}}, "x"])
def test_what_else_bedrock_may_say_there_is_no_stop_sequence(own: Any) -> None:
    body = json.dumps(converse(stopReason="end_turn", additionalModelResponseFields=own)).encode()
    assert CODECS["converse"].decode_answer(body).choices[0].stop_sequence == ""


@pytest.mark.parametrize(("stop", "met"), [(("END",), "END"), (("END", "STOP"), None)])
def test_the_only_stop_sequence_is_the_one_that_was_met(stop: tuple[str, ...], met: str | None) -> None:
    answer = Answer("cohere_chat", "1", "m", (Choice((Text("Ra"),), "stop_sequence", "STOP_SEQUENCE"),))
    told = json.loads(CODECS["messages"].encode_answer(answer, heading("messages", stop=stop)))
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", met)
    chat = json.loads(CODECS["chat.completions"].encode_answer(answer, heading("chat.completions", stop=stop)))
    assert chat["choices"][0].get("stop_reason") == met


def test_sglang_tells_the_stop_sequence_that_it_met() -> None:
    choice = {"index": 0, "message": {"content": "Ra"}, "finish_reason": "stop", "matched_stop": "END"}
    answer = CODECS["chat.completions"].decode_answer(json.dumps({"id": "1", "choices": [choice]}).encode())
    assert (answer.choices[0].finish, answer.choices[0].stop_sequence) == ("stop_sequence", "END")
    choice["matched_stop"] = 151645
    answer = CODECS["chat.completions"].decode_answer(json.dumps({"id": "1", "choices": [choice]}).encode())
    assert (answer.choices[0].finish, answer.choices[0].stop_sequence) == ("stop", "")
