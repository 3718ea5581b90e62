"""The oracles find what is wrong with a set of books, and nothing in one that is right."""

from typing import Any

from msgspec import structs

from penstock.testing.bank import Line
from penstock.testing.gateway import Gateway
from penstock.testing.oracles import (
    Books,
    Told,
    Verdict,
    Watch,
    complete_is_settled,
    ledger_equals_bank,
    merged,
    nothing_twice,
    silent,
)
from penstock.testing.wire import eventually


def event(call: str, cost_nanousd: int, basis: str = "computed") -> dict[str, Any]:
    charged = [{"limit": "budget", "amount": cost_nanousd}]
    tags = {"call": call}
    known = {"request_id": f"req-{call}", "status": 200, "cause": "completed", "tags": tags, "limits_charged": charged}
    return {**known, "cost_nanousd": cost_nanousd, "cost_basis": basis}


ANSWERED = Told("a", 5, 200, "req-a", True, 5)
CUT = Told("b", 5, 200, "req-b")
RIGHT = Books(
    told=[ANSWERED, CUT],
    statement=[Line(1, "a", "m", False, 5, 0, 5, True), Line(2, "b", "m", True, 5, 0, 3, False, True)],
    events=[event("a", 50), event("b", 20, "estimated")],
    limits=[{"limit": "budget", "settled": 70}, {"limit": "requests", "settled": 2}],
    budget="budget",
    output_nanousd=10,
)


def faults(books: Books) -> list[str]:
    verdicts = [ledger_equals_bank(books), nothing_twice(books), complete_is_settled(books)]
    return [f"{one.oracle} {fault}" for one in verdicts for fault in one.faults]


def changed(**more: Any) -> list[str]:
    return faults(structs.replace(RIGHT, **more))


def test_right_books_have_no_fault() -> None:
    assert faults(RIGHT) == []


def test_an_answer_at_another_price_than_the_banks_is_found() -> None:
    assert changed(events=[event("a", 49), event("b", 21, "estimated")]) == [
        "O1 a cost 49 (computed); the bank billed 50"
    ]


def test_an_answer_that_is_only_estimated_is_found() -> None:
    assert any("a cost 50 (estimated)" in one for one in changed(events=[event("a", 50, "estimated"), event("b", 20)]))


def test_a_caller_who_was_told_another_number_is_found() -> None:
    told = [structs.replace(ANSWERED, output=4), CUT]
    assert changed(told=told) == ["O1 a was told 4 tokens; the bank billed 5"]


def test_a_cut_call_above_its_hold_is_found() -> None:
    found = changed(events=[event("a", 50), event("b", 60, "estimated")], limits=[{"limit": "budget", "settled": 110}])
    assert found == ["O1 b cost 60 (estimated); its hold was 50"]


def test_a_cut_call_that_is_nowhere_in_the_ledger_is_found() -> None:
    found = changed(events=[event("a", 50)], limits=[{"limit": "budget", "settled": 50}])
    assert found == ["O1 b is on the bank's statement and not in the ledger"]


def test_a_balance_that_is_not_the_sum_of_its_calls_is_found() -> None:
    assert changed(limits=[{"limit": "budget", "settled": 71}]) == ["O1 budget has settled 71; its calls cost 70"]


def test_an_answered_call_without_a_receipt_is_found() -> None:
    found = changed(events=[event("b", 20, "estimated")], limits=[{"limit": "budget", "settled": 20}])
    assert found == [
        "O1 a was answered and is not on the ledger",
        "O4 a was answered in full and has no receipt req-a",
    ]


def test_what_was_entered_or_sent_twice_is_found() -> None:
    found = changed(events=[*RIGHT.events, event("b", 0, "estimated")])
    assert found == ["O3 b was recorded 2 times", "O3 request id req-b was used 2 times"]
    assert changed(statement=[*RIGHT.statement, RIGHT.statement[1]]) == ["O3 b was sent 2 times"]


def test_an_answer_that_charged_no_limit_is_found() -> None:
    uncharged = {**event("a", 50), "limits_charged": []}
    assert changed(events=[uncharged, RIGHT.events[1]]) == [
        "O4 a was answered in full; its receipt says 200, completed"
    ]


def test_a_secret_in_an_output_is_found_and_not_repeated() -> None:
    verdict = silent(["quiet", "loud"], [b"nothing", b"a loud word"])
    assert verdict == Verdict("O6", 2, ("secret number 1 is in an output",))


class Sampled(Gateway):
    """One whose ledger always says the same."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    def limits(self) -> list[dict[str, Any]]:
        return list(self._rows)


def row(settled: int, held: int, leased: int) -> dict[str, Any]:
    return {"limit": "l", "value": "", "settled": settled, "held": held, "leased": leased, "amount": 10}


def test_what_is_leased_beyond_a_limit_is_found_at_whichever_box_shows_it() -> None:
    with Watch([Sampled(row(5, 3, 2)), Sampled(row(5, 3, 3))]) as watch:
        eventually(lambda: watch.samples > 1, 10, "both were looked at")
    found = watch.verdict()
    assert set(found.faults) == {"l : 5 settled + 3 held + 3 leased > 10"}
    with Watch([Sampled(row(5, 3, 2))]) as watch:
        eventually(lambda: watch.samples > 1, 10, "it was looked at")
    assert watch.verdict().holds


def test_verdicts_of_one_oracle_become_one() -> None:
    parts = [Verdict("O2", 3), Verdict("O1", 1, ("x",)), Verdict("O2", 4, ("y",))]
    assert merged(parts) == [Verdict("O1", 1, ("x",)), Verdict("O2", 7, ("y",))]
