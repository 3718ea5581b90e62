"""Google's embeddings: `embedContent` and `batchEmbedContents`, which callers speak too, and `predict`.

Source: Gemini API reference, `models.embedContent`, `models.batchEmbedContents` (`EmbeddingUsageMetadata`; 100 requests
at most, as users report); Google Cloud, "Text embeddings API" (`predict`: 250 texts at most), `models.embedContent` and
`models.batchEmbedContents` of Vertex AI, whose members for what the vectors are for stand in `embedContentConfig`
(`providers.vertex` puts them there). Read 2026-11.

All requests of one batch are read as one that has several inputs, so where they ask for different kinds of vectors, or
of different lengths, they go to Google alone. Older models report no usage at AI Studio.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    as_whole,
    believed,
    checked_model,
    decode_reply,
    encode_object,
    read_object,
)
from penstock.dialects.codec import Drops, Encoded, TargetFacts
from penstock.dialects.embeddings.codec import (
    OVERHEAD_PER_INPUT,
    is_stream,
    plain_texts,
    purpose_of,
    tee,
    told,
    vectors_of,
)
from penstock.dialects.gemini import errors
from penstock.dialects.gemini.names import NAME, camel_members, elements, in_camel
from penstock.dialects.gemini.parts import decode_part, media_part
from penstock.dialects.gemini.usage import Metadata, normalise
from penstock.dialects.gemini.wire import read_content
from penstock.dialects.members import Members, as_raw, callers_fault
from penstock.domain.chat import Media, Text
from penstock.domain.embeddings import EmbeddingAnswer, EmbeddingRequest, Input, Purpose
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UnsupportedByTarget

_NO_TEXT = frozenset({"model", "taskType", "outputDimensionality"})

_TASKS: dict[Purpose, str] = {
    **{"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT", "similarity": "SEMANTIC_SIMILARITY"},
    **{"classification": "CLASSIFICATION", "clustering": "CLUSTERING", "question": "QUESTION_ANSWERING"},
    **{"fact": "FACT_VERIFICATION", "code": "CODE_RETRIEVAL_QUERY"},
}


# -- the wire ---------------------------------------------------------------------------------------------------------


def parse_single(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """`embedContent`. Raises `InvalidRequest` naming the member at fault."""
    fields = in_camel(read_object(body))
    call = Call(fields=fields, model=checked_model(address.model), max_output=0)
    _count(call, fields, "content")
    return call


def parse_batch(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """`batchEmbedContents`. Its requests are written anew, so that each member is there once."""
    fields = in_camel(read_object(body))
    call = Call(fields=fields, model=checked_model(address.model), max_output=0)
    requests = _requests(fields)
    for number, request in enumerate(requests):
        _count(call, request, f"requests[{number}].content")
    fields["requests"] = as_raw(requests)
    return call


def _requests(fields: dict[str, Raw]) -> list[dict[str, Raw]]:
    try:
        requests = [camel_members(bytes(one)) for one in elements(bytes(fields.get("requests", Raw(b"[]"))))]
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(
            "'requests' must be a list of requests, each with a 'content'.", param="requests"
        ) from None
    if not requests:
        raise InvalidRequest("'requests' is required.", param="requests")
    return requests


def _count(call: Call, request: dict[str, Raw], place: str) -> None:
    if "content" not in request:
        raise InvalidRequest(f"'{place}' is required.", param=place)
    media = read_content(call, request["content"], place)
    size = sum([len(bytes(value)) for name, value in request.items() if name not in _NO_TEXT]) - media
    call.input_bound += size + OVERHEAD_PER_INPUT
    call.input_estimate += -(-size // 3)


def rebuild_single(call: Call, demand: Demand) -> bytes:
    return encode_object(_named(call.fields, demand.model))


def rebuild_batch(call: Call, demand: Demand) -> bytes:
    requests = [_named(request, demand.model) for request in _requests(call.fields)]
    return encode_object({**_named(call.fields, demand.model), "requests": requests})


def _named(request: dict[str, Raw], model: str) -> dict[str, Any]:
    """A request that names its model names the target's: it must be the one in the address."""
    return {**request, "model": f"models/{model}"} if "model" in request else dict(request)


