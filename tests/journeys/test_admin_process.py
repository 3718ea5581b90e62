"""The control process with a worker on its link and a real journal: what is settled, stopped, restarted and shown."""

import asyncio
import itertools
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.domain.events import AttemptRecord, Cause, LimitCharged, UsageEvent
from penstock.domain.journal import Note
from penstock.domain.snapshot import Deployment
from penstock.domain.usage import Usage
from penstock.identity import virtual_keys
from penstock.ledger.ledger import Ask, Ledger
from penstock.testing.at_once import at_once
from penstock.testing.caller import Answer
from penstock.testing.control import ControlProcess
from penstock.testing.worker import FakeWorker

CI_KEY = "pk-0123456789abcdef0123456789abcdef"
CONFIG: dict[str, Any] = {
    "providers": [
        {
            "name": "lab",
            "kind": "compatible",
            "base_url": "http://127.0.0.1:9/v1",
            "credentials": [{"name": "main", "value": "env:LAB_KEY"}],
        },
        {"name": "openai", "kind": "openai", "credentials": [{"name": "main", "value": "env:LAB_KEY"}]},
    ],
    "models": [
        {"name": "gpt-4.1", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 2, "output": 8}},
        {"name": "openai/*"},
    ],
    "teams": [{"name": "growth"}],
    "keys": [{"name": "ci", "team": "growth", "secret": "env:CI_KEY"}],
    "limits": [
        {
            "name": "monthly",
            "match": {"team": "growth"},
            "unit": "usd",
            "amount": 0.01,
            "per": "month",
            "alert_at": [0.5],
        },
        {"name": "per-minute", "match": {"key": "ci"}, "unit": "requests", "amount": 600, "per": "minute"},
        {"name": "at-once", "match": {"key": "ci"}, "unit": "concurrent", "amount": 5},
    ],
}
ENVIRONMENT: dict[str, str | None] = {"LAB_KEY": "sk-canary-lab", "CI_KEY": CI_KEY}
NANO_PER_CALL = 3_000_000


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[ControlProcess]:
    """One for a test alone: with books that nothing has been entered in, to be stopped and broken."""
    with ControlProcess(tmp_path, CONFIG, ENVIRONMENT) as control:
        yield control
        assert "Traceback" not in control.output()
        assert "canary" not in control.output()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """One for all tests that enter nothing in its books and leave nothing stopped."""
    with ControlProcess(tmp_path_factory.mktemp("shared"), CONFIG, ENVIRONMENT) as control:
        yield control
        assert "Traceback" not in control.output()
        assert "canary" not in control.output()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Any]]:
    """Connects workers that are hung up at the end."""
    workers: list[FakeWorker] = []

    async def make(control: ControlProcess, *arguments: Any, **options: Any) -> FakeWorker:
        worker = FakeWorker(control.data, *arguments, **options)
        workers.append(worker)
        return await worker.connect()

    yield make
    for worker in workers:
        await worker.close()
        if worker.journal is not None:
            worker.journal.close()


