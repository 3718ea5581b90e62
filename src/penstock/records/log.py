"""JSON lines on stderr: one per exchange, and the processes' own messages.

A line holds names, counts and times. It never holds content, a secret or a header's value, because it is made from the
usage event, which has none. The lines are written by a thread of their own: when nobody reads stderr, the gateway goes
on (a stop must never wait for a log), drops lines beyond a bound and says how many.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import structlog

from penstock.domain.events import UsageEvent
from penstock.domain.money import usd
from penstock.records.receipts import rfc3339

Level = Literal["debug", "info", "warning", "error"]

MAX_WAITING_WRITES = 1_000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CLOSE = b""
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Without local variables: they hold callers' content and providers' keys."""

_encoder = msgspec.json.Encoder()


class LineWriter:
    """Writes whole lines to a file descriptor from its own thread. `write` never blocks."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._waiting: queue.Queue[bytes] = queue.Queue(MAX_WAITING_WRITES)
        self._dropped_lines = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """`lines` end with a line feed each."""
        try:
            self._waiting.put_nowait(lines)
        except queue.Full:
            self._dropped_lines += lines.count(b"\n")

    def close(self, timeout_s: float = 1.0) -> None:
        """Writes what is waiting, for at most `timeout_s`."""
        try:
            self._waiting.put(_CLOSE, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while lines := self._waiting.get():
            dropped, self._dropped_lines = self._dropped_lines, 0
            if dropped:
                lines += _encoder.encode({"level": "warning", "event": "log lines dropped", "lines": dropped}) + b"\n"
            if not _write_whole(self._fd, lines):
                return


def _write_whole(fd: int, data: bytes) -> bool:
    """False when nobody can ever read it: there is no place left to say so."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        return False
    return True


def configure(level: Level, writer: LineWriter) -> None:
    """Sends structlog's and the standard library's messages to `writer` as JSON lines, from `level` on."""

    def render(_logger: object, _method: str, event: structlog.typing.EventDict) -> bytes:
        return _encoder.encode(dict(event)) + b"\n"

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.ExceptionRenderer(_TRACEBACK),
            _plain,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_names: _Sink(writer.write),
        cache_logger_on_first_use=False,
    )


def _plain(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values that JSON has; anything else as text, so that a message is never lost to its own arguments."""
    return msgspec.to_builtins(event, enc_hook=str)  # type: ignore[no-any-return]


class _Sink:
    """What structlog calls a logger: every level ends in the same line writer."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = write


def exchange_lines(events: Sequence[UsageEvent], level: Level) -> bytes:
    """One JSON line per event that `level` lets through: completed and refused calls are `info`, the rest `warning`."""
    if level == "error":
        return b""
    if level == "warning":
        events = [event for event in events if event.cause not in {"completed", "refused"}]
    return b"".join([_encoder.encode(exchange_fields(event)) + b"\n" for event in events])


def exchange_fields(event: UsageEvent) -> dict[str, Any]:
    """What one exchange's line says."""
    usage = event.usage
    return {
        "at": rfc3339(event.ended_at),
        "level": "info" if event.cause in {"completed", "refused"} else "warning",
        "event": "exchange",
        "request_id": event.request_id,
        "node": event.node,
        "key": event.key,
        "team": event.team,
        "project": event.project,
        "surface": event.surface,
        "streaming": event.streaming,
        "alias": event.alias,
        "provider": event.provider,
        "model": event.model,
        "status": event.status,
        "cause": event.cause,
        "error_code": event.error_code,
        "attempts": len(event.attempts),
        "input_tokens": usage.total_input,
        "output_tokens": usage.total_output,
        "cost_usd": usd(event.cost_nanousd),
        "cost_basis": event.cost_basis,
        "latency_ms": event.latency_ms,
        "ttft_ms": event.ttft_ms,
        "overhead_ms": event.overhead_ms,
        "flags": event.flags,
    }
