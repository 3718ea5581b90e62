"""A request as a model can take it that does not have everything: what it lacks is left out and named, or done by other
means where these come to the same.

An answer by a JSON Schema is had from a tool whose arguments the schema describes, which the model must call; its call
is told as the answer's text. Where the request has tools of its own, the model must call one of them or this. An
answer in any JSON is asked for in words, to which nothing holds the model: that it is not held is named.
"""

from collections.abc import Iterable

from msgspec import structs

from penstock.dialects.codec import StreamDecoder
from penstock.domain.chat import (
    Answer,
    Choice,
    Format,
    Media,
    Message,
    Part,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.domain.stream import Event, Finished, PartBegin, PartMore

ANSWERING = "answer_in_json"
"""The tool that an answer is had from."""

IN_JSON = "Answer with one JSON object and nothing else: no other text, and no Markdown around it."

_MEDIA = frozenset(("image", "audio", "video", "document"))
_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "seed": (("seed",), ("seed",)),
    "stop": (("stop",), ("stop",)),
    "top_k": (("top_k",), ("top_k",)),
    "penalties": (("presence_penalty", "frequency_penalty"), ("presence_penalty", "frequency_penalty")),
    "logprobs": (("logprobs", "top_logprobs"), ("logprobs",)),
    "logit_bias": (("logit_bias",), ("logit_bias",)),
    "temperature": (("temperature",), ("temperature",)),
    "top_p": (("top_p",), ("top_p",)),
}
"""Capability -> the members of `Sampling` that need it, and the names under which they are dropped."""
_SAYS_NOTHING = {"temperature": 1, "top_p": 1}
"""What leaves everything as it is: it is left out, and nothing is lost."""


def narrowed(request: Request, lacks: frozenset[str]) -> tuple[Request, tuple[str, ...]]:
    """The request without what is lacked, and the names of what was left out. `n` is not looked at here: see
    `chorus`."""
    if not lacks:
        return request, ()
    dropped: dict[str, None] = {}
    if _MEDIA & lacks:
        request = structs.replace(
            request, messages=tuple(_message(message, lacks, dropped) for message in request.messages)
        )
    request = _format(request, lacks, dropped)
    if "tools" in lacks and request.tools:
        dropped["tools"] = None
        request = structs.replace(request, tools=(), tool_choice=None, parallel_tools=None)
    if "parallel_tools" in lacks and request.parallel_tools is not None:
        dropped["parallel_tool_calls"] = None
        request = structs.replace(request, parallel_tools=None)
    if "forced_tools" in lacks and request.tool_choice is not None:
        request = structs.replace(request, tool_choice=_unforced(request.tool_choice, dropped))
    if "reasoning" in lacks and request.reasoning is not None:
        dropped["reasoning"] = None
        request = structs.replace(request, reasoning=None)
    return structs.replace(request, sampling=_sampling(request.sampling, lacks, dropped)), tuple(dropped)


def _message(message: Message, lacks: frozenset[str], dropped: dict[str, None]) -> Message:
    return structs.replace(message, parts=tuple(_parts(message.parts, lacks, dropped)))


def _parts(parts: Iterable[Part], lacks: frozenset[str], dropped: dict[str, None]) -> Iterable[Part]:
    for part in parts:
        if isinstance(part, Media) and part.kind in lacks:
            dropped[part.kind] = None
        elif isinstance(part, ToolResult):
            yield structs.replace(part, parts=tuple(_parts(part.parts, lacks, dropped)))
        else:
            yield part


def _sampling(sampling: Sampling, lacks: frozenset[str], dropped: dict[str, None]) -> Sampling:
    plain = Sampling()
    for capability, (members, names) in _SETTINGS.items():
        for member, name in zip(members, (*names, *names[-1:]), strict=False):
            if capability in lacks and getattr(sampling, member) != getattr(plain, member):
                if getattr(sampling, member) != _SAYS_NOTHING.get(member):
                    dropped[name] = None
                sampling = structs.replace(sampling, **{member: getattr(plain, member)})
    return sampling


