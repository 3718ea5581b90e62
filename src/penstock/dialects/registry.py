"""Every wire language, by the surface that it is spoken at."""

from penstock.dialects import bedrock, gemini
from penstock.dialects.anthropic import CountTokens, Messages
from penstock.dialects.base import Dialect
from penstock.dialects.codec import Codec
from penstock.dialects.cohere import CohereChat, Rerank
from penstock.dialects.completions import Completions
from penstock.dialects.embeddings import Embeddings
from penstock.dialects.moderations import Moderations
from penstock.dialects.openai_chat import ChatCompletions
from penstock.dialects.openai_responses import Compaction, InputTokens, Responses, StoredResponses

DIALECTS: dict[str, Dialect] = {
    dialect.surface: dialect
    for dialect in (
        ChatCompletions(),
        Responses(),
        InputTokens(),
        Compaction(),
        StoredResponses(),
        Completions(),
        Embeddings(),
        Moderations(),
        Messages(),
        CountTokens(),
        bedrock.Converse(),
        bedrock.InvokeModel(),
        bedrock.CountTokens(),
        bedrock.CountTokens("invoke.count_tokens"),
        gemini.GenerateContent(),
        gemini.CountTokens(),
        CohereChat(),
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
