"""Proofs of reasoning of another family of models, as a caller keeps them that speaks a dialect with one member for a
proof (`signature`): all that the family needs again, sealed into that member, and taken out when it comes back.

A proof on a tool's call, for which such a dialect has no member, is told as reasoning of its own behind the call.
"""

import msgspec
from msgspec import Struct, field, structs

from penstock.dialects.codec import json_text, seal, unseal
from penstock.domain.chat import Extras, Part, Thinking, ToolCall

_OF_A_CALL = "call "
"""What the `id` begins with of a proof that belongs to the call whose id follows."""


class _Proofs(Struct, omit_defaults=True):
    """What the family needs again besides the words."""

    signature: str = ""
    sealed: str = ""
    id: str = ""
    summary: bool = False
    extras: Extras = field(default_factory=dict)


_proofs_decoder = msgspec.json.Decoder(_Proofs)


def proofs_of(thinking: Thinking) -> str:
    """The proofs as JSON text; `{}` where there are none."""
    told = _Proofs(thinking.signature, thinking.sealed, thinking.id, thinking.summary, thinking.extras)
    return json_text(told)


def proven(text: str, origin: str, proofs: str, extras: Extras) -> Thinking:
    """Reasoning of another family with what `proofs_of` told. Raises `msgspec.DecodeError`."""
    told = _proofs_decoder.decode(proofs)
    return Thinking(text, told.summary, told.signature, told.sealed, origin, told.id, extras | told.extras)


def packed(thinking: Thinking, own: str) -> str:
    """The signature under which callers that speak `own` keep another family's reasoning."""
    return seal(thinking.origin, proofs_of(thinking), own)


def unpacked(text: str, signature: str, own: str, extras: Extras) -> Thinking:
    """The reasoning that a caller sends back, as it was before it was told to it. Raises `msgspec.DecodeError`, and
    `InvalidRequest` for a proof that was changed."""
    origin, proof = unseal(signature, own)
    if origin == own:
        return Thinking(text, False, signature, "", own, "", extras)
    return proven(text, origin, proof, extras)


def proof_of(call: ToolCall) -> Thinking:
    """The proof of another family on a call, as reasoning without words."""
    return Thinking(signature=call.signature, origin=call.origin, id=_OF_A_CALL + call.id)


def with_proofs(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts with the proofs of calls on the calls again."""
    proofs = {
        part.id.removeprefix(_OF_A_CALL): part
        for part in parts
        if isinstance(part, Thinking) and part.id.startswith(_OF_A_CALL)
    }
    if not proofs:
        return parts
    return tuple(
        structs.replace(part, signature=proofs[part.id].signature, origin=proofs[part.id].origin)
        if isinstance(part, ToolCall) and part.id in proofs
        else part
        for part in parts
        if not (isinstance(part, Thinking) and part.id.startswith(_OF_A_CALL))
    )
