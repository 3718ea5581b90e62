"""An attempt whose call is sent as several requests at once: a choice each at a target that gives one at a time, or a
part of the inputs each where it embeds so many in one call.

It is one attempt with one hold, which is that of all requests together; each request is a row of its own in the
receipt, and settled with what it used. The first that fails ends the others: they are charged as any call that was cut.
Choices of a stream are told as they come, see `chorus`.
"""

import asyncio
from collections.abc import Awaitable, Callable

from penstock.dialects.base import Reading
from penstock.dialects.embedded import Embedded
from penstock.dialects.translation import Translated
from penstock.domain.events import CostBasis, UsageEvent
from penstock.domain.exchange import Exchange
from penstock.domain.money import usd
from penstock.domain.policy import Charges
from penstock.domain.usage import Usage
from penstock.errors import UpstreamError, UpstreamRefused, UpstreamTimeout
from penstock.ledger.ledger import Admission, Ask
from penstock.pipeline.attempt import (
    NOTHING_USED,
    UNUSED,
    Attempt,
    Progress,
    Share,
    at_least,
    beside,
    cut_usage,
    estimate,
    tell,
    tell_of_more,
)
from penstock.pipeline.gateway import Gateway, Reply
from penstock.pipeline.reserve import Plan
from penstock.upstream.call import MAX_PLAIN_BODY_BYTES
from penstock.upstream.transport import UpstreamResponse

AT_ONCE = 8
"""How many requests of one call are under way at a time."""


class Voice:
    """One of the requests: how far it has come, and what it owes once that is known. It goes out under the hold of all,
    which is dispatched with the first."""

    def __init__(self, number: int, admission: Admission) -> None:
        self.number = number
        self.at = Progress()
        self.response: UpstreamResponse | None = None
        self.owes: Share | None = None
        self.is_sent = self.is_refused = self.is_broken = False
        self._admission = admission

    @property
    def attempt_id(self) -> str:
        return self._admission.attempt_id

    @property
    def charges(self) -> Charges:
        return self._admission.charges

    def dispatch(self, draft: UsageEvent) -> None:
        if not self._admission.dispatched:
            self._admission.dispatch(draft)
        self.is_sent = True

    def abort(self) -> None:
        if self.response is not None:
            self.response.abort()


class Several(Attempt):
    """The requests of one attempt, and their plain answers as one."""

    def __init__(
        self, gateway: Gateway, exchange: Exchange, plan: Plan, admission: Admission, passage: Translated | Embedded
    ) -> None:
        super().__init__(gateway, exchange, plan, admission)
        count, ask = passage.voices, plan.ask
        self._n += count - 1
        self._passage = passage
        self._voices = [Voice(number, admission) for number in range(count)]
        output = None if ask.output_tokens is None else ask.output_tokens // count
        self._each = Ask(None, ask.input_tokens // count, output)
        """What one request is held at."""

    async def answer(self) -> Reply:
        bodies = await self._all(self._whole)
        answer = await beside(sum(map(len, bodies)), self._passage.answer_of_all, bodies)
        self._settle_all()
        cost = (b"x-penstock-cost-usd", usd(self._exchange.cost_nanousd).encode())
        return Reply(200, [*self._own_headers(), cost], answer)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        """Of the first answer: those of several cannot be told."""
        response = self._voices[0].response
        assert response is not None
        return self._headers(response)

    async def _all(self, each: Callable[[Voice], Awaitable[bytes]]) -> list[bytes]:
        """What comes of every request. The first that fails ends the others where they stand."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(voice: Voice) -> bytes:
            try:
                async with turns:
                    return await each(voice)
            except UpstreamError as error:
                voice.is_broken = not isinstance(error, UpstreamTimeout)
                raise

        tasks = [asyncio.ensure_future(one(voice)) for voice in self._voices]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for voice in self._voices:
                voice.abort()
            raise

    async def _begin(self, voice: Voice) -> UpstreamResponse:
        """Sends one request, and returns when it was taken."""
        response = voice.response = await self._send(voice, self._passage.said(voice.number))
        if not any(other.at.status for other in self._voices):
            self._exchange.first_byte_at = self._gateway.clock()
        voice.at.status = self._at.status = response.status
        if response.status >= 300:
            voice.is_refused = True
            raise self._told(await self._refusal(response))
        self._gateway.upstream.credentials.heard(self._plan.provider, self._plan.credential, "", None)
        return response

    async def _whole(self, voice: Voice) -> bytes:
        """A plain answer."""
        response = await self._begin(voice)
        body = await response.read_all(MAX_PLAIN_BODY_BYTES)
        voice.at.body_bytes = len(body)
        reading = self._passage.dialect.read(body)
        self._require_no_error(voice, reading, body)
        self._heard(voice, reading, -(-len(body) // 4))
        return body

    def _require_no_error(self, voice: Voice, reading: Reading, body: bytes) -> None:
        """Raises the error that came with a success status. What it reports as used is owed all the same."""
        if reading.error is not None and voice.response is not None:
            voice.at.reported = reading.usage
            raise self._told(UpstreamRefused(reading.error_status or 502, voice.response.headers, body))

    def _heard(self, voice: Voice, reading: Reading, counted_output: int) -> None:
        """One answer has come to its end: what it reports is owed, else what was counted."""
        self._exchange.finish_reason = reading.finish_reason
        tier = reading.service_tier or self._tier
        if reading.usage is not None and not reading.hostile:
            tell_of_more(reading, self._plan.target.price, self._exchange)
            voice.owes = Share(reading.usage, "computed", tier)
            return
        self._exchange.flags.add("hostile_usage" if reading.hostile else "usage_missing")
        said = self._passage.said(voice.number)
        counted = estimate(self._plan, self._each, counted_output, said)
        voice.owes = Share(at_least(reading.usage, counted, self._each), "estimated", tier)

    # -- the resolution of the hold -----------------------------------------------------------------------------------

    def _settle_all(self) -> None:
        self._exchange.status = self._at.status
        self._settle(UNUSED, "computed")

    def fail(self, error: UpstreamError, *, final: bool) -> None:
        """Where every request was refused nothing is owed; else each owes what it has used."""
        if not any(voice.is_sent and not voice.is_refused for voice in self._voices):
            super().fail(error, final=final)
            return
        if final:
            tell(self._exchange, error)
            self._exchange.cause = "failed"
        self._settle(UNUSED, "estimated", error_code=error.code, final=final)

    def _shares(self, usage: Usage, basis: CostBasis) -> list[Share]:
        """What each request owes; they know better than what is told of them all."""
        return [self._share(voice) for voice in self._voices]

    def _share(self, voice: Voice) -> Share:
        if voice.owes is not None:
            return voice.owes
        if voice.is_refused or not voice.is_sent:
            return Share(NOTHING_USED if voice.is_sent else UNUSED, "computed", self._tier)
        used = voice.at.reported
        if used is None or voice.at.tee is not None:
            used = cut_usage(self._plan, self._each, voice.at, left_it_working=not voice.is_broken)
        return Share(used, "estimated", self._tier)
