"""`Request` -> a Converse request, and what could not be said in it.

Source: Amazon Bedrock API reference, "Converse"; User Guide, "Extended thinking", "Using Nova" (reasoning, topK) and
the parameters of OpenAI's models for what goes into `additionalModelRequestFields`.

Of what came in another dialect: a system message in the middle moves to the front, the turns of one side become one,
results of tools go first in theirs, names and ids keep to the letters that are allowed, and media at a URL, which
Bedrock does not fetch, are left out.
"""

import base64
import re
from collections import Counter
from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects.anthropic.target import AS_REGISTERED, arguments
from penstock.dialects.bedrock.blocks import BLOCK, GUARDED, JSON, MIMES, NAME, NULL
from penstock.dialects.bedrock.request import OWN_FIELDS
from penstock.dialects.codec import Drops, Encoded, TargetFacts, shortened
from penstock.dialects.custom_tools import as_function, wrapped
from penstock.domain.chat import (
    Cache,
    Extras,
    Format,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_ID = 64
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9\s()\[\]-]+")
_SPACES = re.compile(r"\s+")
_FAILED = "error"
"""What a tool is told to have said that failed without a word: some models take no result without any content, and none
takes such a failure (strands-agents/harness-sdk pull request 2123; AWS sample-multi-agent-orchestration issue 15)."""

_FORMATS = {kind: {mime: form for form, mime in mimes.items()} for kind, mimes in MIMES.items()}
_NAMES = {"audio": "input_audio"}
_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 12_288, "high": 24_576, "xhigh": 32_768, "max": 65_536}


def encode_request(request: Request, target: TargetFacts) -> Encoded:
    drops = Drops()
    writer = _Writer(drops, is_own=request.origin == NAME)
    fields: dict[str, Any] = dict(drops.extras(request, NAME))
    system, messages = writer.conversation(request.messages)
    if system:
        fields["system"] = system
    fields["messages"] = messages
    if inference := _inference(request, drops):
        fields["inferenceConfig"] = inference
    if request.sampling.stop and not writer.is_own:  # which of them was met; models that do not tell ignore it
        fields["additionalModelResponseFieldPaths"] = [
            "/delta/stop_sequence" if request.streaming else "/stop_sequence"
        ]
    if tools := _tools(request, writer, messages):
        fields["toolConfig"] = tools
    if own := _own_fields(request, target, drops, fields.get(OWN_FIELDS)):
        fields[OWN_FIELDS] = own
    if config := _output(request, drops):
        fields["outputConfig"] = config
    if request.service_tier:
        if writer.is_own or request.service_tier in ("priority", "default", "flex"):
            fields["serviceTier"] = {"type": request.service_tier}
        else:
            drops.check(request.service_tier != "auto", "service_tier")
    if request.metadata is not None:
        if writer.is_own:
            fields["requestMetadata"] = request.metadata
        else:
            drops.add("metadata")
    _name_what_is_not_there(request, drops)
    return Encoded(msgspec.json.encode(fields), drops.names())


def _name_what_is_not_there(request: Request, drops: Drops) -> None:
    sampling = request.sampling
    drops.check(sampling.seed is not None, "seed")
    drops.check(sampling.presence_penalty, "presence_penalty")
    drops.check(sampling.frequency_penalty, "frequency_penalty")
    drops.check(sampling.logit_bias is not None, "logit_bias")
    drops.check(sampling.logprobs or sampling.top_logprobs is not None, "logprobs")
    drops.check(sampling.choices > 1, "n")
    drops.check(request.user, "user")
    drops.check(request.verbosity not in ("", "medium"), "verbosity")
    drops.check(request.cache_key, "prompt_cache_key")
    drops.check(request.store, "store")
    drops.check(set(request.modalities) - {"text"}, "modalities")
    drops.check(request.parallel_tools is False, "parallel_tool_calls")


def _inference(request: Request, drops: Drops) -> dict[str, Any]:
    sampling = request.sampling
    told: dict[str, Any] = {}
    if request.max_output is not None:
        told["maxTokens"] = request.max_output
    temperature = sampling.temperature
    if temperature is not None:
        if temperature > 1 and request.origin != NAME:
            drops.add("temperature")
            temperature = 1.0
        told["temperature"] = temperature
    if sampling.top_p is not None:
        told["topP"] = sampling.top_p
    if sampling.stop:
        told["stopSequences"] = list(sampling.stop)
    return told


# -- the conversation -------------------------------------------------------------------------------------------------


