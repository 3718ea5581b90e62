"""A caller's chat completion request, read in the order of the reference's page."""

from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import Call
from penstock.dialects.codec import unseal
from penstock.dialects.members import NULL, Members, as_raw, callers_fault, is_string
from penstock.dialects.openai_chat_codec import functions
from penstock.dialects.openai_chat_codec.parts import (
    NAME,
    cache_of,
    content_of,
    flat_format,
    numbered_thinking,
    tool_call_of,
)
from penstock.dialects.openai_chat_codec.places import in_place, take_places
from penstock.domain.chat import (
    Extras,
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
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

_SPEAKERS: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}
_PLAIN_SPEAKERS = {msgspec.json.encode(name): role for name, role in _SPEAKERS.items()}
_string = msgspec.json.Decoder(str).decode

_OF_THE_CALL = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"})
"""Members that `Call` has by itself."""


def opened(proof: str) -> tuple[str, str]:
    return unseal(proof, NAME)


def decode_request(call: Call) -> Request:
    """The request of a caller. Raises `InvalidRequest` naming the member at fault."""
    members = Members({name: raw for name, raw in call.fields.items() if name not in _OF_THE_CALL}, callers_fault)
    messages, sampling = _messages(members), _sampling(members, call.choices)
    if members.is_empty():
        return Request(
            NAME, call.model, messages, max_output=call.max_output, sampling=sampling, streaming=call.streaming
        )
    tools = tuple(_tool(one) for one in members.objects("tools"))
    older = functions.offered(members)
    chosen = _tool_choice(members) or functions.choice(members)
    parallel = members.take("parallel_tool_calls", bool)
    return Request(
        NAME,
        call.model,
        messages,
        (*tools, *older),
        chosen,
        False if older else parallel,
        call.max_output,
        sampling,
        _format(members),
        _reasoning(members),
        call.streaming,
        members.text("user") or members.text("safety_identifier"),
        members.raw("metadata"),
        members.text("service_tier"),
        members.text("verbosity"),
        members.text("prompt_cache_key"),
        members.take("store", bool),
        tuple(members.take("modalities", list[str]) or ()),
        members.rest(),
    )


# -- messages ---------------------------------------------------------------------------------------------------------


def _messages(members: Members) -> tuple[Message, ...]:
    """Results of tools that stand together are one message: they answer one message of the model's."""
    found: list[Message] = []
    custom: set[str] = set()
    called: dict[str, str] = {}
    follows_result = False
    for number, told in enumerate(members.take("messages", list[dict[str, Raw]]) or ()):
        if (said := _plainly_said(told)) is not None:
            found.append(said)
            follows_result = False
            continue
        one = members.element("messages", number, told)
        role = one.text("role")
        if role in ("tool", "function"):
            result = _result(one, custom) if role == "tool" else _result_of_function(one, called)
            if follows_result:
                found[-1] = structs.replace(found[-1], parts=(*found[-1].parts, result))
            else:
                found.append(Message("user", (result,)))
        elif role == "assistant":
            found.append(message := _assistant(one, len(found)))
            calls = [part for part in message.parts if isinstance(part, ToolCall)]
            custom |= {call.id for call in calls if call.custom}
            called |= {call.name: call.id for call in calls}
        else:
            found.append(_spoken(one, role))
        follows_result = role in ("tool", "function")
    return tuple(found)


def _plainly_said(told: Extras) -> Message | None:
    """A message that is a role and a text, as nearly all are in most conversations; None for any other."""
    content = told.get("content")
    if len(told) != 2 or content is None or not is_string(content):
        return None
    role = _PLAIN_SPEAKERS.get(bytes(told.get("role", NULL)))
    if role is None:
        return None
    try:
        return Message(role, (Text(_string(content)),))
    except msgspec.DecodeError:
        return None


def _spoken(one: Members, role: str) -> Message:
    if role not in _SPEAKERS:
        raise one.fault("role")
    parts = tuple(content_of(one))
    return Message(_SPEAKERS[role], parts, one.text("name"), extras=one.rest())


def _assistant(one: Members, number: int) -> Message:
    places = take_places(one)
    thoughts = numbered_thinking(one, opened)
    said = [part for part in content_of(one) if part != Text("")]
    if refusal := one.text("refusal"):
        said.append(Refusal(refusal))
    told = one.objects("tool_calls")
    calls: list[Part] = [tool_call_of(call, opened, f"call_{number}_{index}") for index, call in enumerate(told)]
    parts = in_place(thoughts, places, said, calls) if places else [*(each for _, each in thoughts), *said, *calls]
    if audio := one.object("audio").text("id"):
        parts.append(Media("audio", file=audio))
    parts += functions.called(one, f"call_{number}_0")
    if (annotations := one.raw("annotations")) not in (None, Raw(b"[]")):
        one.put("annotations", annotations)
    return Message("assistant", tuple(parts), one.text("name"), extras=one.rest())


