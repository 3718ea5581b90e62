"""One exchange through the rooms, in order. The order is a security property: there is no other way to a provider.

    authenticate -> admit -> plan -> reserve -> call -> settle -> record

`serve` returns a reply; by then everything up to the head of the provider's answer has happened. A plain reply is
settled before it is returned and a streamed one before its ending is handed out, so that a caller that saw the end of
an answer has a settled call. Whatever interrupts a call (the caller leaves, a kill, a broken provider), its attempt
resolves its hold once and the exchange leaves one usage event.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol

from msgspec import structs

from penstock.admission import deprecation, idempotency
from penstock.admission.admit import dimensions, find_alias, kill_on, killed, refuse_killed
from penstock.admission.downgrade import taking_over
from penstock.admission.tags import tags_of
from penstock.catalog.cost import Bounds, cost, worst_cost
from penstock.dialects.base import Call, Demand, Dialect, Reading, Tee
from penstock.domain.events import AttemptRecord, Cause, CostBasis, UsageEvent
from penstock.domain.exchange import Exchange
from penstock.domain.http import header
from penstock.domain.idempotency import KeyUse
from penstock.domain.journal import Note
from penstock.domain.money import MAX_NANOUSD, usd
from penstock.domain.policy import METERED_UNITS, QUANTUM_TOKENS, Limit
from penstock.domain.snapshot import BREAK_GLASS, Deployment, Provider, Snapshot
from penstock.domain.usage import Usage
from penstock.errors import (
    GatewayError,
    InternalError,
    InvalidApiKey,
    Killed,
    Overloaded,
    StoreUnavailable,
    UpstreamConnectFailed,
    UpstreamCredential,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamReset,
    UpstreamTimeout,
)
from penstock.identity.authenticate import authenticate
from penstock.ledger.ledger import MAX_EXTENSIONS, Admission, Ask, Ledger
from penstock.providers.base import Outgoing, Vendor
from penstock.providers.registry import provider_for
from penstock.records.draft import draft_of, event_of
from penstock.routing.plan import plan
from penstock.upstream.call import (
    MAX_PLAIN_BODY_BYTES,
    Upstream,
    linger,
    may_do_better_elsewhere,
    passed_on,
    refusal,
)
from penstock.upstream.transport import UpstreamResponse

UNUSED = Usage(requests=0)

NOTHING_USED = Usage(requests=1)
"""What a dispatched attempt that the provider refused is charged: the request itself."""

UNSEEN_INPUT_TOKENS = 2_000_000
"""What content that the gateway never sees is held at where the model's context window is not known: the largest
window sold."""


class Reply(NamedTuple):
    """An answer on its way to the caller: `body` when it is plain, else `chunks`, which must be closed."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    chunks: AsyncGenerator[bytes, None] | None = None


class KeyUses(Protocol):
    """Who uses which Idempotency-Key, on every worker."""

    async def take(self, use: KeyUse) -> KeyUse:
        """The use that counts: this one, once it is durable, or the one before it. Raises `StoreUnavailable`. Where it
        raises, or is cut short, this one does not count for long."""

    async def release(self, use: KeyUse) -> None:
        """Lets the Idempotency-Key be used again, soon where it cannot be at once."""


class Asked(NamedTuple):
    """What a worker asks the control process for: what an undeclared model can do and cost, and Idempotency-Keys."""

    resolve: Callable[[str, str], Awaitable[Deployment]]
    key_uses: KeyUses