class _Told(Struct, rename="camel"):
    """`EmbeddingUsageMetadata` at AI Studio, `UsageMetadata` at Vertex."""

    prompt_token_count: Any = None
    prompt_token_details: Any = None
    prompt_tokens_details: Any = None


class _Reply(Struct, rename="camel"):
    usage_metadata: Any = None
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def read(body: bytes) -> Reading:
    reply = decode_reply(_reply_decoder, body)
    message, status = errors.read_error(reply.error)
    if reply.usage_metadata is None:
        return Reading(error=message, error_status=status)
    try:
        reported = msgspec.convert(reply.usage_metadata, _Told)
    except msgspec.ValidationError:
        return Reading(error=message, error_status=status, hostile=True)
    if reported.prompt_token_count is None:
        return Reading(error=message, error_status=status)
    details = reported.prompt_token_details or reported.prompt_tokens_details
    usage = normalise(Metadata(prompt_token_count=reported.prompt_token_count, prompt_tokens_details=details))
    return Reading(usage, error=message, error_status=status, hostile=usage is None)


# -- the codec --------------------------------------------------------------------------------------------------------


class _Embedding(Struct):
    values: Raw


class _Answer(Struct):
    embedding: _Embedding | None = None
    embeddings: list[_Embedding] | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)


def decode_answer(body: bytes) -> EmbeddingAnswer:
    answer = decode_reply(_answer_decoder, body)
    found = answer.embeddings or ([answer.embedding] if answer.embedding is not None else [])
    return EmbeddingAnswer(vectors_of([one.values for one in found]))


def _reported(usage: Usage) -> dict[str, int]:
    return {"promptTokenCount": usage.total_input}


class SingleCodec:
    def decode_request(self, call: Call) -> EmbeddingRequest:
        return _decoded(call, [call.fields])

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        embedding = {"values": told(answer.vectors[0], "float")}
        return encode_object({"embedding": embedding, "usageMetadata": _reported(answer.usage)})


class BatchCodec:
    most = 100

    def decode_request(self, call: Call) -> EmbeddingRequest:
        return _decoded(call, _requests(call.fields))

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        embeddings = [{"values": told(vector, "float")} for vector in answer.vectors]
        return encode_object({"embeddings": embeddings, "usageMetadata": _reported(answer.usage)})

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        drops = Drops()
        drops.check(request.cut, "truncate")
        drops.check(request.user, "user")
        asked: dict[str, Any] = {"model": f"models/{target.model}"}
        asked |= {"taskType": _TASKS[request.purpose]} if request.purpose else {}
        asked |= {"outputDimensionality": request.dimensions} if request.dimensions is not None else {}
        requests = [
            {**asked, "content": {"parts": _parts(one)}, **({"title": one.title} if one.title else {})}
            for one in request.inputs
        ]
        return Encoded(encode_object({"requests": requests}), drops.names())

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        return decode_answer(body)


def _decoded(call: Call, requests: list[dict[str, Raw]]) -> EmbeddingRequest:
    read = [_one(dict(request)) for request in requests]
    if any(asked != read[0][1] for _, asked in read):
        raise UnsupportedByTarget(
            "The requests of the batch ask for different kinds of vectors, and the model's provider makes one in a "
            "call. Send them one by one.",
            param="requests",
        )
    purpose, dimensions, extras = read[0][1]
    inputs = tuple([one for one, _ in read])
    return EmbeddingRequest(NAME, call.model, inputs, purpose, dimensions, extras=extras)


