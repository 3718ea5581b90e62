"""A caller on a bare socket: it says exactly what it is told, and sees exactly what came back.

SDKs and HTTP libraries correct their users; a test of bad input, of byte-exact streams or of a caller who hangs up
needs one that does not.
"""

import http.client
import socket
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

READ_BYTES = 64 * 1024


class Answer(Struct, frozen=True):
    """A whole answer. Header names are in lower case; `elapsed_ms` from the first byte sent to the last received."""

    status: int
    headers: dict[str, str]
    body: bytes
    elapsed_ms: float

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def error(self) -> dict[str, Any]:
        """The `error` member of an OpenAI-style error."""
        value: dict[str, Any] = self.json()["error"]
        return value


class OpenCall:
    """A call whose answer is read piece by piece. Leaving the block closes the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._response = http.client.HTTPResponse(connection)
        self._began = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.hang_up()

    def _begin(self) -> http.client.HTTPResponse:
        if not self._began:
            self._response.begin()
            self._began = True
        return self._response

    @property
    def response(self) -> http.client.HTTPResponse:
        """The answer, its head read. Waits for the head."""
        return self._begin()

    @property
    def status(self) -> int:
        """Waits for the head of the answer."""
        return self._begin().status

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self._begin().getheaders()}

    def read_some(self) -> bytes:
        """The next bytes of the body as they come; empty at its proper end. A body that is cut off raises
        `http.client.IncompleteRead` or `ConnectionError`."""
        return self._begin().read1(READ_BYTES)

    def pieces(self) -> Iterator[tuple[float, bytes]]:
        """`(monotonic seconds, bytes)` until the end of the body."""
        while data := self.read_some():
            yield time.monotonic(), data

    def read_all(self) -> bytes:
        return b"".join(data for _, data in self.pieces())

    def hang_up(self) -> None:
        """Closes the socket at once, whatever is still to come."""
        self._response.close()
        self.socket.close()


class Caller:
    """Calls to one origin (`http://host:port`); `headers` go with each of them. One connection per call."""

    def __init__(self, origin: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(origin)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._headers = dict(headers or {})

    def connect(self, timeout_s: float = 30.0) -> socket.socket:
        return socket.create_connection(self._address, timeout=timeout_s)

    def get(self, path: str, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> Answer:
        return self.send("GET", path, None, headers, timeout_s)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> Answer:
        """`body`: bytes as they stand, anything else as JSON."""
        return self.send("POST", path, _encoded(body), headers, timeout_s)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Answer:
        """One call and its whole answer."""
        began = time.monotonic()
        with self.say(self.request_bytes(method, path, body, headers), timeout_s) as call:
            content = call.read_all()
            return Answer(call.status, call.headers, content, (time.monotonic() - began) * 1000)

    def open(self, path: str, body: Any, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> OpenCall:
        """Sends a POST and leaves the answer to be read."""
        return self.say(self.request_bytes("POST", path, _encoded(body), headers), timeout_s)

    def say(self, data: bytes, timeout_s: float = 30.0) -> OpenCall:
        """Sends raw bytes, whatever they are, and leaves the answer to be read."""
        call = OpenCall(self.connect(timeout_s))
        try:
            call.socket.sendall(data)
        except OSError:
            call.hang_up()
            raise
        return call

    def request_bytes(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> bytes:
        """The bytes of one request, with nothing checked."""
        host, port = self._address
        fields = {"host": f"{host}:{port}", **self._headers}
        if body is not None:
            fields |= {"content-type": "application/json", "content-length": str(len(body))}
        fields |= dict(headers or {})
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else msgspec.json.encode(body)