class Calls:
    """Calls of the key `ci` as a worker settles them, without the calls."""

    def __init__(self, worker: FakeWorker) -> None:
        self.worker = worker
        self.ledger = Ledger(worker.open_journal(), time.time_ns)
        self.ledger.seed(worker.welcome.balances)
        self._ids = itertools.count(1)

    def begin(self, request_id: str) -> tuple[Any, UsageEvent]:
        """Holds and dispatches one call."""
        dims = {"team": "growth", "key": "ci", "model": "gpt-4.1", "provider": "lab"}
        limits = self.ledger.applying(self.worker.snapshot.limits, dims)
        admission = at_once(self.ledger.reserve(limits, dims, Ask(NANO_PER_CALL, 100, 100), f"{request_id}.1"))
        event = self.event(request_id, NANO_PER_CALL, "failed")
        admission.dispatch(event)
        return admission, event

    def call(self, request_id: str, cost_nanousd: int = NANO_PER_CALL) -> None:
        admission, _ = self.begin(request_id)
        usage = Usage(input=100, output=50)
        owed = admission.owed(cost_nanousd, usage)
        admission.post(owed, "computed", self.event(request_id, cost_nanousd, "completed"))

    def event(self, request_id: str, cost_nanousd: int, cause: Cause, **more: Any) -> UsageEvent:
        now = time.time_ns()
        attempt = AttemptRecord(1, "lab", "up", "lab/up", now, now, 200, "", Usage(100, 50), cost_nanousd)
        fields: dict[str, Any] = {
            "event_id": request_id.replace("req", "evt"),
            "request_id": request_id,
            "started_at": now,
            "ended_at": now,
            "node": self.worker.node,
            "organisation": "default",
            "team": "growth",
            "key": "ci",
            "surface": "openai_chat",
            "alias": "gpt-4.1",
            "provider": "lab",
            "model": "up",
            "status": 200,
            "usage": Usage(100, 50),
            "cost_nanousd": cost_nanousd,
            "attempts": (attempt,),
            "limits_charged": (LimitCharged("monthly", 0, "", "usd", cost_nanousd),),
            "latency_ms": 12.0,
            "overhead_ms": 0.1,
            "cause": cause,
        }
        return UsageEvent(**{**fields, **more})


async def get(control: ControlProcess, path: str) -> Any:
    answer = await asyncio.to_thread(control.admin, "GET", path)
    assert answer.status == 200, answer.body
    return answer.json()


async def post(control: ControlProcess, path: str, body: Any = None) -> Answer:
    return await asyncio.to_thread(control.admin, "POST", path, body)


async def ledger_row(control: ControlProcess, limit: str) -> dict[str, Any]:
    rows = (await get(control, "/ledger"))["limits"]
    (row,) = [row for row in rows if row["limit"] == limit]
    return dict(row)


