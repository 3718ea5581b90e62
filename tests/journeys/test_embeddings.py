"""Embeddings pass through and are priced by their input."""

from collections.abc import Callable

import openai
import pytest

from penstock.testing.lab import Lab
from penstock.testing.scripted import plain

Sdk = Callable[..., openai.OpenAI]


def test_the_official_sdk_gets_embeddings(lab: Lab, sdk: Sdk) -> None:
    answer = sdk(lab).embeddings.create(model="embed", input=["one", "two"], encoding_format="float")
    assert [row.embedding for row in answer.data] == [[0.25, -0.5], [0.25, -0.5]]
    assert answer.usage.total_tokens == 8


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_every_form_of_input_reaches_the_provider_as_it_was(lab: Lab, given: object) -> None:
    body = {"model": "embed", "input": given, "dimensions": 2, "encoding_format": "float", "new_field": [1]}
    assert lab.caller("ci").post("/v1/embeddings", body).status == 200
    assert lab.provider.calls("embed-upstream")[0].json() == body | {"model": "embed-upstream"}


def test_the_answer_is_the_bytes_that_the_provider_sent_and_the_cost_is_its_input(lab: Lab) -> None:
    sent = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1e-3, 0.10]}],"model":"m",'
    sent += b'"usage":{"prompt_tokens":1001,"total_tokens":1001}}'
    lab.provider.on("embed-upstream", plain(sent))
    answer = lab.caller("ci").post("/v1/embeddings", {"model": "embed", "input": "x" * 4000})
    assert answer.body == sent
    receipt = lab.gateway.receipt(answer.request_id)
    assert receipt["usage"] == receipt["usage"] | {"input": 1001}
    assert receipt["cost_nanousd"] == 1001 * 100
    assert receipt["surface"]
    assert receipt["streaming"] is False


@pytest.mark.parametrize(
    "body",
    [
        {"model": "embed"},
        {"model": "embed", "input": 5},
        {"model": "embed", "input": {"a": 1}},
        {"model": "embed", "input": None},
    ],
)
def test_an_input_of_the_wrong_kind_is_refused(lab: Lab, body: dict[str, object]) -> None:
    answer = lab.caller("ci").post("/v1/embeddings", body)
    assert answer.status == 400
    assert answer.error["code"] == "invalid_request"
    assert not lab.provider.received
