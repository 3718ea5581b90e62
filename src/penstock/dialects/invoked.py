"""InvokeModel, whose body is in the words of the model's maker: Messages, or a request for an embedding.

Whose words they are is seen in the body. Which model answers is another matter: it may be any.
"""

from penstock.dialects.base import NO_ADDRESS, Address, Call, read_object
from penstock.dialects.bedrock import InvokeModel
from penstock.dialects.embeddings.cohere import InvokedCohere
from penstock.dialects.embeddings.nova import InvokedNova
from penstock.dialects.embeddings.titan import InvokedTitan
from penstock.errors import InvalidRequest


class Invoked(InvokeModel):
    """The dialect as the pipeline uses it."""

    @staticmethod
    def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
        fields = read_object(body)
        if "inputText" in fields:
            call, surface = InvokedTitan.parse(body, address), InvokedTitan.surface
        elif "singleEmbeddingParams" in fields:
            call, surface = InvokedNova.parse(body, address), InvokedNova.surface
        elif "messages" not in fields and not fields.keys().isdisjoint(("texts", "images", "inputs")):
            call, surface = InvokedCohere.parse(body, address), InvokedCohere.surface
        else:
            return InvokeModel.parse(body, address)
        if address.streaming:
            raise InvalidRequest("Embeddings are not streamed: call invoke.", param="stream")
        call.spoken = surface
        return call
