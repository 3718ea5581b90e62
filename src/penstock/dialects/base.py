"""What every dialect does, and the rules for JSON that comes from outside.

*Price what you parse, send what you priced*: the top level of a body is rebuilt from what was parsed, so there is one
`model` and one cap on the output; nested values go verbatim after a UTF-8 and depth check.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

from penstock.domain.kept import Errand
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

MAX_DEPTH = 64
MAX_OUTPUT_TOKENS = 2**31 - 1
"""A cap above this is no cap; vendors refuse far smaller ones."""

_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_encoder = msgspec.json.Encoder()
_T = TypeVar("_T")


class Call(Struct):
    """What the gateway must know of a request; the rest goes verbatim in `fields`.

    `max_output`: the caller's cap in tokens for one choice, None without one; `cap_name`: the member it came in.
    `input_bound`: the most tokens the text of the request can be (its UTF-8 bytes plus the documented overhead);
    `images` and `documents` are counted, never measured by their encoded size. `unseen`: there is content elsewhere (a
    file's id, a film's URL) that only the model's context window bounds. `web_searches`: the most that the vendor is
    taken to run for each choice; it charges them apiece. `predicted`: output tokens that can be billed
    on top of the cap of each choice. `input_estimate`: what the text probably is, for calls that are cut.

    Of what the vendor keeps: `refers` has the ids that the call cannot do without, and the members that name them;
    `mentions` those beside which it brings something of its own. `keeps`: whether the vendor is to keep the answer.
    `errand`: what is asked of something that is kept; `model` is empty until it is found. `threaded`: the vendor is to
    keep the conversation, or has a part of it. `cappable`: whether the request has a member that caps the output.
    `spoken`: the surface whose words these are, where the address has several (InvokeModel); empty: the address's own.
    """

    fields: dict[str, Raw]
    model: str
    streaming: bool = False
    max_output: int | None = None
    cap_name: str = ""
    choices: int = 1
    wants_usage: bool = False
    input_bound: int = 0
    input_estimate: int = 0
    images: int = 0
    unseen: bool = False
    rounds: int = 1
    web_searches: int = 0
    predicted: int = 0
    audio_in: bool = False
    audio_out: bool = False
    service_tier: str = ""
    """The tier asked for by name; empty when the vendor's default, or the vendor account's setting, decides."""
    form: str = ""
    """How the caller wants to be told, where its dialect has another way: a stream as a `list`, calls as those of
    `functions`."""
    refers: dict[str, str] = {}
    mentions: list[str] = []
    keeps: bool = False
    errand: Errand | None = None
    threaded: bool = False
    cappable: bool = True
    spoken: str = ""


class Address(Struct, frozen=True):
    """What the address of a request says, in the dialects that say it there: the model, whether the answer streams,
    and in which form (`sse`; empty: the dialect's other one); or what is asked of something that is kept."""

    model: str = ""
    streaming: bool = False
    form: str = ""
    errand: Errand | None = None


NO_ADDRESS = Address()


class Demand(Struct, frozen=True):
    """How a call is sent to one target: the vendor's model name, the cap to inject as `(field, tokens)` when the
    caller gave none, or instead of the name that it was given under, and whether a usage report must be asked for."""

    model: str
    cap: tuple[str, int] | None = None
    ask_usage: bool = False


class Reading(Struct, frozen=True):
    """What a provider's answer says about itself. `usage` None: it reported none that can be believed. `hostile`: it
    reported what cannot be true, or nothing of what went in, or of what came out; `usage` is then the rest, or what it
    had reported before. `error`: the message of an error that came with a success status; `error_status` what it says
    its status is. `service_tier`: the one that served the call, which decides its price. `kept`: the ids under which
    the vendor may keep the answer and its parts. `is_more_owed`: the vendor ran something for the call that it charges
    apart, at a price that no rate card has; what it reports of that is in `usage`.
    """

    usage: Usage | None = None
    finish_reason: str = ""
    error: str | None = None
    error_status: int = 0
    hostile: bool = False
    service_tier: str = ""
    kept: tuple[str, ...] = ()
    is_more_owed: bool = False


def stays_hostile(known: Reading, new: Reading) -> bool:
    """Whether the report of a stream is not to be believed after one more piece: the last one counts."""
    return new.hostile or (known.hostile and new.usage is None)


class Tee(Protocol):
    """Reads a stream while it passes. `feed` returns what goes to the caller, which is `data` itself unless the
    gateway asked for a usage report that the caller did not."""

    @property
    def begun(self) -> bool:
        """Whether a whole event has passed."""

    @property
    def ended(self) -> bool:
        """Whether the stream's normal ending has passed."""

    @property
    def reading(self) -> Reading: ...

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> tuple[bytes, bool]:
        """What was still held back, and whether the ending was seen; False is a truncated stream."""

    def counted_output(self) -> int:
        """Output tokens counted from what has passed: the estimate for a stream that was cut."""

    def error_event(self, error: GatewayError) -> bytes:
        """The bytes that end a cut stream where it stands: a typed error event, and no normal ending."""


class Dialect(Protocol):
    name: str
    surface: str

    def parse(self, body: bytes, address: Address = NO_ADDRESS) -> Call: ...

    def rebuild(self, call: Call, demand: Demand) -> bytes: ...

    def read(self, body: bytes) -> Reading: ...

    def tee(self, call: Call, asked_usage: bool) -> Tee: ...

    def error_body(self, error: GatewayError) -> bytes: ...

    def is_stream(self, call: Call, content_type: str) -> bool:
        """Whether an answer of this type to a streaming call is a stream, and not a plain answer all the same."""

    def envelope(self, body: bytes, status: int) -> bytes:
        """A provider's error body in this dialect's envelope."""


class Spoken(NamedTuple):
    """What a caller speaks, and what the address says that it wrote to."""

    dialect: Dialect
    address: Address = NO_ADDRESS


def is_not_json(call: Call, content_type: str) -> bool:
    """`is_stream` of the dialects whose streams are no JSON."""
    return not content_type.startswith("application/json")


def read_object(body: bytes) -> dict[str, Raw]:
    """The top level of a JSON object from a caller, nested values unparsed; the last of duplicate names wins.

    Raises `InvalidRequest` for anything but one well-formed UTF-8 object at most `MAX_DEPTH` levels deep.
    """
    try:
        body.decode("utf-8")
        fields = _object_decoder.decode(body)
    except UnicodeDecodeError:
        raise InvalidRequest("The request body is not valid UTF-8.") from None
    except RecursionError:
        raise InvalidRequest(f"The request body is nested deeper than {MAX_DEPTH} levels.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The request body must be a JSON object.") from None
    except msgspec.DecodeError:
        raise InvalidRequest("The request body is not valid JSON.") from None
    if is_deeper_than(body, MAX_DEPTH):
        raise InvalidRequest(f"The request body is nested deeper than {MAX_DEPTH} levels.")
    return fields


_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(c for c in range(256) if c not in _BRACKETS)
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_deeper_than(body: bytes, depth: int) -> bool:
    """Whether valid JSON nests deeper than `depth`. Costs one count for nearly every body."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside.translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > depth


def field(fields: Mapping[str, Raw], name: str, kind: type[_T], what: str) -> _T | None:
    """The value of a top-level member, None when absent or null. `what` names the type in the refusal."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind | None)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"'{name}' must be {what}.", param=name) from None


def in_range(name: str, value: int | None, most: int = MAX_OUTPUT_TOKENS) -> int:
    """The value when it is from 1 to `most`; 0 when it is absent."""
    if value is None:
        return 0
    if not 1 <= value <= most:
        raise InvalidRequest(f"'{name}' must be between 1 and {most}.", param=name)
    return value


def model_name(fields: Mapping[str, Raw]) -> str:
    """The caller's `model`."""
    return checked_model(field(fields, "model", str, "a string") or "")


def checked_model(model: str) -> str:
    """A model's name: text of 1 to 256 characters without control characters."""
    if not model:
        raise InvalidRequest("'model' is required.", param="model")
    if len(model) > 256 or not model.isprintable():
        raise InvalidRequest("'model' must be at most 256 characters and have no control characters.", param="model")
    return model


def encode_object(fields: Mapping[str, Any]) -> bytes:
    """The JSON object of these members; `Raw` values go verbatim."""
    return _encoder.encode(fields)


def members_of(reply: bytes) -> dict[str, Raw]:
    """The top level of a provider's JSON object; `UpstreamMalformed` for what is not one."""
    return decode_reply(_object_decoder, reply)


def decode_reply(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> _T:
    """A provider's JSON as the decoder's type; `UpstreamMalformed` for what is not that."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UpstreamMalformed("The provider's answer is not what its API allows.") from None


class Forgiving(Generic[_T]):
    """A provider's JSON as a type, with whole numbers that are written with a fraction of zero, or in quotes. Raises
    `msgspec.DecodeError`."""

    def __init__(self, kind: type[_T]) -> None:
        self._strict = msgspec.json.Decoder(kind)
        self._lax = msgspec.json.Decoder(kind, strict=False)

    def decode(self, data: bytes) -> _T:
        try:
            return self._strict.decode(data)
        except msgspec.ValidationError:
            return self._lax.decode(data)


MAX_BELIEVED_TOKENS = 10**9


def believed(*counts: object) -> bool:
    """Whether a provider's counts can be true: whole numbers from 0 to a billion (None counts as absent)."""
    for count in counts:
        if count is not None and not (type(count) is int and 0 <= count <= MAX_BELIEVED_TOKENS):
            return False
    return True


def as_whole(count: Any) -> Any:
    """A provider's count as a whole number, also where it was written with a fraction of zero."""
    return int(count) if isinstance(count, float) and count.is_integer() else count


def first_count(*counts: object) -> int:
    """The first count that is there and not zero; 0 when there is none."""
    for count in map(as_whole, counts):
        if count and isinstance(count, int):
            return count
    return 0


def estimate_tokens(texts: Iterable[int]) -> int:
    """Tokens in pieces of text of these UTF-8 sizes, as streamed: a short piece is one token (that is how vendors
    stream), a long one about four bytes a token."""
    return sum(1 if size <= 16 else -(-size // 4) for size in texts if size)
