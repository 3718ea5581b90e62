"""An attempt that sends its call several times at once, for as many choices, at a target that gives one at a time.

It is one attempt with one hold, which is that of all requests together; each request is a row of its own in the
receipt, and settled with what it used. The first that fails ends the others: they are charged as any call that was cut.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from penstock.dialects.base import Reading
from penstock.dialects.translation import Translated
from penstock.domain.events import CostBasis, UsageEvent
from penstock.domain.exchange import Exchange
from penstock.domain.http import header
from penstock.domain.money import usd
from penstock.domain.policy import Charges
from penstock.domain.usage import Usage
from penstock.errors import UpstreamError, UpstreamMalformed, UpstreamRefused, UpstreamReset, UpstreamTimeout
from penstock.ledger.ledger import Admission, Ask
from penstock.pipeline.attempt import NOTHING_USED, UNUSED, Attempt, Progress, Share, cut_usage, estimate, tell
from penstock.pipeline.gateway import Gateway, Reply
from penstock.pipeline.reserve import Plan
from penstock.upstream.call import MAX_PLAIN_BODY_BYTES, linger
from penstock.upstream.transport import UpstreamResponse


def attempt_of(gateway: Gateway, exchange: Exchange, plan: Plan, admission: Admission) -> Attempt:
    """The attempt that a plan asks for."""
    if isinstance(plan.passage, Translated) and plan.passage.voices > 1:
        return Chorused(gateway, exchange, plan, admission, plan.passage)
    return Attempt(gateway, exchange, plan, admission)


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


class Chorused(Attempt):
    """The requests of one attempt."""

    def __init__(
        self, gateway: Gateway, exchange: Exchange, plan: Plan, admission: Admission, passage: Translated
    ) -> None:
        super().__init__(gateway, exchange, plan, admission)
        count, ask = passage.voices, plan.ask
        self._n += count - 1
        self._passage = passage
        self._voices = [Voice(number, admission) for number in range(count)]
        self._chorus = passage.chorus()
        output = None if ask.output_tokens is None else ask.output_tokens // count
        self._each = Ask(None, ask.input_tokens // count, output)
        """What one request is held at."""

    async def answer(self) -> Reply:
        if self._passage.call.streaming:
            chunks = self._together(await self._all(self._open))
            await anext(chunks)
            return Reply(200, self._own_headers(), chunks=chunks, error_event=self._chorus.error_event)
        answer = self._passage.answer_of_all(await self._all(self._whole))
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

        async def one(voice: Voice) -> bytes:
            try:
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
        response = voice.response = await self._send(voice)
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

    async def _open(self, voice: Voice) -> bytes:
        """A stream, to its first event."""
        response = await self._begin(voice)
        content_type = header(response.headers, "content-type") or ""
        if not self._passage.dialect.is_stream(self._passage.call, content_type):
            raise UpstreamMalformed("The provider gave a plain answer where a stream was asked for.")
        tee = voice.at.tee = self._passage.voice(self._chorus, voice.number)
        told = b""
        while not tee.begun:
            data = await response.read()
            if not data:
                raise UpstreamReset("The provider's stream ended before it began.")
            told += tee.feed(data)
        self._require_no_error(voice, tee.reading, b"")
        return told

    def _require_no_error(self, voice: Voice, reading: Reading, body: bytes) -> None:
        """Raises the error that came with a success status. What it reports as used is owed all the same."""
        if reading.error is not None and voice.response is not None:
            voice.at.reported = reading.usage
            raise self._told(UpstreamRefused(reading.error_status or 502, voice.response.headers, body))

    def _heard(self, voice: Voice, reading: Reading, counted_output: int) -> None:
        """One answer has come to its end: what it reports is owed, else what was counted."""
        self._exchange.finish_reason = reading.finish_reason
        tier = reading.service_tier or self._tier
        if reading.usage is not None:
            voice.owes = Share(reading.usage, "computed", tier)
            return
        self._exchange.flags.add("hostile_usage" if reading.hostile else "usage_missing")
        voice.owes = Share(estimate(self._plan, self._each, counted_output), "estimated", tier)

    async def _together(self, firsts: list[bytes]) -> AsyncGenerator[bytes, None]:
        """The streams as one, after an empty piece: see `Attempt._relay`."""
        pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(maxsize=1)
        pumps: list[asyncio.Task[None]] = []
        try:
            yield b""
            pumps += [
                asyncio.ensure_future(self._pump(voice, first, pieces))
                for voice, first in zip(self._voices, firsts, strict=True)
            ]
            still_open = len(pumps)
            while still_open:
                piece = await pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                if self._metered is not None:
                    counted = sum(voice.at.tee.counted_output() for voice in self._voices if voice.at.tee)
                    await self._top_up(self._metered, counted)
                if piece is None:
                    still_open -= 1
                elif piece:
                    yield piece
            self._settle_all()
            yield self._chorus.ending()
            self._exchange.cut = None
            await asyncio.gather(*(linger(voice.response) for voice in self._voices if voice.response))
        except UpstreamError as error:
            if not self._resolved:
                self.fail(error, final=True)
            raise
        except BaseException as error:
            self._read_what_had_come()
            self.interrupt(error)
            raise
        finally:
            for pump in pumps:
                pump.cancel()
            for voice in self._voices:
                voice.abort()
            self._gateway.live.pop(self._exchange.request_id, None)

    async def _pump(self, voice: Voice, first: bytes, pieces: "asyncio.Queue[bytes | Exception | None]") -> None:
        """Hands on one stream, piece by piece; then None, or what broke it, a fault of ours too: nobody else would
        hear of it, and the others would be waited for without end."""
        response, tee, out = voice.response, voice.at.tee, first
        assert response is not None
        assert tee is not None
        try:
            while True:
                await pieces.put(out)
                if tee.ended or not (data := await response.read()):
                    break
                out = tee.feed(data)
                self._require_no_error(voice, tee.reading, b"")
            rest, was_seen = tee.close()
            if not self._is_whole(tee, was_seen):
                raise UpstreamReset("The provider's stream broke off before its end.")
            await pieces.put(rest)
            self._heard(voice, tee.reading, tee.counted_output())
            await pieces.put(None)
        except UpstreamError as error:
            voice.is_broken = not isinstance(error, UpstreamTimeout)
            await pieces.put(error)
        except Exception as error:  # noqa: BLE001 - raised again by `_together`
            await pieces.put(error)

    def _read_what_had_come(self) -> None:
        """It had been sent, so it will be billed."""
        for voice in self._voices:
            if not self._resolved and voice.owes is None and voice.at.tee is not None and voice.response is not None:
                with suppress(UpstreamError):
                    voice.at.tee.feed(voice.response.unread())

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
