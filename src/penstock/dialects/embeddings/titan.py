"""Amazon Titan Text Embeddings, in the body of Bedrock's InvokeModel. One text a call.

Source: Amazon Bedrock User Guide, "Amazon Titan Embeddings G1 - Text" (V2: `dimensions`, `normalize`; G1: the text
alone) (read 2026-11).
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
from penstock.dialects.embeddings.codec import (
    OVERHEAD_PER_INPUT,
    is_stream,
    plain_texts,
    tee,
    text_input,
    told,
    vectors_of,
)
from penstock.dialects.members import Members, callers_fault
from penstock.domain.embeddings import EmbeddingAnswer, EmbeddingRequest
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest

NAME = "titan_embeddings"
_TEXT_ALONE = "titan-embed-text-v1"


class _Reply(Struct, rename="camel"):
    embedding: Raw = Raw(b"")
    input_text_token_count: Any = None
    message: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)


class Codec:
    most = 1

    def decode_request(self, call: Call) -> EmbeddingRequest:
        members = Members(dict(call.fields), callers_fault)
        inputs = (text_input(members.text("inputText")),)
        forms = tuple(dict.fromkeys(members.take("embeddingTypes", list[str]) or ()))
        if members.take("normalize", bool) is False:
            members.put("normalize", Raw(b"false"))
        dimensions = members.take("dimensions", int)
        return EmbeddingRequest(NAME, call.model, inputs, dimensions=dimensions, forms=forms, extras=members.rest())

    def encode_request(self, request: EmbeddingRequest, target: TargetFacts) -> Encoded:
        drops = Drops()
        drops.check(request.purpose, "input_type")
        drops.check(any(one.title for one in request.inputs), "title")
        drops.check(request.cut, "truncate")
        drops.check(request.user, "user")
        members: dict[str, Any] = {"inputText": plain_texts(request)[0]}
        if request.dimensions is not None and _TEXT_ALONE in target.model:
            drops.add("dimensions")
        elif request.dimensions is not None:
            members["dimensions"] = request.dimensions
        return Encoded(encode_object(members), drops.names())

    def decode_answer(self, body: bytes) -> EmbeddingAnswer:
        return EmbeddingAnswer(vectors_of([decode_reply(_reply_decoder, body).embedding]))

    def encode_answer(self, answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
        vector = told(answer.vectors[0], "float")
        tokens = answer.usage.total_input
        return encode_object(
            {"embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": tokens}
        )


class InvokedTitan:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "invoke.titan"
    codec = Codec()

    tee = staticmethod(tee)
    is_stream = staticmethod(is_stream)
    error_body = staticmethod(errors.error_body)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
        fields = read_object(body)
        text = field(fields, "inputText", str, "a string")
        if not text:
            raise InvalidRequest("'inputText' is required.", param="inputText")
        size = len(bytes(fields["inputText"]))
        call = Call(fields=fields, model=checked_model(address.model), max_output=0)
        call.input_bound, call.input_estimate = size + OVERHEAD_PER_INPUT, -(-size // 3)
        return call

    @staticmethod
    def rebuild(call: Call, demand: Demand) -> bytes:
        return encode_object(call.fields)

    @staticmethod
    def read(body: bytes) -> Reading:
        reply = decode_reply(_reply_decoder, body)
        if isinstance(reply.message, str) and not reply.embedding:
            return Reading(error=reply.message[:1000])
        tokens = reply.input_text_token_count
        if tokens is None or not believed(tokens):
            return Reading(hostile=tokens is not None)
        return Reading(Usage(input=tokens))
