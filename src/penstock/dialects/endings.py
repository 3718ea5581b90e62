"""How an answer ended, in words: what a vendor says of a refusal, a filter or a fault, and which stop sequence was met.

An explanation of why there is no answer has a place of its own in some dialects (Anthropic's `stop_details`, Google's
`finishMessage`); for the others it is a refusal, as the last part of the answer.
"""

from collections.abc import Iterator

from msgspec import structs

from penstock.domain.chat import Choice, Finish, Refusal, Request
from penstock.domain.stream import Finished, PartBegin, PartDelta, PartEnd, PartEvent

_BEHIND_ALL = 1 << 30
"""The index of the part that is an explanation."""

_REFUSED: frozenset[Finish] = frozenset({"refusal", "content_filter"})


def refused_in_words(choice: Choice) -> Choice:
    """The choice with the explanation of a refusal as its last part."""
    if not choice.explanation or choice.finish not in _REFUSED:
        return choice
    return structs.replace(choice, parts=(*choice.parts, Refusal(choice.explanation)))


def refusal_events(end: Finished) -> Iterator[PartEvent]:
    """The same part as a stream tells it, before the end."""
    if end.explanation and end.finish in _REFUSED:
        yield PartBegin(end.choice, _BEHIND_ALL, Refusal(""))
        yield PartDelta(end.choice, _BEHIND_ALL, end.explanation)
        yield PartEnd(end.choice, _BEHIND_ALL)


def is_fault(end: Choice | Finished, *, has_content: bool) -> bool:
    """Whether the vendor says that the answer failed, or there is none. Some servers give no reason at all to have
    stopped: their answers are taken for whole."""
    return end.finish == "error" and bool(end.native or end.explanation or not has_content)


def fault_told(end: Choice | Finished) -> str:
    """What is told of an answer that ended in a fault: the vendor's words, else its word for it."""
    return end.explanation or "The model's answer ended in a fault" + (f" ({end.native})." if end.native else ".")


def stop_met(end: Choice | Finished, request: Request) -> str:
    """The stop sequence that was met: the one that the vendor tells, else the only one that there was."""
    if end.stop_sequence or end.finish != "stop_sequence" or len(request.sampling.stop) != 1:
        return end.stop_sequence
    return request.sampling.stop[0]
