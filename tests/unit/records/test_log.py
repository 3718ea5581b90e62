"""The log: JSON lines, one per exchange, that never hold anybody up."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from penstock.domain.events import AttemptRecord, Cause, UsageEvent
from penstock.domain.usage import Usage
from penstock.records import log as subject
from penstock.records.log import LineWriter, configure, exchange_lines


def event(cause: Cause = "completed", **more: object) -> UsageEvent:
    fields: dict[str, object] = {
        "event_id": "evt_1",
        "request_id": "req_1",
        "started_at": 1_700_000_000_000_000_000,
        "ended_at": 1_700_000_001_500_000_000,
        "team": "growth",
        "project": "search",
        "key": "ci",
        "alias": "gpt-4.1",
        "provider": "lab",
        "model": "gpt-4.1-2025",
        "status": 200,
        "usage": Usage(input=10, cache_read=5, output=7),
        "cost_nanousd": 1_234_567,
        "attempts": (AttemptRecord(1, "lab", "gpt-4.1-2025", "lab/gpt", 0, 0),),
        "latency_ms": 1500.0,
        "ttft_ms": 80.5,
        "overhead_ms": 0.09,
        "cause": cause,
        "flags": ("usage_missing",),
    }
    return UsageEvent(**{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_an_exchange_is_one_line_that_says_who_called_what_and_what_it_cost() -> None:
    (line,) = exchange_lines([event()], "info").splitlines()
    said = json.loads(line)
    assert said["at"] == "2023-11-14T22:13:21.500000Z"
    assert (said["level"], said["event"], said["request_id"]) == ("info", "exchange", "req_1")
    assert (said["team"], said["project"], said["key"]) == ("growth", "search", "ci")
    assert (said["alias"], said["provider"], said["model"]) == ("gpt-4.1", "lab", "gpt-4.1-2025")
    assert (said["status"], said["cause"], said["error_code"], said["attempts"]) == (200, "completed", "", 1)
    assert (said["input_tokens"], said["output_tokens"], said["cost_usd"]) == (15, 7, "0.001234567")
    assert (said["latency_ms"], said["ttft_ms"], said["overhead_ms"]) == (1500.0, 80.5, 0.09)
    assert said["flags"] == ["usage_missing"]


def test_a_line_holds_no_tag_and_nothing_else_that_a_caller_wrote() -> None:
    lines = exchange_lines([event(tags={"note": "my-canary-value"}, customer="canary-customer")], "info")
    assert b"canary" not in lines


def test_a_name_with_line_breaks_stays_on_its_line() -> None:
    assert exchange_lines([event(team="a\nb\r\n{}")], "info").count(b"\n") == 1


def test_the_level_decides_which_exchanges_are_written() -> None:
    events = [event("completed"), event("refused"), event("failed"), event("killed"), event("aborted")]
    causes = [json.loads(line)["cause"] for line in exchange_lines(events, "warning").splitlines()]
    assert causes == ["failed", "killed", "aborted"]
    assert len(exchange_lines(events, "info").splitlines()) == 5
    assert exchange_lines(events, "error") == b""


def test_the_processs_own_messages_are_json_lines_of_the_same_form(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    configure("info", writer)
    log = structlog.get_logger()
    log.debug("not shown")
    log.warning("a worker is gone", node="box/worker-0", path=Path("x"))
    try:
        secret = "canary-in-a-local-variable"
        raise ValueError("the reason" if secret else "")
    except ValueError:
        log.exception("it failed")
    writer.close()
    structlog.reset_defaults()
    first, second = (json.loads(line) for line in os.read(reading, 1 << 16).splitlines())
    assert (first["level"], first["event"], first["node"]) == ("warning", "a worker is gone", "box/worker-0")
    assert second["level"] == "error"
    assert "the reason" in json.dumps(second["exception"])
    assert "canary" not in json.dumps(second)


def test_a_reader_that_stops_reading_holds_nobody_up_and_learns_what_it_missed(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "MAX_WAITING_WRITES", 10)
    reading, writing = pipe
    writer = LineWriter(writing)
    line = b'{"x": "' + b"y" * 9_000 + b'"}\n'
    started = time.monotonic()
    for _ in range(200):
        writer.write(line)
    assert time.monotonic() - started < 1
    found = bytearray()

    def read_all() -> None:
        while b"log lines dropped" not in found:
            found.extend(os.read(reading, 1 << 16))

    reader = threading.Thread(target=read_all)
    reader.start()
    time.sleep(0.2)
    writer.write(line)
    reader.join(5)
    assert not reader.is_alive()
    writer.close()
    lines = [json.loads(each) for each in bytes(found).splitlines() if each.endswith(b"}")]
    # What the pipe, the writer's hand and its queue can hold is at most twenty lines.
    assert sum(each.get("lines", 0) for each in lines) >= 180


def test_a_reader_that_is_gone_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    os.close(reading)
    for _ in range(2_000):
        writer.write(b"{}\n")
    writer.close(timeout_s=0.1)
    os.close(writing)
