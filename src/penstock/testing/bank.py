"""The bank statement: an upstream that writes down every request, every token billed and every disconnect.

What it billed is what the operator owes, so a ledger is right when it equals this statement. A caller's `user` member
names the call on the statement; the gateway passes it through untouched.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from penstock.testing.scripted import DONE, JSON_TYPE, SSE_TYPE, chunk, completion, event, usage, wants_usage
from penstock.testing.wire import Reply, WireServer

Billing = Literal["cap", "streamed"]


class Line(Struct):
    """One call on the statement. `billed_output`: tokens owed; `closed`: the answer was written to its end;
    `cut`: the peer went away before."""

    n: int
    call: str
    model: str
    streaming: bool
    max_tokens: int
    billed_input: int = 0
    billed_output: int = 0
    closed: bool = False
    cut: bool = False


def honest(line: Line) -> dict[str, Any] | None:
    """The usage report of a vendor that says what it bills."""
    return usage(line.billed_input, line.billed_output)


class Bank(WireServer):
    """An OpenAI-style vendor that bills.

    `billing` `cap`: every answer bills the caller's `max_tokens` in full; `streamed`: the tokens of the chunks that
    were written. `delay_ms`: the time before a plain answer, and between the chunks of a stream. `chunk_tokens`: in
    each chunk, 1 or more than 4. `report`: what an answer says about its usage; None leaves the report out.
    """

    def __init__(
        self, billing: Billing = "cap", delay_ms: float = 0, prompt_tokens: int = 7, chunk_tokens: int = 1
    ) -> None:
        super().__init__()
        self.billing = billing
        self.delay_ms = delay_ms
        self.chunk_tokens = chunk_tokens
        self.prompt_tokens = prompt_tokens
        self.report: Callable[[Line], dict[str, Any] | None] = honest
        self.statement: list[Line] = []
        self._numbers = itertools.count(1)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    async def answer(self, reply: Reply) -> None:
        body = reply.received.json()
        cap = int(body.get("max_completion_tokens") or body.get("max_tokens") or 16)
        line = Line(
            n=next(self._numbers),
            call=str(body.get("user", "")),
            model=str(body.get("model", "")),
            streaming=bool(body.get("stream")),
            max_tokens=cap,
            billed_input=self.prompt_tokens,
        )
        self.statement.append(line)
        try:
            await (self._stream(reply, line) if line.streaming else self._whole(reply, line))
        except (ConnectionResetError, asyncio.CancelledError):
            line.cut = True
            raise

    async def _whole(self, reply: Reply, line: Line) -> None:
        line.billed_output = line.max_tokens
        if self.delay_ms:
            await asyncio.sleep(self.delay_ms / 1000)
        counted = self.report(line)
        answer = completion(line.model, f"answer {line.n}", usage=counted)
        if counted is None:
            del answer["usage"]
        await reply.whole(200, [JSON_TYPE, ("x-request-id", f"bank-{line.n}")], msgspec.json.encode(answer))
        line.closed = True

    async def _stream(self, reply: Reply, line: Line) -> None:
        asked = wants_usage(reply.received)
        nothing: dict[str, Any] = {"usage": None} if asked else {}
        await reply.head(200, [SSE_TYPE, ("x-request-id", f"bank-{line.n}")])
        for first in range(0, line.max_tokens, self.chunk_tokens):
            following = min(first + self.chunk_tokens, line.max_tokens)
            # As long as whoever has to estimate takes so many tokens to be: four bytes each, or a short word.
            content = f"{first} " if self.chunk_tokens == 1 else "text" * (following - first)
            if self.billing == "cap":
                line.billed_output = line.max_tokens
            await reply.body(event(chunk(line.model, {"content": content}, **nothing)))
            if self.billing == "streamed":
                line.billed_output = following
            if self.delay_ms:
                await asyncio.sleep(self.delay_ms / 1000)
        await reply.body(event(chunk(line.model, {}, "stop", **nothing)))
        counted = self.report(line) if asked else None
        if counted is not None:
            await reply.body(event(chunk(line.model, {}) | {"choices": [], "usage": counted}))
        await reply.body(DONE)
        await reply.end()
        line.closed = True
