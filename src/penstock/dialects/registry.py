"""Every wire language, by the surface that it is spoken at."""

from penstock.dialects import bedrock, gemini
from penstock.dialects.anthropic import CountTokens, Messages
from penstock.dialects.base import Dialect
from penstock.dialects.codec import Codec
from penstock.dialects.cohere import CohereChat, Rerank
from penstock.dialects.completions import Completions
from penstock.dialects.embeddings.codec import EmbeddingCaller, EmbeddingTarget
from penstock.dialects.embeddings.cohere import CohereEmbed, InvokedCohere
from penstock.dialects.embeddings.google import BatchEmbedContents, EmbedContent, Predict
from penstock.dialects.embeddings.nova import InvokedNova
from penstock.dialects.embeddings.openai import Embeddings
from penstock.dialects.embeddings.titan import InvokedTitan
from penstock.dialects.invoked import Invoked
from penstock.dialects.moderations import Moderations
from penstock.dialects.openai_chat import ChatCompletions
from penstock.dialects.openai_responses import Compaction, Conversations, InputTokens, Responses, StoredResponses

DIALECTS: dict[str, Dialect] = {
    dialect.surface: dialect
    for dialect in (
        ChatCompletions(),
        Responses(),
        InputTokens(),
        Compaction(),
        StoredResponses(),
        Conversations(),
        Completions(),
        Embeddings(),
        Moderations(),
        Messages(),
        CountTokens(),
        bedrock.Converse(),
        Invoked(),
        InvokedTitan(),
        InvokedNova(),
        InvokedCohere(),
        bedrock.CountTokens(),
        bedrock.CountTokens("invoke.count_tokens"),
        gemini.GenerateContent(),
        gemini.CountTokens(),
        EmbedContent(),
        BatchEmbedContents(),
        Predict(),
        CohereChat(),
        CohereEmbed(),
        Rerank(),
    )
}

_CONVERSATIONS: dict[str, Codec] = {
    ChatCompletions.surface: ChatCompletions.codec,
    Responses.surface: Responses.codec,
    Messages.surface: Messages.codec,
    bedrock.Converse.surface: bedrock.Converse.codec,
    gemini.GenerateContent.surface: gemini.GenerateContent.codec,
    CohereChat.surface: CohereChat.codec,
}
CONVERSATIONS = tuple(_CONVERSATIONS)
"""The surfaces of conversations that differ in what they can say."""

CODECS: dict[str, Codec] = {**_CONVERSATIONS, bedrock.InvokeModel.surface: bedrock.InvokeModel.codec}
"""Those of all conversations; what else is said is never translated. InvokeModel says what Messages says."""

EMBEDDING_CALLERS: dict[str, EmbeddingCaller] = {
    Embeddings.surface: Embeddings.codec,
    EmbedContent.surface: EmbedContent.codec,
    BatchEmbedContents.surface: BatchEmbedContents.codec,
    CohereEmbed.surface: CohereEmbed.codec,
    InvokedTitan.surface: InvokedTitan.codec,
    InvokedNova.surface: InvokedNova.codec,
    InvokedCohere.surface: InvokedCohere.codec,
}
EMBEDDING_TARGETS: dict[str, EmbeddingTarget] = {
    Embeddings.surface: Embeddings.codec,
    BatchEmbedContents.surface: BatchEmbedContents.codec,
    Predict.surface: Predict.codec,
    CohereEmbed.surface: CohereEmbed.codec,
    InvokedTitan.surface: InvokedTitan.codec,
    InvokedNova.surface: InvokedNova.codec,
}
"""Who asks for embeddings in which words, and who makes them."""
