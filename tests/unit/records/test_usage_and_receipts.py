"""Usage events in the store, roll-ups, usage by any dimension, receipts, retention."""

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.domain.access import Reach
from penstock.domain.events import AttemptRecord, LimitCharged, UsageEvent
from penstock.domain.money import CostLine
from penstock.domain.usage import Usage
from penstock.errors import InvalidNoun
from penstock.records.events import write_events
from penstock.records.receipts import own_receipt, public, receipt, rfc3339
from penstock.records.recent import recent
from penstock.records.retention import prune
from penstock.records.usage import usage
from penstock.store.tables.control import keys
from penstock.store.tables.records import rollups

HOUR_NS = 3600 * 10**9
START = 1_790_000_000 * 10**9 // (24 * HOUR_NS) * (24 * HOUR_NS)
"""A midnight."""


class Store:
    def __init__(self, committer: Engine, control: AsyncEngine) -> None:
        self.committer = committer
        self.control = control

    def write(self, *events: UsageEvent) -> None:
        with self.committer.begin() as conn:
            write_events(conn, events)

    async def usage(self, by: str = "", since: int | None = None, until: int | None = None) -> dict[str, Any]:
        async with self.control.connect() as conn:
            return await usage(conn, by.split(",") if by else [], since, until)


@pytest.fixture
def store(whole_ledger: Engine, whole_store: AsyncEngine) -> Store:
    return Store(whole_ledger, whole_store)


def event(n: int, **fields: Any) -> UsageEvent:
    at = fields.pop("started_at", START + n * 10**9)
    defaults: dict[str, Any] = {"team": "growth", "model": "big", "usage": Usage(input=10, output=5), "status": 200}
    return UsageEvent(
        event_id=f"evt_{n}", request_id=f"req_{n}", started_at=at, ended_at=at + 10**6, **{**defaults, **fields}
    )


async def test_usage_has_the_public_shape(store: Store) -> None:
    store.write(
        event(1, cost_nanousd=1_000_000_234, latency_ms=10.0, ttft_ms=4.0),
        event(2, cost_nanousd=1_000, latency_ms=20.0, usage=Usage(cache_write={"5m": 3, "1h": 2, "9h": 1})),
        event(3, team="sales", cost_nanousd=5, cause="refused", status=429, usage=Usage(requests=0)),
    )
    answer = await store.usage("team,model")
    assert answer["rows"][0] == {
        "team": "growth",
        "model": "big",
        "calls": 2,
        "errors": 0,
        "usage": {
            "input": 10,
            "output": 5,
            "cache_read": 0,
            "cache_write": {"5m": 3, "1h": 2, "other": 1},
            "reasoning": 0,
            "audio_in": 0,
            "audio_out": 0,
            "images": 0,
            "requests": 2,
        },
        "cost_nanousd": 1_000_001_234,
        "cost_usd": "1.000001234",
        "estimated_nanousd": 0,
        "latency_ms": 15.0,
        "ttft_ms": 4.0,
    }
    assert answer["rows"][1]["team"] == "sales" and answer["rows"][1]["errors"] == 1
    assert answer["rows"][1]["ttft_ms"] is None
    assert answer["total"]["calls"] == 3 and answer["total"]["cost_nanousd"] == 1_000_001_239


async def test_a_tenant_sees_its_own_calls_and_no_others_whatever_is_asked(store: Store) -> None:
    ours = {"team": "growth", "project": "search"}
    store.write(
        event(1, **ours, cost_nanousd=1, tags={"feature": "x"}),
        event(2, team="growth", cost_nanousd=10),
        event(3, team="sales", project="secret", key="secret-key", cost_nanousd=100),
        event(4, team="former", project="search", cost_nanousd=1_000),
        event(5, team="", cost_nanousd=10_000),
    )
    team, project = Reach(teams=frozenset({"growth"})), Reach(projects={"search": "growth"})
    for reach, cost, own in ((team, 11, ["req_2", "req_1"]), (project, 1, ["req_1"]), (Reach(), 0, [])):
        async with store.control.connect() as conn:
            for by in ([], ["team", "key"], ["hour"], ["tag:feature"]):
                answer = await usage(conn, by, START + 1, None, reach)
                assert answer["total"]["cost_nanousd"] == cost
                assert "secret" not in str(answer)
            items, following = await recent(conn, 10, None, reach)
            assert ([item["request_id"] for item in items], following) == (own, None)
            assert await receipt(conn, "req_3", reach) is None
            first, following = await recent(conn, 1, None, reach)
            assert [item["request_id"] for item in first] == own[:1]


