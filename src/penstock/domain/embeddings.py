"""Embeddings in no vendor's words: what is to be made into vectors, and the vectors.

As with conversations (`chat`), a dialect's codec reads its wire language into these values and writes them again. A
vector stays JSON text on its way, so that no digit of it changes.
"""

from typing import Literal

from msgspec import Raw, Struct, field

from penstock.domain.chat import Extras, Media, Text
from penstock.domain.usage import Usage

Purpose = Literal["", "query", "document", "similarity", "classification", "clustering", "question", "fact", "code"]
"""What a vector is for, where a model makes different ones: a search, what is searched, comparing texts, sorting them,
grouping them; a question, a claim or the wish for code, each a search of its own kind. Empty: the vendor's default."""

Cut = Literal["", "start", "end", "none"]
"""What is left out of an input that is too long: its start, its end, or nothing, so that it is refused."""


class Input(Struct, frozen=True):
    """What becomes one vector: a text, or several parts together. `title`: of the document that the text is of."""

    parts: tuple[Text | Media, ...]
    title: str = ""


class EmbeddingRequest(Struct, frozen=True):
    """What a caller asks of a model. `dimensions`: of each vector, None is the model's own. `forms`: in which the
    caller wants its numbers: `float`, `base64` (32-bit floats, little-endian), or what a vendor makes beside these
    (`int8`, `ubinary`); none: as its dialect tells them unless asked. `user`: an end user's id at the vendor."""

    origin: str
    model: str
    inputs: tuple[Input, ...]
    purpose: Purpose = ""
    dimensions: int | None = None
    forms: tuple[str, ...] = ()
    cut: Cut = ""
    user: str = ""
    extras: Extras = field(default_factory=dict)


class EmbeddingAnswer(Struct, frozen=True):
    """One vector for each input, in their order, each the JSON text of a list of numbers. `usage`: what the call is
    charged with."""

    vectors: tuple[Raw, ...]
    usage: Usage = Usage()
    model: str = ""
    id: str = ""
