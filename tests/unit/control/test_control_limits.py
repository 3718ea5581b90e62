"""Limits in the control plane: exact amounts, references, contradictions, what may change."""

from decimal import Decimal
from typing import Any

import pytest

from penstock.control import audit, keys, limits, providers, teams
from penstock.control.paging import Page
from penstock.control.publisher import Touched
from penstock.domain.policy import Limit
from penstock.errors import Conflict, InvalidNoun
from penstock.records.receipts import rfc3339

DAILY = {"name": "daily", "match": {"team": "growth"}, "unit": "usd", "amount": 100, "per": "day"}


@pytest.mark.parametrize(
    ("written", "nanousd", "shown"),
    [
        (100, 100_000_000_000, "100"),
        ("0.1", 100_000_000, "0.1"),
        (0.1, 100_000_000, "0.1"),
        (Decimal("0.000000001"), 1, "0.000000001"),
        ("1e-05", 10_000, "0.00001"),
        ("9223372036.854775807", 2**63 - 1, "9223372036.854775807"),
    ],
)
async def test_dollars_become_whole_nano_dollars_exactly(plane: Any, written: Any, nanousd: int, shown: str) -> None:
    await plane.seed()
    made = await plane.change(limits.create, {**DAILY, "amount": written})
    assert (made["amount"], made["amount_nanousd"]) == (shown, nanousd)
    assert plane.door.publisher.snapshot.limits[made["id"]].amount == nanousd


async def test_a_limit_is_published_as_workers_match_it(plane: Any) -> None:
    await plane.seed()
    match = {"team": "growth", "tag": {"feature": "search"}, "tag:tier": "gold"}
    fields = {"match": match, "each": "customer", "unit": "tokens", "amount": 5, "per": "hour", "mode": "observe"}
    made = await plane.change(limits.create, {**fields, "alert_at": [0.5, 0.8]})
    assert made["match"] == {"team": "growth", "tag": {"feature": "search", "tier": "gold"}}
    assert plane.door.publisher.snapshot.limits == {
        made["id"]: Limit(
            id=made["id"],
            name=made["name"],
            unit="tokens",
            amount=5,
            per="hour",
            match=(("tag:feature", "search"), ("tag:tier", "gold"), ("team", "growth")),
            each="customer",
            mode="observe",
            alert_at=(0.5, 0.8),
        )
    }


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": -5}, "amount"),
        ({"amount": "many"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": "0.0000000001"}, "amount"),
        ({"amount": "-5"}, "amount"),
        ({"amount": "1e-10"}, "amount"),
        ({"amount": Decimal("1e999999")}, "amount"),
        ({"amount": Decimal("NaN")}, "amount"),
        ({"amount": 10**30}, "amount"),
        ({"unit": "requests", "amount": 1.5}, "amount"),
        ({"unit": "euros"}, "unit"),
        ({"per": "fortnight"}, "per"),
        ({"mode": "loose"}, "mode"),
        ({"window": "sliding", "per": "month"}, "window"),
        ({"window": "gliding"}, "window"),
        ({"timezone": "Europe/Atlantis"}, "timezone"),
        ({"timezone": "Europe/Berlin", "window": "sliding"}, "timezone"),
        ({"each": "colour"}, "each"),
        ({"match": {"team": "nobody"}}, "match.team"),
        ({"match": {"project": "nothing"}}, "match.project"),
        ({"match": {"user": "nobody"}}, "match.user"),
        ({"match": {"key": "ci", "model": "lab/other"}}, "match.model"),
        ({"match": {"customer": "acme", "tag": {"customer": "zeta"}}}, "match.tag"),
        ({"match": {"tag": {"bad name": "x"}}}, "match.tag.bad name"),
        ({"match": {"key": "nothing"}}, "match.key"),
        ({"match": {"provider": "nobody"}}, "match.provider"),
        ({"match": {"model": "big-2025"}}, "match.model"),
        ({"match": {"model": "lab/*"}}, "match.model"),
        ({"match": {"model": "big", "provider": "lab2"}}, "match.provider"),
        ({"match": {"environment": "moon"}}, "match.environment"),
        ({"match": {"organisation": "acme"}}, "match.organisation"),
        ({"match": {"colour": "red"}}, "match.colour"),
        ({"match": {"project": "search", "team": "other"}}, "match.team"),
        ({"match": {"key": "ci", "team": "growth"}}, "match.team"),
        ({"match": {"key": "ci", "tag": {"feature": "other"}}}, "match.tag:feature"),
        ({"on_exceeded": "downgrade"}, "on_exceeded"),
        ({"on_exceeded": {}}, "on_exceeded.downgrade"),
        ({"on_exceeded": {"downgrade": "nothing"}}, "on_exceeded.downgrade"),
        ({"on_exceeded": {"downgrade": "lab/*"}}, "on_exceeded.downgrade"),
        ({"match": {"model": "big"}, "on_exceeded": {"downgrade": "big"}}, "on_exceeded"),
    ],
)
async def test_a_limit_that_breaks_a_rule_is_refused_with_its_place(
    plane: Any, fields: dict[str, Any], place: str
) -> None:
    await plane.seed()
    await plane.change(keys.create, plane.pepper, {"name": "ci", "tags": {"feature": "search"}, "models": ["big"]})
    await plane.change(teams.create, {"name": "other"})
    await plane.change(providers.create, {"name": "lab2", "kind": "simulated"})
    with pytest.raises(InvalidNoun) as refusal:
        await plane.change(limits.create, {**DAILY, **fields})
    assert refusal.value.place == place