async def eventually(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def key_id(worker: FakeWorker) -> str:
    return next(iter(worker.snapshot.keys.values())).id


# -- what a worker is told ---------------------------------------------------------------------------------------------


async def test_a_worker_is_told_everything_it_needs_and_no_callers_secret(
    shared: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(shared)
    snapshot = worker.snapshot
    (key,) = [key for key in snapshot.keys.values() if key.name == "ci"]
    assert (key.name, key.team) == ("ci", "growth")
    assert key.digest == virtual_keys.digest(worker.welcome.pepper, CI_KEY)
    (target,) = snapshot.aliases["gpt-4.1"].targets
    assert target.price is not None
    assert target.price.rates["input"].base == 2_000_000_000
    assert snapshot.providers["lab"].credentials[0].value.reveal() == "sk-canary-lab"
    assert {limit.name for limit in snapshot.limits.values()} == {"monthly", "per-minute", "at-once"}
    assert worker.welcome.journal.startswith(str(shared.data))


async def test_a_change_through_the_api_reaches_the_worker(shared: ControlProcess, connect: Callable[..., Any]) -> None:
    worker = await connect(shared)
    made = (await post(shared, "/keys", {"name": "bot", "team": "growth"})).json()
    digest = virtual_keys.digest(worker.welcome.pepper, made["secret"])
    await worker.until(lambda: digest in worker.snapshot.digests)
    name = worker.snapshot.digests[digest]
    await post(shared, "/keys/bot/revoke")
    await worker.until(lambda: worker.snapshot.keys[name].revoked_at is not None)


async def test_an_undeclared_model_is_resolved_by_the_catalogue(
    shared: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(shared)
    value = await worker.ask("deployment", "openai", "gpt-4o-mini")
    deployment = msgspec.msgpack.decode(value, type=Deployment)
    assert deployment.price is not None
    assert deployment.price.rates["input"].base > 0
    assert await worker.ask("deployment", "nobody", "gpt-4o-mini") is None


async def test_a_pulse_comes_every_second(shared: ControlProcess, connect: Callable[..., Any]) -> None:
    worker = await connect(shared)
    await worker.until(lambda: worker.pulse.version == worker.snapshot.version)


# -- money -------------------------------------------------------------------------------------------------------------


async def test_a_settled_call_is_a_receipt_at_once_for_its_own_key_alone(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(control)
    calls = Calls(worker)
    for number in range(3):
        calls.call(f"req_{number}")
        value = await worker.ask("receipt", f"req_{number}", key_id(worker))
        assert value is not None
        assert msgspec.msgpack.decode(value)["cost_nanousd"] == NANO_PER_CALL
        assert await worker.ask("receipt", f"req_{number}", "key_of_another") is None
    shown = await get(control, "/receipts/req_1")
    assert (shown["key"], shown["cost_usd"], shown["cause"]) == ("ci", "0.003", "completed")
    listed = await get(control, "/receipts?limit=2")
    assert [item["request_id"] for item in listed["items"]] == ["req_2", "req_1"]
    rest = await get(control, f"/receipts?limit=2&after={listed['next']}")
    assert [item["request_id"] for item in rest["items"]] == ["req_0"]
    assert rest["next"] is None


async def test_usage_and_ledger_add_up_to_what_was_settled(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(control)
    calls = Calls(worker)
    calls.call("req_1", 1_000_001)
    calls.call("req_2", 2_000_002)
    admission, _ = calls.begin("req_3")
    usage = await get(control, "/usage?by=team,model&since=1h")
    (row,) = usage["rows"]
    assert (row["team"], row["model"], row["calls"], row["cost_nanousd"]) == ("growth", "up", 2, 3_000_003)
    assert usage["total"]["cost_nanousd"] == 3_000_003
    monthly = await ledger_row(control, "monthly")
    assert (monthly["settled"], monthly["held"], monthly["leased"]) == (3_000_003, NANO_PER_CALL, 0)
    assert (monthly["amount"], monthly["unit"], monthly["value"]) == (10_000_000, "usd", "")
    assert (monthly["settled_usd"], monthly["amount_usd"]) == ("0.003000003", "0.01")
    assert (await ledger_row(control, "per-minute"))["unit"] == "requests"
    worker.beat(in_flight=1, held=calls.ledger.held())
    await asyncio.sleep(0.1)
    assert (await ledger_row(control, "at-once"))["held"] == 1
    admission.void("a drill", calls.event("req_3", 0, "failed"))
    monthly = await ledger_row(control, "monthly")
    assert (monthly["settled"], monthly["held"]) == (3_000_003, 0)
    assert (await post(control, "/ledger/verify")).json() == {"faults": []}


async def test_a_damaged_ledger_is_found(control: ControlProcess, connect: Callable[..., Any]) -> None:
    calls = Calls(await connect(control))
    calls.call("req_1")
    await get(control, "/ledger")
    with sqlite3.connect(control.data / "penstock.db") as database:
        database.execute("UPDATE balances SET settled = settled + 1")
    database.close()
    faults = (await post(control, "/ledger/verify")).json()["faults"]
    assert faults
    assert {"kind", "detail"} == faults[0].keys()


async def test_a_worker_that_dies_leaves_an_estimate_and_nothing_held(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(control)
    calls = Calls(worker)
    calls.call("req_1")
    calls.begin("req_cut")
    await worker.close()
    assert worker.journal is not None
    worker.journal.close()
    worker.journal = None
    successor = await connect(control)
    assert successor.epoch > worker.epoch
    settled = {(charge.limit, charge.amount) for charge in successor.welcome.balances}
    monthly = next(limit.id for limit in successor.snapshot.limits.values() if limit.name == "monthly")
    assert (monthly, 2 * NANO_PER_CALL) in settled
    cut = await get(control, "/receipts/req_cut")
    assert (cut["cost_basis"], cut["cause"]) == ("estimated", "failed")
    assert "crash" in cut["flags"]
    row = await ledger_row(control, "monthly")
    assert (row["settled"], row["held"]) == (2 * NANO_PER_CALL, 0)
    metrics = (await asyncio.to_thread(control.send, "GET", "/metrics")).body.decode()
    assert 'cause="failed"' in metrics


async def test_metrics_and_log_follow_what_is_committed(control: ControlProcess, connect: Callable[..., Any]) -> None:
    worker = await connect(control)
    calls = Calls(worker)
    calls.call("req_1")
    calls.call("req_2")
    refused = calls.event("req_3", 0, "refused", error_code="insufficient_quota", status=429, alias="made-up-name")
    calls.ledger.note(Note(time.time_ns(), refused))
    worker.beat(in_flight=2, streams=1, refused_strangers=3)

    def metrics() -> str:
        return control.send("GET", "/metrics").body.decode()

    await eventually(lambda: 'penstock_refused_total{code="insufficient_quota"} 1.0' in metrics(), 2.0)
    text = await asyncio.to_thread(metrics)
    labels = 'alias="gpt-4.1",provider="lab",team="growth"'
    for line in (
        'penstock_calls_total{alias="gpt-4.1",cause="completed",provider="lab",status="200",team="growth"} 2.0',
        'penstock_calls_total{alias="other",cause="refused",provider="lab",status="429",team="growth"} 1.0',
        f"penstock_cost_nanousd_total{{{labels}}} 6e+06",
        'penstock_tokens_total{alias="gpt-4.1",class="input",provider="lab",team="growth"} 200.0',
        'penstock_worker_up{node="box/worker-0"} 1.0',
        'penstock_streams{node="box/worker-0"} 1.0',
        'penstock_refused_total{code="invalid_api_key"} 3.0',
        'penstock_limit_settled_ratio{limit="monthly"} 0.6',
        'penstock_limit_alerts_total{fraction="0.5",limit="monthly"} 1.0',
        "penstock_journal_backlog_bytes 0.0",
    ):
        assert _sample(line) in {_sample(each) for each in text.splitlines() if not each.startswith("#")}, line
    await eventually(lambda: '"request_id":"req_3"' in control.output())
    lines = [json.loads(line) for line in control.output().splitlines()]
    exchanges = {line["request_id"]: line for line in lines if line["event"] == "exchange"}
    assert list(exchanges) == ["req_1", "req_2", "req_3"]
    assert (exchanges["req_1"]["cost_usd"], exchanges["req_3"]["error_code"]) == ("0.003", "insufficient_quota")
    assert any(line["event"] == "a limit has crossed its mark" and line["limit"] == "monthly" for line in lines)


def _sample(line: str) -> tuple[str, frozenset[str], float]:
    """A line of the text format, whatever the order of its labels."""
    name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
    labels, _, value = rest.rpartition("} ") if "{" in line else ("", "", rest)
    return name, frozenset(labels.split(",")), float(value)


# -- the stop ----------------------------------------------------------------------------------------------------------


async def test_a_kill_is_durable_pushed_at_once_and_confirmed_per_node(
    shared: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(shared)
    worker.streams_cut = 3
    started = time.monotonic()
    answer = await post(shared, "/kill", {"scope": {"team": "growth"}, "reason": "a drill"})
    assert answer.status == 202
    generation = answer.json()["generation"]
    with sqlite3.connect(shared.data / "penstock.db") as database:
        assert database.execute("SELECT count(*) FROM kills WHERE generation = ?", (generation,)).fetchone() == (1,)
    database.close()
    await worker.until(lambda: worker.snapshot.kills)
    assert time.monotonic() - started < 1.0
    assert worker.snapshot.kills[generation].scope == {"team": "growth"}
    status = await get(shared, f"/kill/{generation}")
    (node,) = status["nodes"]
    assert (node["node"], node["state"], node["streams_cut"]) == ("box/worker-0", "confirmed", 3)
    assert status["generation"] == generation
    lifted = await asyncio.to_thread(shared.admin, "DELETE", f"/kill/{generation}", {"reason": "over"})
    assert lifted.status == 200
    await worker.until(lambda: not worker.snapshot.kills)
    assert worker.snapshot.generation == generation
    (kill,) = [kill for kill in (await get(shared, "/kills"))["items"] if kill["generation"] == generation]
    assert {"generation", "scope", "reason", "by", "at", "lifted_at"} <= kill.keys()
    assert kill["lifted_at"] is not None


async def test_a_node_that_does_not_confirm_is_pending_and_one_that_is_gone_unreachable(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    silent = await connect(control, "box/silent")
    gone = await connect(control, "box/gone")
    silent.confirming = False
    await gone.close()
    await eventually(lambda: '"a worker is gone"' in control.output())
    generation = (await post(control, "/kill", {"scope": {"all": True}, "reason": "a drill"})).json()["generation"]
    nodes = {node["node"]: node["state"] for node in (await get(control, f"/kill/{generation}"))["nodes"]}
    assert nodes == {"box/silent": "pending", "box/gone": "unreachable"}
    await connect(control, "box/gone")
    nodes = {node["node"]: node["state"] for node in (await get(control, f"/kill/{generation}"))["nodes"]}
    assert nodes == {"box/silent": "pending", "box/gone": "confirmed"}


async def test_a_kill_is_raised_while_the_journal_is_being_drained_under_load(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(control)
    calls = Calls(worker)
    note = calls.event("req", 0, "refused")
    for number in range(20_000):
        calls.ledger.note(Note(time.time_ns(), msgspec.structs.replace(note, request_id=f"req_{number}")))
    took_s = []
    for _ in range(5):
        started = time.monotonic()
        before = worker.snapshot.generation
        await post(control, "/kill", {"scope": {"key": "ci"}, "reason": "a drill"})
        await worker.until(lambda before=before: worker.snapshot.generation > before)
        took_s.append(time.monotonic() - started)
    assert sorted(took_s)[2] < 1.0


# -- the life of the process -------------------------------------------------------------------------------------------


async def test_a_worker_keeps_its_epoch_over_a_restart_of_the_control_process(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    worker = await connect(control)
    calls = Calls(worker)
    calls.call("req_before")
    assert control.process is not None
    control.process.kill()
    control.process.wait()
    calls.call("req_meanwhile")
    await worker.until(lambda: worker.hung_up)
    await worker.close()
    await asyncio.to_thread(control.start)
    await worker.connect()
    assert worker.welcome.balances == ()
    calls.call("req_after")
    listed = [item["request_id"] for item in (await get(control, "/receipts"))["items"]]
    assert listed == ["req_after", "req_meanwhile", "req_before"]
    assert (await ledger_row(control, "monthly"))["settled"] == 3 * NANO_PER_CALL


async def test_an_epoch_that_is_over_is_not_given_back(shared: ControlProcess, connect: Callable[..., Any]) -> None:
    with pytest.raises(ConnectionError):
        await connect(shared, epoch=77)


async def test_sigterm_brings_everything_into_the_store_and_ends_well(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    calls = Calls(await connect(control))
    for number in range(3):
        calls.call(f"req_{number}", 1_000)
    assert await asyncio.to_thread(control.stop) == 0
    with sqlite3.connect(control.data / "penstock.db") as database:
        assert database.execute("SELECT count(*) FROM usage_events").fetchone() == (3,)
    database.close()


async def test_the_end_of_the_supervisors_pipe_ends_the_process(tmp_path: Path) -> None:
    control = ControlProcess(tmp_path, CONFIG, ENVIRONMENT)
    reading, writing = os.pipe()
    with ExitStack() as stack:
        stack.push(control)
        await asyncio.to_thread(control.start, parent_fd=reading)
        os.close(reading)
        os.close(writing)
        assert control.process is not None
        assert await asyncio.to_thread(control.process.wait, 10) == 0


async def test_a_second_control_process_on_the_same_data_refuses(shared: ControlProcess, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = ControlProcess(tmp_path / "second", CONFIG, ENVIRONMENT)
    second.data = shared.data
    second.start(wait=False)
    assert second.process is not None
    assert await asyncio.to_thread(second.process.wait, 20) == 3
    assert second.output().count("\n") == 1
    assert "another gateway" in second.output()
    assert shared.send("GET", "/healthz").status == 200


async def test_an_address_that_is_taken_is_one_sentence(shared: ControlProcess, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = ControlProcess(tmp_path / "second", CONFIG, ENVIRONMENT)
    second.config = shared.config
    second.start(wait=False)
    assert second.process is not None
    assert await asyncio.to_thread(second.process.wait, 20) == 3
    assert "cannot have 127.0.0.1" in second.output()
    assert "Traceback" not in second.output()


@pytest.mark.parametrize(
    ("config", "environment", "said"),
    [
        ({"colour": "red"}, {}, "colour"),
        ({}, {"LAB_KEY": None}, "LAB_KEY"),
        ({}, {"PENSTOCK_SECRET": "short"}, "PENSTOCK_SECRET"),
        ({"teams": []}, {}, "growth"),
    ],
)
async def test_a_bad_configuration_is_exit_2_and_sentences(
    tmp_path: Path, config: dict[str, Any], environment: dict[str, str | None], said: str
) -> None:
    control = ControlProcess(tmp_path, {**CONFIG, **config}, {**ENVIRONMENT, **environment})
    control.start(wait=False)
    assert control.process is not None
    assert await asyncio.to_thread(control.process.wait, 20) == 2
    assert said in control.output()
    assert "Traceback" not in control.output()


async def test_secrets_are_made_printed_once_and_kept_when_there_are_none(tmp_path: Path) -> None:
    nothing: dict[str, str | None] = {**ENVIRONMENT, "PENSTOCK_ADMIN_KEY": None, "PENSTOCK_SECRET": None}
    with ControlProcess(tmp_path, CONFIG, nothing) as control:
        made = (control.data / "admin_key").read_text().strip()
        assert control.output().count(made) == 1
        assert control.send("GET", "/admin/v1/teams", None, {"authorization": f"Bearer {made}"}).status == 200
        assert control.stop() == 0
        first = control.output()
        control.start()
        assert (control.data / "admin_key").read_text().strip() == made
        assert made not in control.output()[len(first) :]


async def test_a_store_that_cannot_be_written_shows_in_healthz_and_heals(
    control: ControlProcess, connect: Callable[..., Any]
) -> None:
    calls = Calls(await connect(control))
    blocker = sqlite3.connect(control.data / "penstock.db", isolation_level=None)
    blocker.execute("ALTER TABLE usage_events RENAME TO usage_events_hidden")
    calls.call("req_1")
    await eventually(lambda: control.send("GET", "/healthz").status == 503)
    assert "commit" in control.send("GET", "/healthz").json()["failing_since"]
    blocker.execute("ALTER TABLE usage_events_hidden RENAME TO usage_events")
    blocker.close()
    await eventually(lambda: control.send("GET", "/healthz").status == 200, 15.0)
    assert (await get(control, "/receipts/req_1"))["cost_nanousd"] == NANO_PER_CALL
    metrics = control.send("GET", "/metrics").body.decode()
    assert 'cause="completed"' in metrics
    assert 'status="200",team="growth"} 1.0' in metrics
    # What this test provoked is the only trace in the log.
    control.log.write_text(control.output().replace("Traceback", "traceback"))


async def test_status_says_what_a_doctor_needs(shared: ControlProcess, connect: Callable[..., Any]) -> None:
    worker = await connect(shared)
    worker.beat(in_flight=2)
    await asyncio.sleep(0.1)
    status = await get(shared, "/status")
    assert status["generation"] == worker.snapshot.generation
    assert status["version"] == worker.snapshot.version
    assert status["journal_backlog_bytes"] >= 0
    assert status["failing_since"] == {}
    (node,) = status["nodes"]
    assert (node["node"], node["state"], node["in_flight"]) == ("box/worker-0", "connected", 2)


async def test_an_idle_control_process_costs_next_to_nothing(
    shared: ControlProcess, connect: Callable[..., Any]
) -> None:
    await connect(shared)
    assert shared.process is not None
    before = _cpu_s(shared.process.pid)
    await asyncio.sleep(2.0)
    assert _cpu_s(shared.process.pid) - before < 0.2


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
