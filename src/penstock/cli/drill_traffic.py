"""The drill's own traffic: a thief who uses a leaked key as fast as it goes, and a neighbour who must not notice.

Every call and every stream has a thread of its own and writes down when its bytes came, in monotonic seconds of this
process, which is also the clock that the stop is measured with.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ssl import SSLContext
from typing import Any, Literal
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
PAUSE_S = 0.01
"""Between two calls of one caller: the gateway has others to serve."""
READ_BYTES = 64 * 1024
TAIL_BYTES = 2_000
JOIN_S = 2 * TIMEOUT_S

Ending = Literal["open", "killed", "whole", "broken"]


@dataclass(frozen=True)
class Call:
    """One plain call. `status` 0: it was not answered. `code`: that of a refusal."""

    sent_at: float
    ended_at: float
    status: int
    code: str


@dataclass
class Stream:
    """One stream. `first_at` and `last_at` are 0 until there was a byte."""

    status: int = 0
    code: str = ""
    first_at: float = 0.0
    last_at: float = 0.0
    ending: Ending = "open"


class Party:
    """Everything that one key does. `calls` grows while it runs. `trust`: whose certificates a data plane may have that
    speaks TLS."""

    def __init__(self, url: str, model: str, secret: str, trust: SSLContext | None = None) -> None:
        self._parts = urlsplit(url)
        self._trust = trust
        self._model = model
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        self._over = threading.Event()
        self.calls: list[Call] = []
        self.streams: list[Stream] = []

    @contextmanager
    def running(self, callers: int, streams: int, tokens: int) -> Iterator[None]:
        """Keeps so many callers and streams going. `tokens`: the length of a stream."""
        self.streams = [Stream() for _ in range(streams)]
        threads = [threading.Thread(target=self._keep_calling, daemon=True) for _ in range(callers)]
        threads += [threading.Thread(target=self._stream, args=(one, tokens), daemon=True) for one in self.streams]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(JOIN_S)

    def flows(self) -> bool:
        """Whether every stream has begun and a call was answered well."""
        return all(one.first_at for one in self.streams) and any(call.status == 200 for call in self.calls)

    def trouble(self) -> str:
        """The first refusal of a call or a stream, empty when there was none."""
        told = [(call.status, call.code) for call in list(self.calls)]
        told += [(one.status, one.code) for one in self.streams if one.code]
        return next((f"{status} {code}".strip() for status, code in told if status != 200), "")

    # -- threads ------------------------------------------------------------------------------------------------------

    def _keep_calling(self) -> None:
        while not self._over.is_set():
            sent_at = time.monotonic()
            try:
                connection, response = self._post({"max_tokens": 1})
                with connection:
                    response.read()
                    status, code = response.status, response.getheader("x-penstock-error") or ""
            except (OSError, HTTPException) as error:
                status, code = 0, type(error).__name__
            self.calls.append(Call(sent_at, time.monotonic(), status, code))
            self._over.wait(PAUSE_S)

    def _stream(self, one: Stream, tokens: int) -> None:
        try:
            connection, response = self._post({"max_tokens": tokens, "stream": True})
            with connection:
                one.status, one.code = response.status, response.getheader("x-penstock-error") or ""
                one.ending = self._read(response, one)
        except (OSError, HTTPException) as error:
            one.code, one.ending = type(error).__name__, "broken"

    def _read(self, response: HTTPResponse, one: Stream) -> Ending:
        tail = b""
        while not self._over.is_set():
            piece = response.read1(READ_BYTES)
            if not piece:
                return _ending(tail)
            one.last_at = time.monotonic()
            one.first_at = one.first_at or one.last_at
            tail = (tail + piece)[-TAIL_BYTES:]
        return "open"

    def _post(self, more: dict[str, Any]) -> tuple["_Closing", HTTPResponse]:
        parts = self._parts
        connection: HTTPConnection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        if parts.scheme == "https":
            connection = HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=self._trust)
        body = {"model": self._model, "messages": [{"role": "user", "content": "a drill"}], **more}
        try:
            path = parts.path.rstrip("/") + "/v1/chat/completions"
            connection.request("POST", path, json.dumps(body), self._headers)
            return _Closing(connection), connection.getresponse()
        except BaseException:
            connection.close()
            raise


@dataclass(frozen=True)
class _Closing:
    """Closes the connection at the end of the block."""

    connection: HTTPConnection

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def _ending(tail: bytes) -> Ending:
    """How a stream says that it ended: by the stop's error event, or as every other does."""
    lines = [line.removeprefix(b"data: ") for line in tail.splitlines() if line.startswith(b"data: ")]
    if not lines:
        return "broken"
    if lines[-1] == b"[DONE]":
        return "whole"
    try:
        code = json.loads(lines[-1])["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return "broken"
    return "killed" if code == "killed" else "broken"
