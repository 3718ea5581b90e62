"""The parts of one choice, one after the other: for dialects whose streams tell one part at a time. None of them has
tools of free text, so a call of one is told as that of a function; nor sounds, of which the words are told."""

from msgspec import structs

from penstock.dialects.custom_tools import Wrapping
from penstock.domain.chat import Media, Part, Text
from penstock.domain.stream import PartBegin, PartDelta, PartEnd, PartEvent


def in_words(part: Part) -> Part:
    """The words of a sound; any other part as it is."""
    return Text(part.text) if isinstance(part, Media) and part.kind == "audio" and part.text else part


class InTurn:
    """Of parts that overlap, the later ones wait until the one before them is whole."""

    def __init__(self) -> None:
        self._open: int | None = None
        self._ended: set[int] = set()
        self._waiting: list[PartEvent] = []
        self._wrapping = Wrapping()

    def take(self, event: PartEvent) -> list[PartEvent]:
        """What can be told now. What comes of a part that has ended cannot be told any more."""
        if event.index in self._ended:
            return []
        if self._open is not None and event.index != self._open:
            self._waiting.append(event)
            return []
        told: list[PartEvent] = [event]
        self._go_on(event)
        while self._open is None and self._waiting:
            told += self._next()
        return [each for one in told for spoken in _spoken(one) for each in self._wrapping.take(spoken)]

    def _next(self) -> list[PartEvent]:
        """What has come of the part that is next in turn."""
        waiting, self._waiting = self._waiting, []
        self._open = waiting[0].index
        told: list[PartEvent] = []
        for event in waiting:
            (told if event.index == self._open else self._waiting).append(event)
        self._go_on(told[-1])
        return told

    def _go_on(self, last: PartEvent) -> None:
        if isinstance(last, PartEnd):
            self._ended.add(last.index)
        self._open = None if isinstance(last, PartEnd) else last.index


def _spoken(event: PartEvent) -> list[PartEvent]:
    """A sound comes whole, a text grows."""
    if not isinstance(event, PartBegin) or (part := in_words(event.part)) is event.part or not isinstance(part, Text):
        return [event]
    return [structs.replace(event, part=Text("")), PartDelta(event.choice, event.index, part.text)]
