"""What a look at the ledger can find."""

from msgspec import Struct


class Fault(Struct, frozen=True):
    """`kind` is a word for programs, `detail` a sentence for a person."""

    kind: str
    detail: str