def uptime_ns() -> int:
    """Nanoseconds since the machine started, the time it was suspended included: nobody can set this clock back."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Gateway:
    """What a worker holds: the world as it stands, and the rooms. `snapshot` is replaced whole, never changed.
    `clock` gives Unix nanoseconds, `uptime` those since some moment, and never goes backwards."""

    def __init__(
        self,
        ledger: Ledger,
        upstream: Upstream,
        asked: Asked,
        clock: Callable[[], int],
        uptime: Callable[[], int] = uptime_ns,
    ) -> None:
        self.snapshot = Snapshot()
        self.pepper = b""
        self.ledger = ledger
        self.upstream = upstream
        self.resolve, self.key_uses = asked
        self.clock = clock
        self.live: dict[str, Exchange] = {}
        self.draining = False
        self._uptime = uptime
        self._fresh_until = 0

    def confirm_fresh(self) -> None:
        """The control process has said that this snapshot is the newest: it holds for `stop.freshness`."""
        self._fresh_until = self._uptime() + self.snapshot.server.freshness_ms * 1_000_000

    def require_ready(self) -> None:
        """Raises when this box may not admit: it drains, is full, or has not heard from its control process for longer
        than `stop.freshness`, so that a stop might not have reached it."""
        if self.draining:
            raise Overloaded("The gateway is restarting. Try again.", retry_after_s=1)
        if self._uptime() > self._fresh_until and BREAK_GLASS.generation not in self.snapshot.kills:
            raise StoreUnavailable("The gateway's control process cannot be reached. Try again.", retry_after_s=2)
        if len(self.live) >= self.snapshot.server.max_concurrent_calls:
            raise Overloaded("The gateway serves as many calls as it may. Try again.", retry_after_s=1)

    def require_glass(self) -> None:
        """Raises `Killed` while the break-glass file stops this box."""
        if (kill := self.snapshot.kills.get(BREAK_GLASS.generation)) is not None:
            raise killed(kill)

    def cut_killed(self) -> int:
        """Cuts every live call that a kill in force covers; returns how many there were."""
        kills = self.snapshot.kills.values()
        return self.cut([x for x in self.live.values() if kill_on(kills, x.dims) is not None], "killed")

    def cut(self, exchanges: Iterable[Exchange], cause: Cause) -> int:
        """Cuts these live calls where they stand; each settles with `cause`. Returns how many there were."""
        cut = 0
        for exchange in list(exchanges):
            if exchange.cut is not None and exchange.cut_by is None:
                exchange.cut(cause)
                cut += 1
        return cut


async def serve(
    gateway: Gateway, exchange: Exchange, dialect: Dialect, read_body: Callable[[], Awaitable[bytes]]
) -> Reply:
    """The whole life of one call. Raises `GatewayError` for every refusal, after it was recorded."""
    snapshot = gateway.snapshot
    try:
        gateway.require_ready()
        exchange.key = authenticate(snapshot, exchange.headers, gateway.pepper, exchange.started_at / 1e9)
        exchange.tags = tags_of(exchange.key, exchange.headers)
        body = await read_body()
        gateway.require_ready()
        if gateway.snapshot is not snapshot:  # a body can take its time, and the key may be gone by now
            snapshot = gateway.snapshot
            exchange.key = authenticate(snapshot, exchange.headers, gateway.pepper, gateway.clock() / 1e9)
            exchange.tags = tags_of(exchange.key, exchange.headers)
        call = dialect.parse(body)
        exchange.streaming = call.streaming
        exchange.dims = dimensions(exchange.key, exchange.tags, call.model)
        refuse_killed(snapshot, exchange.dims)
        exchange.alias = find_alias(snapshot, exchange.key, call.model)
        deprecation.take_replacement(snapshot, exchange)
        gateway.live[exchange.request_id] = exchange
        await _take_key(gateway, exchange, body)
        reply = await _answer(gateway, exchange, dialect, call)
    except BaseException as error:
        gateway.live.pop(exchange.request_id, None)
        try:
            _record_refusal(gateway, exchange, error)
        finally:
            await _release_key(gateway, exchange)
        raise
    if reply.chunks is None:
        del gateway.live[exchange.request_id]
    return reply


async def _take_key(gateway: Gateway, exchange: Exchange, body: bytes) -> None:
    """Claims the caller's Idempotency-Key, where there is one, before anything is held or sent. Raises
    `IdempotencyConflict` when another call has it, `StoreUnavailable` when that cannot be found out."""
    use = idempotency.key_use(exchange, body)
    if use is None:
        return
    first = await gateway.key_uses.take(use)
    if first != use:
        raise idempotency.refusal(first, use)
    exchange.key_use = use
    gateway.require_ready()
    authenticate(gateway.snapshot, exchange.headers, gateway.pepper, gateway.clock() / 1e9)  # that took its time


async def _release_key(gateway: Gateway, exchange: Exchange) -> None:
    """A call that has used nothing leaves its Idempotency-Key to the next try: it was refused, or never reached a
    provider, or every provider refused it."""
    use, used = exchange.key_use, exchange.usage
    if use is not None and not (used.total_input or used.total_output):
        await gateway.key_uses.release(use)


def _record_refusal(gateway: Gateway, exchange: Exchange, error: BaseException) -> None:
    """The event of a call that no attempt has recorded. Strangers leave none: they must not fill the disk."""
    if exchange.recorded or exchange.key is None or isinstance(error, InvalidApiKey):
        return
    _tell(exchange, error)
    now = gateway.clock()
    exchange.recorded = True
    gateway.ledger.note(Note(now, event_of(exchange, now, gateway.snapshot.limits)))


def _tell(exchange: Exchange, error: BaseException) -> None:
    """What the exchange's event says of the error that ended it: what its caller is told. A cancellation is the cut's:
    the caller went, or a kill."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        exchange.cause = exchange.cut_by or "aborted"
        exchange.error_code = "killed" if exchange.cause == "killed" else ""
        exchange.status = exchange.status or 499
        return
    told = error if isinstance(error, GatewayError) else InternalError("The gateway met a fault of its own.")
    exchange.status = told.upstream_status if isinstance(told, UpstreamRefused) else told.status
    exchange.error_code = told.code
    if isinstance(told, Killed):
        exchange.cause = "killed"
    else:
        is_fault = exchange.attempts or isinstance(told, UpstreamError | InternalError)
        exchange.cause = "failed" if is_fault else "refused"


