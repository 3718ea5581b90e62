"""The judgement of requests for embeddings: each feature at each dialect that makes them, by the gateway's own code."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import structs

from penstock.dialects.codec import TargetFacts
from penstock.dialects.embedded import Embedded
from penstock.dialects.embeddings.codec import text_input
from penstock.dialects.registry import DIALECTS, EMBEDDING_CALLERS, EMBEDDING_TARGETS
from penstock.domain.chat import Media, Text
from penstock.domain.embeddings import EmbeddingRequest, Input
from penstock.errors import GatewayError
from penstock.testing.fidelity.judge import Judged, Verdict

TARGETS = tuple(EMBEDDING_TARGETS)
_BASE = EmbeddingRequest("any", "embedder", (text_input("A river."),))
_IMAGE = Media("image", "image/png", "AAAA")
_CALLER = DIALECTS["embeddings"]


class Feature(NamedTuple):
    """`of`: what of a request it is. `dropped_as`: what `x-penstock-dropped` calls it."""

    name: str
    request: EmbeddingRequest
    of: Callable[[EmbeddingRequest], object]
    dropped_as: str = ""


def _purpose(name: str, request: EmbeddingRequest) -> Feature:
    return Feature(f"for {name}", request, lambda asked: asked.purpose, "input_type")


FEATURES = (
    Feature(
        "several inputs",
        structs.replace(_BASE, inputs=(text_input("A river."), text_input("A sea."))),
        lambda asked: len(asked.inputs),
    ),
    Feature("dimensions", structs.replace(_BASE, dimensions=256), lambda asked: asked.dimensions, "dimensions"),
    Feature("base64", structs.replace(_BASE, forms=("base64",)), lambda asked: asked.forms),
    Feature(
        "types beside float",
        structs.replace(_BASE, forms=("float", "int8")),
        lambda asked: asked.forms,
        "embedding_types.int8",
    ),
    Feature("types other than float", structs.replace(_BASE, forms=("int8",)), lambda asked: asked.forms),
    _purpose("a search", structs.replace(_BASE, purpose="query")),
    _purpose("what is searched", structs.replace(_BASE, purpose="document")),
    _purpose("comparing texts", structs.replace(_BASE, purpose="similarity")),
    _purpose("classification", structs.replace(_BASE, purpose="classification")),
    _purpose("clustering", structs.replace(_BASE, purpose="clustering")),
    _purpose("a question, a claim, a search for code", structs.replace(_BASE, purpose="question")),
    Feature(
        "a document's title",
        structs.replace(_BASE, inputs=(text_input("A river.", "Water"),)),
        lambda asked: asked.inputs[0].title,
        "title",
    ),
    Feature("cut a long input at its start", structs.replace(_BASE, cut="start"), lambda asked: asked.cut, "truncate"),
    Feature("cut a long input at its end", structs.replace(_BASE, cut="end"), lambda asked: asked.cut, "truncate"),
    Feature("refuse a long input", structs.replace(_BASE, cut="none"), lambda asked: asked.cut, "truncate"),
    Feature("an image", structs.replace(_BASE, inputs=(Input((_IMAGE,)),)), lambda asked: asked.inputs[0].parts),
    Feature(
        "a text and an image as one",
        structs.replace(_BASE, inputs=(Input((Text("A river."), _IMAGE)),)),
        lambda asked: asked.inputs[0].parts,
    ),
    Feature("the end user", structs.replace(_BASE, user="u-1"), lambda asked: asked.user, "user"),
)


def requests() -> list[Judged]:
    """Every feature at every dialect that makes embeddings."""
    return [Judged("", target, feature.name, _judged(target, feature)) for target in TARGETS for feature in FEATURES]


def _judged(target: str, feature: Feature) -> Verdict:
    facts = TargetFacts(_BASE.model)
    plain = Embedded(_CALLER, _BASE, target, facts, "id")
    try:
        passage = Embedded(_CALLER, feature.request, target, facts, "id")
    except GatewayError:
        return "refused"
    if feature.dropped_as in passage.dropped:
        return "dropped"
    if passage.voices > 1 or feature.request.forms == ("base64",):
        return "emulated"
    if target not in EMBEDDING_CALLERS:  # nobody writes in it but the gateway
        return "kept" if passage.call.fields != plain.call.fields else "LOST"
    asked, unasked = (EMBEDDING_CALLERS[target].decode_request(one.call) for one in (passage, plain))
    if feature.of(asked) == feature.of(feature.request):
        return "kept"
    return "emulated" if feature.of(asked) != feature.of(unasked) else "LOST"