async def test_usage_of_nothing_is_nothing(store: Store) -> None:
    answer = await store.usage()
    assert answer["rows"] == [] and answer["total"]["calls"] == 0 and answer["total"]["latency_ms"] is None
    assert (await store.usage("tag:feature"))["rows"] == []


async def test_estimates_are_told_apart_attempt_by_attempt(store: Store) -> None:
    attempts = (
        AttemptRecord(1, "lab", "m", "d", START, START, cost_nanousd=7, basis="estimated"),
        AttemptRecord(2, "lab", "m", "d", START, START, cost_nanousd=3),
    )
    store.write(
        event(1, cost_nanousd=10, attempts=attempts),
        event(2, cost_nanousd=100, cost_basis="estimated"),
        event(3, cost_nanousd=1000),
    )
    assert (await store.usage())["total"]["estimated_nanousd"] == 107


@pytest.mark.parametrize(
    ("fields", "is_error"),
    [
        ({"cause": "completed", "status": 200}, 0),
        ({"cause": "completed", "status": 400}, 1),
        ({"cause": "aborted", "status": 200}, 0),
        ({"cause": "failed", "status": 200}, 1),
        ({"cause": "killed", "status": 200}, 1),
    ],
)
async def test_an_error_is_a_call_that_did_not_get_its_answer(
    store: Store, fields: dict[str, Any], is_error: int
) -> None:
    store.write(event(1, **fields))
    assert (await store.usage())["total"]["errors"] == is_error


async def test_hours_days_and_tags_group_and_sort(store: Store) -> None:
    store.write(
        event(1, started_at=START + HOUR_NS, tags={"feature": "search"}, cost_nanousd=1),
        event(2, started_at=START + 25 * HOUR_NS, tags={"feature": "chat"}, cost_nanousd=9),
        event(3, started_at=START + 2 * HOUR_NS, cost_nanousd=3),
    )
    hours = (await store.usage("hour"))["rows"]
    assert [row["hour"] for row in hours] == [rfc3339(START + n * HOUR_NS) for n in (1, 2, 25)]
    days = (await store.usage("day"))["rows"]
    assert [(row["day"], row["calls"]) for row in days] == [
        (rfc3339(START)[:10], 2),
        (rfc3339(START + 24 * HOUR_NS)[:10], 1),
    ]
    tags = (await store.usage("tag:feature,team"))["rows"]
    assert [(row["tag:feature"], row["team"], row["cost_nanousd"]) for row in tags] == [
        ("chat", "growth", 9),
        ("", "growth", 3),
        ("search", "growth", 1),
    ]


def _random_events(dice: random.Random, count: int) -> list[UsageEvent]:
    return [
        event(
            n,
            started_at=START + dice.randrange(6 * HOUR_NS),
            team=dice.choice("ab"),
            key=dice.choice("xyz"),
            tags={"feature": dice.choice("pq")},
            cost_nanousd=dice.randrange(10**12),
            usage=Usage(input=dice.randrange(1000), output=dice.randrange(1000)),
            latency_ms=dice.randrange(1000) / 8,
        )
        for n in range(count)
    ]


