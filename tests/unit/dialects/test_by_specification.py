"""What the vendors' specifications allow and their samples seldom show."""

import json
from typing import Any

import botocore.session
import pytest

from penstock.dialects.bedrock.blocks import MIMES
from penstock.dialects.codec import Heading
from penstock.dialects.gemini import GeminiCodec
from penstock.dialects.openai_responses import Responses
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Message, Request, Text
from penstock.domain.stream import Failed
from penstock.domain.usage import Usage
from penstock.errors import UnsupportedByTarget

HEADING = Heading("model-1", True, Request("", "model-1", (Message("user", (Text("Hi."),)),)), 1_700_000_000, "id-1")


@pytest.mark.parametrize("kind", sorted(MIMES))
def test_every_format_of_a_medium_that_bedrock_takes_has_a_type_of_its_own(kind: str) -> None:
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    assert set(MIMES[kind]) == set(model.shape_for(f"{kind.capitalize()}Format").enum)
    assert len(set(MIMES[kind].values())) == len(MIMES[kind])


@pytest.mark.parametrize("reference", [{"id": "msg_1"}, {"id": "msg_1", "type": None}])
def test_an_item_is_referred_to_without_a_type(reference: dict[str, str | None]) -> None:
    """Its type may be left out, or null."""
    dialect = Responses()
    call = dialect.parse(json.dumps({"model": "m", "input": [reference]}).encode())
    assert call.refers == {"msg_1": "input"}
    with pytest.raises(UnsupportedByTarget, match="Send the item"):
        dialect.codec.decode_request(call)


@pytest.mark.parametrize("surface", CONVERSATIONS)
def test_a_token_whose_probability_is_not_told_costs_nobody_the_answer(surface: str) -> None:
    tokens = {"chosenCandidates": [{"token": "Hi", "logProbability": None}, {"token": "!"}]}
    candidate = {"content": {"parts": [{"text": "Hi!"}]}, "finishReason": "STOP", "logprobsResult": tokens}
    answer = GeminiCodec().decode_answer(json.dumps({"candidates": [candidate]}).encode())
    assert "Hi!" in CODECS[surface].encode_answer(answer, HEADING).decode()


def test_cohere_may_leave_out_the_text_of_a_log_probability() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
    told = {"id": "a", "message": message, "finish_reason": "COMPLETE", "logprobs": [{"text": None, "token_ids": [5]}]}
    (choice,) = CODECS["cohere.chat"].decode_answer(json.dumps(told).encode()).choices
    assert choice.parts == (Text("Hi"),)


# -- errors that come with a success status ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("rate_limit_exceeded", 429),
        ("server_error", 500),
        ("vector_store_timeout", 500),
        ("invalid_prompt", 400),
        ("image_content_policy_violation", 400),
        ("bio_policy", 400),
        ("never_seen", 0),
    ],
)
def test_a_response_that_failed_has_the_status_that_its_code_stands_for(word: str, status: int) -> None:
    """So what a retry cannot cure is not tried again elsewhere."""
    dialect, error = DIALECTS["responses"], {"code": word, "message": "No."}
    failed = {"id": "resp_1", "status": "failed", "output": [], "error": error}
    tee = dialect.tee(dialect.parse(b'{"model":"m","input":"Hi","stream":true}'), False)
    told = json.dumps({"type": "response.failed", "response": failed, "sequence_number": 0}).encode()
    stream = b'data: {"type":"response.created","response":{"id":"resp_1"}}\n\ndata: ' + told + b"\n\n"
    tee.feed(stream)
    for reading in (dialect.read(json.dumps(failed).encode()), tee.reading):
        assert (reading.error, reading.error_status) == ("No.", status)
    (failure,) = [event for event in CODECS["responses"].decoder().feed(stream) if isinstance(event, Failed)]
    assert (failure.status, failure.kind) == (status, word)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"type": "rate_limit_error"}, 429),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, 400),
        ({"type": "invalid_request_error", "code": 503}, 503),
        ({"type": "server_error", "code": None}, 500),
        ({"type": "api_error"}, 0),
    ],
)
def test_an_error_of_a_chat_has_the_status_of_its_number_or_else_of_its_words(
    error: dict[str, Any], status: int
) -> None:
    body = json.dumps({"error": {"message": "No.", **error}}).encode()
    assert DIALECTS["chat.completions"].read(body).error_status == status


# -- what no specification allows -------------------------------------------------------------------------------------

ODD = [7, True, "x", [], [[]], {"a": 1}]
ANSWERED = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
SAID = {"type": "output_text", "text": "Hi", "annotations": []}


def told_by(surface: str, answer: dict[str, Any]) -> list[str]:
    """The answer of a target at this surface, as callers of every dialect get it."""
    found = CODECS[surface].decode_answer(json.dumps(answer).encode())
    assert DIALECTS[surface].read(json.dumps(answer).encode()).error is None
    return [CODECS[caller].encode_answer(found, HEADING).decode() for caller in CONVERSATIONS]


@pytest.mark.parametrize("odd", ODD)
def test_log_probabilities_of_another_form_cost_nobody_the_answer(odd: Any) -> None:
    sound = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    listed = [odd, {"token": odd}, {"token": "Hi", "top_logprobs": [odd]}, sound]
    chat = {"id": "a", "choices": [{**ANSWERED, "logprobs": {"content": listed, "refusal": None}}]}
    message = {"type": "message", "role": "assistant", "content": [{**SAID, "logprobs": listed}]}
    for surface, answer in (("chat.completions", chat), ("responses", {"id": "a", "output": [message]})):
        told = told_by(surface, answer)
        assert all("Hi" in one for one in told)
        assert "-0.5" in told[0]


@pytest.mark.parametrize("odd", ODD)
def test_members_that_no_answer_hangs_on_cost_nobody_the_answer(odd: Any) -> None:
    counted = {"input_tokens": 9, "output_tokens": 2}
    message = {"id": "m", "type": "message", "role": "assistant", "stop_reason": "end_turn"}
    message |= {"content": [{"type": "text", "text": "Hi"}], "usage": {**counted, "iterations": [{"type": odd}]}}
    said = {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
    cohere = {"id": "c", "finish_reason": "COMPLETE", "message": said}
    cohere |= {"usage": {"billed_units": counted, "tokens": odd}}
    cited = {"content": [{"text": "Hi"}], "citations": [{"title": "T", "sourceContent": odd}]}
    converse = {"output": {"message": {"role": "assistant", "content": [{"citationsContent": cited}]}}}
    for surface, answer in (
        ("chat.completions", {"id": "a", "choices": [ANSWERED], "service_tier": odd}),
        ("messages", message),
        ("cohere.chat", cohere),
        ("converse", {**converse, "stopReason": "end_turn"}),
    ):
        assert all("Hi" in one for one in told_by(surface, answer)), surface
    for surface, answer in (("messages", message), ("cohere.chat", cohere)):
        reading = DIALECTS[surface].read(json.dumps(answer).encode())
        assert (reading.usage, reading.hostile) == (Usage(9, 2), False)
