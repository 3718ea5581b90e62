"""What a conversation dialect's codec does: read its wire language into `domain.chat` and write it from there.

    decode_request   a caller's body        -> Request
    encode_request   Request                -> the body for a target that speaks the dialect, and what was dropped
    decode_answer    a target's plain body  -> Answer
    encode_answer    Answer                 -> the caller's plain body
    decoder          a target's stream      -> events
    encoder          events                 -> the caller's stream

All of it is pure. Decoders *pop* what they understand, in the order of the vendor's page; what remains is extras, under
the dialect's name, and is written back by the same dialect's encoder alone. `decode(encode(x)) == x` for everything the
dialect can express.

**Sealed reasoning.** A caller must be able to send back the reasoning of a vendor whose dialect it does not speak.
`seal` wraps a proof in the name of the dialect it came from, and `unseal` takes it out again; a proof of the dialect's
own goes bare. A codec that encodes for a target leaves out what comes from another family (and says so).
"""

import base64
import hashlib
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from penstock.dialects.base import Call
from penstock.domain.chat import Answer, Extras, Request
from penstock.domain.stream import Event
from penstock.errors import InvalidRequest

_SEAL = "penstock."

PLACES = frozenset({"instructions", "block", "json", "id"})
"""Extras that say where something stood, how else it was written, or what it was called: nothing that could be lost."""


class TargetFacts(Struct, frozen=True):
    """What an encoder must know of the model that the request goes to. `max_output` and `context_window` in tokens,
    None when not known: what goes where a caller has no cap. `lacks`: the features that the catalogue says the model
    does not have. `most_output`: all that the model can put out."""

    model: str
    max_output: int | None = None
    context_window: int | None = None
    lacks: frozenset[str] = frozenset()
    most_output: int | None = None


class Encoded(Struct, frozen=True):
    """A body, and the features of the request that could not be said in it: short names, such as `top_k`, `seed`,
    `tools.strict`, `thinking`, each once."""

    body: bytes
    dropped: tuple[str, ...] = ()


class Heading(Struct, frozen=True):
    """What an encoder must know of the caller's request to answer it: the model's name as the caller wrote it, whether
    usage was asked for (`stream_options.include_usage`), the request itself, for dialects that echo it, the time (Unix
    seconds), an id of ours for an answer whose vendor gives none, and the form of the stream, for dialects that have
    several (`Call.form`)."""

    model: str
    wants_usage: bool
    request: Request
    created: int = 0
    id: str = ""
    form: str = ""


class StreamDecoder(Protocol):
    """Sans-I/O. Any split of the bytes gives the same events."""

    def feed(self, data: bytes) -> list[Event]: ...

    def close(self) -> list[Event]:
        """What was still held back. Raises `UpstreamReset` unless the stream's ending (or a failure) was seen."""


class StreamEncoder(Protocol):
    """Writes events as the caller's stream. `Failed` becomes the dialect's error event, and no normal ending follows.
    The bytes of `Ended` are the dialect's ending."""

    def encode(self, event: Event) -> bytes: ...


class Codec(Protocol):
    content_type: str
    """Of a plain answer."""
    stream_type: str
    """Of a stream."""
    several: bool
    """Whether one call can be given several choices."""

    def decode_request(self, call: Call) -> Request:
        """Raises `InvalidRequest` naming the member at fault."""

    def encode_request(self, request: Request, target: TargetFacts) -> Encoded: ...

    def decode_answer(self, body: bytes) -> Answer:
        """Raises `UpstreamMalformed`."""

    def encode_answer(self, answer: Answer, heading: Heading) -> bytes:
        """Raises `AnswerFailed` for an answer that failed, where the dialect has no word for that."""

    def decoder(self) -> StreamDecoder: ...

    def encoder(self, heading: Heading) -> StreamEncoder: ...


class Drops:
    """What an encoder could not say, gathered in order, each once."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        self._names[name] = None

    def check(self, condition: object, name: str) -> None:
        if condition:
            self._names[name] = None

    def check_all(self, conditions: dict[str, object]) -> None:
        for name, condition in conditions.items():
            if condition:
                self._names[name] = None

    def extras(self, request: Request, own: str) -> dict[str, Raw]:
        """The request's extras where they are the dialect's own; else none, and each is named."""
        if request.origin == own:
            return dict(request.extras)
        for name in request.extras:
            self.add(name)
        return {}

    def nested(self, extras: Extras, where: str, *, is_own: bool) -> Extras:
        """The extras of something inside of the request where they are the dialect's own; else none, and each is
        named."""
        if is_own:
            return extras
        for name in extras:
            if name not in PLACES:
                self.add(f"{where}.{name}")
        return {}

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


def seal(origin: str, value: str, own: str) -> str:
    """A proof as a caller that speaks `own` keeps it: bare when it is of `own`, else wrapped."""
    if not value or origin == own:
        return value
    return f"{_SEAL}{origin}.{base64.urlsafe_b64encode(value.encode()).decode().rstrip('=')}"


def unseal(value: str, own: str) -> tuple[str, str]:
    """`(origin, proof)` of what a caller that speaks `own` sent back."""
    if not value.startswith(_SEAL):
        return own, value
    origin, _, packed = value.removeprefix(_SEAL).partition(".")
    try:
        return origin, base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except ValueError:
        raise InvalidRequest("The reasoning that was sent back was changed on the way.") from None


def shortened(id: str, most: int) -> str:
    """A call's id for a vendor that takes at most so many characters; the same for its result."""
    return id if len(id) <= most else "call_" + hashlib.sha256(id.encode()).hexdigest()[: most - 5]


def json_text(value: Any) -> str:
    """JSON text of a plain value."""
    return msgspec.json.encode(value).decode()
