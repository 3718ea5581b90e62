"""OpenAI Completions, the wire language of `POST /v1/completions`: a text that the model goes on with.

Source: OpenAI API reference, "Create completion" (legacy). Answers, chunks and usage have the form of a chat's, but for
the text; what is no conversation is not translated.
"""

import msgspec
from msgspec import Raw, Struct

from penstock.dialects.base import (
    NO_ADDRESS,
    Address,
    Call,
    checked_model,
    field,
    in_range,
    is_not_json,
    read_object,
)
from penstock.dialects.openai_chat import MAX_CHOICES, OVERHEAD_PER_REQUEST, ChatTee, read, rebuild
from penstock.dialects.openai_errors import envelope, error_body
from penstock.errors import InvalidRequest

MAX_PROMPTS = 2048

_NO_TEXT = frozenset(
    (
        *("model", "stream", "stream_options", "max_tokens", "n", "best_of", "echo", "logprobs", "seed", "stop"),
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "user"),
    )
)
"""Members that never become a part of the prompt. Whatever else is sent is counted as text."""


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Head(Struct):
    model: str
    prompt: str | list[str | int | list[int]] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None


_head_decoder = msgspec.json.Decoder(_Head)


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault. A prompt given as token numbers is bounded by its
    JSON text, which has at least one byte for each; each prompt is gone on with `n` or `best_of` times, whichever is
    more, and the vendor bills them all."""
    fields = read_object(body)
    try:
        head = _head_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        _complain(fields)
        raise InvalidRequest("The request body is not a completion request.") from None
    prompts = _prompts(head.prompt)
    times = max(in_range("n", head.n, MAX_CHOICES), in_range("best_of", head.best_of, MAX_CHOICES), 1)
    size = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT])
    return Call(
        fields=fields,
        model=checked_model(head.model),
        streaming=head.stream or False,
        max_output=None if head.max_tokens is None else in_range("max_tokens", head.max_tokens),
        cap_name="max_tokens",
        choices=times * prompts,
        wants_usage=bool(head.stream_options and head.stream_options.include_usage),
        input_bound=size + OVERHEAD_PER_REQUEST * prompts,
        input_estimate=-(-size // 3),
    )


def _prompts(prompt: str | list[str | int | list[int]] | None) -> int:
    """How many texts are gone on with; a list of numbers is one."""
    count = 1 if not isinstance(prompt, list) or all(isinstance(one, int) for one in prompt) else len(prompt)
    if count > MAX_PROMPTS:
        raise InvalidRequest(f"'prompt' must be at most {MAX_PROMPTS} texts.", param="prompt")
    return count


def _complain(fields: dict[str, Raw]) -> None:
    """Raises the refusal of the first member that is missing or wrongly typed."""
    if "model" not in fields:
        raise InvalidRequest("'model' is required.", param="model")
    field(fields, "model", str, "a string")
    field(fields, "stream", bool, "true or false")
    field(fields, "stream_options", _StreamOptions, "an object")
    for name in ("max_tokens", "n", "best_of"):
        field(fields, name, int, "a whole number")
    raise InvalidRequest("'prompt' must be a string, or a list of strings or token numbers.", param="prompt")


class Completions:
    """The dialect as the pipeline uses it."""

    name = "openai_completions"
    surface = "completions"

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(error_body)
    is_stream = staticmethod(is_not_json)
    envelope = staticmethod(envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> ChatTee:
        return ChatTee(strips_usage=asked_usage and not call.wants_usage)
