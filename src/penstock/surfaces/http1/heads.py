"""Heads: what a request's must be (RFC 9112, sections 2 to 7), and how an answer's is written."""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from urllib.parse import unquote_to_bytes

from penstock.surfaces.http1.request import HeaderList, Request

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}".encode() for s in HTTPStatus}

_USUAL = (
    *("accept", "accept-encoding", "accept-language", "api-key", "authorization", "connection", "content-length"),
    *("content-type", "cookie", "expect", "host", "http-referer", "idempotency-key", "openai-organization"),
    *("openai-project", "traceparent", "tracestate", "transfer-encoding", "user-agent", "x-api-key", "x-forwarded-for"),
    *("x-forwarded-host", "x-forwarded-proto", "x-penstock-strict", "x-penstock-tags", "x-real-ip", "x-request-id"),
    *("x-stainless-arch", "x-stainless-async", "x-stainless-lang", "x-stainless-os", "x-stainless-package-version"),
    *("x-stainless-read-timeout", "x-stainless-retry-count", "x-stainless-runtime", "x-stainless-runtime-version"),
)
LOWER = {form.encode(): name for name in _USUAL for form in (name, name.title(), name.title().replace("Os", "OS"))}
"""Field names as most clients write them -> in lower case. Looking one up costs half of decoding it."""


class BadRequest(Exception):
    """What was read cannot be served. `message` is for the peer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def check_head(request: Request) -> None:
    """Raises `BadRequest` for what two parsers could read in two ways, and for what this server does not speak."""
    headers, version = request.headers, request.version
    host = headers.get("host")
    if version != "1.1":
        if version != "1.0":
            raise BadRequest(400 if version == "0.9" else 505, "This server speaks HTTP/1.1.")
        if "transfer-encoding" in headers:
            raise BadRequest(400, "HTTP/1.0 has no transfer-encoding.")
    elif host is None:
        raise BadRequest(400, "The request names no host.")
    if host is not None and "," in host:
        raise BadRequest(400, "The request names more than one host.")
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise BadRequest(400, "The request's length is ambiguous.")
        if headers["transfer-encoding"].lower() != "chunked":
            raise BadRequest(501, "The only transfer-encoding that this server knows is chunked.")
    if "expect" in headers:
        if headers["expect"].lower() != "100-continue":
            raise BadRequest(417, "The only expectation that this server meets is 100-continue.")
        request.expects_continue = version == "1.1"
    if request.method == "CONNECT":
        raise BadRequest(405, "This server is not a proxy.")


@lru_cache(128)
def path_of(target: bytes) -> str:
    """The path of a request's target, decoded once: `/a%20b?c` and `http://host/a%20b` have `/a b`.

    Bytes that are not UTF-8 become U+FFFD. A path with control characters raises `BadRequest`.
    """
    raw = target.partition(b"?")[0]
    if b"://" in raw and not raw.startswith(b"/"):
        raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
    path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", "replace")
    if not path.isprintable() and any(c < " " or "\x7f" <= c < "\xa0" for c in path):
        raise BadRequest(400, "The request's path holds control characters.")
    return path


def answer_head(status: int, headers: HeaderList) -> bytes:
    """Status line and fields, without the empty line. `ValueError` for what would end a field early."""
    status_line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status
    head = b"\r\n".join([status_line, *map(b": ".join, headers), b""])
    lines = len(headers) + 1
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise ValueError("a response header holds a line break")
    return head


class DateHeader:
    """`date: ...`, written anew when the second has changed."""

    def __init__(self) -> None:
        self._line = b""
        self._second = 0

    def line(self) -> bytes:
        second = int(time())
        if second != self._second:
            self._line, self._second = f"date: {formatdate(second, usegmt=True)}\r\n".encode(), second
        return self._line