@pytest.mark.parametrize("model", ["big", "lab/undeclared"])
async def test_a_limit_may_name_a_model_together_with_a_provider_that_serves_it(plane: Any, model: str) -> None:
    await plane.seed()
    made = await plane.change(limits.create, {**DAILY, "match": {"model": model, "provider": "lab"}})
    assert made["match"] == {"model": model, "provider": "lab"}


async def test_the_amount_changes_and_the_identity_stays(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(limits.create, DAILY)
    raised = await plane.change(limits.update, "daily", {"amount": "250.50", "mode": "observe"})
    assert raised["id"] == made["id"] and raised["amount_nanousd"] == 250_500_000_000 and raised["mode"] == "observe"
    assert plane.changes[-1].put_limits[made["id"]].amount == 250_500_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unit", "tokens"),
        ("per", "month"),
        ("match", {}),
        ("each", "customer"),
        ("window", "sliding"),
        ("timezone", "Europe/Berlin"),
    ],
)
async def test_what_a_limit_counts_cannot_be_changed(plane: Any, field: str, value: Any) -> None:
    await plane.seed()
    await plane.change(limits.create, DAILY)
    with pytest.raises(InvalidNoun, match="create another limit") as refusal:
        await plane.change(limits.update, "daily", {field: value})
    assert refusal.value.place == field


