"""Overspend: a thousand callers at once on a limit of a hundred worst cases, round after round.

Every call bills its caller's cap in full, so each admitted one costs its worst case. A round has a seed, which says who
streams and when each caller comes, and a balance of its own. Promise: never 101 admitted; what is left over can then be
spent, to the last call that fits, by callers who come again while they are told that others are in the way; and the
next one is told that the money is spent. And at least 99 are admitted at once, where times are judged: what one worker
has leased and does not use has to be back before the callers of the others are refused.
"""

import asyncio
from collections.abc import Sequence

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.oracles import Verdict, Watch
from penstock.testing.prove.rounds import SPENT, Round
from penstock.testing.prove.stage import OUTPUT_NANOUSD, Outcome, Scene, Stage, Tick

NAME = "overspend"
CALLERS = 1_000
MAX_TOKENS = 10
WORST_NANOUSD = MAX_TOKENS * OUTPUT_NANOUSD
ROOM = 100
"""How many worst cases the limit has room for."""
ARRIVAL_S = 0.1
REFUSALS = (b'"limit_held"', SPENT)


def scene() -> Scene:
    return Scene(NAME, Bank(delay_ms=300), budget_usd=ROOM * WORST_NANOUSD / 1e9, each="tag:seed")


def run(stage: Stage, seeds: Sequence[int], callers: int, judge_times: bool, tick: Tick) -> Outcome:
    verdicts: list[Verdict] = []
    promises: list[Verdict] = []
    admitted: list[int] = []
    calls = 0
    with Watch(stage.boxes) as watch:
        for seed in seeds:
            round_ = Contest(stage, NAME, seed)
            admitted.append(round_.all_at_once(callers))
            round_.spend_the_rest()
            books = round_.books()
            verdicts += [oracles.ledger_equals_bank(books), *stage.judge(books)]
            promises.append(round_.promise(admitted[-1], judge_times))
            calls += len(round_.told)
            tick(f"seed {seed}: {admitted[-1]} of {callers} admitted")
    verdicts += stage.judge_the_end(watch)
    figures = {
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "admitted at once, of room for 100": f"{min(admitted)} to {max(admitted)}",
        "overspend": f"{max(0, max(admitted) - ROOM) * WORST_NANOUSD} nano-USD",
    }
    return Outcome(NAME, calls, oracles.merged(verdicts), oracles.merged(promises)[0], figures)


class Contest(Round):
    """Everybody at once for the room of one seed, and then the rest of it."""

    def all_at_once(self, callers: int) -> int:
        """How many were admitted."""

        async def everybody() -> None:
            await asyncio.gather(*(self._call(self.chance.uniform(0, ARRIVAL_S)) for _ in range(callers)))

        asyncio.run(everybody())
        return self._admitted()

    def spend_the_rest(self) -> None:
        """Calls one by one for as long as there is room; and once more, when all that was spent is settled."""
        while self._admitted() < ROOM and asyncio.run(self.call_until_told(MAX_TOKENS, self._streams())).status == 200:
            pass
        self.stage.drain()
        asyncio.run(self.call(MAX_TOKENS, self._streams()))

    def _admitted(self) -> int:
        return sum(1 for told in self.told if told.status == 200)

    async def _call(self, after_s: float) -> None:
        stream = self._streams()
        await asyncio.sleep(after_s)
        await self.call(MAX_TOKENS, stream)

    def _streams(self) -> bool:
        return self.chance.random() < 0.5

    def promise(self, at_once: int, judge_times: bool) -> Verdict:
        sent = len(self.statement())
        faults = []
        if at_once > ROOM or (judge_times and at_once < ROOM - 1):
            faults.append(f"seed {self.seed}: {at_once} were admitted at once")
        if sent != ROOM:
            faults.append(f"seed {self.seed}: {sent} calls reached the bank")
        for told in self.told:
            if told.status != 200 and not (told.status == 429 and any(code in told.refusal for code in REFUSALS)):
                faults.append(f"{told.call} was answered {told.status}: {told.refusal[:200]!r}")
        if SPENT not in self.told[-1].refusal:
            faults.append(f"seed {self.seed}: the last caller was not told that the money is spent")
        return Verdict("promise", len(self.told), tuple(faults))
