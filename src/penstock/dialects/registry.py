"""Every wire language, by the surface that it is spoken at."""

from penstock.dialects import gemini
from penstock.dialects.anthropic import CountTokens, Messages
from penstock.dialects.base import Dialect
from penstock.dialects.bedrock import Converse
from penstock.dialects.codec import Codec
from penstock.dialects.cohere import CohereChat, Rerank
from penstock.dialects.completions import Completions
from penstock.dialects.embeddings import Embeddings
from penstock.dialects.moderations import Moderations
from penstock.dialects.openai_chat import ChatCompletions
from penstock.dialects.openai_responses import InputTokens, Responses

DIALECTS: dict[str, Dialect] = {
    dialect.surface: dialect
    for dialect in (
        ChatCompletions(),
        Responses(),
        InputTokens(),
        Completions(),
        Embeddings(),
        Moderations(),
        Messages(),
        CountTokens(),
        Converse(),
        gemini.GenerateContent(),
        gemini.CountTokens(),
        CohereChat(),
        Rerank(),
    )
}

CODECS: dict[str, Codec] = {
    ChatCompletions.surface: ChatCompletions.codec,
    Responses.surface: Responses.codec,
    Messages.surface: Messages.codec,
    Converse.surface: Converse.codec,
    gemini.GenerateContent.surface: gemini.GenerateContent.codec,
    CohereChat.surface: CohereChat.codec,
}
"""Those of the conversations; what else is said is never translated."""
