"""OpenAI Embeddings, the wire language of `POST /v1/embeddings`.

Source: OpenAI API reference, "Create embeddings" (2,048 inputs at most; `float` or `base64`).

What a vector is for, the title of a document and what to leave out of a long input have no member here; callers of this
dialect may send `input_type` (or `task_type`), `title` and `truncate` all the same, as vendors with such members take
them, and reach other dialects with them.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from penstock.dialects import openai_errors
from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    believed,
    checked_model,
    decode_reply,
    encode_object,
    model_name,
    read_object,
)
from penstock.dialects.codec import Drops, Encoded, TargetFacts
from penstock.dialects.embeddings.codec import (
    OVERHEAD_PER_INPUT,
    is_stream,
    plain_texts,
    purpose_of,
    tee,
    text_input,
    told,
    vectors_of,
)
from penstock.dialects.members import Members, callers_fault
from penstock.domain.embeddings import Cut, EmbeddingAnswer, EmbeddingRequest
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UnsupportedByTarget, UpstreamMalformed

NAME = "openai_embeddings"

_NO_TEXT = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
"""Members that never become a part of the prompt. Whatever else is sent is counted as text."""

_input_decoder = msgspec.json.Decoder(str | list[str | int | list[int] | dict[str, Any]])


# -- the wire ---------------------------------------------------------------------------------------------------------


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault. Input given as token numbers is bounded by its
    JSON text, which has at least one byte for each; each object in it may be an image."""
    fields = read_object(body)
    raw = fields.get("input")
    if raw is None:
        raise InvalidRequest("'input' is required.", param="input")
    try:
        inputs = _input_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(
            "'input' must be a string, or a list of strings or token numbers.", param="input"
        ) from None
    if not inputs:
        raise InvalidRequest("'input' must not be empty.", param="input")
    count = len(inputs) if isinstance(inputs, list) else 1
    size = len(bytes(raw)) + sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT])
    objects = [part for part in inputs if isinstance(part, dict)] if isinstance(inputs, list) else []
    return Call(
        fields=fields,
        model=checked_model(address.model) if address.model else model_name(fields),
        max_output=0,
        input_bound=size + OVERHEAD_PER_INPUT * count,
        input_estimate=-(-size // 3),
        images=bytes(raw).count(b"{") if objects else 0,
    )


def rebuild(call: Call, demand: Demand) -> bytes:
    return encode_object({**call.fields, "model": demand.model})


class _Reply(Struct):
    usage: Any = None
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def read(body: bytes) -> Reading:
    """What the answer says about itself. Voyage reports `total_tokens` alone."""
    reply = decode_reply(_reply_decoder, body)
    message, status = openai_errors.read_error(reply.error)
    reported = reply.usage
    if reported is None:
        return Reading(error=message, error_status=status)
    report = reported if isinstance(reported, dict) else {}
    tokens = report.get("total_tokens") if report.get("prompt_tokens") is None else report["prompt_tokens"]
    if tokens is None or not believed(tokens):
        return Reading(error=message, error_status=status, hostile=True)
    return Reading(usage=Usage(input=tokens), error=message, error_status=status)


# -- the codec --------------------------------------------------------------------------------------------------------

_CUTS: dict[str, Cut] = {"start": "start", "end": "end", "none": "none", "left": "start", "right": "end"}


class _Row(Struct):
    embedding: Raw
    index: int | None = None


class _Answer(Struct):
    data: list[_Row] | None = None
    model: Any = None


_answer_decoder = msgspec.json.Decoder(_Answer)


class Codec:
    most = 2048

    def decode_request(self, call: Call) -> EmbeddingRequest:
        members = Members(dict(call.fields), callers_fault)
        members.drop("model")
        given = _input_decoder.decode(members.raw("input") or b"null")
        form = members.text("encoding_format")
        if form not in ("", "float", "base64"):
            raise InvalidRequest("'encoding_format' must be float or base64.", param="encoding_format")
        title, cut = members.text("title"), _CUTS.get(members.peek("truncate").lower(), "")
        if cut:
            members.drop("truncate")
        texts = [given] if isinstance(given, str) else [one for one in given if isinstance(one, str)]
        if isinstance(given, list) and len(texts) < len(given):
            what = "objects" if any(isinstance(one, dict) for one in given) else "token numbers"
            raise UnsupportedByTarget(
                f"The model's provider takes text, and 'input' has {what}, which mean nothing to it.", param="input"
            )
        return EmbeddingRequest(
            NAME,
            call.model,
            tuple([text_input(text, title) for text in texts]),
            purpose_of(members, "input_type") or purpose_of(members, "task_type"),
            members.take("dimensions", int),
            (form,) if form else (),
            cut,
            members.text("user"),
            members.rest(),
        )

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        drops = Drops()
        drops.check(request.purpose, "input_type")
        drops.check(any(one.title for one in request.inputs), "title")
        drops.check(request.cut, "truncate")
        members: dict[str, Any] = {"model": target.model, "input": plain_texts(request)}  # in floats unless asked
        members |= {"dimensions": request.dimensions} if request.dimensions is not None else {}
        members |= {"user": request.user} if request.user else {}
        return Encoded(encode_object(members), drops.names())

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        answer = decode_reply(_answer_decoder, body)
        rows = answer.data or []
        if all(row.index is not None for row in rows):
            rows = sorted(rows, key=lambda row: row.index or 0)
            if [row.index for row in rows] != list(range(len(rows))):
                raise UpstreamMalformed("The provider's answer has embeddings of unknown inputs.")
        model = answer.model if isinstance(answer.model, str) else ""
        return EmbeddingAnswer(vectors_of([row.embedding for row in rows]), model=model)

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        form, tokens = next(iter(request.forms), "float"), answer.usage.total_input
        data = [
            {"object": "embedding", "index": index, "embedding": told(vector, form)}
            for index, vector in enumerate(answer.vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return encode_object({"object": "list", "data": data, "model": answer.model or request.model, "usage": usage})


class Embeddings:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "embeddings"
    codec = Codec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    tee = staticmethod(tee)
    is_stream = staticmethod(is_stream)
    error_body = staticmethod(openai_errors.error_body)
    envelope = staticmethod(openai_errors.envelope)
