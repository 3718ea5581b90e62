"""Log-probabilities of tokens in OpenAI's chat form, in which a conversation has them."""

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct


class _Token(Struct):
    token: str | None = None
    logprob: float | None = None


class _Chosen(_Token):
    top_logprobs: list[_Token] | None = None


_decoder = msgspec.json.Decoder(_Chosen)


def of_the_form(told: Iterable[Raw]) -> tuple[Raw, ...]:
    """Those that every encoder can write. Nobody is to miss an answer for one that is of another form."""
    return tuple([raw for raw in told if _is_of_the_form(raw)])


def _is_of_the_form(raw: Raw) -> bool:
    try:
        _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
