"""Embeddings, asked for in one dialect and made in another.

A request has any number of inputs, and vendors take so many in one call, some of them one: what is more goes in several
calls, which are told as one.
"""

from collections.abc import Sequence
from functools import reduce

from msgspec import structs

from penstock.dialects.base import Address, Call, Dialect, Tee
from penstock.dialects.codec import TargetFacts
from penstock.dialects.embeddings.codec import EmbeddingTarget
from penstock.dialects.refusals import refusal_as_told
from penstock.dialects.registry import DIALECTS, EMBEDDING_CALLERS, EMBEDDING_TARGETS
from penstock.domain.embeddings import EmbeddingAnswer, EmbeddingRequest
from penstock.domain.usage import Usage
from penstock.errors import UnsupportedByTarget, UpstreamMalformed

MAX_CALLS = 96
"""How many calls are made of one. Each is a row of the receipt."""

FORMS = ("float", "base64")
"""What any vector can be told as. Other forms are a vendor's own making."""


class Embedded:
    """The passage of a request for embeddings to a vendor that is asked for them in another dialect. `call` is what
    every call of several is held at: no one is dearer."""

    content_type: str | None = "application/json"

    def __init__(
        self, caller: Dialect, request: EmbeddingRequest, target: str, facts: TargetFacts, own_id: str
    ) -> None:
        self._caller, self._into, self._own_id = caller, EMBEDDING_CALLERS[caller.surface], own_id
        self._from = EMBEDDING_TARGETS[target]
        self.dialect: Dialect = DIALECTS[target]
        self._request, left_out = _in_known_forms(request)
        self._batches = _batches(self._request, self._from)
        encoded = [self._from.encode_request(batch, facts) for batch in self._batches]
        self._calls = [self.dialect.parse(one.body, Address(facts.model)) for one in encoded]
        self.voices = len(self._calls)
        self.call = _dearest(self._calls)
        lost = [name for one in encoded for name in one.dropped]
        self.dropped = tuple(dict.fromkeys((*request.extras, *left_out, *lost)))

    def said(self, number: int) -> Call:
        """The call of this number."""
        return self._calls[number]

    def answer(self, body: bytes) -> bytes:
        return self.answer_of_all([body])

    def answer_of_all(self, bodies: Sequence[bytes]) -> bytes:
        """The answer to all calls, in their order. Raises `UpstreamMalformed`."""
        answers = [self._read(number, body) for number, body in enumerate(bodies)]
        vectors = tuple([vector for answer in answers for vector in answer.vectors])
        usage = reduce(Usage.plus, [answer.usage for answer in answers])
        whole = EmbeddingAnswer(vectors, usage, answers[0].model, answers[0].id or self._own_id)
        return self._into.encode_answer(whole, self._request)

    def _read(self, number: int, body: bytes) -> EmbeddingAnswer:
        answer, asked = self._from.decode_answer(body), len(self._batches[number].inputs)
        if len(answer.vectors) != asked:
            raise UpstreamMalformed(f"The provider made {len(answer.vectors)} embeddings of {asked} inputs.")
        used = self.dialect.read(body).usage or Usage(input=self._calls[number].input_estimate)
        return structs.replace(answer, usage=used)

    def refusal(self, body: bytes, status: int) -> bytes:
        return self._caller.error_body(refusal_as_told(body, status))

    def tee(self, asked_usage: bool) -> Tee:
        raise UpstreamMalformed("Embeddings are not streamed.")


def _in_known_forms(request: EmbeddingRequest) -> tuple[EmbeddingRequest, list[str]]:
    """The request without the forms that cannot be made of numbers, and the names of these. Raises
    `UnsupportedByTarget` where no other was asked for."""
    kept = tuple([form for form in request.forms if form in FORMS])
    if request.forms and not kept:
        raise UnsupportedByTarget(f"The model's provider makes embeddings of the types {' and '.join(FORMS)} alone.")
    left_out = [f"embedding_types.{form}" for form in request.forms if form not in FORMS]
    return structs.replace(request, forms=kept), left_out


def _batches(request: EmbeddingRequest, target: EmbeddingTarget) -> list[EmbeddingRequest]:
    """The request in as many parts as the target needs calls. Raises `UnsupportedByTarget` for too many."""
    inputs, most = request.inputs, target.most
    if len(inputs) > most * MAX_CALLS:
        raise UnsupportedByTarget(
            f"The model's provider can be sent at most {most * MAX_CALLS} inputs at once, {most} in each of"
            f" {MAX_CALLS} calls, and was sent {len(inputs)}."
        )
    return [structs.replace(request, inputs=inputs[at : at + most]) for at in range(0, len(inputs), most)]


def _dearest(calls: Sequence[Call]) -> Call:
    """What bounds each of the calls."""
    return structs.replace(
        calls[0],
        input_bound=max(call.input_bound for call in calls),
        input_estimate=max(call.input_estimate for call in calls),
        images=max(call.images for call in calls),
        unseen=any(call.unseen for call in calls),
        audio_in=any(call.audio_in for call in calls),
    )
