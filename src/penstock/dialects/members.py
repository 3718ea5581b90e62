"""Taking a JSON object apart, member by member: what is taken is understood, what is left is extras."""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from penstock.dialects.base import members_of
from penstock.domain.chat import Extras
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

Fault = Callable[[str], GatewayError]
"""What is raised about the member at a place (`messages[2].content`)."""

NULL = Raw(b"null")
_QUOTE, _BRACE = b'"{'

NEEDED = frozenset(
    (
        *("choices", "message", "delta", "content", "text", "tool_calls", "function", "name", "custom", "input"),
        *("output", "item", "part", "response", "thinking", "data", "transcript", "error"),
    )
)
"""Members of an answer that are the answer, or say that it is none: of another type than the reference has, they are
the provider's fault. All others lose nothing but themselves."""
_T = TypeVar("_T")


def callers_fault(place: str) -> GatewayError:
    return InvalidRequest(f"'{place}' is not what the API allows.", param=place)


def providers_fault(place: str) -> GatewayError:
    return UpstreamMalformed(f"The provider's answer has a '{place}' that its API does not allow.")


@lru_cache(maxsize=256)
def decoder_of(kind: Any) -> "msgspec.json.Decoder[Any]":
    """The decoder of a type, which costs more to make than to use."""
    return msgspec.json.Decoder(kind)


@lru_cache(maxsize=64)
def _lax_decoder_of(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind, strict=False)


def _nearly(raw: Raw, kind: Any) -> Any:
    """What a value of another type says all the same: a whole number in quotes or with a fraction of zero, a number for
    a text, the objects in a list that has others; None for the rest."""
    if kind is str:
        return bytes(raw).decode() if memoryview(raw)[0] in b"-0123456789" else None
    try:
        if kind == list[dict[str, Raw]]:
            return [_object(one) for one in _list(raw) if memoryview(one)[0] == _BRACE]
        return None if kind is bool else _lax_decoder_of(kind).decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


_object = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_string = msgspec.json.Decoder(str).decode
_number = msgspec.json.Decoder(float).decode


def pop(fields: dict[str, Raw], name: str, kind: type[_T], default: _T) -> _T:
    """Takes a member out; the default where it is absent or null. Raises `msgspec.DecodeError`."""
    raw = fields.pop(name, None)
    if raw is None or raw == NULL:
        return default
    found: _T = decoder_of(kind).decode(raw)  # type: ignore[arg-type]  # every type can be hashed
    return found


class Members:
    """The members of one object. Absent and `null` are the same: None, or the type's empty value."""

    __slots__ = ("_fault", "_members", "_place")

    def __init__(self, members: Extras, fault: Fault, place: str = "") -> None:
        self._members = members
        self._fault = fault
        self._place = place

    def take(self, name: str, kind: type[_T]) -> _T | None:
        """The value, which must be of this type where it is there; in an answer only where the answer hangs on it."""
        raw = self._members.pop(name, None)  # most members are absent, and a call less for each is felt
        if raw is None or raw == NULL:
            return None
        try:
            found: _T = decoder_of(kind).decode(raw)  # type: ignore[arg-type]  # every type can be hashed
            return found
        except (msgspec.DecodeError, RecursionError):
            if self._fault is not providers_fault or name in NEEDED:
                raise self._fault(self._place + name) from None
        nearly: _T | None = _nearly(raw, kind)
        return nearly

    def raw(self, name: str) -> Raw | None:
        """The value as JSON text."""
        raw = self._members.pop(name, None)
        return None if raw is None or raw == NULL else raw

    def text(self, name: str) -> str:
        return "" if name not in self._members else self.take(name, str) or ""

    def word(self, name: str) -> str:
        """A text that no answer hangs on; empty for anything else."""
        return _text_in(self._members.pop(name, NULL))

    def peek(self, name: str) -> str:
        """The text there, which is not taken; empty for anything else."""
        return _text_in(self._members.get(name, NULL))

    def json_text(self, name: str) -> str:
        """A string; anything else as its JSON text."""
        raw = self.raw(name)
        if raw is None:
            return ""
        return _string(raw) if is_string(raw) else bytes(raw).decode()

    def moment(self, name: str) -> int:
        """Unix seconds; 0 for anything else, because no answer hangs on it."""
        raw = self.raw(name)
        try:
            return int(_number(raw)) if raw is not None else 0
        except (msgspec.DecodeError, RecursionError):
            return 0

    def object(self, name: str) -> "Members":
        """The object there; an empty one where there is none."""
        return Members(self.take(name, dict[str, Raw]) or {}, self._fault, f"{self._place}{name}.")

    def objects(self, name: str) -> "list[Members]":
        if name not in self._members:
            return []
        return [self.element(name, *each) for each in enumerate(self.take(name, list[dict[str, Raw]]) or ())]

    def element(self, name: str, number: int, members: Extras) -> "Members":
        """The object of this number in a list that was taken as plain ones."""
        return Members(members, self._fault, f"{self._place}{name}[{number}].")

    def drop(self, *names: str) -> None:
        for name in names:
            self._members.pop(name, None)

    def put(self, name: str, raw: Raw) -> None:
        self._members[name] = raw

    def fault(self, name: str) -> GatewayError:
        """What to raise about a member."""
        return self._fault(self._place + name)

    def has(self, name: str) -> bool:
        return name in self._members

    def given(self, names: Collection[str]) -> list[str]:
        """Which of these are there."""
        return sorted(self._members.keys() & names)

    def has_any(self, names: frozenset[str]) -> bool:
        return not names.isdisjoint(self._members)

    def is_empty(self) -> bool:
        return not self._members

    def whole(self) -> Raw:
        """The object itself, as far as it has not been taken."""
        return as_raw(self._members)

    def rest(self) -> Extras:
        """What nobody took. `null` says nothing."""
        return {name: raw for name, raw in self._members.items() if raw != NULL}


def reply_members(body: bytes) -> Members:
    """The top level of a provider's JSON."""
    return Members(members_of(body), providers_fault)


def as_raw(value: Any) -> Raw:
    """A plain value as JSON text."""
    return Raw(msgspec.json.encode(value))


def is_set(raw: Raw | None) -> bool:
    """Whether a `Raw` of the domain holds something."""
    return raw is not None and raw != NULL


def _text_in(raw: Raw) -> str:
    return _string(raw) if is_string(raw) else ""


def is_string(raw: Raw) -> bool:
    """Whether it is text, quoted."""
    return bool(raw) and memoryview(raw)[0] == _QUOTE
