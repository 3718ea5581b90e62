"""Undoes `content-encoding: gzip | deflate` in bounded steps, so that a small body cannot fill the memory."""

import zlib

STEP_BYTES = 256 * 1024
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


def is_inflatable(coding: str) -> bool:
    return coding.lower() in _CODINGS


class Inflater:
    """The decoder of one body: `pull` until it gives nothing, then `push`, and `finish` after the last byte.

    `deflate` is zlib's format or, as some servers understand the word, bare deflate. A damaged body raises
    `ValueError`, and so does one that stops in the middle.
    """

    __slots__ = ("_decoder", "_is_gzip", "_rest")

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding.lower() != "deflate"
        self._decoder: zlib._Decompress | None = None
        self._rest = b""

    def push(self, coded: bytes) -> None:
        self._rest += coded

    def pull(self) -> bytes:
        """At most `STEP_BYTES` plain bytes; `b""` when it needs more coded ones."""
        try:
            while True:
                decoder = self._current()
                if decoder is None:
                    return b""
                plain = decoder.decompress(self._rest, STEP_BYTES)
                self._rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                if plain or not self._rest:
                    return plain
        except zlib.error as error:
            raise ValueError("the coded body is damaged") from error

    def finish(self) -> None:
        """`ValueError` unless the coded body was whole. An empty one is."""
        if self._rest or (self._decoder is not None and not self._decoder.eof):
            raise ValueError("the coded body stops in the middle")

    def _current(self) -> "zlib._Decompress | None":
        """The decoder for what comes next, None when nothing (or too little to tell its format) is there."""
        if self._decoder is not None and not self._decoder.eof:
            return self._decoder
        if not self._rest:
            return None
        if self._is_gzip:
            self._decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)  # a gzip body may be several members in a row
        elif self._decoder is not None:
            raise ValueError("the coded body goes on after its end")
        elif len(self._rest) >= 2:
            has_header = self._rest[0] & 0x0F == zlib.DEFLATED and int.from_bytes(self._rest[:2], "big") % 31 == 0
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        return self._decoder
