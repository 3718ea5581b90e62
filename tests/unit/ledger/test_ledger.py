"""The worker's ledger: what each step leaves in the journal, and what it leaves held."""

import asyncio
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.domain.events import UsageEvent
from penstock.domain.journal import Hold, Note, Post, Record, Void
from penstock.domain.lease import Granted
from penstock.domain.policy import Limit
from penstock.domain.usage import Usage
from penstock.errors import InsufficientQuota, LimitHeld, PenstockError, StoreUnavailable
from penstock.ledger.frames import scan
from penstock.ledger.journal import Journal, create
from penstock.ledger.ledger import Admission, Ask, Ledger
from penstock.ledger.lessee import PATIENCE_ROUNDS, STREAM_PATIENCE_ROUNDS
from penstock.testing.at_once import at_once

MakeEvent = Callable[..., UsageEvent]
MONEY = Limit("usd", "growth", "usd", 1_000, "month", (("team", "growth"),))
CALLS = Limit("calls", "calls", "requests", 100, "minute")
LANES = Limit("lanes", "lanes", "concurrent", 1)
LIMITS = {limit.id: limit for limit in (MONEY, CALLS)}
DIMS = {"team": "growth"}
ASK = Ask(usd_nanousd=600, input_tokens=20, output_tokens=10)
USED = Usage(input=7, output=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return create(tmp_path, 1)


@pytest.fixture
def ledger(path: Path, clock: Callable[[], int]) -> Iterator[Ledger]:
    journal = Journal(path)
    yield Ledger(journal, clock)
    journal.close()


def admit(ledger: Ledger, attempt_id: str = "a:1", ask: Ask = ASK) -> Admission:
    return at_once(ledger.reserve(ledger.applying(LIMITS, DIMS), DIMS, ask, attempt_id))


def journaled(path: Path) -> list[Record]:
    return [record for record, _ in scan(path)]


def test_a_call_leaves_its_hold_and_then_its_post(ledger: Ledger, path: Path, event: MakeEvent) -> None:
    admission = admit(ledger)
    assert ledger.held() == {"usd": 600, "calls": 1}
    assert journaled(path) == []
    admission.dispatch(event("a", 600))
    owed = admission.owed(250, USED)
    admission.post(owed, "computed", event("a", 250))
    hold, post = journaled(path)
    assert isinstance(hold, Hold)
    assert isinstance(post, Post)
    assert hold.charges == admission.charges
    assert {(charge.limit, charge.amount) for charge in hold.charges} == {("usd", 600), ("calls", 1)}
    assert {(charge.limit, charge.amount) for charge in post.charges} == {("usd", 250), ("calls", 1)}
    assert post.event == event("a", 250)
    assert ledger.held() == {}
    with pytest.raises(InsufficientQuota):
        admit(ledger, ask=Ask(751, 0, 0))
    admit(ledger, ask=Ask(750, 0, 0))


def test_what_never_was_dispatched_leaves_its_event_alone(ledger: Ledger, path: Path, event: MakeEvent) -> None:
    admit(ledger).void("unreachable", event("a"))
    admit(ledger).void("unreachable", None)
    assert [type(record) for record in journaled(path)] == [Note]
    assert ledger.held() == {}


def test_what_was_dispatched_and_owes_nothing_is_voided(ledger: Ledger, path: Path, event: MakeEvent) -> None:
    admission = admit(ledger)
    admission.dispatch(event("a"))
    admission.void("upstream_unreachable", event("a"))
    assert [type(record) for record in journaled(path)] == [Hold, Void]
    assert ledger.held() == {}


async def test_a_stream_that_goes_on_is_waited_for_less_long_than_a_call_that_has_not_begun(
    path: Path, clock: Callable[[], int], event: MakeEvent
) -> None:
    said: list[int] = []
    journal = Journal(path)
    ledger = Ledger(journal, clock, lambda number, *_: said.append(number))
    leases = ledger.leases
    assert leases is not None

    async def given_up_after(waiting: asyncio.Future[object]) -> int:
        rounds = 0
        while not waiting.done():
            rounds += 1
            leases.tick()
            await asyncio.sleep(0)
        return rounds

    meter = Limit("meter", "meter", "usd", 1_000, "day", mode="metered")

    async def begin() -> "asyncio.Task[Admission]":
        task = asyncio.ensure_future(ledger.reserve((meter,), {}, Ask(900, 1, 900, metered=Ask(100, 1, 100)), "a:1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    refused = await begin()
    assert await given_up_after(refused) == PATIENCE_ROUNDS
    assert isinstance(refused.exception(), StoreUnavailable)
    begun = await begin()
    leases.answered(said[-1], (Granted(100, 0, 100),))
    admission = await begun
    admission.dispatch(event("a", 100))
    growing = asyncio.ensure_future(admission.extend({"meter": meter}, Ask(300, 1, 300), lambda: event("a", 300)))
    await asyncio.sleep(0)
    assert await given_up_after(growing) == STREAM_PATIENCE_ROUNDS < PATIENCE_ROUNDS
    assert isinstance(growing.exception(), StoreUnavailable)
    assert ledger.held() == {"meter": 100}
    journal.close()


@pytest.mark.parametrize("again", ["post", "void", "dispatch"])
def test_an_admission_is_resolved_once(ledger: Ledger, path: Path, event: MakeEvent, again: str) -> None:
    admission = admit(ledger)
    admission.dispatch(event("a"))
    admission.post(admission.owed(1, USED), "computed", event("a"))
    steps: dict[str, Callable[[], None]] = {
        "post": lambda: admission.post(admission.owed(1, USED), "computed", None),
        "void": lambda: admission.void("again", None),
        "dispatch": lambda: admission.dispatch(event("a")),
    }
    with pytest.raises(PenstockError):
        steps[again]()
    assert len(journaled(path)) == 2


def test_what_was_not_dispatched_cannot_owe(ledger: Ledger) -> None:
    admission = admit(ledger)
    with pytest.raises(PenstockError, match="dispatched"):
        admission.post(admission.owed(1, USED), "computed", None)
    admission.void("cut", None)


def test_a_bill_over_its_hold_is_posted_and_told_apart(ledger: Ledger, path: Path, event: MakeEvent) -> None:
    admission = admit(ledger)
    admission.dispatch(event("a"))
    assert not admission.is_exceeded_by(admission.owed(600, USED))
    owed = admission.owed(601, USED)
    assert admission.is_exceeded_by(owed)
    admission.post(owed, "computed", event("a"))
    last = journaled(path)[-1]
    assert isinstance(last, Post)
    assert list(last.charges.amounts) == owed


def test_without_any_limit_a_call_is_journaled_all_the_same(ledger: Ledger, path: Path, event: MakeEvent) -> None:
    admission = at_once(ledger.reserve((), DIMS, Ask(None, 5, None), "a:1"))
    admission.dispatch(event("a"))
    admission.post(admission.owed(5, USED), "unpriced", event("a"))
    assert [type(record) for record in journaled(path)] == [Hold, Post]


def test_a_full_disk_refuses_the_dispatch_and_the_hold_can_be_freed(
    ledger: Ledger, path: Path, event: MakeEvent
) -> None:
    admission = admit(ledger)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        with pytest.raises(StoreUnavailable):
            admission.dispatch(event("a"))
        admission.void("store_unavailable", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.held() == {}
    assert journaled(path) == []


def test_a_full_disk_tells_the_settlement_and_forgets_nothing(ledger: Ledger, path: Path, event: MakeEvent) -> None:
    admission = admit(ledger)
    admission.dispatch(event("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        with pytest.raises(StoreUnavailable):
            admission.post(admission.owed(250, USED), "computed", event("a"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert admission.resolved
    assert ledger.held() == {}
    ledger.note(Note(1, event("b")))
    assert [type(record) for record in journaled(path)] == [Hold, Post, Note]


def test_concurrency_is_free_again_when_the_call_ends(ledger: Ledger) -> None:
    limits = (LANES,)
    first = at_once(ledger.reserve(limits, DIMS, ASK, "a:1"))
    assert list(first.charges) == []
    with pytest.raises(LimitHeld):
        at_once(ledger.reserve(limits, DIMS, ASK, "b:1"))
    first.void("cut", None)
    at_once(ledger.reserve(limits, DIMS, ASK, "b:1"))
