"""What a codec of embeddings does, and what all of them share.

A dialect that callers speak reads a request and writes an answer; one that targets speak writes a request and reads an
answer. `most` is how many inputs a target takes in one call.
"""

import base64
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from penstock.dialects.base import Call, Tee
from penstock.dialects.codec import Encoded, TargetFacts
from penstock.dialects.members import Members
from penstock.domain.chat import Text
from penstock.domain.embeddings import EmbeddingAnswer, EmbeddingRequest, Input, Purpose
from penstock.errors import InvalidRequest, UnsupportedByTarget, UpstreamMalformed

OVERHEAD_PER_INPUT = 8
"""Tokens allowed for the markers a vendor puts around each input."""

PURPOSES: dict[str, Purpose] = {
    **dict.fromkeys(("query", "search_query", "retrieval_query"), "query"),
    **dict.fromkeys(("document", "passage", "search_document", "retrieval_document"), "document"),
    **{"semantic_similarity": "similarity", "classification": "classification", "clustering": "clustering"},
    **{"question_answering": "question", "fact_verification": "fact", "code_retrieval_query": "code"},
    "task_type_unspecified": "",
}
"""By the words that vendors have for it, in lower case: Cohere's and Voyage's `input_type`, Google's `taskType`."""


class EmbeddingCaller(Protocol):
    def decode_request(self, call: Call) -> EmbeddingRequest:
        """Raises `InvalidRequest` naming the member at fault, `UnsupportedByTarget` for what only the dialect's own
        vendors can be asked."""

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        """Raises `UpstreamMalformed`. The answer tells its usage: where none was reported, what is charged."""


class EmbeddingTarget(Protocol):
    @property
    def most(self) -> int: ...

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        """Raises `UnsupportedByTarget`."""

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        """Its vectors and its name; what it used is what the dialect reads of it. Raises `UpstreamMalformed`."""


def purpose_of(members: Members, name: str) -> Purpose:
    """What the member says that the vectors are for. A word that nobody knows is left where it is."""
    purpose = PURPOSES.get(members.peek(name).lower())
    if purpose is not None:
        members.drop(name)
    return purpose or ""


def plain_texts(request: EmbeddingRequest) -> list[str]:
    """The inputs for a vendor that takes texts alone; several of one input are its paragraphs."""
    return [_text(one) for one in request.inputs]


def _text(one: Input) -> str:
    texts = [part.text for part in one.parts if isinstance(part, Text)]
    if len(texts) < len(one.parts):
        raise UnsupportedByTarget("The model's provider makes embeddings of text alone.")
    return "\n".join(texts)


def text_input(text: str, title: str = "") -> Input:
    return Input((Text(text),), title)


_vector_decoder = msgspec.json.Decoder(list[float])


def numbers_of(vector: Raw) -> list[float]:
    """The numbers of a vector. Raises `UpstreamMalformed` for anything else."""
    try:
        numbers = _vector_decoder.decode(vector)
    except (msgspec.DecodeError, RecursionError):
        raise UpstreamMalformed("The provider's answer has an embedding that is no list of numbers.") from None
    if not numbers:
        raise UpstreamMalformed("The provider's answer has an embedding without numbers.")
    return numbers


def told(vector: Raw, form: str) -> Any:
    """A vector as a caller wants it: its numbers, digit by digit as they came, or with `base64` as 32-bit floats,
    little-endian, in base64, as OpenAI's clients ask for them. Raises `UpstreamMalformed`."""
    numbers = numbers_of(vector)
    if form != "base64":
        return vector
    try:
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    except OverflowError:
        raise UpstreamMalformed("The provider's answer has a number that no embedding has.") from None


def vectors_of(vectors: Sequence[Raw] | None) -> tuple[Raw, ...]:
    """The vectors of a provider's answer. Raises `UpstreamMalformed` where it has none."""
    if not vectors:
        raise UpstreamMalformed("The provider's answer has no embeddings.")
    return tuple(vectors)


def tee(call: Call, asked_usage: bool) -> Tee:
    raise InvalidRequest("Embeddings are not streamed.", param="stream")


def is_stream(call: Call, content_type: str) -> bool:
    return False
