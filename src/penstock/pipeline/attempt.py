"""One try at one target, from its dispatch to the one resolution of its hold."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from msgspec import Struct, structs

from penstock.admission import deprecation
from penstock.admission.downgrade import limits_of
from penstock.catalog.cost import cost
from penstock.dialects import eventstream
from penstock.dialects.base import Call, Reading, Tee
from penstock.dialects.translation import Untouched, may_be_missing
from penstock.domain.events import AttemptRecord, CostBasis, UsageEvent
from penstock.domain.exchange import Admitted, Exchange
from penstock.domain.http import header
from penstock.domain.kept import Kept, owner_of
from penstock.domain.money import RateCard, usd
from penstock.domain.policy import QUANTUM_TOKENS
from penstock.domain.usage import Usage
from penstock.errors import (
    GatewayError,
    InternalError,
    Killed,
    StoreUnavailable,
    UpstreamCredential,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamReset,
    UpstreamTimeout,
)
from penstock.ledger.ledger import MAX_EXTENSIONS, Admission, Ask
from penstock.pipeline.gateway import Gateway, Reply
from penstock.pipeline.reserve import Plan, ask_of
from penstock.providers.base import Outgoing
from penstock.records.draft import draft_of, event_of
from penstock.upstream.call import MAX_PLAIN_BODY_BYTES, lingering, passed_on, refusal, retry_after_s
from penstock.upstream.transport import UpstreamResponse

_Read = TypeVar("_Read")

UNUSED = Usage(requests=0)

NOTHING_USED = Usage(requests=1)
"""What a dispatched attempt that the provider refused is charged: the request itself."""
_AS_STATUS = {529: 503}
"""Statuses of one vendor's, as clients of the others know them: they try again after 503 alone."""


def tell(exchange: Exchange, error: BaseException) -> None:
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


class Share(NamedTuple):
    """What one request owes."""

    usage: Usage
    basis: CostBasis
    tier: str


class Progress(Struct):
    """How far one request to a provider has come."""

    status: int = 0
    body_bytes: int = 0
    reported: Usage | None = None
    tee: Tee | None = None


