"""A provider's refusal, in the words by which the clients of another vendor know what to do."""

import json

import pytest

from penstock.dialects.refusals import refusal_as_told
from penstock.dialects.registry import DIALECTS

TOO_LONG = {
    "openai": {"error": {"message": "This model's maximum context length is 128000 tokens.", "code": None}},
    "openai code": {"error": {"message": "Your input is too big.", "code": "context_length_exceeded"}},
    "anthropic": {"type": "error", "error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}},
    "google": {"error": {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}},
    "bedrock": {"message": "Input is too long for requested model."},
    "cohere": {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"},
}


@pytest.mark.parametrize("said", TOO_LONG.values(), ids=TOO_LONG)
def test_a_conversation_that_does_not_fit_is_told_as_each_vendor_tells_it(said: object) -> None:
    refused = refusal_as_told(json.dumps(said).encode(), 400)
    assert json.loads(DIALECTS["chat.completions"].error_body(refused))["error"]["code"] == "context_length_exceeded"
    told = json.loads(DIALECTS["messages"].error_body(refused))["error"]
    assert told["type"] == "invalid_request_error"
    assert told["message"].count("prompt is too long") == 1


def test_another_fault_of_the_request_is_none_of_its_length() -> None:
    refused = refusal_as_told(b'{"error": {"message": "temperature must be at most 2"}}', 400)
    assert json.loads(DIALECTS["messages"].error_body(refused))["error"]["message"] == "temperature must be at most 2"
    assert refused.code == "invalid_request"
