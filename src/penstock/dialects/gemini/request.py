"""A caller's `generateContent` -> `Request`.

Source: Gemini API reference, `models.generateContent`, in the order of its page. Members are read under their names in
camelCase whichever way they were written. Turns of the model that follow each other are one, and the pieces of a text
or a thought that were streamed are one again: that is how clients keep what they were told.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import Call, encode_object
from penstock.dialects.gemini.names import NAME, camel_members, elements, maybe, pop
from penstock.dialects.gemini.parts import decode_part, is_bare_proof, made_id
from penstock.dialects.tiers import in_openais_words
from penstock.domain.chat import (
    Format,
    Message,
    Part,
    Reasoning,
    Request,
    Role,
    Sampling,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.errors import InvalidRequest

_JSON = "application/json"
_TEXT_FORMATS = {"APPLICATION_JSON": "json", "TEXT_PLAIN": "text", 1: "json", 2: "text"}
"""Of `responseFormat.text`."""
_TYPES = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object", 7: "null"}
_NUMERAL = re.compile(r"^-?\d+$")


def decode_request(call: Call) -> Request:
    """Raises `InvalidRequest` naming the member at fault."""
    members = dict(call.fields)
    try:
        return _decoded(call, members)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest("The request body is not a generateContent request.") from None


def _decoded(call: Call, members: dict[str, Raw]) -> Request:
    messages = _messages(members)
    tools = _tools(members)
    choice = _tool_choice(members)
    config = camel_members(bytes(members.pop("generationConfig", Raw(b"{}"))))
    tier, store = pop(members, "serviceTier", str, ""), maybe(members, "store", bool)
    given = _from_config(config)
    if config:
        members["generationConfig"] = Raw(encode_object(config))
    return Request(
        origin=NAME,
        model=call.model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        max_output=call.max_output,
        streaming=call.streaming,
        service_tier="" if tier == "unspecified" else in_openais_words(tier),
        store=store,
        extras=members,
        **given,
    )


# -- the conversation -------------------------------------------------------------------------------------------------


def _messages(members: dict[str, Raw]) -> tuple[Message, ...]:
    messages: list[Message] = []
    if "systemInstruction" in members:
        content = camel_members(bytes(members.pop("systemInstruction")))
        if parts := _parts(content):
            messages.append(Message("system", parts))
    for raw in elements(bytes(members.pop("contents"))):
        content = camel_members(bytes(raw))
        told = pop(content, "role", str, "user")
        role: Role = "assistant" if told == "model" else "user"
        parts = _parts(content)
        if role == "assistant" and messages and messages[-1].role == role:
            messages[-1] = structs.replace(messages[-1], parts=joined((*messages[-1].parts, *parts)))
        else:
            messages.append(Message(role, joined(parts) if role == "assistant" else parts, extras=content))
    return _with_ids(messages)


def _parts(content: dict[str, Raw]) -> tuple[Part, ...]:
    """The parts of one content; a text that is empty says nothing."""
    parts = [part for raw in elements(bytes(content.pop("parts", Raw(b"[]")))) for part in decode_part(raw)]
    return tuple([part for part in parts if not isinstance(part, Text) or part.text or part.extras])


def joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts with the pieces of one text, or of one thought, together. What is signed is closed."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, Text) and isinstance(last, Text):
            whole[-1] = structs.replace(last, text=last.text + part.text, extras={**last.extras, **part.extras})
        elif isinstance(part, Thinking) and isinstance(last, Thinking) and _is_more(part, last):
            whole[-1] = structs.replace(part, text=last.text + part.text, extras={**last.extras, **part.extras})
        else:
            whole.append(part)
    return tuple(whole)


def _is_more(part: Thinking, last: Thinking) -> bool:
    return not (last.signature or last.sealed or is_bare_proof(part))


def _with_ids(messages: list[Message]) -> tuple[Message, ...]:
    """Calls without an id get one, and the results without one that of the first unanswered call of their name."""
    made = 0
    waiting: list[ToolCall] = []
    whole = []
    for message in messages:
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                if not part.id:
                    part = structs.replace(part, id=made_id("", made))  # noqa: PLW2901
                    made += 1
                waiting.append(part)
            elif isinstance(part, ToolResult):
                call = next((one for one in waiting if _answers(part, one)), None)
                if call is not None:
                    waiting.remove(call)
                    part = structs.replace(part, call=call.id, name=part.name or call.name)  # noqa: PLW2901
            parts.append(part)
        whole.append(structs.replace(message, parts=tuple(parts)))
    return tuple(whole)


def _answers(result: ToolResult, call: ToolCall) -> bool:
    return result.call == call.id if result.call else result.name == call.name


# -- tools ------------------------------------------------------------------------------------------------------------


def _tools(members: dict[str, Raw]) -> tuple[Tool | ServerTool, ...]:
    tools: list[Tool | ServerTool] = []
    for raw in elements(bytes(members.pop("tools", Raw(b"[]")))):
        for kind, value in camel_members(bytes(raw)).items():
            if kind == "functionDeclarations":
                tools += [_function(camel_members(bytes(one))) for one in elements(bytes(value))]
            else:
                tools.append(ServerTool(NAME, kind, value))
    return tuple(tools)


def _function(told: dict[str, Raw]) -> Tool:
    schema = told.pop("parametersJsonSchema", None)
    written = told.pop("parameters", None)
    if schema is None and written is not None:
        schema = json_schema(written)
    return Tool(pop(told, "name", str, ""), pop(told, "description", str, ""), schema or Raw(b"null"), extras=told)


def json_schema(written: Raw) -> Raw:
    """A schema of OpenAPI's kind, as `parameters` and `responseSchema` have it, as JSON Schema: its types are written
    in capitals or as numbers, and what may be null says so beside them."""
    return Raw(msgspec.json.encode(_plain(msgspec.json.decode(written))))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    schema: dict[str, Any] = {}
    is_nullable = value.get("nullable") is True
    for name, inner in value.items():
        if name == "type" and isinstance(inner, str | int):
            plain = _TYPES.get(inner, "object") if isinstance(inner, int) else inner.lower()
            schema["type"] = [plain, "null"] if is_nullable else plain
        elif name in ("properties", "defs", "$defs") and isinstance(inner, dict):
            schema[name] = {key: _plain(one) for key, one in inner.items()}
        elif name in ("items", "anyOf", "any_of", "prefixItems", "additionalProperties"):
            schema["anyOf" if name == "any_of" else name] = _plain(inner)
        elif name in ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"):
            schema[name] = int(inner) if isinstance(inner, str) and _NUMERAL.match(inner) else inner
        elif name == "enum" and is_nullable and isinstance(inner, list):
            schema[name] = [*inner, None]
        elif name not in ("nullable", "propertyOrdering", "property_ordering"):
            schema[name] = inner
    return schema


def _tool_choice(members: dict[str, Raw]) -> ToolChoice | None:
    if "toolConfig" not in members:
        return None
    config = camel_members(bytes(members.pop("toolConfig")))
    calling = camel_members(bytes(config.pop("functionCallingConfig", Raw(b"{}"))))
    mode, names = (
        msgspec.json.decode(calling.pop("mode", b'""'), type=str | int),
        tuple(pop(calling, "allowedFunctionNames", list[str], [])),
    )
    word = {1: "AUTO", 2: "ANY", 3: "NONE", 4: "VALIDATED"}.get(mode, "") if isinstance(mode, int) else mode.upper()
    choice: ToolChoice | None = {"AUTO": ToolChoice("auto"), "NONE": ToolChoice("none")}.get(word)
    if word == "ANY":
        kind: Any = "required" if not names else "tool" if len(names) == 1 else "allowed"
        choice = ToolChoice(kind, names, required=kind == "allowed")
    elif word == "VALIDATED" and names:
        choice = ToolChoice("allowed", names)
    elif word == "VALIDATED":
        calling["mode"] = Raw(b'"VALIDATED"')
    if calling:
        config["functionCallingConfig"] = Raw(encode_object(calling))
    if config:
        members["toolConfig"] = Raw(encode_object(config))
    return choice


# -- the configuration ------------------------------------------------------------------------------------------------


def _from_config(config: dict[str, Raw]) -> dict[str, Any]:
    """The members of `Request` that the configuration has; what is left in it is extras."""
    config.pop("maxOutputTokens", None)
    told: dict[str, Any] = {"format": _format(config), "reasoning": _reasoning(config)}
    told["modalities"] = tuple([one.lower() for one in pop(config, "responseModalities", list[str], [])])
    top_k = maybe(config, "topK", float)
    wants_logprobs = pop(config, "responseLogprobs", bool, False)
    told["sampling"] = Sampling(
        temperature=maybe(config, "temperature", float),
        top_p=maybe(config, "topP", float),
        top_k=None if top_k is None else int(top_k),
        stop=tuple(pop(config, "stopSequences", list[str], [])),
        seed=maybe(config, "seed", int),
        presence_penalty=maybe(config, "presencePenalty", float),
        frequency_penalty=maybe(config, "frequencyPenalty", float),
        logprobs=wants_logprobs,
        top_logprobs=maybe(config, "logprobs", int) if wants_logprobs else None,
        choices=pop(config, "candidateCount", int, 1) or 1,
    )
    return told


def _format(config: dict[str, Raw]) -> Format | None:
    """The form of what is said, in the older members or in `responseFormat.text`."""
    if "responseFormat" in config and (told := _text_format(config)) is not None:
        return told
    mime = msgspec.json.decode(config.get("responseMimeType", b'""'), type=str)
    if mime not in (_JSON, "text/plain"):
        return None
    del config["responseMimeType"]
    schema = config.pop("responseJsonSchema", None) or config.pop("_responseJsonSchema", None)
    written = config.pop("responseSchema", None)
    if schema is None and written is not None:
        schema = json_schema(written)
    if mime == "text/plain":
        return Format("text")
    return Format("json") if schema is None else Format("json_schema", schema=schema)


def _text_format(config: dict[str, Raw]) -> Format | None:
    """Takes it out; what pictures and sounds are to be like stays."""
    form = camel_members(bytes(config["responseFormat"]))
    text = camel_members(bytes(form.get("text", Raw(b"{}"))))
    mime, schema = msgspec.json.decode(text.pop("mimeType", b'""'), type=str | int), text.pop("schema", None)
    if text or mime not in _TEXT_FORMATS:
        return None
    del form["text"]
    if form:
        config["responseFormat"] = Raw(encode_object(form))
    else:
        del config["responseFormat"]
    if _TEXT_FORMATS[mime] == "text":
        return Format("text")
    return Format("json") if schema is None else Format("json_schema", schema=schema)


def _reasoning(config: dict[str, Raw]) -> Reasoning | None:
    if "thinkingConfig" not in config:
        return None
    thinking = camel_members(bytes(config.pop("thinkingConfig")))
    level = pop(thinking, "thinkingLevel", str, "").lower()
    budget, show = maybe(thinking, "thinkingBudget", int), maybe(thinking, "includeThoughts", bool)
    if thinking:
        config["thinkingConfig"] = Raw(encode_object(thinking))
    return Reasoning("" if level == "thinking_level_unspecified" else level, budget, show)
