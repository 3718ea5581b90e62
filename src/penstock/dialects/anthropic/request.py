"""A Messages request -> `Request`, in the order of the reference's page.

Source: Anthropic API reference, "Create a Message"; guides "Extended thinking", "Adaptive thinking", "Effort",
"Structured outputs".
"""

from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects.anthropic.blocks import NAME, NULL, decode_blocks, members, pop_cache, raw_list, rest
from penstock.dialects.base import Call
from penstock.dialects.members import pop
from penstock.domain.chat import (
    Format,
    Message,
    Reasoning,
    Request,
    Role,
    Sampling,
    ServerTool,
    Tool,
    ToolChoice,
)
from penstock.errors import InvalidRequest, UnsupportedByTarget

STANDARD_ONLY = "standard_only"
"""How `default` is asked for."""

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}


def decode_request(call: Call) -> Request:
    """Raises `InvalidRequest` naming the member at fault, `UnsupportedByTarget` where no answer is asked for."""
    fields = dict(call.fields)
    if fields.get("compaction", NULL) != NULL:
        raise UnsupportedByTarget("A conversation is compacted by Anthropic alone.", param="compaction")
    for name in ("model", "stream", "max_tokens"):
        fields.pop(name, None)
    messages = _messages(fields)
    tools = tuple(_checked(fields, "tools", lambda raw: [_tool(tool) for tool in raw_list(raw)], []))
    choice, parallel = _checked(fields, "tool_choice", _tool_choice, (None, None))
    reasoning, format_ = _reasoning_and_format(fields)
    return Request(
        origin=NAME,
        model=call.model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tools=parallel,
        max_output=call.max_output,
        sampling=_sampling(fields),
        format=format_,
        reasoning=reasoning,
        streaming=call.streaming,
        user=_checked(fields, "metadata", lambda raw: _user(fields, raw), ""),
        service_tier=_tier(_value(fields, "service_tier", str, "")),
        extras=rest(fields),
    )


def _checked(fields: dict[str, Raw], name: str, decode: Any, default: Any) -> Any:
    """What `decode` makes of a member that it takes out; the default where it is absent or null."""
    raw = fields.pop(name, None)
    if raw is None or raw == NULL:
        return default
    try:
        return decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"'{name}' is not what the API allows.", param=name) from None


def _value(fields: dict[str, Raw], name: str, kind: Any, default: Any) -> Any:
    return _checked(fields, name, lambda raw: msgspec.json.decode(raw, type=kind), default)


# -- the conversation -------------------------------------------------------------------------------------------------


def _messages(fields: dict[str, Raw]) -> tuple[Message, ...]:
    system = _checked(fields, "system", lambda raw: decode_blocks(raw, sealed=True), ())
    told = _checked(fields, "messages", lambda raw: [_message(message) for message in raw_list(raw)], [])
    return (Message("system", system), *told) if system else tuple(told)


def _message(raw: Raw) -> Message:
    message = members(raw)
    role = pop(message, "role", str, "")
    if role not in _ROLES:
        raise InvalidRequest("A message's 'role' must be 'user', 'assistant' or 'system'.", param="messages")
    parts = decode_blocks(message.pop("content", NULL), sealed=True)
    return Message(_ROLES[role], parts, extras=rest(message))


# -- tools ------------------------------------------------------------------------------------------------------------


def _tool(raw: Raw) -> Tool | ServerTool:
    tool = members(raw)
    kind = pop(tool, "type", str, "custom")
    if kind != "custom":
        return ServerTool(NAME, kind, raw)
    return Tool(
        name=pop(tool, "name", str, ""),
        description=pop(tool, "description", str, ""),
        schema=tool.pop("input_schema", NULL),
        strict=pop(tool, "strict", bool, None),
        cache=pop_cache(tool),
        extras=rest(tool),
    )


def _tool_choice(raw: Raw) -> tuple[ToolChoice | None, bool | None]:
    choice = members(raw)
    kind = pop(choice, "type", str, "auto")
    disabled = pop(choice, "disable_parallel_tool_use", bool, None)
    parallel = None if disabled is None else not disabled
    if kind == "tool":
        return ToolChoice("tool", (pop(choice, "name", str, ""),)), parallel
    if kind == "any":
        return ToolChoice("required"), parallel
    return ToolChoice("none" if kind == "none" else "auto"), parallel


# -- the rest ---------------------------------------------------------------------------------------------------------


def _reasoning_and_format(fields: dict[str, Raw]) -> tuple[Reasoning | None, Format | None]:
    """`thinking` says whether and how much, `output_config` how hard and in which form; what else is in them stays."""
    budget, show = _checked(fields, "thinking", lambda raw: _thinking(fields, raw), (None, None))
    effort, format_ = _checked(fields, "output_config", lambda raw: _output_config(fields, raw), ("", None))
    format_ = _checked(fields, "output_format", _format, format_)
    if budget is None and show is None and not effort:
        return None, format_
    return Reasoning(effort, budget, show), format_


def _thinking(fields: dict[str, Raw], raw: Raw) -> tuple[int | None, bool | None]:
    thinking = members(raw)
    kind = pop(thinking, "type", str, "")
    display = pop(thinking, "display", str, "")
    show = {"summarized": True, "omitted": False}.get(display)
    if kind == "enabled":
        return pop(thinking, "budget_tokens", int, 0), show
    if kind in ("adaptive", "disabled"):
        return -1 if kind == "adaptive" else 0, show
    fields["thinking"] = raw
    return None, None


def _output_config(fields: dict[str, Raw], raw: Raw) -> tuple[str, Format | None]:
    config = members(raw)
    effort = pop(config, "effort", str, "")
    given = config.pop("format", NULL)
    left = rest(config)
    if left:
        fields["output_config"] = Raw(msgspec.json.encode(left))
    return effort, None if given == NULL else _format(given)


def _format(raw: Raw) -> Format | None:
    given = members(raw)
    if pop(given, "type", str, "") != "json_schema":
        raise InvalidRequest("The output's format must be of type 'json_schema'.", param="output_config")
    return Format("json_schema", schema=given.pop("schema", NULL))


def _sampling(fields: dict[str, Raw]) -> Sampling:
    return Sampling(
        temperature=_value(fields, "temperature", float, None),
        top_p=_value(fields, "top_p", float, None),
        top_k=_value(fields, "top_k", int, None),
        stop=tuple(_value(fields, "stop_sequences", list[str], [])),
    )


def _tier(asked: str) -> str:
    return "default" if asked == STANDARD_ONLY else asked


def _user(fields: dict[str, Raw], raw: Raw) -> str:
    metadata = members(raw)
    user = pop(metadata, "user_id", str, "")
    if left := rest(metadata):
        fields["metadata"] = Raw(msgspec.json.encode(left))
    return user
