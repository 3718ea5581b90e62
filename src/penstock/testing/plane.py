"""A worker's data plane on a real journal, with a transport that plays scripts and a caller that can be interrupted.

Every await of the transport and of the caller is a numbered step, so that anything can be made to happen at any of
them. No socket is open: what sockets do is for the transport's and the server's own tests.
"""

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.domain.events import UsageEvent
from penstock.domain.http import Headers, HttpRequest
from penstock.domain.idempotency import KeyUse
from penstock.domain.journal import Extend, Hold, Note, Post, Record, Void
from penstock.domain.kept import Keeper
from penstock.domain.money import Rate, RateCard
from penstock.domain.policy import Limit
from penstock.domain.snapshot import Alias, Deployment, Provider, ServerSettings, Snapshot, with_keys
from penstock.domain.tenancy import Key, Team
from penstock.errors import StoreUnavailable, UpstreamReset
from penstock.identity.virtual_keys import digest
from penstock.ledger import journal as journals
from penstock.ledger.frames import scan
from penstock.ledger.journal import Journal
from penstock.ledger.ledger import Ledger
from penstock.pipeline import Asked, Gateway
from penstock.surfaces.http1.request import HeaderList, Request
from penstock.surfaces.inference import Inference
from penstock.upstream.call import Upstream

PEPPER = b"pepper"
SECRET = "pk-" + "k" * 40
NOW_NS = 1_795_200_000 * 1_000_000_000
CARD = RateCard({"input": Rate(2_000_000_000), "output": Rate(8_000_000_000)}, "test", request_nanousd=7)
SSE = ("content-type", "text/event-stream")
JSON = ("content-type", "application/json")

LIMITS = {
    limit.id: limit
    for limit in (
        Limit("dollars", "dollars", "usd", 10**12, "month"),
        Limit("calls", "calls", "requests", 10**6, "minute"),
        Limit("tokens", "tokens", "tokens", 10**9, "total", each="key"),
        Limit("lanes", "lanes", "concurrent", 50),
        Limit("lab", "lab", "requests", 10**6, "day", match=(("provider", "lab"),)),
        Limit("watched", "watched", "usd", 1, "day", mode="observe"),
    )
}


class Steps:
    """Counts the awaits; `at` maps a step's number to what happens there, before it goes on."""

    def __init__(self) -> None:
        self.count = 0
        self.at: dict[int, Callable[[], None]] = {}

    async def step(self) -> None:
        self.count += 1
        if (happens := self.at.get(self.count)) is not None:
            happens()
        await asyncio.sleep(0)


def _afresh(fault: BaseException) -> BaseException:
    """The same fault without what it has been through: a script may be played many times."""
    fault.__context__ = None
    return fault.with_traceback(None)


class Answer:
    """What a provider does: `status`, `headers`, then `parts`, each of which is bytes to read or a fault to raise.
    `before`: raised with nothing sent; `unanswered`: raised after the request was sent."""

    def __init__(
        self,
        *parts: bytes | BaseException,
        status: int = 200,
        headers: Headers | None = None,
        before: BaseException | None = None,
        unanswered: BaseException | None = None,
    ) -> None:
        self.parts = parts
        self.status = status
        self.headers = headers if headers is not None else [SSE]
        self.before = before
        self.unanswered = unanswered


class Response:
    def __init__(self, answer: Answer, steps: Steps) -> None:
        self.status = answer.status
        self.headers = list(answer.headers)
        self._parts = deque(answer.parts)
        self._steps = steps
        self._fault: BaseException | None = None

    @property
    def is_open(self) -> bool:
        return bool(self._parts) and self._fault is None

    async def read(self) -> bytes:
        try:
            await self._steps.step()
        except asyncio.CancelledError:
            self.abort()
            raise
        if self._fault is not None:
            raise _afresh(self._fault)
        part = self._parts.popleft() if self._parts else b""
        if isinstance(part, BaseException):
            self._fault = part
            raise _afresh(part)
        return part

    async def read_all(self, limit_bytes: int) -> bytes:
        body = b""
        while part := await self.read():
            body += part
        return body

    def abort(self) -> None:
        if self._parts:
            self._parts.clear()
            self._fault = UpstreamReset("The call was cut.")

    def unread(self) -> bytes:
        """A part comes when it is read: none waits."""
        return b""


class Scripts:
    """The transport: it plays the answers in order, the last one again and again."""

    def __init__(self, steps: Steps) -> None:
        self.answers: deque[Answer] = deque()
        self.sent: list[HttpRequest] = []
        self.responses: list[Response] = []
        self._steps = steps

    async def send(self, request: HttpRequest, on_dispatch: Callable[[], None]) -> Response:
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        await self._steps.step()
        if answer.before is not None:
            raise _afresh(answer.before)
        on_dispatch()
        self.sent.append(request)
        await self._steps.step()
        if answer.unanswered is not None:
            raise _afresh(answer.unanswered)
        self.responses.append(Response(answer, self._steps))
        return self.responses[-1]

    async def close(self) -> None:
        """Nothing is open."""


