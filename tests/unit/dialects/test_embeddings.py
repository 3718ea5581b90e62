"""The embeddings dialect: what is held for a request, and what is believed of an answer."""

import json
from typing import Any

import pytest

from penstock.dialects.embeddings import openai as embeddings
from penstock.errors import InvalidRequest, UpstreamMalformed


def _parse(**members: Any) -> Any:
    return embeddings.parse(json.dumps({"model": "m", "input": "hello", **members}).encode())


def test_each_object_of_the_input_may_be_an_image() -> None:
    assert _parse(input=["{not an object}"]).images == 0
    assert _parse(input=[{"image": "https://pictures.test/1"}, {"content": [{"image": "https://x.test"}]}]).images == 3


def test_members_that_nobody_knows_are_held_as_text() -> None:
    assert _parse(instruction="x" * 500).input_bound > 500
    assert _parse(dimensions=256, encoding_format="float", user="x" * 500).input_bound < 50


@pytest.mark.parametrize("given", ["", [], None, 7, {"a": 1}, [1.5]])
def test_what_is_no_input_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        _parse(input=given)


@pytest.mark.parametrize("report", [[], "many", 7, {}, {"prompt_tokens": -1}, {"prompt_tokens": 1.5}])
def test_a_report_that_cannot_be_true_is_not_believed(report: Any) -> None:
    reading = embeddings.read(json.dumps({"data": [], "usage": report}).encode())
    assert reading.usage is None
    assert reading.hostile


def test_a_total_alone_is_the_input() -> None:
    usage = embeddings.read(b'{"usage":{"total_tokens":9}}').usage
    assert usage is not None
    assert usage.input == 9


def test_an_answer_that_is_no_object_is_an_upstream_fault() -> None:
    for body in (b"", b"[]", b"\xff", b"[" * 5_000):
        with pytest.raises(UpstreamMalformed):
            embeddings.read(body)
