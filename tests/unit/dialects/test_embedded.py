"""Embeddings from one dialect to another: what is asked, what is left out, and what is refused."""

import json
from typing import Any

import pytest

from penstock.dialects.base import Address
from penstock.dialects.codec import TargetFacts
from penstock.dialects.registry import DIALECTS
from penstock.dialects.translation import Passage, Passages
from penstock.domain.usage import Usage
from penstock.errors import UnsupportedByTarget, UpstreamMalformed


def passage(caller: str, body: Any, target: str, model: str = "m") -> Passage:
    dialect = DIALECTS[caller]
    call = dialect.parse(json.dumps(body).encode(), Address("asked"))
    return Passages(dialect, call, 0, "ours").to([target], TargetFacts(model))


def sent(way: Passage, number: int = 0) -> Any:
    return {name: json.loads(bytes(value)) for name, value in way.said(number).fields.items()}


def test_the_first_of_amazons_models_knows_no_dimensions() -> None:
    body = {"model": "asked", "input": "a", "dimensions": 256}
    assert passage("embeddings", body, "invoke.titan", "amazon.titan-embed-text-v1").dropped == ("dimensions",)
    assert passage("embeddings", body, "invoke.titan", "amazon.titan-embed-text-v2:0").dropped == ()


def test_a_word_that_nobody_knows_is_named_and_left_out() -> None:
    way = passage("embedContent", {"content": {"parts": [{"text": "a"}]}, "taskType": "NEW_TASK"}, "cohere.embed")
    assert way.dropped == ("taskType",)
    assert sent(way)["input_type"] == "search_document"
    way = passage("embeddings", {"model": "asked", "input": "a", "input_type": "new", "odd": 1}, "predict")
    assert way.dropped == ("input_type", "odd")


@pytest.mark.parametrize("word", ["query", "search_query", "RETRIEVAL_QUERY"])
@pytest.mark.parametrize("member", ["input_type", "task_type"])
def test_callers_of_openais_dialect_say_in_any_vendors_words_what_the_vectors_are_for(word: str, member: str) -> None:
    way = passage("embeddings", {"model": "asked", "input": "a", member: word}, "predict")
    assert (sent(way)["instances"][0]["task_type"], way.dropped) == ("RETRIEVAL_QUERY", ())


def test_requests_of_a_batch_that_differ_go_to_google_alone() -> None:
    asked = [{"content": {"parts": [{"text": "a"}]}, "taskType": task} for task in ("CLUSTERING", "CLASSIFICATION")]
    with pytest.raises(UnsupportedByTarget, match="one by one"):
        passage("batchEmbedContents", {"requests": asked}, "cohere.embed")
    assert passage("batchEmbedContents", {"requests": asked}, "batchEmbedContents").voices == 1


def test_several_texts_of_one_content_are_paragraphs_to_who_takes_one_text() -> None:
    content = {"parts": [{"text": "a"}, {"text": "b"}]}
    assert sent(passage("embedContent", {"content": content}, "invoke.titan")) == {"inputText": "a\nb"}
    assert sent(passage("embedContent", {"content": content}, "embeddings"))["input"] == ["a\nb"]


