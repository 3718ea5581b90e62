"""COHERE CHAT (v2), the wire language of `POST /v2/chat`, and Rerank.

Owns: reading a request for what it may cost, usage and ends of answers and streams (`wire`, `usage`), and the
translation of requests (`request`, `target`), answers (`answer`) and streams (`stream`) from and to `domain`.
Refuses: what is a vendor's alone (`providers`).

Source: Cohere API reference, "Chat V2", "Chat with Streaming", "Rerank V2", "Errors".
"""

from penstock.dialects.cohere.wire import CohereChat, Rerank

__all__ = ["CohereChat", "Rerank"]