async def test_what_a_limit_is_shown_as_can_be_sent_back(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(limits.create, {**DAILY, "on_exceeded": {"downgrade": "big"}})
    fields = ("name", "match", "each", "unit", "amount", "per", "window", "timezone", "mode", "alert_at", "on_exceeded")
    assert await plane.change(limits.update, made["id"], {field: made[field] for field in fields}) == made


async def test_what_takes_over_is_published_and_can_be_changed(plane: Any) -> None:
    await plane.seed()
    limit = {**DAILY, "match": {"model": "big"}}
    made = await plane.change(limits.create, limit)
    assert made["on_exceeded"] == "refuse"

    def published() -> str:
        return plane.door.publisher.snapshot.limits[made["id"]].downgrade  # type: ignore[no-any-return]

    assert published() == ""
    changed = await plane.change(limits.update, "daily", {"on_exceeded": {"downgrade": "lab/small"}})
    assert (changed["on_exceeded"], published()) == ({"downgrade": "lab/small"}, "lab/small")
    with pytest.raises(InvalidNoun, match="the model that the limit counts"):
        await plane.change(limits.update, "daily", {"on_exceeded": {"downgrade": "big"}})
    for nothing in ("refuse", None):
        await plane.change(limits.update, "daily", {"on_exceeded": {"downgrade": "lab/small"}})
        assert (await plane.change(limits.update, "daily", {"on_exceeded": nothing}))["on_exceeded"] == "refuse"
        assert published() == ""


async def test_a_limit_made_again_starts_with_empty_balances(plane: Any) -> None:
    await plane.seed()
    first = await plane.change(limits.create, DAILY)
    with pytest.raises(Conflict):
        await plane.change(limits.create, DAILY)
    await plane.change(limits.delete, "daily")
    second = await plane.change(limits.create, DAILY)
    assert first["id"] != second["id"]
    assert plane.door.publisher.snapshot.limits.keys() == {second["id"]}


async def test_a_limit_is_published_with_its_kind_of_window_and_its_time_zone(plane: Any) -> None:
    await plane.seed()
    berlin = await plane.change(limits.create, {**DAILY, "timezone": "Europe/Berlin"})
    sliding = await plane.change(limits.create, {"unit": "requests", "amount": 5, "per": "minute", "window": "sliding"})
    assert sliding["name"] == "requests-minute.sliding"
    published = plane.door.publisher.snapshot.limits
    assert (published[berlin["id"]].timezone, published[berlin["id"]].window) == ("Europe/Berlin", "fixed")
    assert (published[sliding["id"]].timezone, published[sliding["id"]].window) == ("UTC", "sliding")


def _until(plane: Any, seconds: int) -> str:
    return rfc3339(plane.clock.now_ns + seconds * 1_000_000_000)


async def test_a_raise_counts_at_once_adds_up_and_ends_by_itself(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(limits.create, DAILY)

    def published() -> int:
        return plane.door.publisher.snapshot.limits[made["id"]].amount // 10**9  # type: ignore[no-any-return]

    first = {"by": "15.5", "until": _until(plane, 60), "reason": "launch"}
    raised = await plane.change(limits.raise_amount, "daily", first)
    assert published() == 115
    assert (raised["amount"], raised["raises"][0]["amount"]) == ("100", "15.5")
    assert (raised["raises"][0]["reason"], raised["raises"][0]["by"]) == ("launch", "tester")
    await plane.change(limits.raise_amount, "daily", {"by": 20, "until": _until(plane, 120), "reason": "more"})
    assert published() == 135
    await plane.change(limits.update, "daily", {"amount": 50})
    assert published() == 85
    await plane.door.end_raises()
    assert published() == 85
    plane.clock.now_ns += 61 * 10**9
    await plane.door.end_raises()
    assert published() == 70
    plane.clock.now_ns += 60 * 10**9
    await plane.door.end_raises()
    assert published() == 50
    changes = len(plane.changes)
    await plane.door.end_raises()
    assert len(plane.changes) == changes


async def test_a_raise_that_is_refused_does_not_hide_the_end_of_another(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(limits.create, DAILY)
    await plane.change(limits.raise_amount, "daily", {"by": 5, "until": _until(plane, 60), "reason": "launch"})

    async def raised_and_broken(write: Any) -> None:
        await limits.end_raises(write, "daily")
        await plane.door.publisher.prepare(write.conn, Touched({"limit": {"daily"}}))
        raise InvalidNoun("no")

    with pytest.raises(InvalidNoun):
        await plane.change(raised_and_broken)
    plane.clock.now_ns += 61 * 10**9
    await plane.door.end_raises()
    assert plane.door.publisher.snapshot.limits[made["id"]].amount == 100 * 10**9


async def test_raises_can_be_ended_early(plane: Any) -> None:
    await plane.seed()
    made = await plane.change(limits.create, DAILY)
    await plane.change(limits.raise_amount, "daily", {"by": 5, "until": _until(plane, 60), "reason": "launch"})
    ended = await plane.change(limits.end_raises, "daily")
    assert ended["raises"] == []
    assert plane.door.publisher.snapshot.limits[made["id"]].amount == 100 * 10**9
    async with plane.door.read() as conn:
        rows = await audit.list_page(conn, Page(), "limit", "daily")
    assert [row["action"] for row in rows.items] == ["end_raises", "raise", "create"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"by": 0}, "by"),
        ({"by": -5}, "by"),
        ({"by": "many"}, "by"),
        ({"by": None}, "by"),
        ({"by": "0.0000000001"}, "by"),
        ({"by": 9_223_372_036}, "by"),
        ({"until": "tomorrow"}, "until"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2199-01-01T00:00:00Z"}, "until"),
        ({"until": "2026-12-31T00:00:00"}, "until"),
        ({"reason": " "}, "reason"),
        ({"reason": None}, "reason"),
        ({"for": "ever"}, "for"),
    ],
)
async def test_a_raise_that_breaks_a_rule_is_refused_with_its_place(
    plane: Any, fields: dict[str, Any], place: str
) -> None:
    await plane.seed()
    await plane.change(limits.create, DAILY)
    asked = {"by": 5, "until": _until(plane, 60), "reason": "launch"}
    with pytest.raises(InvalidNoun) as refusal:
        await plane.change(limits.raise_amount, "daily", {**asked, **fields})
    assert refusal.value.place == place


async def test_a_limit_takes_so_many_raises_at_a_time(plane: Any) -> None:
    await plane.seed()
    await plane.change(limits.create, DAILY)
    asked = {"by": 5, "until": _until(plane, 60), "reason": "launch"}
    for _ in range(limits.MAX_RAISES):
        await plane.change(limits.raise_amount, "daily", asked)
    with pytest.raises(Conflict, match="temporary increases"):
        await plane.change(limits.raise_amount, "daily", asked)