def test_a_picture_that_cohere_is_shown_by_itself_is_shown_to_google() -> None:
    body = {"model": "asked", "images": ["data:image/png;base64,AAAA"], "input_type": "image"}
    way = passage("cohere.embed", body, "batchEmbedContents")
    (request,) = sent(way)["requests"]
    assert request["content"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    assert (way.dropped, way.call.images) == ((), 1)


def test_each_call_of_several_is_held_at_the_largest() -> None:
    way = passage("embeddings", {"model": "asked", "input": ["a", "b" * 50, "c"]}, "invoke.titan")
    assert way.voices == 3
    assert way.call.input_bound == way.said(1).input_bound > way.said(0).input_bound


def test_usage_is_the_sum_and_an_answer_to_other_inputs_is_none() -> None:
    way = passage("embeddings", {"model": "asked", "input": ["a", "b"]}, "batchEmbedContents")
    two = b'{"embeddings":[{"values":[1]},{"values":[2]}],"usageMetadata":{"promptTokenCount":5}}'
    told = json.loads(way.answer(two))
    assert (told["usage"], told["model"]) == ({"prompt_tokens": 5, "total_tokens": 5}, "asked")
    assert [row["embedding"] for row in told["data"]] == [[1], [2]]
    with pytest.raises(UpstreamMalformed, match="1 embeddings of 2 inputs"):
        way.answer(b'{"embeddings":[{"values":[1]}]}')


def test_vectors_of_openais_dialect_come_in_the_order_of_the_inputs() -> None:
    way = passage("cohere.embed", {"model": "asked", "texts": ["a", "b"]}, "embeddings")
    rows = [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]
    assert json.loads(way.answer(json.dumps({"data": rows}).encode()))["embeddings"] == {"float": [[1], [2]]}
    rows[0]["index"] = 5
    with pytest.raises(UpstreamMalformed):
        way.answer(json.dumps({"data": rows}).encode())


def test_nova_makes_an_embedding_of_one_text_or_of_one_image() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    way = passage("embedContent", {"content": {"parts": [picture]}}, "invoke.nova")
    image = {"format": "png", "source": {"bytes": "AAAA"}}
    params = {"embeddingPurpose": "GENERIC_INDEX", "image": image}
    assert sent(way) == {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}
    assert way.call.images == 1
    with pytest.raises(UnsupportedByTarget, match="one text or of one image"):
        passage("embedContent", {"content": {"parts": [{"text": "a"}, picture]}}, "invoke.nova")
    back = passage("invoke", {"singleEmbeddingParams": params}, "batchEmbedContents")
    assert sent(back)["requests"][0]["content"]["parts"] == [picture]
    elsewhere = {"singleEmbeddingParams": {"text": {"source": {"s3Location": {"uri": "s3://a/b"}}}}}
    with pytest.raises(UnsupportedByTarget):
        passage("invoke", elsewhere, "batchEmbedContents")
    assert passage("invoke", elsewhere, "invoke.nova").call.unseen


def test_who_asks_bedrock_for_no_type_gets_a_plain_list() -> None:
    way = passage("invoke", {"texts": ["a"], "input_type": "clustering"}, "invoke.titan")
    told = json.loads(way.answer(b'{"embedding":[1],"inputTextTokenCount":2}'))
    assert told == {"id": "ours", "embeddings": [[1]], "texts": ["a"], "response_type": "embeddings_floats"}


@pytest.mark.parametrize(
    ("surface", "told", "usage"),
    [
        ("embedContent", {"usageMetadata": 7}, None),
        ("embedContent", {"usageMetadata": {"promptTokenCount": -1}}, None),
        ("embedContent", {"usageMetadata": {"promptTokenCount": 4}}, Usage(input=4)),
        ("cohere.embed", {"meta": []}, None),
        ("cohere.embed", {"meta": {"billed_units": 7}}, None),
        ("cohere.embed", {"meta": {"billed_units": {"input_tokens": 3.0}}}, Usage(input=3)),
        (
            "cohere.embed",
            {"meta": {"billed_units": {"images": 2, "image_tokens": 9}}},
            Usage(input=9, images=2, image_in=9),
        ),
        ("predict", {"predictions": [{"embeddings": {"statistics": {"token_count": 2}}}] * 2}, Usage(input=4)),
        ("predict", {"predictions": [{"embeddings": {"statistics": {"token_count": "x"}}}]}, None),
        ("invoke.titan", {"embedding": [1], "inputTextTokenCount": True}, None),
        ("invoke.nova", {"embeddings": [], "inputTokenCount": 5}, Usage(input=5)),
        ("invoke.nova", {"embeddings": [], "inputTokenCount": -5}, None),
    ],
)
def test_only_what_can_be_true_is_believed(surface: str, told: Any, usage: Usage | None) -> None:
    assert DIALECTS[surface].read(json.dumps(told).encode()).usage == usage