def _result(one: Members, custom: set[str]) -> ToolResult:
    parts = tuple(part for part in content_of(one) if isinstance(part, Text | Media | Opaque))
    call = one.text("tool_call_id")
    return ToolResult(call, parts, one.text("name"), custom=call in custom, cache=cache_of(one), extras=one.rest())


def _result_of_function(one: Members, called: dict[str, str]) -> ToolResult:
    """It answers the last call of the function that it names."""
    name = one.text("name")
    parts = tuple(part for part in content_of(one) if isinstance(part, Text | Media | Opaque))
    return ToolResult(called.get(name, name), parts, name, extras=one.rest())


# -- tools ------------------------------------------------------------------------------------------------------------


def _tool(one: Members) -> Tool | ServerTool:
    whole, kind = one.whole(), one.text("type") or "function"
    cache = cache_of(one)
    if kind == "function":
        function = one.object("function")
        return Tool(
            function.text("name"),
            function.text("description"),
            function.raw("parameters") or Raw(b"null"),
            function.take("strict", bool),
            cache=cache or cache_of(function),
            extras={**one.rest(), **function.rest()},
        )
    if kind == "custom":
        custom = one.object("custom")
        name, description = custom.text("name"), custom.text("description")
        return Tool(name, description, flat_format(custom), custom=True, cache=cache)
    return ServerTool(NAME, kind, whole)


def _tool_choice(members: Members) -> ToolChoice | None:
    raw = members.raw("tool_choice")
    if raw is None:
        return None
    members.put("tool_choice", raw)
    if bytes(raw).startswith(b'"'):
        mode = members.text("tool_choice")
        if mode in ("auto", "none"):
            return ToolChoice("auto" if mode == "auto" else "none")
        if mode in ("required", "any"):
            return ToolChoice("required")
        raise members.fault("tool_choice")
    choice = members.object("tool_choice")
    kind = choice.text("type")
    if kind in ("function", "custom"):
        return ToolChoice("tool", (choice.object(kind).text("name"),))
    if kind == "allowed_tools":
        allowed = choice.object("allowed_tools")
        names = tuple(_named(tool) for tool in allowed.objects("tools"))
        return ToolChoice("allowed", names, allowed.text("mode") == "required")
    raise members.fault("tool_choice")


def _named(tool: Members) -> str:
    return tool.object("custom" if tool.text("type") == "custom" else "function").text("name")


# -- the rest ---------------------------------------------------------------------------------------------------------

_SAMPLING: dict[str, Any] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "stop": list[str],
    "seed": int,
    "presence_penalty": float,
    "frequency_penalty": float,
    "logit_bias": Raw,
    "logprobs": bool,
    "top_logprobs": int,
}
_THOUGHT = frozenset(("reasoning_effort", "reasoning"))


def _sampling(members: Members, choices: int) -> Sampling:
    given = members.given(_SAMPLING.keys())
    if "stop" in given and (stop := members.raw("stop")) is not None:
        members.put("stop", as_raw([stop]) if is_string(stop) else stop)
    told = {name: value for name in given if (value := members.take(name, _SAMPLING[name])) is not None}
    if "stop" in told:
        told["stop"] = tuple(told["stop"])
    return Sampling(choices=choices, **told)


def _format(members: Members) -> Format | None:
    if not members.has("response_format"):
        return None
    form = members.object("response_format")
    if form.is_empty():
        return None
    kind = form.text("type")
    if kind == "text":
        return Format("text")
    if kind == "json_object":
        return Format("json")
    if kind != "json_schema":
        raise form.fault("type")
    schema = form.object("json_schema")
    return Format(
        "json_schema",
        schema.text("name"),
        schema.text("description"),
        schema.raw("schema") or Raw(b"null"),
        schema.take("strict", bool),
        {**form.rest(), **schema.rest()},
    )


def _reasoning(members: Members) -> Reasoning | None:
    """`reasoning_effort`, and OpenRouter's `reasoning` with a budget in tokens."""
    if not members.has_any(_THOUGHT):
        return None
    effort, more = members.text("reasoning_effort"), members.object("reasoning")
    effort = effort or more.text("effort")
    budget, exclude, enabled = more.take("max_tokens", int), more.take("exclude", bool), more.take("enabled", bool)
    if enabled is False:
        effort = effort or "none"
    rest: Extras = more.rest()
    if rest:
        members.put("reasoning", as_raw(rest))
    if not effort and budget is None and exclude is None:
        return Reasoning() if enabled else None
    return Reasoning(effort, budget, None if exclude is None else not exclude)
