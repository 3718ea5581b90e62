"""A caller's request for a response, read in the order of the reference's page."""

from msgspec import Raw, structs

from penstock.dialects.base import Call
from penstock.dialects.codec import unseal
from penstock.dialects.members import Members, as_raw, callers_fault
from penstock.dialects.openai_responses.items import (
    NAME,
    CallProof,
    call_of,
    is_callers,
    parts_of,
    raw_kind,
    thoughts_of,
)
from penstock.domain.chat import (
    Extras,
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
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.errors import UnsupportedByTarget

INSTRUCTIONS: Extras = {"instructions": Raw(b"true")}
"""What marks the message that came in `instructions` and goes there again."""

_KEPT_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
_SPEAKERS: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}
_UNDERSTOOD = frozenset({"reasoning.encrypted_content", "message.output_text.logprobs"})
"""What may be included that every answer has, where there is any of it."""


def opened(proof: str) -> tuple[str, str]:
    return unseal(proof, NAME)


def decode_request(call: Call) -> Request:
    """The request of a caller. Raises `InvalidRequest` naming the member at fault."""
    members = Members(dict(call.fields), callers_fault)
    members.drop("model", "stream", "stream_options", "max_output_tokens", "background")
    for name in _KEPT_ELSEWHERE:
        if members.raw(name) is not None:
            raise UnsupportedByTarget(
                f"'{name}' is kept by OpenAI, and the model's provider is another. Send the conversation itself.",
                param=name,
            )
    included = members.take("include", list[str]) or []
    if rest := [name for name in included if name not in _UNDERSTOOD]:
        members.put("include", as_raw(rest))
    messages = (*_instructions(members), *_input(members))
    tools = tuple(_tool(one) for one in members.objects("tools"))
    text = members.object("text")
    form, verbosity = _format(text), text.text("verbosity")
    if more := text.rest():
        members.put("text", as_raw(more))
    return Request(
        NAME,
        call.model,
        messages,
        tools,
        _tool_choice(members),
        members.take("parallel_tool_calls", bool),
        call.max_output,
        _sampling(members, "message.output_text.logprobs" in included),
        form,
        _reasoning(members),
        call.streaming,
        members.text("user") or members.text("safety_identifier"),
        members.raw("metadata"),
        members.text("service_tier"),
        verbosity,
        members.text("prompt_cache_key"),
        members.take("store", bool),
        (),
        _rest(members),
    )


def _rest(members: Members) -> Extras:
    rest = members.rest()
    if rest.get("truncation") == Raw(b'"disabled"'):
        del rest["truncation"]
    return rest


# -- the input --------------------------------------------------------------------------------------------------------


def _instructions(members: Members) -> list[Message]:
    """`instructions`, in front of everything: a string, or items."""
    raw = members.raw("instructions")
    if raw is None:
        return []
    members.put("instructions", raw)
    if bytes(raw).startswith(b'"'):
        return [Message("system", (Text(members.text("instructions")),), extras=INSTRUCTIONS)]
    return _Turns().read(members.objects("instructions"))


def _input(members: Members) -> list[Message]:
    raw = members.raw("input")
    if raw is None:
        return []
    members.put("input", raw)
    if bytes(raw).startswith(b'"'):
        return [Message("user", (Text(members.text("input")),))]
    return _Turns().read(members.objects("input"))


