"""Several choices of a model whose dialect gives one at a time: the call is sent as many times at once, and what the
answers say is told as the choices of one."""

from collections.abc import Sequence

from msgspec import structs

from penstock.dialects.codec import Codec, StreamEncoder
from penstock.domain.chat import Answer, Request
from penstock.domain.stream import Begin, Ended, Event, Failed, Reported
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, UnsupportedByTarget

MAX_VOICES = 8
"""How many choices are made in this way. Each costs a whole call, and holds one."""


def voices_for(request: Request, target: Codec, lacks: frozenset[str] = frozenset()) -> int:
    """How many times a request is sent for the choices that it asks for. Raises `UnsupportedByTarget` for too many."""
    wanted = request.sampling.choices
    if wanted <= 1 or (target.several and "n" not in lacks):
        return 1
    if wanted > MAX_VOICES:
        raise UnsupportedByTarget(
            f"The model's provider gives one choice at a time, and is asked for at most {MAX_VOICES} at once: 'n' is"
            f" {wanted}."
        )
    return wanted


def alone(request: Request) -> Request:
    """The request for one of its choices."""
    return structs.replace(request, sampling=structs.replace(request.sampling, choices=1))


def together(answers: Sequence[Answer]) -> Answer:
    """One answer with the choices of all. Its usage is the sum, and unknown where one is."""
    first = answers[0]
    choices = tuple(choice for answer in answers for choice in answer.choices[:1])
    return structs.replace(first, choices=choices, usage=_sum([answer.usage for answer in answers]))


def _sum(usages: Sequence[Usage | None]) -> Usage | None:
    total = Usage(requests=0)
    for usage in usages:
        if usage is None:
            return None
        total = total.plus(usage)
    return total


class Chorus:
    """Several streams written as one. It has no ending before `ending` is asked for, so that all can be settled
    first."""

    def __init__(self, encoder: StreamEncoder, voices: int) -> None:
        self._encoder = encoder
        self._reports: list[Reported | None] = [None] * voices
        self._begun = False

    def voice(self, number: int) -> "Voice":
        """Writes the choice of this number."""
        return Voice(self, number)

    def say(self, number: int, event: Event) -> bytes:
        if isinstance(event, Reported):
            self._reports[number] = event
        elif isinstance(event, Begin):
            if not self._begun:
                self._begun = True
                return self._encoder.encode(event)
        elif not isinstance(event, Ended | Failed):
            return self._encoder.encode(structs.replace(event, choice=number))
        return b""

    def ending(self) -> bytes:
        """What is told when every stream has ended: the usage of all, and the caller's ending."""
        usage = _sum([report.usage if report else None for report in self._reports])
        told = b""
        if usage is not None:
            tier = next((report.service_tier for report in self._reports if report), "")
            told = self._encoder.encode(Reported(usage, tier))
        return told + self._encoder.encode(Ended())

    def error_event(self, error: GatewayError) -> bytes:
        return self._encoder.encode(Failed(error.message, error.status, error.code))


class Voice:
    """One stream of several, as an encoder."""

    def __init__(self, chorus: Chorus, number: int) -> None:
        self._chorus = chorus
        self._number = number

    def encode(self, event: Event) -> bytes:
        return self._chorus.say(self._number, event)
