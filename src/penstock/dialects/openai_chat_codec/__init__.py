"""OPENAI CHAT COMPLETIONS as a conversation: its bodies and streams read into `domain.chat` and written again.

Owns: every member of a request, an answer and a chunk that bears on the conversation, those of other vendors that speak
the dialect among them (`reasoning_content`, `reasoning`, `reasoning_details`, `extra_content`, `images`,
`cache_control`); each is named where it is read.
Refuses: money and bounds (the wire half, `dialects.openai_chat`), and choosing what a target may be sent.

Reasoning that has no proof is `reasoning_content`. What must be replayed as it was is one entry of `reasoning_details`
(or two that share an `index`), the form of OpenRouter; a proof of another dialect's is sealed in it.
"""

from penstock.dialects.openai_chat_codec.codec import ChatCodec as ChatCodec
