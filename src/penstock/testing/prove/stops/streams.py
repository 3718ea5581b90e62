"""Many live streams at once, on both boxes, each seen to its end."""

import asyncio
import threading
import time
from typing import Self

import msgspec
from msgspec import Struct

from penstock.testing.prove.stops.stage import PATH, PATIENCE_S, TAGS, Stage
from penstock.testing.wire import eventually

READ_BYTES = 64 * 1024
KEPT_BYTES = 4_096
AT_A_TIME = 50
"""So many streams are opened together: opening them is not what is measured."""


class Seen(Struct):
    """One stream as its caller saw it. `tail`: the last bytes. Times are Unix seconds, 0 until then."""

    status_line: bytes = b""
    tail: bytes = b""
    began_s: float = 0.0
    ended_s: float = 0.0

    def fault(self) -> str | None:
        """What is wrong with how it ended: a stopped stream says why, in an event, and has no normal ending."""
        if b" 200 " not in self.status_line:
            return f"a stream was answered {self.status_line!r}"
        if b'"code":"killed"' not in self.tail.replace(b": ", b":"):
            return f"a stream ended without the error event: {self.tail[-200:]!r}"
        return "a stopped stream had its normal ending" if b"[DONE]" in self.tail else None


class Streams:
    """`count` live streams for as long as the block lasts; each has brought something when it begins."""

    def __init__(self, stage: Stage, count: int) -> None:
        self.seen = [Seen() for _ in range(count)]
        self._stage = stage
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def __enter__(self) -> Self:
        self._stage.provider.received.clear()
        self._thread.start()
        eventually(lambda: all(seen.began_s for seen in self.seen), PATIENCE_S * 2, "every stream is live")
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE_S)

    def until_ended(self, within_s: float) -> None:
        eventually(lambda: all(seen.ended_s for seen in self.seen), within_s, "every stream has ended")

    def gone_s(self, within_s: float) -> list[float]:
        """When the provider saw its side of each stream closed, in Unix seconds."""
        received = list(self._stage.provider.received)
        eventually(lambda: all(each.gone_at for each in received), within_s, "the provider's side is closed")
        offset_s = time.time() - time.monotonic()
        return [each.gone_at + offset_s for each in received if each.gone_at]

    async def _all(self) -> None:
        turns = asyncio.Semaphore(AT_A_TIME)
        await asyncio.gather(*(self._one(number, seen, turns) for number, seen in enumerate(self.seen)))

    async def _one(self, number: int, seen: Seen, turns: asyncio.Semaphore) -> None:
        box = self._stage.boxes[number % len(self._stage.boxes)]
        body = {"model": "endless", "user": f"stream-{number}", "max_tokens": 5, "stream": True}
        body["messages"] = [{"role": "user", "content": "Say hello."}]
        headers = {"x-penstock-tags": TAGS, "connection": "close"}
        request = box.caller(self._stage.secrets["probe"]).request_bytes(
            "POST", PATH, msgspec.json.encode(body), headers
        )
        try:
            async with turns:
                reader, writer = await asyncio.open_connection("127.0.0.1", int(box.url.rpartition(":")[2]))
                writer.write(request)
                seen.status_line = await reader.readline()
                await reader.readuntil(b"data: ")
            seen.began_s = time.time()
            while data := await reader.read(READ_BYTES):
                seen.tail = (seen.tail + data)[-KEPT_BYTES:]
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.tail += repr(error).encode()
        seen.began_s = seen.began_s or time.time()
        seen.ended_s = time.time()
