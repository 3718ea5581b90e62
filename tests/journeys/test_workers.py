"""Several workers on one box: they share the address and the load, obey one stop, and die alone."""

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.caller import OpenCall
from penstock.testing.gateway import Gateway
from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import endless, streamed
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}, "counted": {"team": "other"}}
LIMITS = [{"name": "everything", "match": {}, "unit": "usd", "amount": 100, "per": "total", "mode": "observe"}]
COST = 60_000
NAMES = {f"{socket.gethostname()}/worker-{number}" for number in range(2)}


@pytest.fixture(scope="module")
def two(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS, workers=2)


@pytest.fixture
def pair(two: Lab) -> Iterator[Lab]:
    """A gateway of two workers that nothing stops; what the test stopped goes on after it."""
    two.fresh()
    two.gateway.wait_until_ready(15)
    yield two
    for kill in two.gateway.admin("GET", "/admin/v1/kills").json()["items"]:
        if not kill["lifted_at"]:
            _lift(two, kill["generation"])


def _lift(lab: Lab, generation: int) -> None:
    lifted = lab.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "the test is over"})
    assert lifted.status == 200, lifted.body
    eventually(lambda: all(node["generation"] >= generation for node in lab.gateway.nodes()), 5)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Where a test puts its live calls; they are hung up at the end."""
    with ExitStack() as stack:
        yield stack


def _nodes(lab: Lab) -> dict[str, dict[str, Any]]:
    return {node["node"]: node for node in lab.gateway.nodes()}


def _pids(lab: Lab) -> dict[str, int]:
    return {name: node["pid"] for name, node in _nodes(lab).items() if node["state"] == "connected"}


def _sockets(near: int, far: int) -> set[str]:
    """The sockets of this machine between two ports, as descriptors name them. `far` 0: those that listen."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return {f"socket:[{row[9]}]" for row in rows if row[1][-5:] == f":{near:04X}" and row[2][-5:] == f":{far:04X}"}


def _has(pid: int, sockets: set[str]) -> bool:
    return any(os.fspath(entry.readlink()) in sockets for entry in Path(f"/proc/{pid}/fd").iterdir())


def _served_by(lab: Lab, call: OpenCall) -> str:
    """The worker that has the other end of the call's socket."""
    far_end = _sockets(call.socket.getpeername()[1], call.socket.getsockname()[1])
    (name,) = (name for name, pid in _pids(lab).items() if _has(pid, far_end))
    return name


def _streams(lab: Lab, opened: ExitStack) -> dict[str, list[OpenCall]]:
    """Live streams by the worker that serves them, at least two of each."""
    found: dict[str, list[OpenCall]] = {name: [] for name in NAMES}
    while min(map(len, found.values())) < 2:
        call = lab.caller("ci").open("/v1/chat/completions", chat("other-model", stream=True))
        assert opened.enter_context(call).read_some()
        found[_served_by(lab, call)].append(call)
    return found


def _raise_kill(lab: Lab) -> int:
    answer = lab.gateway.admin("POST", "/admin/v1/kill", {"scope": {"team": "growth"}, "reason": "a drill"})
    assert answer.status == 202, answer.body
    return int(answer.json()["generation"])


def _kill_status(lab: Lab, generation: int) -> dict[str, dict[str, Any]]:
    return {node["node"]: node for node in lab.gateway.admin("GET", f"/admin/v1/kill/{generation}").json()["nodes"]}


def _states(lab: Lab, generation: int) -> dict[str, str]:
    return {name: node["state"] for name, node in _kill_status(lab, generation).items()}


