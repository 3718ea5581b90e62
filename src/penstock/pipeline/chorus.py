"""Several choices of a model that gives one at a time, as one stream: see `several`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from penstock.dialects.embedded import Embedded
from penstock.dialects.translation import Translated
from penstock.domain.exchange import Exchange
from penstock.domain.http import header
from penstock.errors import UpstreamError, UpstreamMalformed, UpstreamReset, UpstreamTimeout
from penstock.ledger.ledger import Admission
from penstock.pipeline.attempt import Attempt
from penstock.pipeline.gateway import Gateway, Reply
from penstock.pipeline.reserve import Plan
from penstock.pipeline.several import Several, Voice
from penstock.upstream.call import linger


def attempt_of(gateway: Gateway, exchange: Exchange, plan: Plan, admission: Admission) -> Attempt:
    """The attempt that a plan asks for."""
    passage = plan.passage
    if not isinstance(passage, Translated | Embedded) or passage.voices == 1:
        return Attempt(gateway, exchange, plan, admission)
    if isinstance(passage, Translated) and passage.call.streaming:
        return Chorused(gateway, exchange, plan, admission, passage)
    return Several(gateway, exchange, plan, admission, passage)


class Chorused(Several):
    """The streams of one attempt."""

    def __init__(
        self, gateway: Gateway, exchange: Exchange, plan: Plan, admission: Admission, passage: Translated
    ) -> None:
        super().__init__(gateway, exchange, plan, admission, passage)
        self._streams = passage
        self._chorus = passage.chorus()

    async def answer(self) -> Reply:
        chunks = self._together(await self._all(self._open))
        await anext(chunks)
        return Reply(200, self._own_headers(), chunks=chunks, error_event=self._chorus.error_event)

    async def _open(self, voice: Voice) -> bytes:
        """A stream, to its first event."""
        response = await self._begin(voice)
        content_type = header(response.headers, "content-type") or ""
        if not self._passage.dialect.is_stream(self._passage.call, content_type):
            raise UpstreamMalformed("The provider gave a plain answer where a stream was asked for.")
        tee = voice.at.tee = self._streams.voice(self._chorus, voice.number)
        told = b""
        while not tee.begun:
            data = await response.read()
            if not data:
                raise UpstreamReset("The provider's stream ended before it began.")
            told += tee.feed(data)
        self._require_no_error(voice, tee.reading, b"")
        return told

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