class KeyUses:
    """The Idempotency-Keys in use, in memory. `away`: the store cannot be reached."""

    def __init__(self, steps: Steps) -> None:
        self.taken: dict[tuple[str, str], KeyUse] = {}
        self.away = False
        self._steps = steps

    async def take(self, use: KeyUse) -> KeyUse:
        await self._steps.step()
        if self.away:
            raise StoreUnavailable("The gateway's store cannot be reached. Try again.", retry_after_s=2)
        return self.taken.setdefault((use.key, use.name), use)

    async def release(self, use: KeyUse) -> None:
        if self.taken.get((use.key, use.name)) == use:
            del self.taken[use.key, use.name]
        await self._steps.step()


class Caller:
    """One caller: it sends its body in one step, reads each chunk in another, and keeps what it was told."""

    def __init__(
        self, steps: Steps, body: bytes, headers: dict[str, str] | None = None, path: str = "/v1/chat/completions"
    ) -> None:
        self.steps = steps
        self.sent = body
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.request = Request(self, "POST", path, path, {})
        self.request.headers = {"authorization": f"Bearer {SECRET}", **(headers or {})}

    def leave(self) -> None:
        """As the connection does when the peer goes."""
        self.request.gone = True
        if self.request.on_disconnect is not None:
            self.request.on_disconnect()

    def more_body(self, request: Request, limit_bytes: int) -> "asyncio.Future[None]":
        async def arrive() -> None:
            await self.steps.step()
            request.parts.append(self.sent)
            request.received_bytes = len(self.sent)
            request.complete = True

        return asyncio.ensure_future(arrive())

    def write_answer(self, request: Request, status: int, headers: HeaderList, body: bytes) -> None:
        assert not request.answered, "answered twice"
        self.write_head(request, status, headers)
        self.body, self.ended = body, True

    def write_head(self, request: Request, status: int, headers: HeaderList) -> None:
        assert not request.answered, "answered twice"
        if any(b"\n" in value for _, value in headers):
            raise ValueError("a header holds a line break")
        request.answered = True
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}

    def write_chunk(self, request: Request, chunk: bytes) -> "asyncio.Future[None] | None":
        if request.gone:
            raise ConnectionResetError("the peer is gone")
        self.body += chunk
        return asyncio.ensure_future(self.steps.step())

    def finish(self, request: Request) -> None:
        self.ended = not request.gone

    def abort(self, request: Request) -> None:
        request.gone = True