class _Writer:
    """Writes messages and their parts as blocks. `is_own`: they came in this dialect."""

    def __init__(self, drops: Drops, *, is_own: bool) -> None:
        self.drops = drops
        self.is_own = is_own
        self._documents: Counter[str] = Counter()

    def conversation(self, messages: tuple[Message, ...]) -> tuple[list[Any], list[dict[str, Any]]]:
        """The blocks of `system`, and the messages."""
        system: list[Any] = []
        turns: list[dict[str, Any]] = []
        for message in messages:
            is_system = message.role in ("system", "developer")
            self.drops.check(message.name, "messages.name")
            self.extras(message.extras, "messages")
            blocks = [block for part in message.parts for block in self.blocks(part)]
            if is_system and (not turns or not self.is_own):
                self.drops.check(turns, "system.position")
                system += blocks
            elif not blocks and not self.is_own:
                continue
            elif not self.is_own and turns and turns[-1]["role"] == message.role:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": message.role, "content": blocks})
        if not self.is_own:
            for turn in turns:
                turn["content"].sort(key=lambda block: not (isinstance(block, dict) and "toolResult" in block))
        return system, turns

    def extras(self, extras: Extras, where: str) -> None:
        """Names what is another dialect's alone."""
        self.drops.nested(extras, where, is_own=self.is_own)

    def blocks(self, part: Part) -> list[Any]:
        """A part as a block, and its cache mark behind it."""
        block = self._block(part)
        cache = part.cache if isinstance(part, Text | Media | ToolCall | ToolResult) else None
        return [] if block is None else [block, *cache_point(cache)]

    def _block(self, part: Part) -> Any:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, ToolCall):
            self.drops.check(part.signature, "thinking")
            self.extras(part.extras, "content")
            given = arguments(wrapped(part).arguments)
            return {"toolUse": {"toolUseId": self.id(part.id), "name": self.id(part.name), "input": given}}
        if isinstance(part, ToolResult):
            return self._tool_result(part)
        if isinstance(part, Media):
            return self._media(part)
        if isinstance(part, Thinking):
            return self._thinking(part)
        if isinstance(part, Refusal):
            return {"text": part.text} if part.text.strip() else None
        if part.origin == NAME:
            return part.raw
        self.drops.add(f"content.{part.kind}")
        return None

    def _text(self, part: Text) -> Any:
        if not self.is_own and not part.text.strip():
            return None
        for kind in (JSON, GUARDED) if self.is_own else ():
            if kind in part.extras:
                return {kind: part.extras[kind]}
        self.extras(part.extras, "content")
        own = [citation.raw for citation in part.citations if citation.origin == NAME]
        self.drops.check(len(own) < len(part.citations), "citations")
        return (
            {"citationsContent": {"content": [{"text": part.text}], "citations": own}} if own else {"text": part.text}
        )

    def _thinking(self, part: Thinking) -> Any:
        if part.origin != NAME:
            self.drops.add("thinking")
            return None
        if part.sealed:
            return {"reasoningContent": {"redactedContent": part.sealed}}
        proof = {"signature": part.signature} if part.signature else {}
        return {"reasoningContent": {"reasoningText": {"text": part.text, **proof}}}

    def _tool_result(self, part: ToolResult) -> Any:
        self.extras(part.extras, "content")
        content = [block for inner in part.parts for block in self.blocks(inner)]
        if not content and not self.is_own:
            content = [{"text": _FAILED if part.is_error else ""}]
        told = {"toolUseId": self.id(part.call), "content": content, "status": "error" if part.is_error else "success"}
        return {"toolResult": told}

    def id(self, text: str) -> str:
        return text if self.is_own else shortened(_NOT_IN_AN_ID.sub("_", text), _MAX_ID)

    def _called(self, name: str) -> str:
        """The name of a document, which no other of the conversation has."""
        self._documents[name] += 1
        return name if self._documents[name] == 1 else f"{name} ({self._documents[name]})"

    def _media(self, part: Media) -> Any:
        if self.is_own and BLOCK in part.extras:
            return part.extras[BLOCK]
        self.drops.check(part.detail not in ("", "auto"), "image.detail")
        form, source = _FORMATS[part.kind].get(AS_REGISTERED.get(part.mime, part.mime)), None
        if part.data and form:
            source = {"bytes": part.data}
        elif part.text and part.kind == "document":
            form, source = form or "txt", {"text": part.text}
            if not self.is_own:  # text alone is taken by fewer models than a file
                source = {"bytes": base64.b64encode(part.text.encode()).decode()}
        if source is None:
            self.drops.add("image.url" if part.kind == "image" and part.url else _NAMES.get(part.kind, part.kind))
            return None
        told: dict[str, Any] = {"format": form, "source": source}
        if part.kind == "document":
            name = part.name if self.is_own else _NOT_IN_A_NAME.sub("-", part.name.rpartition(".")[0] or part.name)
            told["name"] = name if self.is_own else self._called(_SPACES.sub(" ", name).strip() or "document")
        if self.is_own:
            told |= part.extras
        else:
            self.extras(part.extras, "content")
        return {part.kind: told}


def cache_point(cache: Cache | None) -> list[Any]:
    if cache is None:
        return []
    lifetime = {"ttl": cache.lifetime} if cache.lifetime else {}
    return [{"cachePoint": {"type": "default", **lifetime}}]