async def _answer(gateway: Gateway, exchange: Exchange, dialect: Dialect, call: Call) -> Reply:
    """The answer of the model that was asked for, or of the one that takes over, once, when a limit denies the call and
    names it. Whatever keeps that one from being sent to, the caller is told of the first denial."""
    try:
        return await _first_answer(gateway, exchange, dialect, call)
    except GatewayError as error:
        asked, alias, denied = exchange.alias, taking_over(gateway.snapshot, exchange, error), error
        if asked is None or alias is None or denied.denial is None:
            raise
    downgrade = {"limit": denied.denial.limit.name, "from": asked.name, "to": alias.name}
    exchange.decision["downgrade"] = downgrade
    exchange.alias, exchange.dims["model"], replaced = alias, alias.name, exchange.dims.pop("replaced", None)
    try:
        return await _first_answer(gateway, exchange, dialect, call)
    except GatewayError as error:
        if isinstance(error, UpstreamError | StoreUnavailable):
            raise
        exchange.alias, exchange.dims["model"] = asked, asked.name
        exchange.dims |= {} if replaced is None else {"replaced": replaced}
        downgrade["refused"] = error.code
        raise denied from None


async def _first_answer(gateway: Gateway, exchange: Exchange, dialect: Dialect, call: Call) -> Reply:
    """Tries the targets in order until one answers. Nothing has left for the caller yet, so a failure that another
    target may cure goes on to the next: its hold is resolved, and the next is taken, in one step of this process."""
    assert exchange.alias is not None
    targets = plan(exchange.alias)
    if exchange.alias.name not in gateway.snapshot.aliases:
        targets = tuple([await gateway.resolve(target.provider, target.model) for target in targets])
    failure: GatewayError = UpstreamReset("The model has no target.")
    for target in targets:
        try:
            attempt = await _reserve(gateway, exchange, dialect, call, target)
        except GatewayError as denied:
            if not _is_about_target(denied):
                raise
            failure = denied
            continue
        try:
            return await attempt.answer()
        except UpstreamError as error:
            goes_on = may_do_better_elsewhere(error) and target is not targets[-1]
            attempt.fail(error, final=not goes_on)
            if not goes_on:
                raise
            failure = error
        except BaseException as error:
            attempt.interrupt(error)
            raise
    raise failure


def _is_about_target(error: GatewayError) -> bool:
    """Whether the provider is gone, or a limit of its own denied the call: another target may be free."""
    if isinstance(error, UpstreamError):
        return True
    limit = error.denial.limit if error.denial else None
    return limit is not None and (limit.each == "provider" or any(name == "provider" for name, _ in limit.match))


LEAST_INJECTED_CAP = 256
"""Some vendors refuse a cap that does not fit the context beside the input; ours gives way down to this."""