def cut_usage(plan: Plan, ask: Ask, at: Progress, *, left_it_working: bool) -> Usage:
    """What a cut call is charged. A stream is counted, and is at least what it has reported. Of a plain call there
    is nothing to count until all of it is there: where the vendor had done its work, which it has when the answer
    begins, or may go on with it when it is we who leave, it is charged in full."""
    if at.tee is not None:
        counted, reported = estimate(plan, ask, at.tee.counted_output()), at.tee.reading.usage
        return counted if reported is None else _no_less(reported, counted.output)
    if at.body_bytes:
        return estimate(plan, ask, -(-at.body_bytes // 4))
    is_worked_on = left_it_working and plan.vendor.cancel_stops_billing != "yes"
    if not plan.passage.call.streaming and (at.status or is_worked_on):
        return Usage(input=ask.input_tokens, output=ask.output_tokens or 0)
    return estimate(plan, ask, 0)


def estimate(plan: Plan, ask: Ask, output: int, said: Call | None = None) -> Usage:
    """What a call probably used that put out so much; of several, what was `said` in this one. An estimate never
    exceeds what is held, `ask`."""
    bound = output if ask.output_tokens is None else min(output, ask.output_tokens)
    call = said or plan.passage.call
    probable = call.input_estimate + call.images * plan.target.image_tokens
    return Usage(input=min(probable, ask.input_tokens), output=bound)


def at_least(reported: Usage | None, counted: Usage, ask: Ask) -> Usage:
    """What an answer is charged whose report is missing, or cannot be believed as a whole: what was counted, or more
    where the believable part of the report says so. Never more than is held, `ask`."""
    if reported is None or not 0 < reported.total_input <= ask.input_tokens:
        return counted
    if ask.output_tokens is not None and reported.total_output > ask.output_tokens:
        return counted
    return _no_less(reported, counted.output)


def tell_of_more(reading: Reading, price: RateCard | None, exchange: Exchange) -> None:
    """Flags a call for which the vendor will charge more than its report and the price list say. What these say is
    computed all the same."""
    searched = reading.usage is not None and reading.usage.web_searches > 0
    is_unpriced = searched and price is not None and not price.is_own and "web_searches" not in price.rates
    if reading.is_more_owed or is_unpriced:
        exchange.flags.add("charged_apart")


BESIDE_BYTES = 256 * 1024
"""An answer of this size takes some milliseconds to be written in another dialect."""


async def beside(size: int, write: Callable[[_Read], bytes], read: _Read) -> bytes:
    """An answer for the caller, of `size` bytes from the provider. A large one is written on a thread of its own, so
    that the streams of other calls go on meanwhile."""
    return write(read) if size < BESIDE_BYTES else await asyncio.to_thread(write, read)


class Attempt:
    """One try at one target, from dispatch to the one resolution of its hold."""

    def __init__(self, gateway: Gateway, exchange: Exchange, plan: Plan, admission: Admission) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._plan = plan
        self._admission = admission
        self._n = len(exchange.attempts) + 1
        self._started_at = gateway.clock()
        self._resolved = False
        self._at = Progress()
        self._tier = plan.passage.call.service_tier
        self._metered = plan.ask.metered

    # -- the call -----------------------------------------------------------------------------------------------------

    async def answer(self) -> Reply:
        """Dispatches, and returns the reply: a plain one settled, a streamed one from its first event on. Raises
        `UpstreamError` with nothing resolved."""
        response = await self._send(self._admission, self._plan.passage.call)
        try:
            return await self._read(response)
        except BaseException:
            response.abort()
            raise

    async def _send(self, admission: Admitted, call: Call) -> UpstreamResponse:
        """Dispatches one request. Returns when the head of its answer is there."""
        plan, exchange = self._plan, self._exchange
        dialect = plan.passage.dialect
        outgoing = Outgoing(
            dialect.surface,
            dialect.rebuild(call, plan.demand),
            plan.target.model,
            call.streaming,
            exchange.headers,
            self._started_at / 1e9,
            call.form,
            call.errand,
        )
        return await self._gateway.upstream.attempt(admission, plan.provider, plan.credential, outgoing, self._draft)

    async def _read(self, response: UpstreamResponse) -> Reply:
        plan = self._plan
        self._exchange.first_byte_at = self._gateway.clock()
        self._at.status = response.status
        if response.status >= 300:
            raise self._told(await self._refusal(response))
        self._gateway.upstream.credentials.heard(plan.provider, plan.credential, "", None)
        content_type = header(response.headers, "content-type") or ""
        if plan.passage.call.streaming and plan.passage.dialect.is_stream(plan.passage.call, content_type):
            return await self._stream(response)
        return await self._plain(response)

    async def _refusal(self, response: UpstreamResponse) -> UpstreamError:
        """What the provider's refusal means. A credential that it speaks against is not tried again for this call."""
        plan = self._plan
        error, verdict = await refusal(response, plan.vendor)
        again_s = retry_after_s(response.headers)
        self._gateway.upstream.credentials.heard(plan.provider, plan.credential, verdict, again_s)
        if verdict and plan.credential is not None:
            self._exchange.tried.append(plan.credential)
        return error

    def has_another_credential(self) -> bool:
        """Whether the same target may do better with another credential, as the world is now: this one's value may have
        been rotated meanwhile. Never where what the call goes on with is kept under this one."""
        if self._plan.passage.call.refers:
            return False
        provider = self._gateway.snapshot.providers.get(self._plan.target.provider)
        team, tried = self._exchange.dims.get("team", ""), self._exchange.tried
        return provider is not None and self._gateway.upstream.credentials.has_another(provider, team, tried)

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
        self._at.body_bytes = len(body)
        passage = self._plan.passage
        reading = passage.dialect.read(body)
        if reading.error is not None:
            raise self._told(self._refused(reading, response, body))
        if not reading.hostile:
            self._at.reported = reading.usage  # owed, whether or not the answer can be told
        self._tier = reading.service_tier or self._tier
        answer = await beside(len(body), passage.answer, body)
        self._complete(reading, -(-len(body) // 4))
        headers = self._headers(response)
        headers.append((b"x-penstock-cost-usd", usd(self._exchange.cost_nanousd).encode()))
        return Reply(response.status, headers, answer)

    async def _stream(self, response: UpstreamResponse) -> Reply:
        """Waits for the first event, so that a provider that fails at once can still be replaced."""
        tee = self._at.tee = self._plan.passage.tee(self._plan.demand.ask_usage)
        data = await response.read()
        if not data:
            raise UpstreamReset("The provider's stream ended before it began.")
        first = tee.feed(data)
        while not tee.begun and (data := await response.read()):
            first += tee.feed(data)
        if tee.reading.error is not None and not tee.counted_output():
            raise self._told(self._refused(tee.reading, response, _only_data(first)))
        chunks = self._relay(response, tee, first)
        await anext(chunks)
        return Reply(response.status, self._headers(response), chunks=chunks, error_event=tee.error_event)

    def may_be_translated(self, error: UpstreamError) -> bool:
        """Whether the server seems to have no such endpoint, and may have the conversation in another dialect."""
        plan = self._plan
        if not isinstance(error, UpstreamRefused) or not isinstance(plan.passage, Untouched):
            return False
        return error.upstream_status in (404, 405) and may_be_missing(
            plan.passage.dialect.surface, plan.vendor.surfaces(plan.target.model)
        )

    def _told(self, error: UpstreamError) -> UpstreamError:
        """A provider's refusal with its body as the caller reads it."""
        if isinstance(error, UpstreamRefused):
            passage = self._plan.passage
            error.body = passage.refusal(error.body, error.upstream_status)
            if not isinstance(passage, Untouched):
                error.upstream_status = _AS_STATUS.get(error.upstream_status, error.upstream_status)
        return error

    def _refused(self, reading: Reading, response: UpstreamResponse, body: bytes) -> UpstreamRefused:
        """An error that came with a success status. What it reports as used is owed all the same."""
        self._at.reported = reading.usage
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
            if tee.ended:
                self._exchange.cut = None  # the ending has been seen: there is nothing left to cut
                async for late in lingering(response):
                    if out := tee.feed(late):  # as OpenRouter's `[DONE]` behind a response that is complete
                        yield out
            rest, seen = tee.close()
            if not self._resolved:
                if not self._is_whole(tee, seen) and tee.reading.error is None:
                    raise UpstreamReset("The provider's stream broke off before its end.")
                self._complete(tee.reading, tee.counted_output)
            if rest:
                yield rest
            self._exchange.cut = None
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

    def _is_whole(self, tee: Tee, seen: bool) -> bool:
        """Whether a stream that has closed came to its end: a vendor that marks each ending is held to its mark."""
        plan = self._plan
        return seen and (tee.ended or plan.passage.dialect.surface not in plan.vendor.marks_end)

    async def _top_up(self, held: Ask, counted: int) -> None:
        """Holds another quantum on the metered limits when less than half of one is left of what is held, before what
        was counted is passed on. Raises what refuses it."""
        plan = self._plan
        call, ask = plan.passage.call, plan.ask
        passed = counted + call.predicted * call.choices * plan.passage.voices
        covered = held.output_tokens or 0
        if passed + QUANTUM_TOKENS // 2 <= covered:
            return
        wanted = max(passed, covered) + QUANTUM_TOKENS
        if ask.output_tokens is not None:
            wanted = min(wanted, ask.output_tokens)
        if wanted > MAX_EXTENSIONS * QUANTUM_TOKENS:
            raise UpstreamMalformed("The provider's stream is longer than any answer.")
        if wanted > covered:
            self._metered = ask_of(call, plan.target, (ask.input_tokens, wanted), plan.passage.voices)
            await self._admission.extend(self._gateway.snapshot.limits, self._metered, self._draft)

    def _headers(self, response: UpstreamResponse) -> list[tuple[bytes, bytes]]:
        target = self._plan.target
        headers = [
            *self._passed_on(response),
            (b"x-penstock-provider", target.provider.encode()),
            (b"x-penstock-model", target.model.encode()),
            (b"x-penstock-attempts", str(self._n).encode()),
            (b"x-penstock-cache", b"off"),
        ]
        if self._exchange.deprecation is not None:
            headers += deprecation.headers(self._exchange.deprecation)
        if (downgrade := self._exchange.decision.get("downgrade")) is not None:
            headers.append((b"x-penstock-downgraded", ",".join(limits_of(downgrade)).encode()))
        return headers

    def _passed_on(self, response: UpstreamResponse) -> list[tuple[bytes, bytes]]:
        """The provider's headers; of a translated answer, with the type of what it became and the names of what its
        request lost."""
        passage, headers = self._plan.passage, passed_on(response.headers)
        if passage.content_type is not None:
            headers = [pair for pair in headers if pair[0] != b"content-type"]
            headers.append((b"content-type", passage.content_type.encode()))
        if passage.dropped:
            headers.append((b"x-penstock-dropped", ",".join(passage.dropped).encode()))
        return headers

    # -- the resolution of the hold -----------------------------------------------------------------------------------

    def _complete(self, reading: Reading, counted_output: "int | Callable[[], int]") -> None:
        """The provider answered to the end: what it reports is charged, else what was counted."""
        exchange = self._exchange
        exchange.finish_reason = reading.finish_reason
        exchange.status = self._at.status
        self._tier = reading.service_tier or self._tier
        if reading.kept and self._plan.passage.call.keeps:
            exchange.kept = self._kept(reading.kept)
        if reading.error is not None:
            exchange.cause, exchange.error_code = "failed", "upstream_error"
        if reading.usage is not None and not reading.hostile:
            tell_of_more(reading, self._plan.target.price, exchange)
            self._settle(reading.usage, "computed")
            return
        exchange.flags.add("hostile_usage" if reading.hostile else "usage_missing")
        counted = counted_output if isinstance(counted_output, int) else counted_output()
        probable = estimate(self._plan, self._plan.ask, counted)
        self._settle(at_least(reading.usage, probable, self._plan.ask), "estimated")

    def _kept(self, ids: tuple[str, ...]) -> Kept:
        principal, credential = self._exchange.principal, self._plan.credential
        assert principal is not None
        return Kept(owner_of(principal), ids, credential.name if credential else "")

    def fail(self, error: UpstreamError, *, final: bool) -> None:
        """The provider refused or broke. A refusal costs nothing; what broke is charged with what had passed."""
        if final:
            tell(self._exchange, error)
            self._exchange.cause = "failed"
        is_refusal = isinstance(error, UpstreamRefused | UpstreamCredential) or self._at.status >= 300
        if not self._admission.dispatched:
            self._void(error.code, final=final)
        elif not is_refusal:
            used, basis = self._owed(isinstance(error, UpstreamTimeout))
            self._settle(used, basis, error_code=error.code, final=final)
        elif final or self._at.reported is not None:
            self._settle(self._at.reported or NOTHING_USED, "computed", error_code=error.code, final=final)
        else:
            self._void(error.code, final=False)

    def interrupt(self, error: BaseException) -> None:
        """The call is left where it stands: the caller went, a kill, a fault of ours. Nothing, when it had ended."""
        if self._resolved:
            return
        exchange = self._exchange
        exchange.status = self._at.status
        tell(exchange, error)
        if self._admission.dispatched and isinstance(error, GatewayError):
            exchange.cause = "refused" if error.denial is not None else "failed"
        with suppress(StoreUnavailable):  # the journal keeps the record, and nobody waits for an ending any more
            if self._admission.dispatched:
                used, basis = self._owed(left_it_working=True)
                self._settle(used, basis, error_code=exchange.error_code)
            else:
                self._void(exchange.cause, final=True)

    def _owed(self, left_it_working: bool) -> tuple[Usage, CostBasis]:
        """What a call that has no end is charged: what a plain answer reported, else what was counted."""
        if self._at.reported is not None and self._at.tee is None:
            return self._at.reported, "computed"
        return cut_usage(self._plan, self._plan.ask, self._at, left_it_working=left_it_working), "estimated"

    def _shares(self, usage: Usage, basis: CostBasis) -> list[Share]:
        """What is owed, request by request, each of which is priced for itself."""
        return [Share(usage, basis, self._tier)]

    def _settle(self, usage: Usage, basis: CostBasis, *, error_code: str = "", final: bool = True) -> None:
        """Posts what is owed and, with the last attempt, the exchange's event: one write. The request itself is charged
        to the last attempt alone, so that a limit on requests counts each exchange once."""
        exchange, price = self._exchange, self._plan.target.price
        self._resolved = True
        now = self._gateway.clock()
        shares = self._shares(usage, basis)
        total, owed_nanousd = UNUSED, 0
        for place, (share, told, tier) in enumerate(shares, 1):
            cost_nanousd, lines = cost(price, share, tier)
            owed_nanousd += cost_nanousd
            exchange.cost_lines += lines
            counted = share if final and place == len(shares) else structs.replace(share, requests=0)
            total = counted if total == UNUSED else total.plus(counted)
            told = "unpriced" if price is None and told == "computed" else told  # noqa: PLW2901
            basis = told if place == 1 or told == "estimated" else basis
            exchange.attempts.append(self._record(counted, cost_nanousd, told, now, error_code))
        exchange.usage = total if exchange.usage == UNUSED else exchange.usage.plus(total)
        exchange.cost_nanousd += owed_nanousd
        exchange.price_version = price.version if price else ""
        exchange.upstream_ns += now - self._started_at
        owed = self._admission.owed(owed_nanousd, total)
        exchange.charged += self._admission.shown(owed)
        if self._admission.is_exceeded_by(owed):
            exchange.flags.add("hold_exceeded")
        self._admission.post(owed, basis, self._event(now) if final else None)

    def _void(self, cause: str, *, final: bool) -> None:
        """Frees the hold: nothing is owed."""
        self._resolved = True
        now = self._gateway.clock()
        self._exchange.upstream_ns += now - self._started_at
        self._exchange.attempts.append(self._record(UNUSED, 0, "computed", now, cause))
        self._admission.void(cause, self._event(now) if final else None)

    def _event(self, now: int) -> UsageEvent:
        self._exchange.recorded = True
        return event_of(self._exchange, now)

    def _record(
        self, usage: Usage, cost_nanousd: int, basis: CostBasis, ended_at: int, error_code: str = ""
    ) -> AttemptRecord:
        target, credential = self._plan.target, self._plan.credential
        return AttemptRecord(
            n=len(self._exchange.attempts) + 1,
            provider=target.provider,
            model=target.model,
            deployment=f"{target.provider}/{target.model}" + (f"#{credential.name}" if credential else ""),
            started_at=self._started_at,
            ended_at=ended_at,
            status=self._at.status,
            error_code=error_code,
            usage=usage,
            cost_nanousd=cost_nanousd,
            basis=basis,
        )


def _no_less(reported: Usage, output: int) -> Usage:
    """A report that may have come before the end: what was counted is the least that was put out."""
    return structs.replace(reported, output=max(reported.output, output - reported.audio_out))


def _only_data(run: bytes) -> bytes:
    """The JSON of the last event that says `error`, or else of the last, for an error that is answered as a plain one;
    all of it where a provider sent plain JSON under the name of a stream. Of a binary stream, what its last frame
    says."""
    if run.startswith(b"\0"):
        frames = eventstream.Splitter().feed(run)
        return frames[-1].payload if frames else b""
    if run.lstrip().startswith(b"{"):
        return run
    if (listed := run.strip()).startswith(b"["):  # which may not be closed yet
        return listed if listed.endswith(b"]") else listed + b"]"
    lines = [line[5:].strip() for line in run.splitlines() if line.startswith(b"data:")]
    return next((line for line in reversed(lines) if b'"error"' in line), lines[-1] if lines else b"")
