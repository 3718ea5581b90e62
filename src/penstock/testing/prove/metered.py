"""Metered: streams that never end by themselves, on budgets that they top up from while they run.

Each seed has a budget with room for eight quanta, and five streams that share it, at any box; all seeds run at once.
The bank bills what it wrote. Promise: every stream is cut where the budget ends, is told so, and has no normal ending;
the budget is spent but for what streams that were cut at the same moment had in hand, and not overspent; ledger minus
bank is at most one chunk of each stream; a short stream that the rest of the budget has room for then ends well.
"""

import asyncio
from collections.abc import Sequence

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.oracles import Books, Verdict, Watch
from penstock.testing.prove.rounds import SPENT, Round
from penstock.testing.prove.stage import OUTPUT_NANOUSD, Outcome, Scene, Stage, Tick

NAME = "metered"
QUANTUM = 1_000
"""Tokens: what a stream holds at a time."""
CHUNK = 25
CHUNK_MS = 100
"""Tokens, and the time between two. What comes while more is asked for, and that is refused, has to fit into the half
of a quantum that is left, so a busy machine has two seconds for it."""
STREAMS = 5
ROOM = 8 * QUANTUM
ENDLESS = 100 * QUANTUM
AMOUNT_NANOUSD = ROOM * OUTPUT_NANOUSD
LAST = 2 * CHUNK
_CHUNK_NANOUSD = CHUNK * OUTPUT_NANOUSD
REFUSALS = (b'"limit_held"', SPENT)


def scene() -> Scene:
    bank = Bank(billing="streamed", delay_ms=CHUNK_MS, prompt_tokens=0, chunk_tokens=CHUNK)
    return Scene(NAME, bank, budget_usd=AMOUNT_NANOUSD / 1e9, each="tag:seed", mode="metered")


def run(stage: Stage, seeds: Sequence[int], tick: Tick) -> Outcome:
    verdicts: list[Verdict] = []
    promises: list[Verdict] = []
    settled: list[int] = []
    differences: list[int] = []
    calls = cut = 0
    with Watch(stage.boxes) as watch:
        rounds = [_Streams(stage, NAME, seed) for seed in seeds]
        asyncio.run(_all_of(rounds))
        for round_ in rounds:
            books = round_.books()
            verdicts += [oracles.ledger_equals_bank(books), *stage.judge(books)]
            promises.append(round_.promise(books))
            settled.append(books.settled_nanousd)
            differences += _differences(books)
            calls += len(round_.told)
            cut += sum(1 for told in round_.told if told.status == 200 and not told.complete)
            tick(f"seed {round_.seed}: {settled[-1] / AMOUNT_NANOUSD:.1%} of the budget is settled")
    verdicts += stage.judge_the_end(watch)
    figures = {
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "streams cut where the budget ended": str(cut),
        "settled of the budget": f"{min(settled) / AMOUNT_NANOUSD:.1%} to {max(settled) / AMOUNT_NANOUSD:.1%}",
        "overspend": f"{max(0, max(settled) - AMOUNT_NANOUSD)} nano-USD",
        "ledger minus bank, at worst": f"{max(map(abs, differences), default=0)} nano-USD; a chunk is {_CHUNK_NANOUSD}",
    }
    return Outcome(NAME, calls, oracles.merged(verdicts), oracles.merged(promises)[0], figures)


async def _all_of(rounds: Sequence["_Streams"]) -> None:
    await asyncio.gather(*(round_.all_at_once() for round_ in rounds))


class _Streams(Round):
    """The streams of one seed."""

    async def all_at_once(self) -> None:
        """All of them to their end; then a short one for which there may be room, once those have given theirs back."""

        async def one(after_s: float) -> None:
            await asyncio.sleep(after_s)
            await self.call(ENDLESS, stream=True)

        await asyncio.gather(*(one(self.chance.uniform(0, 0.3)) for _ in range(STREAMS)))
        await asyncio.to_thread(self.stage.drain)
        await self.call_until_told(LAST, stream=True)

    def promise(self, books: Books) -> Verdict:
        faults = [
            f"{told.call} was answered {told.status} and ended so: {told.refusal[-200:]!r}"
            for told in self.told[:-1]
            if told.complete or told.status not in (200, 429) or not any(code in told.refusal for code in REFUSALS)
        ]
        if books.settled_nanousd > AMOUNT_NANOUSD:
            faults.append(f"seed {self.seed}: {books.settled_nanousd} is settled of {AMOUNT_NANOUSD}")
        if books.settled_nanousd < AMOUNT_NANOUSD - STREAMS * QUANTUM * OUTPUT_NANOUSD:
            faults.append(
                f"seed {self.seed}: streams were cut with {books.settled_nanousd} of {AMOUNT_NANOUSD} settled"
            )
        faults += [
            f"seed {self.seed}: a stream differs by {nanousd} nano-USD, more than a chunk"
            for nanousd in _differences(books)
            if abs(nanousd) > _CHUNK_NANOUSD
        ]
        last = self.told[-1]
        room = AMOUNT_NANOUSD - (books.settled_nanousd - (LAST * OUTPUT_NANOUSD if last.complete else 0))
        if not last.complete and room >= QUANTUM * OUTPUT_NANOUSD:
            faults.append(f"{last.call} was answered {last.status}, and {room} nano-USD were left")
        return Verdict("promise", len(self.told), tuple(faults))


def _differences(books: Books) -> list[int]:
    """Ledger minus bank of every stream, in nano-dollars."""
    events = {event["tags"]["call"]: event for event in books.events}
    return [
        events[line.call]["cost_nanousd"] - line.billed_output * books.output_nanousd
        for line in books.statement
        if line.call in events
    ]
