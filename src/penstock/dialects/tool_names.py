"""Names of tools that other dialects do not take: told to the target in letters that it takes, and to the caller as it
wrote them.

Source: Gemini API reference, `FunctionDeclaration` (dots and colons are allowed, 128 characters); Anthropic API
reference (letters, digits, `_` and `-`, 128 of them); OpenAI and Amazon Bedrock API references (the same, 64).
"""

import hashlib
import re

from msgspec import structs

from penstock.dialects.codec import StreamDecoder
from penstock.domain.chat import Answer, Message, Part, Request, ServerTool, ToolCall, ToolResult
from penstock.domain.stream import Event, PartBegin

_NOT_IN_A_NAME = {"generateContent": re.compile(r"[^a-zA-Z0-9_.:-]")}
_NOT_IN_MOST_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_MOST = {"generateContent": 128, "messages": 128}
"""Characters, by the surface of the target; of the others, 64."""


def plainly_named(request: Request, surface: str) -> tuple[Request, dict[str, str]]:
    """The request with plain names, and what the caller calls each that was changed. Two tools whose plain names are
    the same keep theirs."""
    if not request.tools:
        return request, {}
    written = [tool.name for tool in request.tools if not isinstance(tool, ServerTool)]
    plain = [_plain(name, surface) for name in written]
    names = {new: old for new, old in zip(plain, written, strict=True) if new != old and plain.count(new) == 1}
    if not names:
        return request, {}
    news = {old: new for new, old in names.items()}
    tools = [
        tool if isinstance(tool, ServerTool) else structs.replace(tool, name=news.get(tool.name, tool.name))
        for tool in request.tools
    ]
    choice = request.tool_choice
    if choice is not None:
        choice = structs.replace(choice, names=tuple(news.get(name, name) for name in choice.names))
    messages = tuple(_message(message, news) for message in request.messages)
    return structs.replace(request, tools=tuple(tools), tool_choice=choice, messages=messages), names


def _plain(name: str, surface: str) -> str:
    """What is too long ends in a digest of the whole."""
    plain, most = _NOT_IN_A_NAME.get(surface, _NOT_IN_MOST_NAMES).sub("_", name), _MOST.get(surface, 64)
    return plain if len(plain) <= most else f"{plain[: most - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _message(message: Message, news: dict[str, str]) -> Message:
    return structs.replace(message, parts=tuple(_part(part, news) for part in message.parts))


def _part(part: Part, names: dict[str, str]) -> Part:
    if isinstance(part, ToolCall | ToolResult) and part.name in names:
        return structs.replace(part, name=names[part.name])
    return part


def as_named(answer: Answer, names: dict[str, str]) -> Answer:
    """The answer with the names that the caller knows."""
    choices = [
        structs.replace(choice, parts=tuple(_part(part, names) for part in choice.parts)) for choice in answer.choices
    ]
    return structs.replace(answer, choices=tuple(choices))


class AsNamed:
    """`as_named` of a stream."""

    def __init__(self, decoder: StreamDecoder, names: dict[str, str]) -> None:
        self._decoder = decoder
        self._names = names

    def feed(self, data: bytes) -> list[Event]:
        return [self._named(event) for event in self._decoder.feed(data)]

    def close(self) -> list[Event]:
        return [self._named(event) for event in self._decoder.close()]

    def _named(self, event: Event) -> Event:
        if isinstance(event, PartBegin):
            return structs.replace(event, part=_part(event.part, self._names))
        return event
