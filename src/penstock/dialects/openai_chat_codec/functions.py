"""Calls of tools as they were before tools: `functions`, `function_call`, and messages of the role `function`.

Source: OpenAI API reference, "Create chat completion", the members marked as deprecated. A caller that offers
`functions` is told of a call in `function_call`, which there is one of; so the model is asked for no more than one.
"""

from typing import Any

from msgspec import Raw

from penstock.dialects.members import Members
from penstock.dialects.openai_chat_codec.parts import rest_inside
from penstock.domain.chat import Tool, ToolCall, ToolChoice

FORM = "functions"
"""`Call.form` of a caller that reads them."""


def offered(members: Members) -> tuple[Tool, ...]:
    return tuple(
        Tool(one.text("name"), one.text("description"), one.raw("parameters") or Raw(b"null"), extras=one.rest())
        for one in members.objects("functions")
    )


def choice(members: Members) -> ToolChoice | None:
    raw = members.raw("function_call")
    if raw is None:
        return None
    members.put("function_call", raw)
    if bytes(raw).startswith(b'"'):
        mode = members.text("function_call")
        if mode in ("auto", "none"):
            return ToolChoice("auto" if mode == "auto" else "none")
        raise members.fault("function_call")
    return ToolChoice("tool", (members.object("function_call").text("name"),))


def called(one: Members, id: str) -> list[ToolCall]:
    """The call of an assistant's message, whose result will be known by the function's name."""
    call = one.object("function_call")
    if call.is_empty():
        return []
    name, arguments = call.text("name"), call.text("arguments")
    return [ToolCall(id, name, arguments, extras=rest_inside("function", call))]


def told(delta: dict[str, Any]) -> dict[str, Any] | None:
    """A message, or a piece of one, with its first call as it was told then; None where there is nothing else in it."""
    if (calls := delta.get("tool_calls")) is None:
        return delta
    rest = {name: value for name, value in delta.items() if name != "tool_calls"}
    first = next((call for call in calls if call.get("index", 0) == 0), None)
    if first is not None and "function" in first:
        return {**rest, "function_call": first["function"]}
    return rest or None


def ending(end: dict[str, Any]) -> dict[str, Any]:
    """The members of an ending, with the reason as it was called then."""
    return {**end, "finish_reason": "function_call"} if end.get("finish_reason") == "tool_calls" else end
