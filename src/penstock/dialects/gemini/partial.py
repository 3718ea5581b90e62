"""A call of a function whose arguments come piece by piece.

Source: Vertex AI, "Function calling", streaming of arguments; API reference, `FunctionCall` (`partialArgs`,
`willContinue`) and `PartialArg`. The first piece has the name, the last no `willContinue`. A value is told at a place
in the arguments (`$.days[0].note`); a text may come in several pieces of the same place.
"""

import re
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.domain.chat import ToolCall
from penstock.errors import UpstreamMalformed

MAX_PIECES = 65_536
"""Of one call."""

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\[(?:'([^']*)'|"([^"]*)")\]""")
_MEMBERS = ("partialArgs", "willContinue")


class _Piece(Struct, rename="camel"):
    json_path: str = ""
    string_value: str | None = None
    number_value: float | int | None = None
    bool_value: bool | None = None

    def value(self) -> Any:
        values = (self.string_value, self.number_value, self.bool_value)
        return next((value for value in values if value is not None), None)


_pieces_decoder = msgspec.json.Decoder(list[_Piece])


def is_partial(call: ToolCall) -> bool:
    return any(name in call.extras for name in _MEMBERS)


class PartialCall:
    """The call while it comes. `whole`: its last piece has come."""

    def __init__(self, first: ToolCall) -> None:
        self._call = structs.replace(first, extras=_without(first.extras))
        self._given: dict[str, Any] = msgspec.json.decode(first.arguments or "{}")
        self._count = 0
        self.whole = False
        self.add(first)

    def add(self, call: ToolCall) -> None:
        """One more piece. Raises `msgspec.DecodeError`, and `UpstreamMalformed` for a place that there cannot be."""
        for piece in _pieces_decoder.decode(call.extras.get("partialArgs", Raw(b"[]"))):
            self._count += 1
            if self._count > MAX_PIECES:
                raise UpstreamMalformed("The provider's answer has a call with more arguments than any call.")
            _put(self._given, _steps(piece.json_path), piece.value())
        self.whole = bytes(call.extras.get("willContinue", b"false")) != b"true"

    def call(self) -> ToolCall:
        return structs.replace(self._call, arguments=msgspec.json.encode(self._given).decode())


def _without(extras: dict[str, Raw]) -> dict[str, Raw]:
    return {name: value for name, value in extras.items() if name not in _MEMBERS}


def _steps(path: str) -> list[str | int]:
    """`$.days[0].note` -> `days`, 0, `note`."""
    return [
        int(found[2]) if found[2] is not None else next(name for name in found.group(1, 3, 4) if name is not None)
        for found in _STEP.finditer(path)
    ]


def _put(given: Any, steps: list[str | int], value: Any) -> None:
    """Sets what is at the place; more of a text goes behind what is there."""
    if not steps:
        raise UpstreamMalformed("The provider's answer has an argument without a place.")
    for step, following in pairwise(steps):
        given = _opened(given, step, [] if isinstance(following, int) else {})
    known, last = _opened(given, steps[-1], None), steps[-1]
    given[last] = known + value if isinstance(known, str) and isinstance(value, str) else value


def _opened(given: Any, step: str | int, new: Any) -> Any:
    """What is there, or `new`, put there. A list grows by one at a time."""
    if isinstance(given, dict) and isinstance(step, str):
        return given.setdefault(step, new)
    if isinstance(given, list) and isinstance(step, int) and step <= len(given):
        if step == len(given):
            given.append(new)
        return given[step]
    raise UpstreamMalformed("The provider's answer has an argument at a place that there cannot be.")
