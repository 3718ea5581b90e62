"""OPENAI RESPONSES, the wire language of `POST /v1/responses`, and as a conversation.

Owns: what a request may cost and what an answer says of itself (`wire`), what either says of things that the vendor
keeps (`references`), what is asked of a response that it keeps (`stored`) and of a conversation (`conversations`), and
every item, event and member that bears on the conversation, read into `domain.chat` and written from there.
Refuses: conversations that the vendor keeps (`previous_response_id`, `conversation`, `prompt`, item references) where
the call must be translated: nothing of them is here to be told.

A reasoning item's `encrypted_content` holds the vendor's own proof, or, sealed, all of another dialect's reasoning, so
that it comes back whole from callers that keep no more than that.
"""

from penstock.dialects.openai_responses.compaction import Compaction as Compaction
from penstock.dialects.openai_responses.conversations import Conversations as Conversations
from penstock.dialects.openai_responses.stored import StoredResponses as StoredResponses
from penstock.dialects.openai_responses.wire import InputTokens as InputTokens
from penstock.dialects.openai_responses.wire import Responses as Responses
