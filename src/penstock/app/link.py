"""The link: msgpack frames over a Unix socket between a worker and the control process of its box.

A frame is a big-endian u32 length and one tagged message. The worker connects, says `Hello`, and is sent `Welcome`
and the `Keys` of its snapshot; from then on the control process pushes `Change`s, also between the keys, both sides
beat once a second, and the worker may ask `Question`s.
The socket lies in the data directory (mode 0700), so that only the gateway's own user can reach it.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

from penstock.app.arrival import Keys
from penstock.domain.lease import Given, Granted, Place, Want
from penstock.domain.policy import Charge
from penstock.domain.snapshot import Change, Snapshot
from penstock.upstream.credentials import Heard

MAX_FRAME_BYTES = 512 * 1024 * 1024


class Hello(Struct, frozen=True, tag="hello"):
    """`epoch` 0: a new worker, which owns no journal yet; else the epoch it was given, and it keeps its balances."""

    node: str
    pid: int
    epoch: int = 0


class Welcome(Struct, frozen=True, tag="welcome"):
    """`snapshot`: all but the keys, which follow. `journal`: the path of the file that this epoch writes. `balances`:
    what is settled in every open window, the predecessor's journal included, and adjustments up to number `adjusted`;
    both empty for a worker that resumes.
    `pepper`: the key of callers' digests. `sole`: this worker is the only one that the database will ever have, and
    holds the whole of every balance; any other lives from leases and begins with none. `node`: the worker's name, under
    which it is known from now on; empty where that is the one it said."""

    epoch: int
    journal: str
    snapshot: Snapshot
    pepper: bytes
    balances: tuple[Charge, ...] = ()
    adjusted: int = 0
    sole: bool = True
    node: str = ""


class Refused(Struct, frozen=True, tag="refused"):
    """The control process does not know this worker's epoch any more: it must end, and a new one start. A link that is
    closed without this word says nothing: the worker tries again."""


class World(Struct, frozen=True, tag="world"):
    """The whole snapshot once more, for a worker that said it was `Behind`: all but the keys, which follow."""

    snapshot: Snapshot


class Changed(Struct, frozen=True, tag="changed"):
    change: Change


class Adjusted(Struct, frozen=True, tag="adjusted"):
    """Adjustment `number` moved what is settled on a balance by `charge.amount`. A worker applies adjustments in the
    order of their numbers, each once; one that misses some asks for them."""

    number: int
    charge: Charge


class Confirm(Struct, frozen=True, tag="confirm"):
    """This worker obeys every kill up to `generation` and has cut `streams_cut` live calls for it."""

    generation: int
    streams_cut: int


class Beat(Struct, frozen=True, tag="beat"):
    """Worker to control, once a second: gauges for `/metrics`."""

    generation: int
    version: int
    in_flight: int
    streams: int
    held: dict[str, int]
    """Limit id -> amount held now, over all values and windows."""
    loop_lag_ms: float
    refused_strangers: int = 0
    """Calls without a valid key since the worker started; they leave no record of their own."""
    peaks: tuple[Charge, ...] = ()
    """How many calls were in flight at once since the beat before, for each balance of the concurrent limits that
    alert."""
    break_glass: bool = False
    """Whether this worker obeys the break-glass file."""


class Pulse(Struct, frozen=True, tag="pulse"):
    """Control to worker, once a second: the newest kill generation and snapshot version. It is the poll that
    guarantees a kill when a push was lost: a worker behind either asks for the whole snapshot. `adjusted`: the newest
    adjustment's number; a worker behind that asks for those that it lacks."""

    generation: int
    version: int
    adjusted: int = 0


class Behind(Struct, frozen=True, tag="behind"):
    """Worker to control: changes were lost; it needs the whole snapshot."""


class Question(Struct, frozen=True, tag="question"):
    """`kind` `receipt` (`arguments`: request id, digest of the asking key), `deployment` (provider, model),
    `adjustments` (the number after which), `take_key` (a `KeyUse` field by field, the worker's
    epoch), `release_key` (a `KeyUse` field by field), `signers` (none: look for new keys of trusted issuers),
    `exchange` (an `Exchanged` as JSON, to be recorded), `kept` (the asking owner, how many of
    the ids are needed, the ids, those first)."""

    id: int
    kind: str
    arguments: tuple[str, ...] = ()


class LeaseRequest(Struct, frozen=True, tag="lease"):
    """Worker to control: what it wants and what it gives back. `number` counts from 1; the same request may come more
    than once, on another connection, and is obeyed once."""

    number: int
    wants: tuple[Want, ...] = ()
    given: tuple[Given, ...] = ()


class LeaseAnswer(Struct, frozen=True, tag="leased"):
    """`granted`: one for each want, in their order; None when the store could not be asked, or did not say whether it
    has obeyed: the worker asks again with the same number."""

    number: int
    granted: tuple[Granted, ...] | None


class Recall(Struct, frozen=True, tag="recall"):
    """Control to worker: others lack what is unused at these places; it is to be given back now."""

    places: tuple[Place, ...]


class CredentialHeard(Struct, frozen=True, tag="credential"):
    """Both ways: what a worker has heard of a provider's credential, and what the others are told of it."""

    heard: Heard


class Answer(Struct, frozen=True, tag="answer"):
    """`value` is a msgpack-encoded value of the kind asked for, or None for "there is none"."""

    id: int
    value: bytes | None


Message = (
    Hello
    | Welcome
    | Refused
    | World
    | Keys
    | Changed
    | Adjusted
    | Confirm
    | Beat
    | Pulse
    | LeaseRequest
    | LeaseAnswer
    | Recall
    | Behind
    | CredentialHeard
    | Question
    | Answer
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The frame of one message."""
    payload = _encoder.encode(message)
    return len(payload).to_bytes(4, "big") + payload


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """Every message until the peer is gone. A frame that does not decode raises `msgspec.DecodeError`."""
    while True:
        try:
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > MAX_FRAME_BYTES:
                raise msgspec.DecodeError(f"a frame of {size} bytes is over the bound")
            payload: Any = await reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
            return
        yield _decoder.decode(payload)
