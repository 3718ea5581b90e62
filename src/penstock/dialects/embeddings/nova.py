"""Amazon Nova Multimodal Embeddings, in the body of Bedrock's InvokeModel. One text or one image a call.

Source: Amazon Nova User Guide, "Complete embeddings request and response schema"; the tokens are counted in a header of
Bedrock's, from where `providers.bedrock` tells them in the body (read 2026-11).
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
    believed,
    checked_model,
    decode_reply,
    encode_object,
    field,
    read_object,
)
from penstock.dialects.bedrock import errors
from penstock.dialects.codec import Drops, Encoded, TargetFacts
from penstock.dialects.embeddings.codec import OVERHEAD_PER_INPUT, is_stream, tee, text_input, told, vectors_of
from penstock.dialects.members import Members, callers_fault
from penstock.domain.chat import Media, Text
from penstock.domain.embeddings import Cut, EmbeddingAnswer, EmbeddingRequest, Input, Purpose
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UnsupportedByTarget

NAME = "nova_embeddings"
_PARAMS = "singleEmbeddingParams"
_ONE = "SINGLE_EMBEDDING"


# -- the wire ---------------------------------------------------------------------------------------------------------


class _Source(Struct):
    bytes: str = ""


class _Medium(Struct):
    source: _Source | None = None


class _Params(Struct):
    text: _Medium | None = None
    image: _Medium | None = None
    audio: _Medium | None = None
    video: _Medium | None = None


class _Made(Struct, rename="camel"):
    embedding: Raw = Raw(b"")
    embedding_type: Any = None


class _Reply(Struct, rename="camel"):
    embeddings: Any = None
    input_token_count: Any = None
    message: Any = None


class _Answer(Struct):
    embeddings: list[_Made] | None = None


_reply_decoder = msgspec.json.Decoder(_Reply)
_answer_decoder = msgspec.json.Decoder(_Answer)


def _parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """What is in a file elsewhere is bounded by the model's window alone, and so are sounds and films."""
    fields = read_object(body)
    params = field(fields, _PARAMS, _Params, "an object with a 'text' or an 'image'")
    if params is None:
        raise InvalidRequest(f"'{_PARAMS}' is required.", param=_PARAMS)
    given = [one for one in (params.text, params.image, params.audio, params.video) if one is not None]
    encoded = sum([len(one.source.bytes) for one in given if one.source is not None])
    size = len(bytes(fields[_PARAMS])) - encoded
    call = Call(fields=fields, model=checked_model(address.model), max_output=0)
    call.input_bound, call.input_estimate = size + OVERHEAD_PER_INPUT, -(-size // 3)
    call.images = 1 if params.image is not None else 0
    call.audio_in = params.audio is not None or params.video is not None
    call.unseen = call.audio_in or any(one.source is not None and not one.source.bytes for one in given)
    return call


def _rebuild(call: Call, demand: Demand) -> bytes:
    return encode_object(call.fields)


def _read(body: bytes) -> Reading:
    reply = decode_reply(_reply_decoder, body)
    if isinstance(reply.message, str) and reply.embeddings is None:
        return Reading(error=reply.message[:1000])
    tokens = reply.input_token_count
    if tokens is None or not believed(tokens):
        return Reading(hostile=tokens is not None)
    return Reading(Usage(input=tokens))


# -- the codec --------------------------------------------------------------------------------------------------------

_CUTS: dict[str, Cut] = {"START": "start", "END": "end", "NONE": "none"}
_CUT_WORDS = {cut: word for word, cut in _CUTS.items()}
_KINDS: dict[Purpose, str] = {
    **{"document": "GENERIC_INDEX", "classification": "CLASSIFICATION", "clustering": "CLUSTERING"},
    **dict.fromkeys(("query", "question", "fact", "code"), "GENERIC_RETRIEVAL"),
}
_PURPOSES: dict[str, Purpose] = {
    **{"GENERIC_INDEX": "document", "CLASSIFICATION": "classification", "CLUSTERING": "clustering"},
    **dict.fromkeys((f"{kind}_RETRIEVAL" for kind in ("GENERIC", "TEXT", "IMAGE", "VIDEO", "DOCUMENT")), "query"),
}


class Codec:
    most = 1

    def decode_request(self, call: Call) -> EmbeddingRequest:
        members = Members(dict(call.fields), callers_fault)
        members.drop("schemaVersion")
        if members.text("taskType") not in ("", _ONE):
            raise InvalidRequest(f"'taskType' must be {_ONE}.", param="taskType")
        params = members.object(_PARAMS)
        purpose = _PURPOSES.get(params.peek("embeddingPurpose"), "")
        if purpose:
            params.drop("embeddingPurpose")
        dimensions = params.take("embeddingDimension", int)
        text, image = params.object("text"), params.object("image")
        cut = _CUTS.get(text.text("truncationMode"), "")
        if text.has("value"):
            put = text_input(text.text("value"))
        elif data := image.object("source").text("bytes"):
            put = Input((Media("image", f"image/{image.text('format')}", data),))
        else:
            raise UnsupportedByTarget(
                "What is to be embedded is nothing that the model's provider takes.", param=_PARAMS
            )
        extras = {**members.rest(), **params.rest()}
        return EmbeddingRequest(NAME, call.model, (put,), purpose, dimensions, cut=cut, extras=extras)

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        drops = Drops()
        kind = _KINDS.get(request.purpose, "")
        drops.check(request.purpose and not kind, "input_type")
        drops.check(any(one.title for one in request.inputs), "title")
        drops.check(request.user, "user")
        params: dict[str, Any] = {"embeddingPurpose": kind or "GENERIC_INDEX"}
        params |= {"embeddingDimension": request.dimensions} if request.dimensions is not None else {}
        parts = request.inputs[0].parts
        if all(isinstance(part, Text) for part in parts):
            value = "\n".join([part.text for part in parts if isinstance(part, Text)])
            params["text"] = {"truncationMode": _CUT_WORDS.get(request.cut, "END"), "value": value}
        elif len(parts) == 1 and isinstance(image := parts[0], Media) and image.kind == "image" and image.data:
            source = {"bytes": image.data}
            params["image"] = {"format": image.mime.partition("/")[2] or "jpeg", "source": source}
            drops.check(request.cut, "truncate")
        else:
            raise UnsupportedByTarget("The model's provider makes an embedding of one text or of one image.")
        return Encoded(encode_object({"taskType": _ONE, _PARAMS: params}), drops.names())

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        made = decode_reply(_answer_decoder, body).embeddings or []
        return EmbeddingAnswer(vectors_of([one.embedding for one in made]))

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        kind = "TEXT" if isinstance(request.inputs[0].parts[0], Text) else "IMAGE"
        made = {"embeddingType": kind, "embedding": told(answer.vectors[0], "float")}
        return encode_object({"embeddings": [made], "inputTokenCount": answer.usage.total_input})


class InvokedNova:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "invoke.nova"
    codec = Codec()

    parse = staticmethod(_parse)
    rebuild = staticmethod(_rebuild)
    read = staticmethod(_read)
    tee = staticmethod(tee)
    is_stream = staticmethod(is_stream)
    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)
