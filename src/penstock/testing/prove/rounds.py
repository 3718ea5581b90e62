"""Rounds: calls with a seed, which decides what chance decides, and by which they have a balance of their own."""

import asyncio
import contextlib
import http.client
import time

from msgspec import structs

from penstock.testing import oracles
from penstock.testing.bank import Line
from penstock.testing.oracles import Books, Told
from penstock.testing.prove.callers import body_of, call_at_once, tags_of
from penstock.testing.prove.stage import Stage, draws

RETRY_AFTER_S = 1.0
"""When a caller who was told that others are in the way comes again, as `retry-after` says."""
PATIENCE_S = 30.0
"""How long one goes on to do so, however busy the machine is."""
SPENT = b'"insufficient_quota"'


class Round:
    """The calls of one seed, in a scene whose budget is for `each` value of the tag `seed`."""

    def __init__(self, stage: Stage, name: str, seed: int) -> None:
        self.stage = stage
        self.name = name
        self.seed = seed
        self.told: list[Told] = []
        self.chance = draws(seed)
        self.began = oracles.now()

    async def call(self, max_tokens: int, stream: bool) -> Told:
        """One call, whatever comes of it."""
        told = Told(f"seed-{self.seed}-{len(self.told)}", max_tokens)
        self.told.append(told)
        request = body_of(self.name, told, stream), tags_of(told, seed=str(self.seed))
        # A caller who gets no answer has seen no status, which no promise lets pass.
        with contextlib.suppress(OSError, http.client.HTTPException):
            await call_at_once(self.stage.next_box(), self.stage.keys[self.name], request, told)
        return told

    async def call_until_told(self, max_tokens: int, stream: bool) -> Told:
        """Calls until one is answered, or told that the money is spent: whoever is refused otherwise comes again, with
        a name of its own. The last of them."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            told = await self.call(max_tokens, stream)
            if told.status == 200 or SPENT in told.refusal or time.monotonic() > deadline_s:
                return told
            await asyncio.sleep(RETRY_AFTER_S)

    def statement(self) -> list[Line]:
        """What of this round has reached the bank."""
        statement = self.stage.scenes[self.name].bank.statement
        return [line for line in list(statement) if line.call.startswith(f"seed-{self.seed}-")]

    def books(self) -> Books:
        """The books of this round alone."""
        books = self.stage.books(self.name, self.told, self.began)
        return structs.replace(
            books,
            statement=self.statement(),
            events=[event for event in books.events if event["tags"]["seed"] == str(self.seed)],
            limits=[row for row in books.limits if row["value"] == str(self.seed)],
        )
