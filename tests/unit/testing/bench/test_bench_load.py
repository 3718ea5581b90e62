"""The load generator against the benchmark's upstream, a bare proxy, and servers that answer wrongly."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.testing.bench import gateways
from penstock.testing.bench.load import Job, Run, dechunk
from penstock.testing.bench.run import BenchFailed, Target, answering, run_job, upstream
from penstock.testing.bench.traffic import CHUNKS, WORKLOADS, Workload, plain_answer, request, stream_chunks

BY_NAME = {workload.name: workload for workload in WORKLOADS}


def job(name: str, port: int, calls: int = 20) -> Job:
    workload: Workload = BY_NAME[name]
    return Job(port, request(workload, "bench", "pk-unused"), 4, calls, workload.events)


def target(port: int) -> Target:
    return Target("stand-in", port, "pk-unused")


@pytest.fixture(scope="module")
def upstream_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with upstream(tmp_path_factory.mktemp("upstream")) as port:
        yield port


@contextmanager
def answering_with(answer: bytes) -> Iterator[int]:
    """The port of a server that gives one answer to everything and keeps the connection open."""
    loop = asyncio.new_event_loop()

    async def answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(answer_each, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


@pytest.mark.parametrize("name", ["plain", "stream", "stripped"])
def test_every_call_of_a_job_is_answered_and_timed(upstream_port: int, name: str) -> None:
    outcome, cpu_ns = run_job(job(name, upstream_port), target(upstream_port))
    assert len(outcome.whole_ns) == len(outcome.first_ns) == 20
    assert all(0 < first <= whole for first, whole in zip(outcome.first_ns, outcome.whole_ns, strict=True))
    assert cpu_ns == {}


async def test_each_call_of_a_job_can_have_a_number_of_its_own() -> None:
    numbered = replace(job("plain", 1), request=b"n 0000", number=b"0000", first=7)
    run = Run(numbered)
    assert [run.request() for _ in range(3)] == [b"n 0008", b"n 0009", b"n 0010"]
    assert Run(replace(numbered, number=b"")).request() == b"n 0000"


def test_paced_streams_take_their_pace(upstream_port: int) -> None:
    outcome, _ = run_job(job("paced", upstream_port, calls=4), target(upstream_port))
    assert all(990_000_000 <= whole < 3_000_000_000 for whole in outcome.whole_ns)
    assert all(first < 500_000_000 for first in outcome.first_ns)


def test_a_steady_job_keeps_its_rate(upstream_port: int) -> None:
    steady = replace(job("plain", upstream_port, calls=51), rate=100)
    outcome, _ = run_job(steady, target(upstream_port))
    assert 490_000_000 <= outcome.elapsed_ns < 2_000_000_000


def test_calls_at_a_steady_rate_that_find_no_connection_wait_from_when_they_were_due(upstream_port: int) -> None:
    steady = replace(job("paced", upstream_port, calls=8), rate=100)
    outcome, _ = run_job(steady, target(upstream_port))
    assert sorted(outcome.whole_ns)[4] > 1_900_000_000


@pytest.mark.parametrize(
    ("name", "answer", "fault"),
    [
        ("plain", b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}", "429"),
        ("stream", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "a stream of 0 events"),
        ("stripped", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(stream_chunks(True)), "102"),
    ],
)
def test_a_wrong_answer_ends_the_run(name: str, answer: bytes, fault: str) -> None:
    with answering_with(answer) as port, pytest.raises(BenchFailed, match=f"stand-in failed: .*{fault}"):
        run_job(job(name, port), target(port))


def test_a_refused_connection_ends_the_run() -> None:
    with answering_with(plain_answer()) as port:
        gone = target(port)
    with pytest.raises(BenchFailed, match="stand-in failed"):
        run_job(job("plain", port), gone)


def test_a_bare_proxy_passes_every_workload(upstream_port: int, tmp_path: Path) -> None:
    if gateways.find("nginx") is None:
        pytest.skip("nginx is not installed")
    with answering(gateways.make("nginx", tmp_path / "nginx", upstream_port)) as running:
        assert 0 < running.ready_ms <= running.answered_ms
        for name in ("plain", "stream", "stripped"):
            outcome, cpu_ns = run_job(job(name, running.target.port), running.target)
            assert len(outcome.whole_ns) == 20
            assert set(cpu_ns) == {"nginx master", "nginx worker"}
            assert cpu_ns["nginx worker"] > 0


def test_a_contender_that_ends_before_it_answers_is_reported_with_its_last_words(tmp_path: Path) -> None:
    if gateways.find("nginx") is None:
        pytest.skip("nginx is not installed")
    contender = gateways.make("nginx", tmp_path / "nginx", 1)
    (tmp_path / "nginx" / "nginx.conf").write_text("nonsense;\n")
    with pytest.raises(BenchFailed, match=r"nginx did not start: .*nonsense"), answering(contender):
        pass


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_dechunking_gives_back_what_was_chunked(parts: list[bytes]) -> None:
    assert dechunk(b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n") == b"".join(parts)


@pytest.mark.parametrize("with_usage", [True, False])
def test_the_streams_are_what_the_workloads_expect(with_usage: bool) -> None:
    body = dechunk(b"".join(stream_chunks(with_usage)))
    assert body.count(b"data: ") == CHUNKS + 1 + with_usage
    assert body.count(b'"usage":') == (CHUNKS + 1 if with_usage else 0)
    assert body.endswith(b"data: [DONE]\n\n")


def test_the_plain_answer_is_about_a_kibibyte() -> None:
    assert 900 < len(plain_answer().partition(b"\r\n\r\n")[2]) < 1300