class Plane:
    """The data plane of one worker, and what its journal says."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW_NS
        self.up = 0
        self.steps = Steps()
        self.scripts = Scripts(self.steps)
        self.path = journals.create(directory, 1)
        self.journal = Journal(self.path)
        self.ledger = Ledger(self.journal, lambda: self.now)
        self.key_uses = KeyUses(self.steps)
        asked = Asked(self._resolve, self.key_uses, self._find_kept)
        self.gateway = Gateway(self.ledger, Upstream(self.scripts), asked, lambda: self.now, lambda: self.up)
        self.gateway.pepper = PEPPER
        self.gateway.snapshot = world()
        self.gateway.confirm_fresh()
        self.app = Inference(self.gateway, "node", _no_receipt)
        self.disk_is_full = False

    async def _resolve(self, provider: str, model: str) -> Deployment:
        await self.steps.step()
        return Deployment(provider, model, CARD, max_output=100)

    async def _find_kept(self, owner: str, needed: Collection[str], mentioned: Collection[str]) -> list[Keeper]:
        """As the control process finds it once the journal is in the store."""
        await self.steps.step()
        made = [(event, event.kept) for event in self.events() if event.kept is not None]
        return [
            Keeper(id, event.provider, left.credential, event.model, event.alias, left.owner == owner)
            for event, left in made
            for id in left.ids
            if id in needed or id in mentioned
        ]

    def caller(self, *, path: str = "/v1/chat/completions", **members: Any) -> Caller:
        return Caller(self.steps, body(**members), path=path)

    async def call(self, *answers: Answer, **members: Any) -> Caller:
        """One call to its end."""
        self.scripts.answers = deque(answers)
        caller = self.caller(**members)
        await self.serve(caller)
        return caller

    async def serve(self, caller: Caller) -> None:
        """As the connection does: a task of its own."""
        await asyncio.gather(asyncio.ensure_future(self.app.handle(caller.request)), return_exceptions=True)

    def records(self) -> list[Record]:
        return [record for record, _ in scan(self.path)]

    def events(self) -> list[UsageEvent]:
        told = [record.event for record in self.records() if not isinstance(record, Hold | Extend)]
        return [event for event in told if event is not None]

    def last(self) -> UsageEvent:
        return self.events()[-1]

    def settled(self) -> dict[str, int]:
        return {charge.limit: charge.amount for charge in self.ledger._machine.settled() if charge.amount}

    def close(self) -> None:
        self.journal.close()

    def check(self) -> None:
        """Whatever has happened: nothing is held or live, every hold is resolved once, every call has one event, and
        every event adds up."""
        assert self.ledger.held() == {}
        assert self.gateway.live == {}
        assert not [response for response in self.scripts.responses if response.is_open], "a connection stays taken"
        records = self.records()
        holds = [record.attempt_id for record in records if isinstance(record, Hold)]
        resolved = [record.attempt_id for record in records if isinstance(record, Post | Void)]
        check_extensions(records)
        assert len(set(holds)) == len(holds) == len(self.scripts.sent)
        assert sorted(resolved) == sorted(holds)
        told = [event.request_id for event in self.events()]
        assert len(set(told)) == len(told)
        assert {hold.rpartition(":")[0] for hold in holds} <= set(told)
        owed: dict[str, int] = {}
        for record in records:
            for charge in record.charges if isinstance(record, Post) else ():
                owed[charge.limit] = owed.get(charge.limit, 0) + charge.amount
        assert {limit: amount for limit, amount in owed.items() if amount} == self.settled()
        for event in self.events():
            check_event(event)
        posts = [record for record in records if isinstance(record, Post | Void | Note) and record.event is not None]
        assert all(record.event is not None and record.event.ended_at >= record.event.started_at for record in posts)


def check_extensions(records: Sequence[Record]) -> None:
    """Each comes after its hold and before what resolves it, raises what is held, and is numbered."""
    open_holds: dict[str, tuple[int, list[int]]] = {}
    for record in records:
        if isinstance(record, Hold):
            open_holds[record.attempt_id] = (0, [charge.amount for charge in record.charges])
        elif isinstance(record, Extend):
            number, held = open_holds[record.attempt_id]
            amounts = [charge.amount for charge in record.charges]
            assert record.n == number + 1
            assert all(now >= before for now, before in zip(amounts, held, strict=False))
            assert sum(amounts) > sum(held)
            open_holds[record.attempt_id] = (record.n, amounts)
        elif isinstance(record, Post | Void):
            open_holds.pop(record.attempt_id)


def check_event(event: UsageEvent) -> None:
    """The numbers of one receipt add up, and its words agree."""
    assert event.cost_nanousd == sum(line.cost_nanousd for line in event.cost_lines)
    assert event.cost_nanousd == sum(attempt.cost_nanousd for attempt in event.attempts)
    assert event.usage.output == sum(attempt.usage.output for attempt in event.attempts)
    assert event.usage.total_input == sum(attempt.usage.total_input for attempt in event.attempts)
    assert event.usage.requests == sum(attempt.usage.requests for attempt in event.attempts) <= 1
    assert event.usage.input >= 0 <= event.cost_nanousd
    dollars = [charge.amount for charge in event.limits_charged if charge.limit == "dollars"]
    assert not dollars or sum(dollars) == event.cost_nanousd
    assert event.status >= 200
    assert (event.cause == "completed") == (event.error_code == "" and event.cause != "aborted"), event
    if event.cause in ("refused", "failed"):
        assert event.error_code


KEY = Key("k1", "ci", digest(PEPPER, SECRET), team="growth")


def world(keys: Sequence[Key] = (KEY,), **tables: Any) -> Snapshot:
    """Two providers, and the alias `pair` that tries both."""
    first = Deployment("lab", "first", CARD, max_output=100, context_window=4_000)
    second = Deployment("lab2", "second", CARD, max_output=100, context_window=4_000)
    known: dict[str, Any] = {
        "version": 1,
        "teams": {"growth": Team("growth")},
        "providers": {name: Provider(name, "compatible", f"http://{name}.test/v1") for name in ("lab", "lab2")},
        "aliases": {"pair": Alias("pair", (first, second)), "one": Alias("one", (first,)), "lab/*": Alias("lab/*")},
        "limits": LIMITS,
        "server": ServerSettings(),
    }
    return with_keys(Snapshot(**{**known, **tables}), *keys)


def body(**members: Any) -> bytes:
    known = {"model": "one", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    return json.dumps({**known, **members}).encode()


def usage(prompt: int = 10, completion: int = 5) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def plain(**members: Any) -> Answer:
    """A whole plain answer."""
    known = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}], "usage": usage()}
    return Answer(json.dumps({**known, **members}).encode(), headers=[JSON])


def event(content: str | None = None, **members: Any) -> bytes:
    choices = [] if content is None else [{"index": 0, "delta": {"content": content}, "finish_reason": None}]
    return b"data: " + json.dumps({"choices": choices, **members}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])


def streamed(*more: bytes) -> Answer:
    """A whole streamed answer."""
    return Answer(event("Hel"), event("lo."), FINISH, event(usage=usage()), *more, DONE)


async def _no_receipt(_request_id: str, _key_id: str) -> bytes | None:
    return None


@contextmanager
def full_disk(plane: Plane) -> Iterator[Callable[..., None]]:
    """Nothing can be written while this lasts; what it yields lets the disk breathe, or fills it again."""
    number = plane.journal._descriptor
    good, bad = os.dup(number), os.open(plane.path, os.O_RDONLY)

    def switch(full: bool = False) -> None:
        os.dup2(bad if full else good, number)

    switch(full=True)
    try:
        yield switch
    finally:
        switch()
        os.close(good)
        os.close(bad)
