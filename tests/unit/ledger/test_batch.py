"""A batch: what is posted in the same places is added up together, and what says too little is not guessed at."""

from msgspec import msgpack

from penstock.domain.journal import Post
from penstock.domain.policy import Charge, Charges
from penstock.ledger.batch import Batch, decode_charges
from penstock.ledger.frames import frame_of

USD = Charge("usd", 60, "", 5, "day")
CALLS = Charge("calls", 0, "acme", 1)


def payload(attempt: str, charges: Charges) -> memoryview:
    return memoryview(frame_of(Post(attempt, 1, charges, "computed"), 0))[8:]


def test_what_is_posted_is_summed_up_by_balance_whatever_else_the_calls_were_charged_on() -> None:
    batch = Batch(1)
    both = Charges.of([USD, CALLS])
    batch.read([payload("a:1", both), payload("b:1", both), payload("c:1", Charges.of([USD]))])
    assert batch.sums == {("usd", 60, "", "day"): 15, ("calls", 0, "acme", "total"): 2}
    assert [tuple(decode_charges(entry[5])) for entry in batch.entries] == [(USD, CALLS), (USD, CALLS), (USD,)]


def test_a_posting_with_more_or_fewer_amounts_than_places_is_unreadable_and_the_others_stand() -> None:
    batch = Batch(1)
    both = Charges.of([USD, CALLS])
    short, long = Charges(both.places, (7,)), Charges(both.places, (7, 7, 7))
    batch.read([payload("a:1", short), payload("b:1", both), payload("c:1", short), payload("d:1", long)])
    assert batch.unreadable == 3
    assert [entry[0] for entry in batch.entries] == ["b:1"]
    assert batch.sums == {("usd", 60, "", "day"): 5, ("calls", 0, "acme", "total"): 1}


def test_an_entry_that_names_each_balance_beside_its_amount_is_read_as_well() -> None:
    assert tuple(decode_charges(msgpack.encode((USD, CALLS)))) == (USD, CALLS)