async def _reserve(
    gateway: Gateway, exchange: Exchange, dialect: Dialect, call: Call, target: Deployment
) -> "_Attempt":
    """Checks and holds one target on every limit that counts this call: its worst case, or of a stream, on metered
    limits, the first quantum of its output."""
    snapshot = gateway.snapshot
    exchange.dims["provider"] = target.provider
    refuse_killed(snapshot, exchange.dims)
    provider = snapshot.providers.get(target.provider)
    if provider is None:
        raise UpstreamConnectFailed("The provider was removed while the call was under way.")
    vendor = provider_for(provider.kind)
    limits = gateway.ledger.applying(snapshot.limits, exchange.dims)
    cap, demand = _demand(exchange, dialect, call, target, (vendor, limits))
    input_tokens = call.input_bound + call.images * target.image_tokens
    if call.unseen:
        input_tokens = max(input_tokens, target.context_window or UNSEEN_INPUT_TOKENS)
    output_tokens = None if cap is None else (cap + call.predicted) * call.choices
    ask = _ask(call, target, input_tokens, output_tokens)
    if _can_be_topped_up(call) and any(limit.mode == "metered" and limit.unit in METERED_UNITS for limit in limits):
        first = QUANTUM_TOKENS + call.predicted * call.choices
        if output_tokens is None or first < output_tokens:
            ask = structs.replace(ask, metered=_ask(call, target, input_tokens, first))
    attempt_id = f"{exchange.request_id}:{len(exchange.attempts) + 1}"
    admission = await gateway.ledger.reserve(limits, exchange.dims, ask, attempt_id)
    return _Attempt(gateway, exchange, _Plan(dialect, call, target, provider, vendor, demand, ask), admission)


def _ask(call: Call, target: Deployment, input_tokens: int, output_tokens: int | None) -> Ask:
    """What a call of this size can use at worst."""
    worst = None
    if target.price is not None:
        bounds = Bounds(input_tokens, output_tokens or 0, audio_in=call.audio_in, audio_out=call.audio_out)
        worst = worst_cost(target.price, bounds, (call.service_tier,) if call.service_tier else ())
        worst = min(worst, MAX_NANOUSD)
    return Ask(worst, input_tokens, output_tokens)


def _can_be_topped_up(call: Call) -> bool:
    """Whether what the provider puts out can be counted while it comes; audio cannot."""
    return call.streaming and not call.audio_out


def _demand(
    exchange: Exchange, dialect: Dialect, call: Call, target: Deployment, context: tuple[Vendor, tuple[Limit, ...]]
) -> tuple[int | None, Demand]:
    """The cap on one choice's output, and how the call is sent. The caller's cap stands; else the alias's, else the
    catalogue's is injected where a limit that refuses counts output, so that the provider enforces our bound. The newer
    of its two names goes as the older one to servers that may know that one alone: they would ignore it."""
    vendor, limits = context
    ask_usage = call.streaming and vendor.asks_usage and not call.wants_usage
    assert exchange.alias is not None
    cap = call.max_output
    if cap is None:
        cap = exchange.alias.max_output or target.max_output
    if cap is None or not any(limit.mode != "observe" and limit.unit in METERED_UNITS for limit in limits):
        return cap, Demand(target.model, None, ask_usage)
    name = vendor.output_cap_field(dialect.surface)
    if call.max_output is None:
        if target.context_window is not None:
            cap = min(cap, max(LEAST_INJECTED_CAP, target.context_window - call.input_estimate))
    elif not (name == "max_tokens" and call.cap_name == "max_completion_tokens"):
        return cap, Demand(target.model, None, ask_usage)
    return cap, Demand(target.model, (name, cap), ask_usage)


class _Plan(NamedTuple):
    """What one attempt sets out with."""

    dialect: Dialect
    call: Call
    target: Deployment
    provider: Provider
    vendor: Vendor
    demand: Demand
    ask: Ask


