"""A caller's Chat request, read in the order of the reference's page.

The documents of a request are what its last question is about, so they stand at the front of that message.
"""

from msgspec import Raw, structs

from penstock.dialects.base import Call
from penstock.dialects.cohere.parts import NAME, content_of, document_of, whole_tool_call_of
from penstock.dialects.members import Members, callers_fault
from penstock.domain.chat import (
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    Role,
    Sampling,
    ServerTool,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
)

_SPEAKERS: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}


def decode_request(call: Call) -> Request:
    """Raises `InvalidRequest` naming the member at fault."""
    members = Members(dict(call.fields), callers_fault)
    members.drop("model", "stream", "max_tokens")
    messages = _with_documents(_messages(members), members)
    return Request(
        NAME,
        call.model,
        messages,
        _tools(members),
        _tool_choice(members),
        max_output=call.max_output,
        sampling=_sampling(members),
        format=_format(members),
        reasoning=_reasoning(members),
        streaming=call.streaming,
        extras=members.rest(),
    )


# -- messages ---------------------------------------------------------------------------------------------------------


def _messages(members: Members) -> list[Message]:
    """Results of tools that stand together are one message: they answer one message of the model's."""
    found: list[Message] = []
    follows_result = False
    for one in members.objects("messages"):
        role = one.text("role")
        if role == "tool" and follows_result:
            found[-1] = structs.replace(found[-1], parts=(*found[-1].parts, _result(one)))
        elif role == "tool":
            found.append(Message("user", (_result(one),)))
        elif role == "assistant":
            found.append(_assistant(one))
        elif role in _SPEAKERS:
            parts = tuple(content_of(one))
            one.drop("content")
            found.append(Message(_SPEAKERS[role], parts, extras=one.rest()))
        else:
            raise one.fault("role")
        follows_result = role == "tool"
    return found


def _assistant(one: Members) -> Message:
    """What its words were cited from, the model does not read again."""
    parts = content_of(one)
    if text := one.text("tool_plan"):
        parts.append(Text(text))
    parts += [whole_tool_call_of(call) for call in one.objects("tool_calls")]
    one.drop("content", "citations")
    return Message("assistant", tuple(parts), extras=one.rest())


def _result(one: Members) -> ToolResult:
    """A document is what a tool says, and so a text for others."""
    parts: list[Text | Media | Opaque] = []
    for part in content_of(one):
        if isinstance(part, Media) and part.kind == "document":
            parts.append(Text(f"{part.name}\n{part.text}" if part.name else part.text))
        elif isinstance(part, Text | Media | Opaque):
            parts.append(part)
    one.drop("content")
    return ToolResult(one.text("tool_call_id"), tuple(parts), extras=one.rest())


def _with_documents(messages: list[Message], members: Members) -> tuple[Message, ...]:
    documents: list[Part] = [document_of(raw, members) for raw in members.take("documents", list[Raw]) or ()]
    if not documents:
        return tuple(messages)
    at = next((at for at in range(len(messages) - 1, -1, -1) if _is_asked(messages[at])), None)
    if at is None:
        return (*messages, Message("user", tuple(documents)))
    messages[at] = structs.replace(messages[at], parts=(*documents, *messages[at].parts))
    return tuple(messages)


def _is_asked(message: Message) -> bool:
    return message.role == "user" and not any(isinstance(part, ToolResult) for part in message.parts)


# -- tools ------------------------------------------------------------------------------------------------------------


def _tools(members: Members) -> tuple[Tool | ServerTool, ...]:
    """`strict_tools` is of all of them."""
    told = members.objects("tools")
    strict = members.take("strict_tools", bool) if told else None
    return tuple(_tool(one, strict) for one in told)


def _tool(one: Members, strict: bool | None) -> Tool | ServerTool:
    whole, kind = one.whole(), one.text("type") or "function"
    if kind != "function":
        return ServerTool(NAME, kind, whole)
    function = one.object("function")
    name, description = function.text("name"), function.text("description")
    return Tool(name, description, function.raw("parameters") or Raw(b"null"), strict, extras=function.rest())


def _tool_choice(members: Members) -> ToolChoice | None:
    mode = members.text("tool_choice").upper()
    if mode not in ("", "REQUIRED", "NONE"):
        raise members.fault("tool_choice")
    return ToolChoice("required" if mode == "REQUIRED" else "none") if mode else None


# -- the rest ---------------------------------------------------------------------------------------------------------


def _sampling(members: Members) -> Sampling:
    return Sampling(
        members.take("temperature", float),
        members.take("p", float),
        members.take("k", int),
        tuple(members.take("stop_sequences", list[str]) or ()),
        members.take("seed", int),
        members.take("presence_penalty", float),
        members.take("frequency_penalty", float),
        logprobs=members.take("logprobs", bool) or False,
    )


def _format(members: Members) -> Format | None:
    form = members.object("response_format")
    if form.is_empty():
        return None
    kind, schema = form.text("type"), form.raw("json_schema") or form.raw("schema")
    if kind == "text":
        return Format("text")
    if kind != "json_object":
        raise form.fault("type")
    return Format("json") if schema is None else Format("json_schema", schema=schema)


def _reasoning(members: Members) -> Reasoning | None:
    thinking = members.object("thinking")
    if thinking.is_empty():
        return None
    kind, budget = thinking.text("type") or "enabled", thinking.take("token_budget", int)
    if kind not in ("enabled", "disabled"):
        raise thinking.fault("type")
    return Reasoning(effort="none") if kind == "disabled" else Reasoning(budget=budget)