# -- tools ------------------------------------------------------------------------------------------------------------


def _tools(request: Request, writer: _Writer, messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The tools. A conversation with calls in it needs some, so that those that were called are named where a caller
    offers none any more."""
    choice, offered = request.tool_choice, request.tools
    called = _called(messages)
    if choice is not None and choice.mode == "none":
        if called:
            writer.drops.add("tool_choice")
        else:
            offered = ()
    if choice is not None and choice.mode == "allowed":
        offered = tuple(tool for tool in offered if isinstance(tool, ServerTool) or tool.name in choice.names)
    tools = [block for tool in offered for block in _tool(tool, writer)]
    if not tools:
        empty = {"json": {"type": "object", "properties": {}}}
        specs = [{"toolSpec": {"name": name, "inputSchema": empty}} for name in called]
        return {"tools": specs} if specs else None
    config: dict[str, Any] = {"tools": tools}
    if choice is not None and choice.mode == "tool":
        config["toolChoice"] = {"tool": {"name": writer.id(choice.names[0] if choice.names else "")}}
    elif choice is not None and (choice.mode == "required" or (choice.mode == "allowed" and choice.required)):
        config["toolChoice"] = {"any": {}}
    elif choice is not None and choice.mode == "auto":
        config["toolChoice"] = {"auto": {}}
    return config


def _called(messages: list[dict[str, Any]]) -> list[str]:
    """The names of the tools that the conversation has calls of, each once."""
    blocks = [block for message in messages for block in message["content"] if isinstance(block, dict)]
    return list(dict.fromkeys(block["toolUse"]["name"] for block in blocks if "toolUse" in block))


def _tool(tool: Tool | ServerTool, writer: _Writer) -> list[Any]:
    if isinstance(tool, ServerTool):
        if tool.origin == NAME:
            return [tool.raw]
        writer.drops.add(f"tools.{tool.kind}")
        return []
    writer.extras(tool.extras, "tools")
    if tool.custom:
        writer.drops.check(tool.schema != NULL, "tools.grammar")
        writer.extras(tool.extras, "tools")
        tool = as_function(tool)
    spec: dict[str, Any] = {"name": writer.id(tool.name)}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": {"type": "object", "properties": {}} if tool.schema == NULL else tool.schema}
    if tool.strict is not None and (tool.strict or writer.is_own):
        spec["strict"] = tool.strict
    return [{"toolSpec": spec}, *cache_point(tool.cache)]


# -- reasoning and form -----------------------------------------------------------------------------------------------


def _own_fields(request: Request, target: TargetFacts, drops: Drops, given: Any) -> dict[str, Any]:
    """What goes into the model's own words: how much to think, and `top_k`."""
    own: dict[str, Any] = msgspec.json.decode(given, type=dict[str, Raw]) if isinstance(given, Raw) else {}
    model, top_k = target.model, request.sampling.top_k
    if top_k is not None:
        if request.origin == NAME or "claude" in model:
            own["top_k"] = top_k
        elif "nova" in model:
            own["inferenceConfig"] = {"topK": top_k}
        else:
            drops.add("top_k")
    reasoning = request.reasoning
    if reasoning is not None:
        own |= _own_reasoning(reasoning, request, model, drops)
    return own


def _own_reasoning(reasoning: Reasoning, request: Request, model: str, drops: Drops) -> dict[str, Any]:
    budget, effort = reasoning.budget, reasoning.effort
    if request.origin == NAME:
        kind = {0: "disabled", -1: "adaptive"}.get(budget if budget is not None else 1, "enabled")
        told = {"type": kind, **({"budget_tokens": budget} if kind == "enabled" else {})}
        return {"thinking": told} if budget is not None else {}
    is_off = effort == "none" or budget == 0
    if "claude" in model:
        wanted = budget if budget is not None and budget > 0 else _BUDGETS.get(effort, 4096)
        room = (request.max_output or 2**31) - 1
        if not is_off and room >= 1024:
            return {"thinking": {"type": "enabled", "budget_tokens": max(1024, min(wanted, room))}}
    elif "nova-2" in model and effort in ("minimal", "low", "medium", "high"):
        level = "low" if effort == "minimal" else effort
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}
    elif "gpt-oss" in model and effort in ("low", "medium", "high"):
        return {"reasoning_effort": effort}
    drops.check(not is_off, "reasoning")
    return {}


def _output(request: Request, drops: Drops) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if request.origin == NAME and request.reasoning is not None and request.reasoning.effort:
        told["effort"] = request.reasoning.effort
    wanted = request.format
    if wanted is None or wanted.kind == "text":
        return told
    if wanted.kind == "json" or wanted.schema == NULL:
        drops.add("response_format")
        return told
    told["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": _schema(wanted)}}
    return told


def _schema(wanted: Format) -> dict[str, str]:
    told = {"schema": bytes(wanted.schema).decode(), "name": wanted.name, "description": wanted.description}
    return {name: text for name, text in told.items() if text}