def _is_gone(pid: int) -> bool:
    """Dead, and its sockets with it: a process that was killed lives on for a moment."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_calls_are_spread_over_the_workers_and_every_receipt_is_there(pair: Lab) -> None:
    before = pair.gateway.settled("everything")
    ids = [pair.chat("ci").request_id for _ in range(40)]
    for number, request_id in enumerate(ids):
        receipt = pair.caller("ci").get(f"/v1/receipts/{request_id}")
        assert (number, receipt.status) == (number, 200)
    assert {pair.gateway.receipt(request_id)["node"] for request_id in ids} == NAMES
    eventually(lambda: pair.gateway.settled("everything") == before + 40 * COST, 5, "every call is settled once")
    told = pair.gateway.verify()
    assert told.returncode == 0, told.stderr


def test_metrics_sum_the_calls_of_all_workers_and_tell_the_workers_apart(pair: Lab) -> None:
    for _ in range(20):
        assert pair.chat("counted").status == 200

    def scraped() -> str:
        return pair.gateway.admin("GET", "/metrics").body.decode()

    counted = re.compile(r'^penstock_calls_total\{.*cause="completed".*team="other".*\} 20\.0$', re.MULTILINE)
    eventually(lambda: counted.search(scraped()), 5, "all calls are counted")
    for name in NAMES:
        assert f'penstock_worker_up{{node="{name}"}} 1.0' in scraped()
        eventually(lambda name=name: f'penstock_loop_lag_seconds{{node="{name}"}}' in scraped(), 5)


def test_a_kill_is_confirmed_by_every_worker_and_cuts_the_streams_of_all(pair: Lab, opened: ExitStack) -> None:
    pair.provider.on("other-upstream", endless())
    streams = _streams(pair, opened)
    generation = _raise_kill(pair)
    for calls in streams.values():
        for call in calls:
            assert b'"killed"' in call.read_all()
    eventually(lambda: set(_states(pair, generation).values()) == {"confirmed"}, 5)
    cut = {name: node["streams_cut"] for name, node in _kill_status(pair, generation).items()}
    assert cut == {name: len(calls) for name, calls in streams.items()}
    assert all(pair.chat("ci").error["code"] == "killed" for _ in range(20))
    eventually(lambda: pair.gateway.held() == 0, 5, "nothing is held")


def test_a_kill_is_pending_until_the_last_worker_obeys(pair: Lab) -> None:
    first, second = sorted(NAMES)
    stopped = _pids(pair)[first]
    os.kill(stopped, signal.SIGSTOP)
    try:
        generation = _raise_kill(pair)
        eventually(lambda: _states(pair, generation) == {first: "pending", second: "confirmed"}, 5)
        told = pair.gateway.run("kill", "--team", "growth", "--reason", "again", "--wait", "1")
        assert told.returncode == 1
        assert first in told.stderr
        assert second not in told.stderr
    finally:
        os.kill(stopped, signal.SIGCONT)
    eventually(lambda: set(_states(pair, generation).values()) == {"confirmed"}, 5)


def test_a_kill_is_confirmed_for_a_worker_that_died_by_the_one_in_its_place(pair: Lab) -> None:
    first, second = sorted(NAMES)
    before = _pids(pair)[first]
    os.kill(before, signal.SIGSTOP)
    generation = _raise_kill(pair)
    eventually(lambda: _states(pair, generation)[second] == "confirmed", 5)
    assert _states(pair, generation)[first] == "pending"
    os.kill(before, signal.SIGKILL)
    eventually(lambda: _states(pair, generation)[first] == "confirmed", 15)
    assert _pids(pair)[first] != before


def test_a_worker_that_dies_takes_only_its_own_calls_with_it(pair: Lab, opened: ExitStack) -> None:
    pair.provider.on("other-upstream", endless())
    streams = _streams(pair, opened)
    dead, survivor = sorted(NAMES)
    before = _pids(pair)
    os.kill(before[dead], signal.SIGKILL)
    eventually(lambda: _is_gone(before[dead]), 5)
    served = 0
    while _pids(pair).get(dead) in (None, before[dead]):
        assert pair.chat("ci").status == 200
        served += 1
    assert served
    assert _pids(pair)[survivor] == before[survivor]
    assert all(call.read_some() for call in streams[survivor])
    epochs = [node["epoch"] for node in _nodes(pair).values()]
    assert len(set(epochs)) == 2
    nodes = {pair.gateway.receipt(pair.chat("ci").request_id)["node"] for _ in range(40)}
    assert nodes == NAMES
    told = pair.gateway.run("doctor", "-c", str(pair.gateway.file))
    assert "2 connected" in told.stdout


def test_a_worker_that_drains_takes_no_new_call_and_the_other_goes_on(pair: Lab, opened: ExitStack) -> None:
    pair.provider.on("other-upstream", streamed(["x"] * 40, delay_ms=100))
    streams = _streams(pair, opened)
    draining, other = sorted(NAMES)
    before = _pids(pair)[draining]
    listening = _sockets(int(pair.gateway.url.rpartition(":")[2]), 0)
    assert _has(before, listening)
    os.kill(before, signal.SIGTERM)
    eventually(lambda: not _has(before, listening), 5, "the worker drains")
    ids = [pair.chat("ci").request_id for _ in range(20)]
    assert {pair.gateway.receipt(request_id)["node"] for request_id in ids} == {other}
    assert all(call.read_all().endswith(b"data: [DONE]\n\n") for call in streams[draining])
    eventually(lambda: _pids(pair).get(draining) not in (None, before), 15, "another worker has its place")


def test_sigterm_drains_the_streams_of_every_worker_at_once(own_lab: MakeLab, opened: ExitStack) -> None:
    pair = own_lab(KEYS, LIMITS, workers=2)
    pair.provider.on("other-upstream", streamed(["x"] * 30, delay_ms=100))
    streams = _streams(pair, opened)
    stopping = threading.Thread(target=pair.gateway.stop)
    stopping.start()
    for calls in streams.values():
        assert all(call.read_all().endswith(b"data: [DONE]\n\n") for call in calls)
    stopping.join(15)
    assert pair.gateway.process is not None
    assert pair.gateway.process.returncode == 0
    assert not pair.gateway.pids()
    with pytest.raises(ConnectionRefusedError):
        pair.gateway.caller().connect()


def test_every_worker_is_missed_after_the_control_process_died(pair: Lab) -> None:
    first, second = sorted(NAMES)
    before = _pids(pair)
    os.kill(before[first], signal.SIGSTOP)
    try:
        assert pair.gateway.kill("control")
        eventually(lambda: _pids(pair) == {second: before[second]}, 15)
        generation = _raise_kill(pair)
        eventually(lambda: _states(pair, generation)[second] == "confirmed", 5)
        assert _states(pair, generation)[first] == "unreachable"
    finally:
        os.kill(before[first], signal.SIGCONT)
    eventually(lambda: set(_states(pair, generation).values()) == {"confirmed"}, 5)
    assert _pids(pair) == before


def test_workers_that_start_together_all_begin_with_a_journal_of_their_own_as_many_as_the_command_line_says(
    tmp_path: Path,
) -> None:
    gateway = Gateway(tmp_path, {}, workers=1)
    try:
        gateway.start(arguments=["--workers", "6"])
        eventually(lambda: [node["state"] for node in gateway.nodes()] == ["connected"] * 6, 15)
        assert len(gateway.roles()["worker"]) == 6
        assert len({node["epoch"] for node in gateway.nodes()}) == 6
        assert "starting it again" not in gateway.output()
    finally:
        gateway.stop()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shares", [False, True])
def test_an_address_that_another_program_uses_is_not_shared(tmp_path: Path, workers: int, shares: bool) -> None:
    gateway = Gateway(tmp_path, {}, workers=workers)
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        place.bind(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        place.listen()
        with pytest.raises(RuntimeError, match="exited with 1"):
            gateway.start()
    address = gateway.config["server"]["listen"]
    assert gateway.output().strip() == f"penstock: cannot listen on {address}: Address already in use"