def _one(request: dict[str, Raw]) -> tuple[Input, tuple[Purpose, int | None, dict[str, Raw]]]:
    """What is to be embedded, and how."""
    members = Members(request, callers_fault)
    members.drop("model")
    content = members.raw("content") or Raw(b"{}")
    try:
        raws = elements(bytes(camel_members(bytes(content)).get("parts", Raw(b"[]"))))
        parts = [part for raw in raws for part in decode_part(raw)]
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("'content' is not what the API allows.", param="content") from None
    if not parts:
        raise InvalidRequest("'content' has no parts.", param="content")
    kept = tuple([part for part in parts if isinstance(part, Text | Media)])
    if len(kept) < len(parts):
        raise UnsupportedByTarget("'content' has parts that Google alone can embed.", param="content")
    title, purpose = members.text("title"), purpose_of(members, "taskType")
    return Input(kept, title), (purpose, members.take("outputDimensionality", int), members.rest())


def _parts(one: Input) -> list[dict[str, Any]]:
    written = []
    for part in one.parts:
        sent = {"text": part.text} if isinstance(part, Text) else media_part(part)
        if sent is None:
            raise UnsupportedByTarget("The model's provider cannot be sent one of the parts to embed.")
        written.append(sent)
    return written


class _Google:
    """What the three have in common."""

    name = NAME

    tee = staticmethod(tee)
    is_stream = staticmethod(is_stream)
    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)


class EmbedContent(_Google):
    """One content, one vector."""

    surface = "embedContent"
    codec = SingleCodec()

    parse = staticmethod(parse_single)
    rebuild = staticmethod(rebuild_single)
    read = staticmethod(read)


class BatchEmbedContents(_Google):
    """What Google's clients send whatever they embed."""

    surface = "batchEmbedContents"
    codec = BatchCodec()

    parse = staticmethod(parse_batch)
    rebuild = staticmethod(rebuild_batch)
    read = staticmethod(read)


# -- predict ----------------------------------------------------------------------------------------------------------


class _Statistics(Struct):
    token_count: Any = None


class _Values(Struct):
    values: Raw = Raw(b"")
    statistics: _Statistics | None = None


class _Prediction(Struct):
    embeddings: _Values


class _Predicted(Struct):
    predictions: list[_Prediction] | None = None
    error: Any = None


_predicted_decoder = msgspec.json.Decoder(_Predicted)


class PredictCodec:
    most = 250

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        drops = Drops()
        drops.check(request.cut == "start", "truncate")
        drops.check(request.user, "user")
        task = {"task_type": _TASKS[request.purpose]} if request.purpose else {}
        instances = [
            {"content": text, **task, **({"title": one.title} if one.title else {})}
            for text, one in zip(plain_texts(request), request.inputs, strict=True)
        ]
        parameters: dict[str, Any] = {}
        if request.dimensions is not None:
            parameters["outputDimensionality"] = request.dimensions
        if request.cut in ("end", "none"):
            parameters["autoTruncate"] = request.cut == "end"
        body = {"instances": instances, **({"parameters": parameters} if parameters else {})}
        return Encoded(encode_object(body), drops.names())

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        predictions = decode_reply(_predicted_decoder, body).predictions or []
        return EmbeddingAnswer(vectors_of([one.embeddings.values for one in predictions]))


class Predict(_Google):
    """Text models at Vertex that have no `embedContent`."""

    surface = "predict"
    codec = PredictCodec()

    @staticmethod
    def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
        fields = read_object(body)
        size = len(bytes(fields.get("instances", b"")))
        call = Call(fields=fields, model=checked_model(address.model), max_output=0)
        call.input_bound, call.input_estimate = size + OVERHEAD_PER_INPUT, -(-size // 3)
        return call

    @staticmethod
    def rebuild(call: Call, demand: Demand) -> bytes:
        return encode_object(call.fields)

    @staticmethod
    def read(body: bytes) -> Reading:
        reply = decode_reply(_predicted_decoder, body)
        message, status = errors.read_error(reply.error)
        counts = [
            as_whole(one.embeddings.statistics.token_count)
            for one in reply.predictions or ()
            if one.embeddings.statistics
        ]
        if not counts or None in counts:
            return Reading(error=message, error_status=status)
        if not believed(*counts):
            return Reading(error=message, error_status=status, hostile=True)
        return Reading(Usage(input=sum(counts)), error=message, error_status=status)
