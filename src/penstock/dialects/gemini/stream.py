"""The stream of an answer -> events. Source: Gemini API reference, "models.streamGenerateContent"."""

from penstock.dialects.gemini.answer import Teller
from penstock.dialects.gemini.frames import Frames
from penstock.domain.stream import Event
from penstock.errors import UpstreamMalformed, UpstreamReset


class GeminiDecoder:
    """Sans-I/O. Server-sent events have no ending of their own, so the ending is told when the stream closes."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._teller = Teller()

    def feed(self, data: bytes) -> list[Event]:
        return [event for found in self._frames.feed(data) for event in self._take(found)]

    def close(self) -> list[Event]:
        try:
            events = [event for found in self._frames.close() for event in self._take(found)]
        except UpstreamMalformed:
            raise UpstreamReset("The provider's stream broke off before its end.") from None
        if self._teller.failed:
            return events
        if not self._teller.is_whole or (self._frames.is_list and not self._frames.closed):
            raise UpstreamReset("The provider's stream broke off before its end.")
        return [*events, *self._teller.end()]

    def _take(self, found: bytes) -> list[Event]:
        """Nothing is told after a failure."""
        return [] if self._teller.failed else self._teller.take(found)
