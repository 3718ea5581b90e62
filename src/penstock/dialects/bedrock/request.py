"""A Converse request -> `Request`, in the order of the reference's page.

Source: Amazon Bedrock API reference, "Converse"; User Guide, "Extended thinking" and "Inference request parameters" for
what models take in `additionalModelRequestFields`.
"""

from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import Call
from penstock.dialects.bedrock.blocks import NAME, NULL, decode_blocks, members, raw_list
from penstock.dialects.members import pop
from penstock.domain.chat import (
    Cache,
    Extras,
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
from penstock.errors import InvalidRequest

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_USUAL_LATENCY = b'{"latency":"standard"}'
"""Of `performanceConfig`: what it is without."""
OWN_FIELDS = "additionalModelRequestFields"


def decode_request(call: Call) -> Request:
    """Raises `InvalidRequest` naming the member at fault."""
    fields = {name: value for name, value in call.fields.items() if value != NULL and name != "modelId"}
    system = _checked(fields, "system", lambda raw: decode_blocks(raw_list(raw), sealed=True), ())
    messages = _checked(fields, "messages", lambda raw: [_message(message) for message in raw_list(raw)], [])
    inference = _checked(fields, "inferenceConfig", members, {})
    tools, choice = _checked(fields, "toolConfig", _tools, ((), None))
    reasoning, top_k = _checked(fields, OWN_FIELDS, lambda raw: _own_fields(fields, raw), (None, None))
    effort, format_ = _checked(fields, "outputConfig", _output, ("", None))
    tier = _checked(fields, "serviceTier", lambda raw: pop(members(raw), "type", str, ""), "")
    if bytes(fields.get("performanceConfig", b"")).replace(b" ", b"") == _USUAL_LATENCY:
        del fields["performanceConfig"]
    sampling = _sampling(inference, top_k)
    if left := _rest(inference, "maxTokens"):
        fields["inferenceConfig"] = Raw(msgspec.json.encode(left))
    if effort:
        reasoning = structs.replace(reasoning or Reasoning(), effort=effort)
    return Request(
        origin=NAME,
        model=call.model,
        messages=(Message("system", system), *messages) if system else tuple(messages),
        tools=tools,
        tool_choice=choice,
        max_output=call.max_output,
        sampling=sampling,
        format=format_,
        reasoning=reasoning,
        streaming=call.streaming,
        metadata=fields.pop("requestMetadata", None),
        service_tier=tier,
        extras=fields,
    )


def _sampling(inference: dict[str, Raw], top_k: int | None) -> Sampling:
    return Sampling(
        temperature=_checked(inference, "temperature", lambda raw: msgspec.json.decode(raw, type=float), None),
        top_p=_checked(inference, "topP", lambda raw: msgspec.json.decode(raw, type=float), None),
        top_k=top_k,
        stop=tuple(_checked(inference, "stopSequences", lambda raw: msgspec.json.decode(raw, type=list[str]), ())),
    )


def _rest(fields: dict[str, Raw], *known: str) -> Extras:
    """What nobody took; a null says nothing."""
    return {name: value for name, value in fields.items() if value != NULL and name not in known}


def _checked(fields: dict[str, Raw], name: str, decode: Any, default: Any) -> Any:
    """What `decode` makes of a member that it takes out; the default where it is absent or null."""
    raw = fields.pop(name, NULL)
    if raw == NULL:
        return default
    try:
        return decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"'{name}' is not what the API allows.", param=name) from None


def _message(raw: Raw) -> Message:
    message = members(raw)
    role = pop(message, "role", str, "")
    if role not in _ROLES:
        raise InvalidRequest("A message's 'role' must be 'user', 'assistant' or 'system'.", param="messages")
    parts = decode_blocks(raw_list(message.pop("content", Raw(b"[]"))), sealed=True)
    return Message(_ROLES[role], parts, extras=_rest(message))


def _tools(raw: Raw) -> tuple[tuple[Tool | ServerTool, ...], ToolChoice | None]:
    config = members(raw)
    tools: list[Tool | ServerTool] = []
    for one in pop(config, "tools", list[Raw], []):
        tool = members(one)
        if "cachePoint" in tool and tools and isinstance(tools[-1], Tool):
            lifetime = pop(members(tool["cachePoint"]), "ttl", str, "")
            tools[-1] = structs.replace(tools[-1], cache=Cache(lifetime))
        elif "toolSpec" in tool:
            tools.append(_tool(members(tool["toolSpec"])))
        else:
            tools.append(ServerTool(NAME, next(iter(tool), ""), one))
    return tuple(tools), _choice(pop(config, "toolChoice", dict[str, Raw], {}))


def _tool(spec: dict[str, Raw]) -> Tool:
    schema = members(spec.pop("inputSchema", Raw(b"{}"))).get("json", NULL)
    strict = pop(spec, "strict", bool, None)
    return Tool(pop(spec, "name", str, ""), pop(spec, "description", str, ""), schema, strict, extras=_rest(spec))


def _choice(choice: dict[str, Raw]) -> ToolChoice | None:
    if "tool" in choice:
        return ToolChoice("tool", (pop(members(choice["tool"]), "name", str, ""),))
    if "any" in choice:
        return ToolChoice("required")
    return ToolChoice("auto") if "auto" in choice else None


def _own_fields(fields: dict[str, Raw], raw: Raw) -> tuple[Reasoning | None, int | None]:
    """What models take in their own words for how much to think; what else is there stays."""
    own = members(raw)
    top_k = pop(own, "top_k", int, None)
    reasoning = None
    for name in ("thinking", "reasoning_config"):
        told = pop(own, name, dict[str, Any], {})
        budget = {"disabled": 0, "adaptive": -1}.get(str(told.get("type")), told.get("budget_tokens"))
        if isinstance(budget, int):
            reasoning = Reasoning(budget=budget)
    if effort := pop(own, "reasoning_effort", str, ""):
        reasoning = Reasoning(effort)
    if own:
        fields[OWN_FIELDS] = Raw(msgspec.json.encode(own))
    return reasoning, top_k


def _output(raw: Raw) -> tuple[str, Format | None]:
    config = members(raw)
    effort, form = pop(config, "effort", str, ""), pop(config, "textFormat", dict[str, Raw], {})
    if not form:
        return effort, None
    structure = members(form.get("structure", Raw(b"{}")))
    told = members(structure.get("jsonSchema", Raw(b"{}")))
    schema = Raw(pop(told, "schema", str, "{}").encode())
    msgspec.json.decode(schema)
    return effort, Format("json_schema", pop(told, "name", str, ""), pop(told, "description", str, ""), schema)