def _expected(events: Sequence[UsageEvent], since: int, until: int) -> dict[tuple[str, str], tuple[int, int, int]]:
    sums: dict[tuple[str, str], tuple[int, int, int]] = {}
    for it in events:
        if since <= it.started_at < until:
            calls, cost, tokens = sums.get((it.team, it.key), (0, 0, 0))
            sums[it.team, it.key] = (calls + 1, cost + it.cost_nanousd, tokens + it.usage.input)
    return sums


async def test_any_span_is_exact_to_the_nanosecond(store: Store) -> None:
    dice = random.Random(11)
    events = _random_events(dice, 2_500)
    for start in range(0, 2_500, 300):
        store.write(*events[start : start + 300])
    instants = [START, START + HOUR_NS, START + 3 * HOUR_NS, events[0].started_at, events[1].started_at]
    instants += [START + dice.randrange(6 * HOUR_NS) for _ in range(5)]
    for since in instants:
        for until in instants:
            if since > until:
                continue
            for by in ("team,key", "team,key,tag:feature"):
                rows = (await store.usage(by, since, until))["rows"]
                found: dict[tuple[str, str], tuple[int, int, int]] = {}
                for row in rows:
                    calls, cost, tokens = found.get((row["team"], row["key"]), (0, 0, 0))
                    more = (row["calls"], row["cost_nanousd"], row["usage"]["input"])
                    found[row["team"], row["key"]] = (calls + more[0], cost + more[1], tokens + more[2])
                assert found == _expected(events, since, until)


