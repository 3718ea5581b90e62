"""Verification finds each way in which a ledger can disagree with itself, and nothing in a good one."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, insert, text

from penstock.domain.events import UsageEvent
from penstock.domain.policy import Charge, Limit
from penstock.domain.usage import Usage
from penstock.ledger import verify as subject
from penstock.ledger.committer import Committer
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Ask, Ledger
from penstock.ledger.verify import verify
from penstock.store.tables.control import limits
from penstock.store.tables.ledger import entries
from penstock.testing.at_once import at_once

MONEY = Limit("usd", "growth", "usd", 1_000)


def packed(*charges: Charge) -> bytes:
    return msgspec.msgpack.encode(charges)


@pytest.fixture
async def ledger_of_three(
    committer: Committer, engine: Engine, clock: Callable[[], int], event: Callable[..., UsageEvent]
) -> Engine:
    """`a:1` posted 70, `b:1` voided, `c:1` open with 100."""
    ledger = Ledger(Journal(Path((await committer.open_epoch()).journal)), clock)
    for name in ("a", "b", "c"):
        admission = at_once(ledger.reserve([MONEY], {}, Ask(100, 1, 1), f"{name}:1"))
        admission.dispatch(event(name))
        if name == "a":
            admission.post(admission.owed(70, Usage()), "computed", event(name))
        elif name == "b":
            admission.void("cut", event(name))
    await committer.drain()
    assert await verify(engine) == []
    return engine


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("balance_differs", "UPDATE balances SET settled = settled + 1"),
        ("balance_missing", "DELETE FROM balances"),
        ("balance_differs", "INSERT INTO balances VALUES ('ghost', 0, '', 'total', 5)"),
        ("resolved_without_hold", "DELETE FROM entries WHERE attempt_id = 'a:1' AND step = 0"),
        ("hold_lost", "DELETE FROM open_holds"),
        ("hold_left_open", "INSERT INTO open_holds VALUES ('a:1', 1, :blob)"),
        ("open_hold_without_entry", "INSERT INTO open_holds VALUES ('ghost:1', 1, :blob)"),
        ("hold_stranded", "UPDATE journals SET state = 'finished'"),
        ("step_mismatch", "UPDATE entries SET kind = 'void' WHERE attempt_id = 'c:1'"),
        ("entry_unreadable", "UPDATE entries SET charges = :blob WHERE attempt_id = 'b:1' AND step = 1"),
        ("journal_damaged", "UPDATE journals SET damages = 2"),
        ("share_damaged", "INSERT INTO shares VALUES ('rpm', '', 0, 'minute', -1)"),
    ],
)
async def test_a_change_by_hand_is_found(ledger_of_three: Engine, kind: str, change: str) -> None:
    with ledger_of_three.begin() as connection:
        connection.execute(text(change), {"blob": b"\xc1"} if ":blob" in change else {})
    assert kind in [fault.kind for fault in await verify(ledger_of_three)]


async def test_a_fault_names_the_limit_as_people_know_it(ledger_of_three: Engine) -> None:
    row = {"created_at": 0, "updated_at": 0, "origin": "api", "created_by": "ada", "raises": []}
    row |= {"id": "usd", "name": "growth", "match": {}, "unit": "usd", "amount": 1_000, "per": "total"}
    with ledger_of_three.begin() as connection:
        connection.execute(insert(limits).values(**row, mode="strict", alert_at=[]))
        connection.execute(text("UPDATE balances SET settled = settled + 1"))
        connection.execute(text("INSERT INTO balances VALUES ('gone', 1795132800, 'acme', 'day', 5)"))
    told = [fault.detail for fault in await verify(ledger_of_three)]
    assert "limit growth (usd): settled 71, its entries say 70" in told
    assert "limit gone value 'acme' window 2026-11-20T00:00:00Z: settled 5, its entries say 0" in told


async def test_a_post_on_other_balances_than_its_hold_is_found(ledger_of_three: Engine) -> None:
    with ledger_of_three.begin() as connection:
        connection.execute(
            text("UPDATE entries SET charges = :charges WHERE attempt_id = 'a:1' AND step = 1"),
            {"charges": packed(Charge("other", 0, "", 70))},
        )
    assert "balances_differ" in [fault.kind for fault in await verify(ledger_of_three)]


async def test_a_negative_amount_is_found(ledger_of_three: Engine) -> None:
    with ledger_of_three.begin() as connection:
        connection.execute(
            text("UPDATE entries SET charges = :charges WHERE attempt_id = 'a:1' AND step = 1"),
            {"charges": packed(Charge("usd", 0, "", -70))},
        )
    assert "negative_amount" in [fault.kind for fault in await verify(ledger_of_three)]


@pytest.mark.parametrize(("actor", "kinds"), [("ada", []), (None, ["adjustment_without_actor"])])
async def test_an_adjustment_counts_and_has_an_actor(
    ledger_of_three: Engine, actor: str | None, kinds: list[str]
) -> None:
    with ledger_of_three.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO entries (attempt_id, step, kind, at, epoch, charges, cause, actor) "
                "VALUES ('a:1', 2, 'adjustment', 1, 0, :charges, 'refund', :actor)"
            ),
            {"charges": packed(Charge("usd", 0, "", -20)), "actor": actor},
        )
        connection.execute(text("UPDATE balances SET settled = 50"))
    assert [fault.kind for fault in await verify(ledger_of_three)] == kinds


LEASE = "INSERT INTO leases (limit_id, window_start, value, per, epoch, granted, posted, since, until_s) VALUES "
LIMIT = """
    INSERT INTO limits (id, name, match, unit, amount, per, mode, alert_at, origin, created_at, created_by, updated_at)
    VALUES ('usd', 'growth', '[]', 'usd', 1000, 'total', 'strict', '[]', 'api', 1, 'ada', 1),
           ('rpm', 'calls', '[]', 'requests', 100, 'minute', 'strict', '[]', 'api', 1, 'ada', 1)"""


def changed(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), {"blob": b""} if ":blob" in statement else {})


@pytest.mark.parametrize(
    "leases",
    [
        "('usd', 0, '', 'total', 1, 100, 0, 0, NULL)",
        "('usd', 0, '', 'total', 1, 1000, 70, 0, NULL)",
        "('usd', 0, '', 'total', 1, 70, 70, 0, NULL)",
        "('rpm', 0, '', 'minute', 1, 100, 0, 5, NULL), ('rpm', 0, '', 'minute', 9, 100, 0, 0, 60)",
        "('lately', 0, '', 'sliding-hour', 1, 5000, 0, 0, NULL)",
    ],
)
async def test_leases_that_fit_their_limits_and_entries_are_no_fault(ledger_of_three: Engine, leases: str) -> None:
    changed(ledger_of_three, LIMIT, LEASE + leases, "INSERT INTO lease_requests VALUES (1, 4, :blob)")
    assert await verify(ledger_of_three) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("lease_damaged", LEASE + "('usd', 0, '', 'total', 1, 10, 20, 0, NULL)"),
        ("lease_damaged", LEASE + "('usd', 0, '', 'total', 1, 10, -1, 0, NULL)"),
        ("lease_stranded", LEASE + "('usd', 0, '', 'total', 9, 10, 0, 0, NULL)"),
        ("lease_stranded", "INSERT INTO lease_requests VALUES (9, 1, :blob)"),
        ("lease_differs", LEASE + "('usd', 0, '', 'total', 1, 80, 71, 0, NULL)"),
        ("over_leased", LEASE + "('usd', 0, '', 'total', 1, 931, 0, 0, NULL)"),
        ("over_leased", LEASE + "('rpm', 0, '', 'minute', 1, 101, 0, 0, NULL)"),
    ],
)
async def test_a_lease_that_cannot_be_is_found(ledger_of_three: Engine, kind: str, change: str) -> None:
    changed(ledger_of_three, LIMIT, change)
    assert [fault.kind for fault in await verify(ledger_of_three)] == [kind]


@pytest.mark.parametrize(
    "excuse",
    [
        ["UPDATE limits SET amount = 500, updated_at = 2"],
        ["UPDATE limits SET mode = 'observe'"],
        ["DELETE FROM limits"],
    ],
)
async def test_a_limit_that_was_changed_is_not_held_against_what_was_leased_before(
    ledger_of_three: Engine, excuse: list[str]
) -> None:
    changed(ledger_of_three, LIMIT, LEASE + "('usd', 0, '', 'total', 1, 931, 0, 0, NULL)", *excuse)
    assert await verify(ledger_of_three) == []


async def test_a_bill_beyond_its_hold_and_an_adjustment_may_pass_an_amount(ledger_of_three: Engine) -> None:
    changed(ledger_of_three, LIMIT, LEASE + "('usd', 0, '', 'total', 1, 931, 0, 0, NULL)")
    assert [fault.kind for fault in await verify(ledger_of_three)] == ["over_leased"]
    with ledger_of_three.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO entries (attempt_id, step, kind, at, epoch, charges, cause, actor) "
                "VALUES ('adj1', 2, 'adjustment', 1, 0, :charges, 'late bill', 'ada')"
            ),
            {"charges": packed(Charge("usd", 0, "", 5))},
        )
        connection.execute(text("UPDATE balances SET settled = 75"))
    assert await verify(ledger_of_three) == []
    with ledger_of_three.begin() as connection:
        connection.execute(text("DELETE FROM entries WHERE attempt_id = 'adj1'"))
        connection.execute(
            text("UPDATE entries SET charges = :charges WHERE attempt_id = 'a:1' AND step = 1"),
            {"charges": packed(Charge("usd", 0, "", 170))},
        )
        connection.execute(text("UPDATE balances SET settled = 170"))
    assert await verify(ledger_of_three) == []


async def test_a_check_without_time_says_that_it_did_not_come_to_the_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "BATCH_ATTEMPTS", 1)
    charges = msgspec.msgpack.encode(())
    with engine.begin() as connection:
        for name in ("a", "b"):
            values = {"attempt_id": name, "step": 1, "kind": "void", "at": 0, "epoch": 1, "charges": charges}
            connection.execute(insert(entries).values(values))
    hurried = subject.check(engine, 0)
    assert not hurried.complete
    assert [fault.kind for fault in hurried.faults] == ["resolved_without_hold"]
    patient = subject.check(engine, None)
    assert patient.complete
    assert [fault.kind for fault in patient.faults] == ["resolved_without_hold"] * 2


@pytest.mark.parametrize(
    ("kind", "attempt", "charges"),
    [
        (None, "c:1", [Charge("usd", 0, "", 100), Charge("usd", 60, "", 5)]),
        (None, "a:1", [Charge("usd", 0, "", 130)]),
        ("extended_without_hold", "d:1", [Charge("usd", 0, "", 130)]),
        ("extension_shrinks", "c:1", [Charge("usd", 0, "", 99)]),
        ("balances_differ", "c:1", [Charge("usd", 60, "", 130)]),
        ("balances_differ", "a:1", [Charge("usd", 0, "", 130), Charge("usd", 60, "", 5)]),
    ],
)
async def test_an_extension_raises_a_hold_on_its_balances(
    ledger_of_three: Engine, kind: str | None, attempt: str, charges: list[Charge]
) -> None:
    row = {"attempt_id": attempt, "step": 2, "kind": "extension", "at": 1, "epoch": 1, "charges": packed(*charges)}
    with ledger_of_three.begin() as connection:
        connection.execute(insert(entries).values(**row))
    assert [fault.kind for fault in await verify(ledger_of_three)] == ([] if kind is None else [kind])
