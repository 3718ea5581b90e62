"""Conversations for the laws of the codecs: what every dialect can say, and what a dialect says besides, by parameter.

JSON text is compact, as the codecs write it, so that what is verbatim can be compared.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from penstock.dialects.codec import StreamDecoder
from penstock.domain.chat import (
    Answer,
    Cache,
    Choice,
    Finish,
    Message,
    Part,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from penstock.domain.stream import Event
from penstock.domain.usage import Usage

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
IDS = st.builds(lambda n: f"call_{n}", st.integers(0, 999))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text('abc"\\\né', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=3,
)
COUNTS = st.integers(0, 10_000)


unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""For laws over whole conversations, on a machine that is busy."""


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


JSON_OBJECTS = st.dictionaries(NAMES, JSON_VALUES, max_size=2).map(compact)
RAW_OBJECTS = JSON_OBJECTS.map(lambda text: Raw(text.encode()))
SCHEMAS = RAW_OBJECTS.map(lambda given: Raw(b'{"type":"object","properties":' + bytes(given) + b"}"))
CACHES = st.none() | st.sampled_from([Cache(), Cache("5m"), Cache("1h")])

TEXTS: st.SearchStrategy[Part] = st.builds(Text, WORDS)
CALLS: st.SearchStrategy[Part] = st.builds(ToolCall, IDS, NAMES, JSON_OBJECTS)
RESULTS: st.SearchStrategy[Part] = st.builds(
    ToolResult, IDS, st.lists(st.builds(Text, WORDS), max_size=2).map(tuple), is_error=st.booleans()
)
TOOLS = st.builds(Tool, NAMES, st.just("") | WORDS, SCHEMAS, strict=st.none() | st.booleans())


def usages(*, lifetimes: Sequence[str] = ("5m", "1h")) -> st.SearchStrategy[Usage]:
    """Usage whose parts add up, without audio."""

    @st.composite
    def made(draw: st.DrawFn) -> Usage:
        output = draw(COUNTS)
        written = {name: count for name in lifetimes if (count := draw(st.sampled_from([0, 0, 7, 2048])))}
        return Usage(draw(COUNTS), output, draw(COUNTS), written, draw(st.integers(0, output)))

    return made()


def with_parts(usage: Usage, parts: tuple[int, int, int, int]) -> Usage:
    """The usage with parts of its input and its output, each at most what is left of it."""
    image_in, image_out = min(parts[0], usage.input), min(parts[2], usage.output)
    video_in, video_out = min(parts[1], usage.input - image_in), min(parts[3], usage.output - image_out)
    return structs.replace(usage, image_in=image_in, video_in=video_in, image_out=image_out, video_out=video_out)


def answers(
    origin: str, parts: st.SearchStrategy[Part], finishes: Sequence[tuple[Finish, str]]
) -> st.SearchStrategy[Answer]:
    """Plain answers of one choice. `finishes`: the reason, and the vendor's word for it."""
    choices = st.builds(
        lambda parts, finish: Choice(tuple(parts), finish[0], finish[1]),
        st.lists(parts, max_size=5),
        st.sampled_from(list(finishes)),
    )
    return st.builds(
        lambda choice, usage: Answer(origin, "id_1", "model-1", (choice,), usage=usage), choices, st.none() | usages()
    )


def messages(
    user: st.SearchStrategy[Part], assistant: st.SearchStrategy[Part]
) -> st.SearchStrategy[tuple[Message, ...]]:
    """A system message at the front, perhaps; then turns of both sides in any order."""
    system = st.lists(st.builds(lambda text: Message("system", (Text(text),)), WORDS), max_size=1)
    turns = st.lists(
        st.builds(lambda parts: Message("user", tuple(parts)), st.lists(user, min_size=1, max_size=3))
        | st.builds(lambda parts: Message("assistant", tuple(parts)), st.lists(assistant, min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    )
    return st.builds(lambda first, then: (*first, *then), system, turns)


def requests(
    origin: str, said: st.SearchStrategy[tuple[Message, ...]], **members: st.SearchStrategy[Any]
) -> st.SearchStrategy[Request]:
    return st.builds(Request, origin=st.just(origin), model=st.just("model-1"), messages=said, **members)


def decode_in_pieces(decoder: StreamDecoder, stream: bytes, seed: int) -> list[Event]:
    """What a decoder tells of a stream that comes in pieces of random sizes."""
    dice, told, at = random.Random(seed), [], 0
    while at < len(stream):
        size = dice.choice((1, 2, 7, 40, 300))
        told += decoder.feed(stream[at : at + size])
        at += size
    return [*told, *decoder.close()]