@pytest.mark.parametrize(
    ("by", "since", "until", "place"),
    [
        ("colour", None, None, "by"),
        ("tag:", None, None, "by"),
        ("team,team", None, None, "by"),
        ("team,key,user,model,alias,provider,cause,surface,customer", None, None, "by"),
        ("team", 2, 1, "until"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    store: Store, by: str, since: int | None, until: int | None, place: str
) -> None:
    with pytest.raises(InvalidNoun) as refusal:
        await store.usage(by, since, until)
    assert refusal.value.place == place


async def test_pruning_keeps_the_roll_ups_and_the_answer_says_what_it_covers(store: Store) -> None:
    events = [event(n, started_at=START + n * HOUR_NS // 2, cost_nanousd=1, tags={"f": "x"}) for n in range(10)]
    store.write(*events)
    now = START + 90 * 24 * HOUR_NS + 3 * HOUR_NS + 5
    assert await prune(store.control, now, days=90) == 6
    assert await prune(store.control, now, days=90) == 0
    assert (await store.usage())["total"]["calls"] == 10
    widened = await store.usage("team", START + HOUR_NS + 1)
    assert widened["total"]["calls"] == 8 and widened["since"] == rfc3339(START + HOUR_NS)
    exact = await store.usage("team", START + 3 * HOUR_NS + 1)
    assert exact["total"]["calls"] == 3 and exact["since"] == rfc3339(START + 3 * HOUR_NS)
    tagged = await store.usage("tag:f")
    assert tagged["total"]["calls"] == 4 and tagged["since"] == rfc3339(START + 3 * HOUR_NS)


async def test_an_aborted_transaction_leaves_neither_events_nor_sums(store: Store) -> None:
    connection = store.committer.connect()
    transaction = connection.begin()
    write_events(connection, [event(1)])
    transaction.rollback()
    connection.close()
    assert (await store.usage())["total"]["calls"] == 0
    async with store.control.connect() as conn:
        assert await receipt(conn, "req_1") is None
        assert (await conn.execute(rollups.select())).first() is None


def full_event() -> UsageEvent:
    return event(
        1,
        started_at=START + 123_456_789,
        key="ci",
        tags={"feature": "search"},
        cost_nanousd=1_500_000_000,
        cost_lines=(CostLine("input", 10, 2_000_000_000, 20_000),),
        attempts=(AttemptRecord(1, "lab", "big", "d", START, START + 10**9, 200, usage=Usage(input=10)),),
        limits_charged=(
            LimitCharged("monthly", START // 10**9, "", "usd", 5),
            LimitCharged("forever", 0, "", "usd", 5),
        ),
        flags=("hold_exceeded",),
    )


async def test_a_receipt_has_the_public_names_and_shapes(store: Store) -> None:
    store.write(full_event())
    async with store.control.connect() as conn:
        shown = await receipt(conn, "req_1")
    assert shown is not None and shown == public(full_event())
    names = (
        "event_id request_id started_at ended_at node organisation team project environment key user customer tags "
        "surface streaming alias provider model deployment status finish_reason error_code usage cost_nanousd "
        "cost_lines price_version cost_basis attempts limits_charged decision latency_ms ttft_ms overhead_ms cache "
        "guardrails dropped cause"
    )
    assert set(names.split()) <= shown.keys()
    assert shown["started_at"] == rfc3339(START + 123_456_789) and shown["started_at"].endswith(".123456Z")
    assert shown["cost_usd"] == "1.5"
    assert shown["usage"]["cache_write"] == {} and shown["usage"]["reasoning"] == 0
    assert shown["attempts"][0]["ended_at"] == rfc3339(START + 10**9) and shown["attempts"][0]["usage"]["input"] == 10
    assert [charged["window_start"] for charged in shown["limits_charged"]] == [rfc3339(START), None]
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


async def test_a_receipt_is_for_the_key_that_made_the_call(store: Store) -> None:
    store.write(full_event())
    row = {"team": "", "project": "", "user": "", "models": [], "tags": {}, "origin": "api", "created_by": "t"}
    async with store.control.begin() as conn:
        for name, created_at in (("ci", START), ("other", START)):
            identity = {"id": f"key_{name}", "name": name, "digest": f"d-{name}", "prefix": "pk-"}
            await conn.execute(keys.insert().values(**row, **identity, created_at=created_at, updated_at=0))
    async with store.control.connect() as conn:
        assert await own_receipt(conn, "req_1", "key_ci") == public(full_event())
        assert await own_receipt(conn, "req_1", "d-ci") == public(full_event())
        assert await own_receipt(conn, "req_1", "key_other") is None
        assert await own_receipt(conn, "req_1", "ci") is None
        assert await own_receipt(conn, "req_2", "key_ci") is None
    async with store.control.begin() as conn:
        await conn.execute(keys.update().where(keys.c.name == "ci").values(created_at=START + HOUR_NS))
    async with store.control.connect() as conn:
        assert await own_receipt(conn, "req_1", "key_ci") is None, "an earlier key had this name"


@pytest.mark.parametrize("ns", [0, START, START + 1_000, START + 999_999_999, 253_402_300_799 * 10**9])
def test_times_are_rfc_3339_to_the_microsecond(ns: int) -> None:
    text = rfc3339(ns)
    assert text.endswith("Z") and "+" not in text
    moment = datetime.fromisoformat(text)
    assert round(moment.timestamp()) == round(ns // 1_000 / 1e6)


async def test_a_call_with_the_longest_names_there_are_is_counted(store: Store) -> None:
    """PostgreSQL's index takes 2,704 bytes, of which a pathological set of names would need more."""
    noise = random.Random(7)

    def long(count: int) -> str:
        return "".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(count))

    names = {"team": long(128), "project": long(128), "key": long(128), "environment": long(128)}
    names |= {"user": long(256), "customer": long(256), "alias": long(385), "model": long(256), "deployment": long(385)}
    store.write(event(1, cost_nanousd=3, **names), event(2, cost_nanousd=4, **names))
    store.write(event(3, cost_nanousd=5, **{**names, "model": long(256)}))
    answer = await store.usage("team,model")
    assert answer["total"]["cost_nanousd"] == 12 and len(answer["rows"]) == 2
    assert len({row["team"] for row in answer["rows"]}) == 1


async def test_a_receipt_is_not_found_under_an_id_that_no_database_can_hold(store: Store) -> None:
    async with store.control.connect() as conn:
        assert await receipt(conn, "req_\x00") is None
