"""Names and forms that all of the dialect shares.

Source: Google "Gemini API reference" (the v1beta discovery document, read 2026-11) and the ProtoJSON rules that its
parser follows: a member may be written in camelCase or in snake_case, a list of one as its one element, an enum as its
number (which callers ask for with `$alt=json;enum-encoding=int`).
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from penstock.errors import InvalidRequest

NAME = "gemini"

NULL = Raw(b"null")

BEFORE_3 = re.compile(r"(?:.*/)?gemini-(?:1|2)[.-]")
"""Models before Gemini 3, which differ in many ways from those after."""

_T = TypeVar("_T")
_SNAKE = re.compile(r"_([a-z0-9])")

_SNAKE_NAME = re.compile(rb'"[a-z]+(?:_[a-z0-9]+)+"(?=\s*:)')
"""Text has no such thing in it: its quotes are written as `\\"`."""
_SNAKE_MARKS = (b'_metadata"', b'"finish_reason"', b'"prompt_feedback"')

_members_decoder = msgspec.json.Decoder(dict[str, Raw])
_list_decoder = msgspec.json.Decoder(list[Raw])

MODALITIES = {1: "TEXT", 2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
FINISH_REASONS = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION"}
"""The numbers that mean the same at Google AI and at Vertex."""


def camel(name: str) -> str:
    """The name as the reference has it: `max_output_tokens` -> `maxOutputTokens`."""
    return _SNAKE.sub(lambda match: match[1].upper(), name) if "_" in name[1:] else name


def camel_members(raw: bytes) -> dict[str, Raw]:
    """The members of an object, as `in_camel` names them. Raises `msgspec.DecodeError` too."""
    return in_camel(_members_decoder.decode(raw))


def in_camel(members: Mapping[str, Raw]) -> dict[str, Raw]:
    """The members under the reference's names; null ones say nothing. Raises `InvalidRequest` for a member that is
    written twice in two ways, of which only one could be priced."""
    named = {camel(name): value for name, value in members.items()}
    if len(named) < len(members):
        twice = next(name for name in members if camel(name) != name and camel(name) in members)
        raise InvalidRequest(f"'{camel(twice)}' is given twice, as '{twice}' too.", param=camel(twice))
    return {name: value for name, value in named.items() if value != NULL}


def all_in_camel(body: bytes) -> bytes:
    """JSON with all names as the reference has them, also those that are not its own: only to be counted."""
    return _SNAKE_NAME.sub(lambda match: camel(match[0].decode()).encode(), body)


def answer_in_camel(body: bytes) -> bytes:
    """An answer as `all_in_camel` has it. A few of its names tell whether it needs to be, so that most cost a look."""
    return all_in_camel(body) if any(mark in body for mark in _SNAKE_MARKS) else body


def elements(raw: bytes) -> list[Raw]:
    """The elements of a list, or the one value that stands for a list of one."""
    return _list_decoder.decode(raw) if raw.lstrip()[:1] == b"[" else [Raw(raw)]


def pop(members: dict[str, Raw], name: str, kind: type[_T], default: _T) -> _T:
    """Takes a member out; the default where it is absent. Raises `msgspec.DecodeError`."""
    raw = members.pop(name, None)
    return default if raw is None else msgspec.json.decode(raw, type=kind)


def text_in(members: Mapping[str, Raw], name: str) -> str:
    """A text that no answer hangs on; empty for anything else."""
    raw = members.get(name)
    return msgspec.json.decode(raw) if raw is not None and bytes(raw).startswith(b'"') else ""


def maybe(members: dict[str, Raw], name: str, kind: type[_T]) -> _T | None:
    """Takes a member out; None where it is absent. Raises `msgspec.DecodeError`."""
    raw = members.pop(name, None)
    return None if raw is None else msgspec.json.decode(raw, type=kind)


def word(value: Any, words: Mapping[int, str]) -> str:
    """An enum's word, whether it was written as one or as a number."""
    if isinstance(value, str):
        return value
    return words.get(value, str(value)) if isinstance(value, int) else ""
