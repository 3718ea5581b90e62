"""The parts of one choice, one after the other: for dialects whose streams tell one part at a time. None of them has
tools of free text, so a call of one is told as that of a function; nor sounds, of which the words are told."""

from msgspec import structs

from penstock.dialects.custom_tools import Wrapping
from penstock.domain.chat import Media, Part, Text
from penstock.domain.stream import PartBegin, PartDelta, PartEnd, PartEvent, PartMore


def in_words(part: Part) -> Part:
    """The words of a sound; any other part as it is."""
    return Text(part.text) if isinstance(part, Media) and part.kind == "audio" and part.text else part


class InTurn:
    """Of parts that overlap, the later ones wait until the one before them is whole. What a text cites may be found out
    when others have followed it: such a citation is told where it comes."""

    def __init__(self) -> None:
        self._open: int | None = None
        self._ended: set[int] = set()
        self._waiting: list[PartEvent] = []
        self._wrapping = Wrapping()

    def take(self, event: PartEvent) -> list[PartEvent]:
        """What can be told now. Of a part that has ended nothing but what it cites can be told any more."""
        if isinstance(event, PartDelta) and event.index == self._open and not self._wrapping.is_within:
            return [event]  # nearly all are
        if event.index in self._ended:
            return [event] if isinstance(event, PartMore) and event.citation is not None else []
        if self._open is not None and event.index != self._open:
            self._waiting.append(event)
            return []
        told: list[PartEvent] = [event]
        self._go_on(event.index, is_over=isinstance(event, PartEnd))
        while self._open is None and self._waiting:
            told += self._next()
        return [each for one in told for spoken in _spoken(one) for each in self._wrapping.take(spoken)]

    def _next(self) -> list[PartEvent]:
        """What has come of the part that is next in turn."""
        waiting, self._waiting = self._waiting, []
        index = waiting[0].index
        told: list[PartEvent] = []
        for event in waiting:
            (told if event.index == index else self._waiting).append(event)
        self._go_on(index, is_over=any(isinstance(event, PartEnd) for event in told))
        return told

    def _go_on(self, index: int, *, is_over: bool) -> None:
        self._open = None if is_over else index
        if is_over:
            self._ended.add(index)


def _spoken(event: PartEvent) -> list[PartEvent]:
    """A sound comes whole, a text grows."""
    if not isinstance(event, PartBegin) or (part := in_words(event.part)) is event.part or not isinstance(part, Text):
        return [event]
    return [structs.replace(event, part=Text("")), PartDelta(event.choice, event.index, part.text)]
