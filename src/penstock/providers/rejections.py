"""What a vendor's refusal says of the credential that it was sent.

Sources, read 2026-11: RFC 9110, 15.5.2 and 15.5.8 (401, 407); OpenAI "Error codes" (429 `insufficient_quota`);
Anthropic "Errors" (400, "credit balance is too low"); DeepSeek and OpenRouter, "Errors" (402). A vendor that says in
its own way that it does not take a credential tells so in its own file. Any other 403 speaks of one model or one place,
which another account may be allowed.
"""

from typing import Literal

from penstock.providers.base import TellsBadCredentials, Vendor

Verdict = Literal["", "rejected", "exhausted", "limited", "denied"]
"""`rejected`: it is not taken, whatever is asked. `exhausted`: its account has no money. `limited`: too much at once.
`denied`: not this, with this credential. Empty: nothing is said of it."""

_EXHAUSTED = (b"insufficient_quota", b"credit balance is too low")
_LOOKED_AT = 16 * 1024
"""Bytes of a body in which a vendor says what is wrong."""


def judge(vendor: Vendor, status: int, body: bytes) -> Verdict:
    """The verdict in an answer of `status` 300 or more."""
    if status in (401, 407) or (isinstance(vendor, TellsBadCredentials) and vendor.is_bad_credential(status, body)):
        return "rejected"
    if status == 402 or (status in (400, 403, 429) and any(mark in body[:_LOOKED_AT] for mark in _EXHAUSTED)):
        return "exhausted"
    if status == 429:
        return "limited"
    return "denied" if status == 403 else ""