class _Turns:
    """Items made into messages. What the model did between two things that were said to it is one message of its, with
    at most one text; results of tools that stand together are one message of the user's."""

    def __init__(self) -> None:
        self._found: list[Message] = []
        self._open: Message | None = None
        self._spoken = False
        self._proofs: dict[str, CallProof] = {}
        self._custom: set[str] = set()

    def read(self, items: list[Members]) -> list[Message]:
        for item in items:
            self._take(item)
        self._close()
        return [self._proven(message) for message in self._found]

    def _take(self, item: Members) -> None:
        kind = raw_kind(item)
        if kind == "item_reference":
            raise UnsupportedByTarget(
                "An item that is kept by OpenAI is referred to, and the model's provider is another. Send the item"
                " itself, as clients do where 'store' is false.",
                param="input",
            )
        if kind == "message":
            self._message(item)
        elif kind in ("function_call", "custom_tool_call"):
            call = call_of(item)
            self._custom |= {call.id} if call.custom else set()
            self._add("assistant", call)
        elif kind == "reasoning":
            found = thoughts_of(item, opened)
            if isinstance(found, CallProof):
                self._proofs[found.call] = found
            else:
                for thinking in found:
                    self._add("assistant", thinking)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._add("user", _result(item, custom=kind.startswith("custom")))
        elif kind:
            self._add("user" if is_callers(kind) else "assistant", Opaque(NAME, kind, item.whole()))
        else:
            raise item.fault("type")

    def _message(self, item: Members) -> None:
        role = item.text("role")
        item.drop("type", "status")
        parts, id = tuple(parts_of(item, "content")), item.text("id")
        if role == "assistant":
            if self._spoken:
                self._close()
            before = self._opened("assistant")
            self._open = structs.replace(before, parts=(*before.parts, *parts), id=id, extras=item.rest())
            self._spoken = True
            return
        if role not in _SPEAKERS:
            raise item.fault("role")
        self._close()
        self._found.append(Message(_SPEAKERS[role], parts, id=id, extras=item.rest()))

    def _opened(self, role: Role) -> Message:
        if self._open is None or self._open.role != role:
            self._close()
            self._open = Message(role, ())
        return self._open

    def _add(self, role: Role, part: Part) -> None:
        before = self._opened(role)
        self._open = structs.replace(before, parts=(*before.parts, part))

    def _close(self) -> None:
        if self._open is not None:
            self._found.append(self._open)
        self._open, self._spoken = None, False

    def _proven(self, message: Message) -> Message:
        if not self._proofs:
            return message
        parts = [
            structs.replace(part, signature=proof.signature, origin=proof.origin)
            if isinstance(part, ToolCall) and (proof := self._proofs.get(part.id)) is not None
            else part
            for part in message.parts
        ]
        return structs.replace(message, parts=tuple(parts))


def _result(item: Members, custom: bool) -> ToolResult:
    item.drop("type", "status")
    parts = tuple(part for part in parts_of(item, "output") if isinstance(part, Text | Media | Opaque))
    call, name = item.text("call_id"), item.text("name")
    return ToolResult(call, parts, name, custom=custom, extras=item.rest())


# -- tools ------------------------------------------------------------------------------------------------------------


def _tool(one: Members) -> Tool | ServerTool:
    whole, kind = one.whole(), one.text("type")
    name = one.text("name")
    if kind == "function":
        description, schema = one.text("description"), one.raw("parameters") or Raw(b"null")
        return Tool(name, description, schema, one.take("strict", bool), extras=one.rest())
    if kind == "custom":
        return Tool(name, one.text("description"), one.raw("format") or Raw(b"null"), custom=True, extras=one.rest())
    return ServerTool(NAME, kind, whole)


def _tool_choice(members: Members) -> ToolChoice | None:
    """The choice; one of a tool that the vendor runs itself stays where it is."""
    raw = members.raw("tool_choice")
    if raw is None:
        return None
    members.put("tool_choice", raw)
    if bytes(raw).startswith(b'"'):
        mode = members.text("tool_choice")
        if mode == "auto":
            return ToolChoice("auto")
        if mode == "none":
            return ToolChoice("none")
        if mode == "required":
            return ToolChoice("required")
        raise members.fault("tool_choice")
    choice = members.object("tool_choice")
    kind = choice.text("type")
    if kind in ("function", "custom"):
        return ToolChoice("tool", (choice.text("name"),))
    if kind == "allowed_tools":
        names = tuple(name for tool in choice.objects("tools") if (name := tool.text("name")))
        return ToolChoice("allowed", names, choice.text("mode") == "required")
    members.put("tool_choice", raw)
    return None


# -- the rest ---------------------------------------------------------------------------------------------------------


def _sampling(members: Members, logprobs: bool) -> Sampling:
    top = members.take("top_logprobs", int)
    return Sampling(
        members.take("temperature", float),
        members.take("top_p", float),
        logprobs=logprobs or bool(top),
        top_logprobs=top or None,
    )


def _format(text: Members) -> Format | None:
    form = text.object("format")
    if form.is_empty():
        return None
    kind = form.text("type")
    if kind in ("text", "json_object"):
        return Format("text" if kind == "text" else "json")
    if kind != "json_schema":
        raise form.fault("type")
    schema = form.raw("schema") or Raw(b"null")
    return Format("json_schema", form.text("name"), form.text("description"), schema, form.take("strict", bool))


def _reasoning(members: Members) -> Reasoning | None:
    told = members.object("reasoning")
    effort, summary = told.text("effort"), told.text("summary") or told.text("generate_summary")
    told.drop("generate_summary")
    if rest := told.rest():
        members.put("reasoning", as_raw(rest))
    return Reasoning(effort, show=True if summary else None, summary=summary) if effort or summary else None
