"""The head of a request as bytes. Nothing that a caller wrote can end a line early."""

import re

from penstock.domain.http import HttpRequest, Origin

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_METHOD = re.compile(r"[A-Z]+")
_TARGET = re.compile(r"/[!-~]*")
_OWN = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade"}
)
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
_MAX_REMEMBERED = 1_024
_DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(origin: Origin) -> str:
    """The host as DNS wants it: ASCII. `ValueError` for one that could not stand in a `host` line."""
    host = origin.host if origin.host.isascii() else origin.host.encode("idna").decode("ascii")
    if origin.scheme not in _DEFAULT_PORTS or not re.fullmatch(r"[0-9A-Za-z._:-]+", host):
        raise ValueError("an origin is http or https, a plain host and a port")
    return host


class RequestWriter:
    """Writes heads for one origin. It remembers the request lines and header names it has checked."""

    __slots__ = ("_checked_names", "_fixed", "_starts")

    def __init__(self, origin: Origin) -> None:
        host = host_of(origin)
        if ":" in host:
            host = f"[{host}]"
        if origin.port != _DEFAULT_PORTS[origin.scheme]:
            host = f"{host}:{origin.port}"
        self._fixed = f"host: {host}"
        self._starts: dict[tuple[str, str], str] = {}
        self._checked_names: set[str] = set()

    def head(self, request: HttpRequest) -> bytes:
        """Everything up to the body. `ValueError` when a part of it cannot be written as it is.

        `accept-encoding: identity` is said for a request that says nothing of it.
        """
        start = self._starts.get((request.method, request.path)) or self._start(request.method, request.path)
        lines = [start]
        checked = self._checked_names
        coding_named = False
        for name, value in request.headers:
            if name not in checked:
                self._check_name(name)
            if name == "accept-encoding":
                coding_named = True
            lines.append(f"{name}: {value}")
        if not coding_named:
            lines.append("accept-encoding: identity")
        if request.body or request.method in _BODY_EXPECTED:
            lines.append(f"content-length: {len(request.body)}")
        lines.append("\r\n")
        text = "\r\n".join(lines)
        breaks = len(lines) + 1  # one in each start line, one between lines, one of its own in the last
        if text.count("\r") != breaks or text.count("\n") != breaks or "\0" in text:
            raise ValueError("a header value holds a line break or a NUL")
        return text.encode("latin-1")

    def _start(self, method: str, path: str) -> str:
        if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(path):
            raise ValueError("a request line is an upper-case method and a path of visible ASCII")
        start = f"{method} {path} HTTP/1.1\r\n{self._fixed}"
        if len(self._starts) >= _MAX_REMEMBERED:
            self._starts.clear()
        self._starts[method, path] = start
        return start

    def _check_name(self, name: str) -> None:
        if not _TOKEN.fullmatch(name) or name in _OWN:
            raise ValueError("a header name is a lower-case token, and not one that the transport writes itself")
        if len(self._checked_names) >= _MAX_REMEMBERED:
            self._checked_names.clear()
        self._checked_names.add(name)