class _Attempt:
    """One try at one target, from dispatch to the one resolution of its hold."""

    def __init__(self, gateway: Gateway, exchange: Exchange, plan: _Plan, admission: Admission) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._plan = plan
        self._admission = admission
        self._n = len(exchange.attempts) + 1
        self._started_at = gateway.clock()
        self._resolved = False
        self._status = 0
        self._body_bytes = 0
        self._reported: Usage | None = None
        self._tee: Tee | None = None
        self._tier = plan.call.service_tier
        self._metered = plan.ask.metered

    # -- the call -----------------------------------------------------------------------------------------------------

    async def answer(self) -> Reply:
        """Dispatches, and returns the reply: a plain one settled, a streamed one from its first event on. Raises
        `UpstreamError` with nothing resolved."""
        plan, exchange = self._plan, self._exchange
        outgoing = Outgoing(
            plan.dialect.surface,
            plan.dialect.rebuild(plan.call, plan.demand),
            plan.target.model,
            plan.call.streaming,
            exchange.headers,
            self._started_at / 1e9,
        )
        response = await self._gateway.upstream.attempt(self._admission, plan.provider, outgoing, self._draft)
        try:
            return await self._read(response)
        except BaseException:
            response.abort()
            raise

    async def _read(self, response: UpstreamResponse) -> Reply:
        plan = self._plan
        self._exchange.first_byte_at = self._gateway.clock()
        self._status = response.status
        if response.status >= 300:
            raise await refusal(response)
        if plan.call.streaming and not (header(response.headers, "content-type") or "").startswith("application/json"):
            return await self._stream(response)
        return await self._plain(response)

    def _draft(self) -> UsageEvent:
        """The event as far as it is known, costed with what is held: at the worst case, and of a stream under metered
        limits alone, at what they hold by now."""
        worst = (self._metered or self._plan.ask).usd_nanousd or 0
        if self._metered is not None:
            worst = max(worst, self._admission.most_held("usd"))
        attempt = self._record(NOTHING_USED, worst, "estimated", self._started_at)
        return draft_of(self._exchange, attempt, worst)

    async def _plain(self, response: UpstreamResponse) -> Reply:
        body = await response.read_all(MAX_PLAIN_BODY_BYTES)
        self._body_bytes = len(body)
        reading = self._plan.dialect.read(body)
        if reading.error is not None:
            raise self._refused(reading, response, body)
        self._complete(reading, -(-len(body) // 4))
        headers = self._headers(response)
        headers.append((b"x-penstock-cost-usd", usd(self._exchange.cost_nanousd).encode()))
        return Reply(response.status, headers, body)

    async def _stream(self, response: UpstreamResponse) -> Reply:
        """Waits for the first event, so that a provider that fails at once can still be replaced."""
        tee = self._tee = self._plan.dialect.tee(self._plan.call, self._plan.demand.ask_usage)
        data = await response.read()
        if not data:
            raise UpstreamReset("The provider's stream ended before it began.")
        first = tee.feed(data)
        while not tee.begun and (data := await response.read()):
            first += tee.feed(data)
        if tee.reading.error is not None and not tee.counted_output():
            raise self._refused(tee.reading, response, _only_data(first))
        chunks = self._relay(response, tee, first)
        await anext(chunks)
        return Reply(response.status, self._headers(response), chunks=chunks)

    def _refused(self, reading: Reading, response: UpstreamResponse, body: bytes) -> UpstreamRefused:
        """An error that came with a success status. What it reports as used is owed all the same."""
        self._reported = reading.usage
        self._tier = reading.service_tier or self._tier
        return UpstreamRefused(reading.error_status or 502, response.headers, body)

    async def _relay(self, response: UpstreamResponse, tee: Tee, out: bytes) -> AsyncGenerator[bytes, None]:
        """The stream as the caller gets it, after one empty piece: only what has begun is sure to resolve its hold when
        it is closed. Raises `GatewayError`, with the call settled, when it breaks in between."""
        try:
            yield b""
            while True:
                if tee.ended and not self._resolved:
                    self._complete(tee.reading, tee.counted_output)
                elif self._metered is not None and not self._resolved:
                    await self._top_up(self._metered, tee.counted_output())
                if out:
                    yield out
                if tee.ended:
                    break
                data = await response.read()
                if not data:
                    break
                out = tee.feed(data)
            rest, seen = tee.close()
            if not self._resolved:
                if not seen and tee.reading.error is None:
                    raise UpstreamReset("The provider's stream broke off before its end.")
                self._complete(tee.reading, tee.counted_output)
            if rest:
                yield rest
            self._exchange.cut = None  # the ending has been seen: there is nothing left to cut
            await linger(response)
        except UpstreamError as error:
            if not self._resolved:
                self.fail(error, final=True)
                raise
        except BaseException as error:
            if not self._resolved:
                with suppress(UpstreamError):
                    tee.feed(response.unread())  # it had been sent, so it will be billed
            self.interrupt(error)
            raise
        finally:
            response.abort()
            self._gateway.live.pop(self._exchange.request_id, None)

    async def _top_up(self, held: Ask, counted: int) -> None:
        """Holds another quantum on the metered limits when less than half of one is left of what is held, before what
        was counted is passed on. Raises what refuses it."""
        plan = self._plan
        call, ask = plan.call, plan.ask
        passed = counted + call.predicted * call.choices
        covered = held.output_tokens or 0
        if passed + QUANTUM_TOKENS // 2 <= covered:
            return
        wanted = max(passed, covered) + QUANTUM_TOKENS
        if ask.output_tokens is not None:
            wanted = min(wanted, ask.output_tokens)
        if wanted > MAX_EXTENSIONS * QUANTUM_TOKENS:
            raise UpstreamMalformed("The provider's stream is longer than any answer.")
        if wanted > covered:
            self._metered = _ask(call, plan.target, ask.input_tokens, wanted)
            await self._admission.extend(self._gateway.snapshot.limits, self._metered, self._draft)

    def _headers(self, response: UpstreamResponse) -> list[tuple[bytes, bytes]]:
        target = self._plan.target
        headers = [
            *passed_on(response.headers),
            (b"x-penstock-provider", target.provider.encode()),
            (b"x-penstock-model", target.model.encode()),
            (b"x-penstock-attempts", str(self._n).encode()),
            (b"x-penstock-cache", b"off"),
        ]
        if self._exchange.deprecation is not None:
            headers += deprecation.headers(self._exchange.deprecation)
        if (downgrade := self._exchange.decision.get("downgrade")) is not None:
            headers.append((b"x-penstock-downgraded", downgrade["limit"].encode()))
        return headers

    # -- the resolution of the hold -----------------------------------------------------------------------------------

    def _complete(self, reading: Reading, counted_output: "int | Callable[[], int]") -> None:
        """The provider answered to the end: what it reports is charged, else what was counted."""
        exchange = self._exchange
        exchange.finish_reason = reading.finish_reason
        exchange.status = self._status
        self._tier = reading.service_tier or self._tier
        if reading.error is not None:
            exchange.cause, exchange.error_code = "failed", "upstream_error"
        if reading.usage is not None:
            self._settle(reading.usage, "computed")
            return
        exchange.flags.add("hostile_usage" if reading.hostile else "usage_missing")
        self._settle(
            self._estimate(counted_output if isinstance(counted_output, int) else counted_output()), "estimated"
        )

    def fail(self, error: UpstreamError, *, final: bool) -> None:
        """The provider refused or broke. A refusal costs nothing; what broke is charged with what had passed."""
        if final:
            _tell(self._exchange, error)
            self._exchange.cause = "failed"
        is_refusal = isinstance(error, UpstreamRefused | UpstreamCredential) or self._status >= 300
        if not self._admission.dispatched:
            self._void(error.code, final=final)
        elif not is_refusal:
            left_it_working = isinstance(error, UpstreamTimeout)
            self._settle(self._cut_usage(left_it_working), "estimated", error_code=error.code, final=final)
        elif final or self._reported is not None:
            self._settle(self._reported or NOTHING_USED, "computed", error_code=error.code, final=final)
        else:
            self._void(error.code, final=False)

    def interrupt(self, error: BaseException) -> None:
        """The call is left where it stands: the caller went, a kill, a fault of ours. Nothing, when it had ended."""
        if self._resolved:
            return
        exchange = self._exchange
        exchange.status = self._status
        _tell(exchange, error)
        if self._admission.dispatched and isinstance(error, GatewayError):
            exchange.cause = "refused" if error.denial is not None else "failed"
        with suppress(StoreUnavailable):  # the journal keeps the record, and nobody waits for an ending any more
            if self._admission.dispatched:
                self._settle(self._cut_usage(left_it_working=True), "estimated", error_code=exchange.error_code)
            else:
                self._void(exchange.cause, final=True)

    def _cut_usage(self, left_it_working: bool) -> Usage:
        """What a cut call is charged. A stream is counted, and is at least what it has reported. Of a plain call there
        is nothing to count until all of it is there: where the vendor had done its work, which it has when the answer
        begins, or may go on with it when it is we who leave, it is charged in full."""
        plan = self._plan
        if self._tee is not None:
            counted, reported = self._estimate(self._tee.counted_output()), self._tee.reading.usage
            return counted if reported is None else _no_less(reported, counted.output)
        if self._body_bytes:
            return self._estimate(-(-self._body_bytes // 4))
        is_worked_on = left_it_working and plan.vendor.cancel_stops_billing != "yes"
        if not plan.call.streaming and (self._status or is_worked_on):
            return Usage(input=plan.ask.input_tokens, output=plan.ask.output_tokens or 0)
        return self._estimate(0)

    def _estimate(self, output: int) -> Usage:
        """An estimate never exceeds the hold."""
        ask = self._plan.ask
        bound = output if ask.output_tokens is None else min(output, ask.output_tokens)
        estimate = self._plan.call.input_estimate + self._plan.call.images * self._plan.target.image_tokens
        return Usage(input=min(estimate, ask.input_tokens), output=bound)

    def _settle(self, usage: Usage, basis: CostBasis, *, error_code: str = "", final: bool = True) -> None:
        """Posts what is owed and, with the last attempt, the exchange's event: one write. The request itself is charged
        to the last attempt alone, so that a limit on requests counts each exchange once."""
        exchange, price = self._exchange, self._plan.target.price
        self._resolved = True
        now = self._gateway.clock()
        owed_nanousd, lines = cost(price, usage, self._tier)
        if not final:
            usage = structs.replace(usage, requests=0)
        if price is None and basis == "computed":
            basis = "unpriced"
        exchange.attempts.append(self._record(usage, owed_nanousd, basis, now, error_code))
        exchange.usage = usage if exchange.usage == UNUSED else exchange.usage.plus(usage)
        exchange.cost_nanousd += owed_nanousd
        exchange.cost_lines += lines
        exchange.price_version = price.version if price else ""
        exchange.upstream_ns += now - self._started_at
        charges = self._admission.owed(owed_nanousd, usage)
        exchange.charges += charges
        if self._admission.is_exceeded_by(charges):
            exchange.flags.add("hold_exceeded")
        self._admission.post(charges, basis, self._event(now) if final else None)

    def _void(self, cause: str, *, final: bool) -> None:
        """Frees the hold: nothing is owed."""
        self._resolved = True
        now = self._gateway.clock()
        self._exchange.upstream_ns += now - self._started_at
        self._exchange.attempts.append(self._record(UNUSED, 0, "computed", now, cause))
        self._admission.void(cause, self._event(now) if final else None)

    def _event(self, now: int) -> UsageEvent:
        self._exchange.recorded = True
        return event_of(self._exchange, now, self._gateway.snapshot.limits)

    def _record(
        self, usage: Usage, cost_nanousd: int, basis: CostBasis, ended_at: int, error_code: str = ""
    ) -> AttemptRecord:
        target = self._plan.target
        return AttemptRecord(
            n=self._n,
            provider=target.provider,
            model=target.model,
            deployment=f"{target.provider}/{target.model}",
            started_at=self._started_at,
            ended_at=ended_at,
            status=self._status,
            error_code=error_code,
            usage=usage,
            cost_nanousd=cost_nanousd,
            basis=basis,
        )


def _no_less(reported: Usage, output: int) -> Usage:
    """A report that may have come before the end: what was counted is the least that was put out."""
    return structs.replace(reported, output=max(reported.output, output - reported.audio_out))


def _only_data(run: bytes) -> bytes:
    """The JSON of the event that says `error`, for an error that is answered as a plain one."""
    lines = [line[5:].strip() for line in run.splitlines() if line.startswith(b"data:")]
    return next((line for line in lines if b'"error"' in line), b"")
