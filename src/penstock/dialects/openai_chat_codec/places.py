"""Where in a message reasoning stood: a chat message has one text and one list of calls, and reasoning beside them. But
models think between texts and calls as well, and their vendors want it back where it was.

A sealed proof of another dialect's bears its place behind it: how many characters of the text and how many calls came
before. Without one the reasoning comes first, as nearly all does.
"""

import re
from typing import Any, NamedTuple

from msgspec import structs

from penstock.dialects.members import Members, as_raw
from penstock.domain.chat import Part, Text, Thinking, ToolCall


class Place(NamedTuple):
    """What came before, in characters of text and in calls."""

    characters: int = 0
    calls: int = 0


FIRST = Place()

_PLACED = re.compile(r"(penstock\.[^.]+\.[^.]*)\.(\d{1,9})\.(\d{1,4})")


def placed(proof: str, place: Place) -> str:
    """A sealed proof with the place behind it."""
    return proof if place == FIRST or not proof else f"{proof}.{place.characters}.{place.calls}"


def places_in(parts: tuple[Part, ...]) -> list[Place]:
    """That of each thought among these parts."""
    found, characters, calls = [], 0, 0
    for part in parts:
        if isinstance(part, Thinking):
            found.append(Place(characters, calls))
        elif isinstance(part, Text):
            characters += len(part.text)
        elif isinstance(part, ToolCall):
            calls += 1
    return found


def take_places(message: Members) -> dict[int, Place]:
    """The places in the reasoning that a caller sends back, by its index; their proofs are left without them."""
    raw = message.raw("reasoning_details")
    if raw is None:
        return {}
    message.put("reasoning_details", raw)
    if b"penstock." not in bytes(raw):
        return {}
    found: dict[int, Place] = {}
    details = message.take("reasoning_details", list[dict[str, Any]]) or []
    for detail in details:
        for name in ("signature", "data"):
            match = _PLACED.fullmatch(proof) if isinstance(proof := detail.get(name), str) else None
            if match is not None and isinstance(index := detail.get("index"), int):
                detail[name] = match[1]
                found[index] = Place(int(match[2]), int(match[3]))
    message.put("reasoning_details", as_raw(details))
    return found


def in_place(
    thoughts: list[tuple[int | None, Thinking]], places: dict[int, Place], texts: list[Part], calls: list[Part]
) -> list[Part]:
    """A message's parts with each thought where it stood."""
    parts: list[Part] = []
    texts, calls, passed = list(texts), list(calls), Place()
    for index, thought in thoughts:
        place = places.get(-1 if index is None else index, FIRST)
        while texts and passed.characters < place.characters:
            head, rest = _split(texts.pop(0), place.characters - passed.characters)
            parts.append(head)
            passed = passed._replace(characters=passed.characters + len(head.text if isinstance(head, Text) else ""))
            texts[:0] = rest
        while calls and passed.calls < place.calls:
            parts.append(calls.pop(0))
            passed = passed._replace(calls=passed.calls + 1)
        parts.append(thought)
    return [*parts, *texts, *calls]


def _split(part: Part, size: int) -> tuple[Part, list[Part]]:
    """The first so many characters of a text, and the rest of it, which keeps what is said of all of it."""
    if not isinstance(part, Text) or len(part.text) <= size:
        return part, []
    return Text(part.text[:size]), [structs.replace(part, text=part.text[size:])]