def _format(request: Request, lacks: frozenset[str], dropped: dict[str, None]) -> Request:
    wanted = request.format
    if wanted is None or wanted.kind not in lacks:
        return request
    choice = request.tool_choice
    is_call_forced = choice is not None and "forced_tools" not in lacks and _forces(choice)
    if wanted.kind == "json_schema" and "tools" not in lacks:
        if is_call_forced:  # whatever comes is no answer yet
            return structs.replace(request, format=None)
        is_only = not request.tools or (choice is not None and choice.mode == "none")
        told = wanted.description or ("Gives the answer." if is_only else "Gives the answer, when all is known for it.")
        tool = Tool(ANSWERING, told, wanted.schema, wanted.strict)
        return structs.replace(
            request,
            format=None,
            tools=(*request.tools, tool),
            tool_choice=ToolChoice("tool", (ANSWERING,)) if is_only else _any_of(choice),
            parallel_tools=request.parallel_tools if request.tools else None,
        )
    dropped["response_format"] = None
    if wanted.kind == "json":
        return structs.replace(request, format=None, messages=_told_last(request.messages, IN_JSON))
    has_json = "json" not in lacks
    return structs.replace(request, format=Format("json") if has_json else None)


def _told_last(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """The conversation with one more instruction behind those that it begins with."""
    at = next((at for at, one in enumerate(messages) if one.role not in ("system", "developer")), len(messages))
    return (*messages[:at], Message("system", (Text(words),)), *messages[at:])


def _forces(choice: ToolChoice) -> bool:
    return choice.mode in ("required", "tool") or choice.required


def _unforced(choice: ToolChoice, dropped: dict[str, None]) -> ToolChoice:
    """The same tools to choose from, and none that must be called."""
    if not _forces(choice):
        return choice
    dropped["tool_choice"] = None
    return ToolChoice("auto") if choice.mode == "required" else ToolChoice("allowed", choice.names)


def _any_of(choice: ToolChoice | None) -> ToolChoice:
    """A call of one of the tools that may be called, or the answer."""
    if choice is None or choice.mode != "allowed":
        return ToolChoice("required")
    return ToolChoice("allowed", (*choice.names, ANSWERING), required=True)


def is_answered_by_tool(request: Request) -> bool:
    """Whether what is asked for as text may come as the call of a tool."""
    last = request.tools[-1] if request.tools else None
    return isinstance(last, Tool) and last.name == ANSWERING


def as_text(answer: Answer) -> Answer:
    """The call that is the answer, told as its text."""
    return structs.replace(answer, choices=tuple(map(_told, answer.choices)))


def _told(choice: Choice) -> Choice:
    parts = tuple(Text(part.arguments) if _is_answer(part) else part for part in choice.parts)  # type: ignore[union-attr]
    goes_on = any(isinstance(part, ToolCall) for part in parts)
    if parts == choice.parts or choice.finish != "tool_calls" or goes_on:
        return structs.replace(choice, parts=parts)
    return structs.replace(choice, parts=parts, finish="stop", native="")


def _is_answer(part: Part) -> bool:
    return isinstance(part, ToolCall) and part.name == ANSWERING


class AsText:
    """`as_text` of a stream."""

    def __init__(self, decoder: StreamDecoder) -> None:
        self._decoder = decoder
        self._answers: set[tuple[int, int]] = set()
        self._going_on: set[int] = set()

    def feed(self, data: bytes) -> list[Event]:
        return [told for event in self._decoder.feed(data) if (told := self._told(event)) is not None]

    def close(self) -> list[Event]:
        return [told for event in self._decoder.close() if (told := self._told(event)) is not None]

    def _told(self, event: Event) -> Event | None:
        if isinstance(event, PartBegin) and _is_answer(event.part):
            self._answers.add((event.choice, event.index))
            return structs.replace(event, part=Text(event.part.arguments))  # type: ignore[union-attr]
        if isinstance(event, PartBegin) and isinstance(event.part, ToolCall):
            self._going_on.add(event.choice)
        if isinstance(event, PartMore) and (event.choice, event.index) in self._answers:
            return None  # the proof of a call, which this is no more
        is_done = isinstance(event, Finished) and self._answers and event.choice not in self._going_on
        if isinstance(event, Finished) and event.finish == "tool_calls" and is_done:
            return structs.replace(event, finish="stop", native="")
        return event
