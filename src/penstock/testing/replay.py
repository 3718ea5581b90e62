"""The replaying upstream: recorded provider traffic, answered as it was recorded.

A recording is chosen by the first segments of the path, `/replay/<id>/...`, so that the base URL of a provider is
enough to select it. Streams are cut as they were recorded, or at random places.
"""

import asyncio
import base64
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from penstock.domain.http import Headers
from penstock.testing.wire import Received, Reply, WireServer

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "upgrade", "trailer", "te")
)
Cuts = Literal["recorded", "random", "bytes", "whole"]
"""How a stream is cut: as recorded (whole when unknown), at random places, byte by byte, or not at all."""


class RecordedRequest(Struct, frozen=True):
    path: str = ""
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: Any = None

    @property
    def json(self) -> Any:
        """The body as it was sent; some recorders wrapped it as `{"b64": ...}`."""
        if isinstance(self.body, dict) and set(self.body) == {"b64"}:
            return msgspec.json.decode(base64.b64decode(self.body["b64"]))
        return self.body


class RecordedResponse(Struct, frozen=True):
    status: int
    headers: dict[str, str] = {}
    body_text: str | None = None
    body_base64: str | None = None

    @property
    def content(self) -> bytes:
        if self.body_base64 is not None:
            return base64.b64decode(self.body_base64)
        return (self.body_text or "").encode()


class Recording(Struct, frozen=True):
    """One exchange. `fidelity` `verbatim`: the bytes are the provider's own. `usage`: what a receipt must say, for
    recordings that state it."""

    id: str
    provider: str
    surface: str
    request: RecordedRequest
    response: RecordedResponse
    model: str | None = None
    streaming: bool = False
    features: tuple[str, ...] = ()
    fidelity: str = "verbatim"
    response_kind: str = "json"
    recorded_chunk_lengths: tuple[int, ...] | None = None
    usage: dict[str, Any] = field(default_factory=dict)


def load_recordings(folder: Path, surfaces: Iterable[str]) -> Iterator[Recording]:
    """Every recording of `surfaces` in the `*.jsonl` files of `folder`, in the order of file names and lines."""
    wanted = set(surfaces)
    decoder = msgspec.json.Decoder(Recording)
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            if line.strip() and (recording := decoder.decode(line)).surface in wanted:
                yield recording


def cut(data: bytes, lengths: Iterable[int]) -> list[bytes]:
    """`data` in pieces of `lengths`; what remains is the last piece."""
    parts, start = [], 0
    for length in lengths:
        parts.append(data[start : start + length])
        start += length
    return [part for part in (*parts, data[start:]) if part]


def recorded_headers(recording: Recording) -> Headers:
    """The fields a provider sent, without those that belong to one connection."""
    return [
        (name.lower(), value) for name, value in recording.response.headers.items() if name.lower() not in HOP_BY_HOP
    ]


class ReplayProvider(WireServer):
    """Answers `/replay/<id>/...` with the recording `id`. `cuts` may be changed between requests."""

    def __init__(self, recordings: Iterable[Recording], cuts: Cuts = "recorded", seed: int = 1) -> None:
        super().__init__()
        self.recordings = {recording.id: recording for recording in recordings}
        self.cuts = cuts
        self._random = random.Random(seed)  # noqa: S311  cuts of test data, nothing secret

    def base_url(self, recording_id: str) -> str:
        return f"{self.origin}/replay/{recording_id}"

    def calls(self, recording_id: str) -> list[Received]:
        prefix = f"/replay/{recording_id}/"
        return [received for received in list(self.received) if received.path.startswith(prefix)]

    async def answer(self, reply: Reply) -> None:
        recording = self.recordings.get(reply.received.path.removeprefix("/replay/").partition("/")[0])
        if recording is None:
            await reply.whole(404, [("content-type", "text/plain")], b"no such recording")
            return
        content, headers = recording.response.content, recorded_headers(recording)
        if recording.response_kind not in ("sse", "json_array", "eventstream"):
            await reply.whole(recording.response.status, headers, content)
            return
        await reply.head(recording.response.status, headers)
        for part in self._cut(recording, content):
            await reply.body(part)
            await asyncio.sleep(0)
        await reply.end()

    def _cut(self, recording: Recording, content: bytes) -> list[bytes]:
        if self.cuts == "recorded" and recording.recorded_chunk_lengths:
            return cut(content, recording.recorded_chunk_lengths)
        if self.cuts == "bytes":
            return cut(content, [1] * len(content))
        if self.cuts == "random":
            return cut(content, [self._random.randint(1, 200) for _ in range(len(content))])
        return [content]
