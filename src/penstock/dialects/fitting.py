"""A request as the vendors take it that speak a dialect: what they would refuse is written so that it says the same.

A conversation begins with the user, and the calls of one turn stand together; a function's parameters are an object; a
model is held to a schema of the form that the vendor has for it, and told what it is for. What cannot be had so is left
out and named, as is that an answer does not go on from its beginning. What came in the dialect itself is not looked at.

Sources, read 2026-11: Anthropic, "Prefill Claude's response"; OpenAI, Anthropic, Gemini, Cohere and Amazon Bedrock API
references; see `schemas`; Anthropic, "Strict tool use" (how many tools of a request can be strict); OpenAI, "Using
GPT-5" (what does not go with reasoning).
"""

import re
from typing import NamedTuple

from msgspec import structs

from penstock.dialects import schemas
from penstock.dialects.codec import TargetFacts
from penstock.dialects.gemini.names import BEFORE_3
from penstock.dialects.members import is_set
from penstock.domain.chat import Format, Message, Request, ServerTool, Text, Tool, ToolCall

_BEGIN_WITH_THE_USER = frozenset({"messages", "converse"})
_HAVE_A_USER = _BEGIN_WITH_THE_USER | {"generateContent"}
_GO_ON = frozenset({"messages", "invoke", "converse"})
"""Where an answer goes on from what a last message of the model's says. Elsewhere that is an answer before it."""
_GO_ON_FOR = frozenset({"anthropic_messages", "bedrock_converse"})
_HAVE_NO_DESCRIPTION = frozenset({"messages", "generateContent", "cohere.chat"})
"""Where a schema is all that is told of the form of an answer."""
_HOLD_TO_CLOSED = frozenset({"messages", "converse"})
_HOLD_TO_ALL = frozenset({"chat.completions", "responses"})
_EITHER = frozenset({"json", "json_schema"})

NOTHING_SAID = "."
"""What the user is told to have said before a conversation that its other side begins."""

MAX_STRICT_TOOLS = 20
"""Of a request to Anthropic."""

_REASONS = re.compile(r"(?:.*/)?(?:o\d|gpt-[5-9](?!.*chat))")
"""OpenAI's models that take no sampling while they reason."""


class Fitted(NamedTuple):
    request: Request
    dropped: tuple[str, ...]


def forms_lacked(request: Request, surface: str, model: str) -> frozenset[str]:
    """The forms of an answer that the vendor cannot hold a model to in this request."""
    wanted = request.format
    if wanted is None or wanted.kind == "text":
        return frozenset()
    is_alone = surface == "cohere.chat" or (surface == "generateContent" and BEFORE_3.match(model) is not None)
    if is_alone and any(not isinstance(tool, ServerTool) for tool in request.tools):
        return _EITHER
    if wanted.kind == "json":
        return frozenset({"json"}) if surface in _HOLD_TO_CLOSED else frozenset()
    if not is_set(wanted.schema):
        return frozenset()
    if surface in _HOLD_TO_CLOSED:
        is_held = schemas.closed(wanted.schema) is not None
    else:
        is_held = surface != "cohere.chat" or schemas.asks_for_something(wanted.schema)
    return frozenset() if is_held else frozenset({"json_schema"})


def fitted(request: Request, surface: str, target: TargetFacts) -> Fitted:
    """The request for a target that is served at `surface`."""
    dropped: dict[str, None] = {}
    if surface != "responses":  # its items are no turns
        request = _joined(request)
    if surface in _HAVE_A_USER:
        request = _begun(request, surface, dropped)
    if request.tools:
        request = structs.replace(request, tools=_tools(request, surface, target, dropped))
    if surface not in _GO_ON and request.origin in _GO_ON_FOR and _is_begun(request.messages):
        dropped["prefill"] = None
    if request.format is not None and request.format.description and surface in _HAVE_NO_DESCRIPTION:
        described = schemas.described(request.format.schema, request.format.description)
        request = structs.replace(request, format=structs.replace(request.format, schema=described))
    if request.format is not None and surface in _HOLD_TO_CLOSED:
        request = structs.replace(request, format=_format(request.format, dropped))
    if surface in _HOLD_TO_ALL:
        request = _sampled(request, target.model, dropped)
    if request.max_output is not None and target.most_output is not None and request.max_output > target.most_output:
        request = structs.replace(request, max_output=target.most_output)  # all that it can put out
    return Fitted(request, tuple(dropped))


