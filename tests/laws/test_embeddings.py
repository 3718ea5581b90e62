"""Whatever callers ask and providers answer, embeddings are asked for and told in whole, or refused in words."""

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.base import Address
from penstock.dialects.codec import TargetFacts
from penstock.dialects.embedded import Embedded
from penstock.dialects.embeddings.codec import text_input
from penstock.dialects.registry import DIALECTS, EMBEDDING_CALLERS, EMBEDDING_TARGETS
from penstock.dialects.translation import Passages
from penstock.domain.chat import Text
from penstock.domain.embeddings import EmbeddingRequest
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
REQUESTS = st.builds(
    EmbeddingRequest,
    origin=st.just("any"),
    model=st.just("m"),
    inputs=st.lists(st.builds(text_input, TEXTS, st.sampled_from(["", "Water"])), min_size=1, max_size=5).map(tuple),
    purpose=st.sampled_from(["", "query", "document", "similarity", "classification", "clustering", "fact", "code"]),
    dimensions=st.none() | st.integers(1, 4096),
    cut=st.sampled_from(["", "start", "end", "none"]),
    user=st.sampled_from(["", "u-1"]),
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
BOTH = [surface for surface in EMBEDDING_TARGETS if surface in EMBEDDING_CALLERS]


def _members(*names: str, value: st.SearchStrategy[Any] = JUNK) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, value))


def _texts(request: EmbeddingRequest) -> list[str]:
    return [part.text for one in request.inputs for part in one.parts if isinstance(part, Text)]


@pytest.mark.parametrize("surface", BOTH)
@settings(max_examples=40)
@given(request=REQUESTS)
def test_what_is_not_named_as_dropped_arrives(surface: str, request: EmbeddingRequest) -> None:
    passage = Embedded(DIALECTS["embeddings"], request, surface, TargetFacts("m"), "id")
    asked = [EMBEDDING_CALLERS[surface].decode_request(passage.said(number)) for number in range(passage.voices)]
    assert [text for one in asked for text in _texts(one)] == _texts(request)
    dropped = passage.dropped
    for one in asked:
        assert "dimensions" in dropped or one.dimensions == request.dimensions
        assert "truncate" in dropped or one.cut == request.cut or (one.cut, request.cut) == ("end", "")
        assert "user" in dropped or one.user == request.user
        assert "input_type" in dropped or one.purpose in (request.purpose, "query", "document")
    titles = [put.title for one in asked for put in one.inputs]
    assert "title" in dropped or titles == [one.title for one in request.inputs]
    assert all(passage.call.input_bound >= passage.said(number).input_bound for number in range(passage.voices))


EMBEDDINGS = st.lists(
    _members("values", "embedding", "index", "embeddings", value=st.lists(st.floats(-1, 1), max_size=2) | JUNK),
    max_size=3,
)
ANSWERS = st.one_of(
    _members("data", "embeddings", "embedding", "predictions", value=EMBEDDINGS | JUNK),
    _members("usage", "usageMetadata", "meta", "inputTextTokenCount", "embedding", "error", "message"),
    st.fixed_dictionaries({"embeddings": _members("float", "int8", value=st.lists(st.lists(st.floats(-1, 1))) | JUNK)}),
    st.fixed_dictionaries(
        {"embeddings": st.just([{"values": [1]}]), "usageMetadata": _members("promptTokenCount", "promptTokenDetails")}
    ),
    st.fixed_dictionaries({"meta": _members("billed_units", value=_members("input_tokens", "image_tokens") | JUNK)}),
    JUNK,
)


@pytest.mark.parametrize("target", EMBEDDING_TARGETS)
@settings(max_examples=60)
@given(answer=ANSWERS)
def test_an_answer_is_read_or_is_a_providers_fault(target: str, answer: Any) -> None:
    request = EmbeddingRequest("any", "m", (text_input("a"),), forms=("base64",))
    passage = Embedded(DIALECTS["embeddings"], request, target, TargetFacts("m"), "id")
    body = json.dumps(answer).encode()
    try:
        reading = passage.dialect.read(body)
        assert reading.usage is None or 0 <= reading.usage.total_input <= 2 * 10**9
        (row,) = json.loads(passage.answer(body))["data"]
        assert base64.b64decode(row["embedding"])
    except UpstreamMalformed:
        pass


NAMES = (
    "input",
    "texts",
    "images",
    "inputs",
    "inputText",
    "singleEmbeddingParams",
    "content",
    "requests",
    "encoding_format",
    "dimensions",
)
ASKS = st.one_of(
    _members("model", *NAMES, "input_type", "taskType", "title", "truncate", "embedding_types", "embeddingTypes"),
    st.fixed_dictionaries(
        {"content": _members("parts", value=st.lists(_members("text", "inlineData", "fileData")) | JUNK)}
    ),
    st.fixed_dictionaries(
        {"inputs": st.lists(_members("content", value=st.lists(_members("type", "text", "image_url"))))}
    ),
    st.fixed_dictionaries(
        {"singleEmbeddingParams": _members("text", "image", "audio", value=_members("value", "source"))}
    ),
    st.fixed_dictionaries({"requests": st.lists(_members("content", "taskType", "model"), max_size=2)}),
)


@pytest.mark.parametrize("caller", ["embeddings", "embedContent", "batchEmbedContents", "cohere.embed", "invoke"])
@settings(max_examples=60)
@given(asked=ASKS, target=st.sampled_from(list(EMBEDDING_TARGETS)))
def test_a_request_is_understood_or_is_the_callers_fault(caller: str, asked: Any, target: str) -> None:
    body = json.dumps({"model": "m", **asked}).encode()
    try:
        call = DIALECTS[caller].parse(body, Address("m"))
        passage = Passages(DIALECTS[caller], call, 0, "id").to([target], TargetFacts("m"))
        assert passage.call.max_output == 0
        assert passage.call.input_bound >= passage.call.input_estimate > 0
    except InvalidRequest as error:
        assert isinstance(error, GatewayError)
        assert error.status == 400


@given(numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_32_bit_numbers_are_the_same_in_base64(numbers: list[float]) -> None:
    request = EmbeddingRequest("any", "m", (text_input("a"),), forms=("base64",))
    passage = Embedded(DIALECTS["embeddings"], request, "invoke.titan", TargetFacts("m"), "id")
    (row,) = json.loads(passage.answer(json.dumps({"embedding": numbers}).encode()))["data"]
    assert list(struct.unpack(f"<{len(numbers)}f", base64.b64decode(row["embedding"]))) == numbers
