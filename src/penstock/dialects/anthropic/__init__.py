"""Anthropic Messages, the wire language of `POST /v1/messages`, and the count of its tokens.

Owns: reading a Messages request for what it may cost, reading usage and ends from answers and streams (`wire`,
`usage`), and the translation of requests (`request`), answers (`answer`) and streams (`stream`) from and to `domain`.
Refuses: what is a vendor's alone. The same language is spoken by Anthropic, by Vertex AI and by Bedrock (InvokeModel),
each with an address, a proof of identity and a framing of its own, which are in `providers`.

Source: Anthropic API reference, "Create a Message", "Count tokens in a Message", "Streaming messages", "Errors".
"""

from penstock.dialects.anthropic.wire import CountTokens, Messages

__all__ = ["CountTokens", "Messages"]