def _is_begun(messages: tuple[Message, ...]) -> bool:
    """Whether the last message has the beginning of the answer."""
    last = messages[-1] if messages else None
    return last is not None and last.role == "assistant" and any(isinstance(part, Text) for part in last.parts)


def _joined(request: Request) -> Request:
    """The calls of one turn in one message, with what is said between them."""
    if [message.role for message in request.messages].count("assistant") < 2:
        return request
    messages: list[Message] = []
    for message in request.messages:
        last = messages[-1] if messages else None
        if last is not None and message.role == last.role == "assistant" and (_calls(message) or _calls(last)):
            messages[-1] = structs.replace(last, parts=(*last.parts, *message.parts))
        else:
            messages.append(message)
    return request if len(messages) == len(request.messages) else structs.replace(request, messages=tuple(messages))


def _calls(message: Message) -> bool:
    return any(isinstance(part, ToolCall) for part in message.parts)


def _begun(request: Request, surface: str, dropped: dict[str, None]) -> Request:
    """Of instructions alone the last is what the user says."""
    messages = request.messages
    at = next((at for at, one in enumerate(messages) if one.role not in ("system", "developer")), -1)
    if at >= 0 and (messages[at].role == "user" or surface not in _BEGIN_WITH_THE_USER):
        return request
    if at >= 0:
        first = Message("user", (Text(NOTHING_SAID),))
        return structs.replace(request, messages=(*messages[:at], first, *messages[at:]))
    if not messages:
        return request
    dropped["system.position"] = None
    return structs.replace(request, messages=(*messages[:-1], structs.replace(messages[-1], role="user")))


def _tools(
    request: Request, surface: str, target: TargetFacts, dropped: dict[str, None]
) -> tuple[Tool | ServerTool, ...]:
    written: list[Tool | ServerTool] = []
    strict = 0
    for tool in request.tools:
        if isinstance(tool, ServerTool) or tool.custom or not is_set(tool.schema):
            written.append(tool)
            continue
        schema, is_held = schemas.of_function(tool.schema), tool.strict
        if is_held and surface in _HOLD_TO_CLOSED:
            form = None if "json_schema" in target.lacks or strict >= MAX_STRICT_TOOLS else schemas.closed(schema)
            if form is None or not form[1]:
                dropped["tools.strict"] = None
            schema, is_held = (form[0], True) if form is not None else (schema, None)
        elif is_held and surface in _HOLD_TO_ALL and not schemas.is_strict(schema):
            dropped["tools.strict"] = None
            is_held = False
        strict += bool(is_held)
        written.append(structs.replace(tool, schema=schema, strict=is_held))
    return tuple(written)


def _format(wanted: Format, dropped: dict[str, None]) -> Format:
    if wanted.kind != "json_schema" or not is_set(wanted.schema):
        return wanted
    form = schemas.closed(wanted.schema)
    if form is None:  # there was no other way to have it: see `forms_lacked`
        return wanted
    if not form[1]:
        dropped["response_format.bounds"] = None
    return structs.replace(wanted, schema=form[0])


def _sampled(request: Request, model: str, dropped: dict[str, None]) -> Request:
    reasoning = request.reasoning
    if reasoning is None or reasoning.effort in ("", "none") or not _REASONS.match(model):
        return request
    sampling = request.sampling
    for name in ("temperature", "top_p"):
        if (value := getattr(sampling, name)) is not None:
            if value != 1:
                dropped[name] = None
            sampling = structs.replace(sampling, **{name: None})
    return structs.replace(request, sampling=sampling)
