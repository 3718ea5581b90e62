"""What the vendors' specifications allow and their samples seldom show."""

import json

import botocore.session
import pytest

from penstock.dialects.bedrock.blocks import MIMES
from penstock.dialects.codec import Heading
from penstock.dialects.gemini import GeminiCodec
from penstock.dialects.openai_responses import Responses
from penstock.dialects.registry import CODECS, CONVERSATIONS
from penstock.domain.chat import Message, Request, Text
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
