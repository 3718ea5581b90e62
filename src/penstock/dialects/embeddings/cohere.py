"""Cohere Embed (v2), the wire language of `POST /v2/embed`, which its models at Bedrock speak but for the model's name.

Source: Cohere API reference, "Embed V2" (96 inputs at most); Amazon Bedrock User Guide, "Cohere Embed v3" and "Cohere
Embed v4" (an answer to who asked for no type has its vectors in a plain list). Read 2026-11.

What the vectors are for must be said here; who does not say gets those of documents. What is billed are tokens, of text
and of images.
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
    field,
    model_name,
    read_object,
)
from penstock.dialects.bedrock import errors
from penstock.dialects.codec import Drops, Encoded, TargetFacts
from penstock.dialects.cohere.parts import image_at, image_of
from penstock.dialects.cohere.wire import envelope, error_body
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
from penstock.domain.chat import Media, Text
from penstock.domain.embeddings import Cut, EmbeddingAnswer, EmbeddingRequest, Input, Purpose
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UnsupportedByTarget

NAME = "cohere_embed"

_INPUTS = ("texts", "images", "inputs")
_NO_TEXT = frozenset(
    (*("model", "images", "input_type", "embedding_types", "truncate"), *("output_dimension", "max_tokens", "priority"))
)
"""Members that never become a part of what is embedded, and images, which are counted."""


# -- the wire ---------------------------------------------------------------------------------------------------------


class _Piece(Struct):
    image_url: Any = None


class _Mixed(Struct):
    content: list[_Piece] | None = None


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = read_object(body)
    texts = field(fields, "texts", list[str], "a list of strings") or []
    images = field(fields, "images", list[str], "a list of data URIs") or []
    mixed = field(fields, "inputs", list[_Mixed], "a list of objects, each with a 'content'") or []
    if not (texts or images or mixed):
        raise InvalidRequest("'texts', 'images' or 'inputs' is required.", param="texts")
    shown = [piece.image_url for one in mixed for piece in one.content or () if piece.image_url is not None]
    size = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT])
    size -= sum([_encoded_bytes(image) for image in shown])
    return Call(
        fields=fields,
        model=checked_model(address.model) if address.model else model_name(fields),
        max_output=0,
        input_bound=size + OVERHEAD_PER_INPUT * (len(texts) + len(images) + len(mixed)),
        input_estimate=-(-size // 3),
        images=len(images) + len(shown),
    )


def _encoded_bytes(image: Any) -> int:
    url = image.get("url") if isinstance(image, dict) else image
    return len(url) if isinstance(url, str) and url.startswith("data:") else 0


def rebuild(call: Call, demand: Demand) -> bytes:
    return encode_object({**call.fields, "model": demand.model})


class _Units(Struct):
    input_tokens: Any = None
    image_tokens: Any = None
    images: Any = None


class _Meta(Struct):
    billed_units: _Units | None = None


class _Reply(Struct):
    meta: Any = None
    message: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


def read(body: bytes) -> Reading:
    """What an answer says about itself. An error is one whose `message` is text."""
    reply = decode_reply(_reply_decoder, body)
    if isinstance(reply.message, str):
        return Reading(error=reply.message[:1000])
    try:
        meta = msgspec.convert(reply.meta or {}, _Meta)
    except msgspec.ValidationError:
        return Reading(hostile=True)
    if meta.billed_units is None:
        return Reading()
    units = meta.billed_units
    text, image, images = (as_whole(count) for count in (units.input_tokens, units.image_tokens, units.images))
    if not believed(text, image, images) or (text is None and image is None):
        return Reading(hostile=True)
    return Reading(Usage(input=(text or 0) + (image or 0), images=images or 0, image_in=image or 0))


# -- the codec --------------------------------------------------------------------------------------------------------

_CUTS: dict[str, Cut] = {"START": "start", "END": "end", "NONE": "none"}
_CUT_WORDS = {cut: word for word, cut in _CUTS.items()}
_TYPES: dict[Purpose, str] = {
    **{"query": "search_query", "document": "search_document"},
    **{"classification": "classification", "clustering": "clustering"},
    **dict.fromkeys(("question", "fact", "code"), "search_query"),
}
"""Questions, claims and wishes for code are searches; vectors to compare texts by are not made here."""


class _ByType(Struct):
    float: list[Raw] | None = None


class _Answer(Struct):
    embeddings: _ByType | list[Raw] | None = None
    id: Any = None


_answer_decoder = msgspec.json.Decoder(_Answer)


class Codec:
    most = 96

    def decode_request(self, call: Call) -> EmbeddingRequest:
        members = Members(dict(call.fields), callers_fault)
        members.drop("model")
        inputs = [text_input(text) for text in members.take("texts", list[str]) or ()]
        inputs += [Input((image_at(uri),)) for uri in members.take("images", list[str]) or ()]
        inputs += [_mixed(one) for one in members.objects("inputs")]
        purpose = purpose_of(members, "input_type")
        if members.peek("input_type") == "image":  # what the inputs are is seen
            members.drop("input_type")
        cut = _CUTS.get(members.peek("truncate"), "")
        if cut:
            members.drop("truncate")
        forms = tuple(dict.fromkeys(members.take("embedding_types", list[str]) or ()))
        dimensions = members.take("output_dimension", int)
        return EmbeddingRequest(NAME, call.model, tuple(inputs), purpose, dimensions, forms, cut, extras=members.rest())

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        drops = Drops()
        kind = _TYPES.get(request.purpose, "")
        drops.check(request.purpose and not kind, "input_type")
        drops.check(any(one.title for one in request.inputs), "title")
        drops.check(request.user, "user")
        members: dict[str, Any] = {"model": target.model, "input_type": kind or "search_document"}
        if any(isinstance(part, Media) for one in request.inputs for part in one.parts):
            members["inputs"] = [{"content": _content(one)} for one in request.inputs]
        else:
            members["texts"] = plain_texts(request)
        members["embedding_types"] = ["float"]
        members |= {"output_dimension": request.dimensions} if request.dimensions is not None else {}
        members |= {"truncate": _CUT_WORDS[request.cut]} if request.cut else {}
        return Encoded(encode_object(members), drops.names())

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        answer = decode_reply(_answer_decoder, body)
        found = answer.embeddings.float if isinstance(answer.embeddings, _ByType) else answer.embeddings
        return EmbeddingAnswer(vectors_of(found), id=answer.id if isinstance(answer.id, str) else "")

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        body = {
            "id": answer.id,
            "embeddings": {
                form: [told(vector, form) for vector in answer.vectors] for form in request.forms or ("float",)
            },
            "texts": _texts(request),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": answer.usage.total_input}},
            "response_type": "embeddings_by_type",
        }
        return encode_object(body)


def _texts(request: EmbeddingRequest) -> list[str]:
    return [part.text for one in request.inputs for part in one.parts if isinstance(part, Text)]


def _mixed(one: Members) -> Input:
    parts: list[Text | Media] = []
    for piece in one.objects("content"):
        kind = piece.text("type")
        if kind == "text":
            parts.append(Text(piece.text("text")))
        elif kind == "image_url":
            parts.append(image_of(piece))
        else:
            raise UnsupportedByTarget("'inputs' has a part that Cohere alone can embed.", param="inputs")
    if not parts:
        raise one.fault("content")
    return Input(tuple(parts))


def _content(one: Input) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for part in one.parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif part.kind == "image" and (part.data or part.url):
            url = f"data:{part.mime or 'image/jpeg'};base64,{part.data}" if part.data else part.url
            content.append({"type": "image_url", "image_url": {"url": url}})
        else:
            raise UnsupportedByTarget("The model's provider makes embeddings of text and images alone.")
    return content


class InvokedCodec(Codec):
    """At Bedrock, who asks for no type gets a plain list."""

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        body = {
            "id": answer.id,
            "embeddings": [told(vector, "float") for vector in answer.vectors],
            "texts": _texts(request),
            "response_type": "embeddings_floats",
        }
        return super().encode_answer(answer, request) if request.forms else encode_object(body)


class CohereEmbed:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "cohere.embed"
    codec: Codec = Codec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    tee = staticmethod(tee)
    is_stream = staticmethod(is_stream)
    error_body = staticmethod(error_body)
    envelope = staticmethod(envelope)


class InvokedCohere(CohereEmbed):
    """In the body of Bedrock's InvokeModel, which has no model."""

    surface = "invoke.cohere"
    codec = InvokedCodec()

    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def rebuild(call: Call, demand: Demand) -> bytes:
        return encode_object(call.fields)
