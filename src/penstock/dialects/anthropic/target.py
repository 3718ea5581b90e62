"""`Request` -> a Messages request, and what could not be said in it.

Source: Anthropic API reference, "Create a Message"; guides "Extended thinking" (what it excludes), "Adaptive thinking",
"Effort", "Structured outputs", "Migrating to Claude" (what newer models refuse).

What came in this dialect goes back member by member. Of what came in another: a system message in the middle moves to
the front, the results of tools go before the rest of their turn, ids of calls keep to the letters that are allowed, and
a tool of free text is a function with one member, `input`.
"""

import base64
import re
from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects.anthropic.blocks import BLOCK, NAME, NULL
from penstock.dialects.anthropic.request import STANDARD_ONLY
from penstock.dialects.codec import Drops, Encoded, TargetFacts, json_text
from penstock.dialects.custom_tools import as_function, wrapped
from penstock.domain.chat import (
    Cache,
    Extras,
    Media,
    Message,
    Opaque,
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

CAP_WHEN_UNKNOWN = 4096
"""`max_tokens` is required. Where neither the caller nor the catalogue has a cap, what the oldest model can do."""

LEAST_BUDGET = 1024
_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 12_288, "high": 24_576, "xhigh": 32_768, "max": 65_536}
"""Tokens of thinking for a word, for models that take a number."""

_TAKE_A_BUDGET = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:[-.][015])?(?:-\d{6,}|@|-v\d|:|$))")
"""Models that think by a budget; from 4.6 on they think as much as they need, for an effort."""

_ALWAYS_THINKS = re.compile(r"claude-(?:opus-5[-.]5|fable-5|mythos-5)")
_THINKS_BETWEEN_TOOLS = re.compile(r"claude-sonnet-5[-.]5")
"""Models that cannot be told not to think ("What's new in Claude Opus 5.5", "... Sonnet 5.5", read 2026-11): for the
least that there is, an effort, or another word for it."""

_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
AS_REGISTERED = {"image/jpg": "image/jpeg"}
"""Names of types that many write and no register has."""


def encode_request(request: Request, target: TargetFacts) -> Encoded:
    drops = Drops()
    writer = _Writer(drops, is_own=request.origin == NAME)
    fields: dict[str, Any] = dict(drops.extras(request, NAME))
    fields["model"] = target.model
    fields["max_tokens"] = request.max_output if request.max_output is not None else _cap(target)
    system, messages = writer.conversation(request.messages)
    if system:
        fields["system"] = system
    fields["messages"] = messages
    _add_tools(fields, request, writer)
    _add_reasoning(fields, request, target, drops)
    _add_format(fields, request, target, drops)
    _add_sampling(fields, request, target, drops)
    if request.user:
        fields["metadata"] = _with(fields.get("metadata"), {"user_id": request.user})
    if request.service_tier:
        tier = {"default": STANDARD_ONLY}.get(request.service_tier, request.service_tier)
        if writer.is_own or tier in ("auto", STANDARD_ONLY):
            fields["service_tier"] = tier
        else:
            drops.add("service_tier")
    if request.streaming:
        fields["stream"] = True
    _name_what_is_not_there(request, drops)
    return Encoded(msgspec.json.encode(fields), drops.names())


def _cap(target: TargetFacts) -> int:
    return target.max_output or CAP_WHEN_UNKNOWN


def _with(known: Any, more: dict[str, Any]) -> dict[str, Any]:
    """The members of an extra, verbatim, with ours."""
    given = msgspec.json.decode(known, type=dict[str, Raw]) if isinstance(known, Raw) else {}
    return {**given, **more}


def _name_what_is_not_there(request: Request, drops: Drops) -> None:
    sampling = request.sampling
    drops.check_all(
        {
            "seed": sampling.seed is not None,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "logit_bias": sampling.logit_bias is not None,
            "logprobs": sampling.logprobs or sampling.top_logprobs is not None,
            "n": sampling.choices > 1,
            "metadata": request.metadata is not None,
            "verbosity": request.verbosity not in ("", "medium"),
            "prompt_cache_key": request.cache_key,
            "store": request.store,
            "modalities": set(request.modalities) - {"text"},
        }
    )


# -- the conversation -------------------------------------------------------------------------------------------------


class _Writer:
    """Writes messages and their parts as blocks. `is_own`: they came in this dialect. `called`: the tools that are
    called in what was written."""

    def __init__(self, drops: Drops, *, is_own: bool) -> None:
        self.drops = drops
        self.is_own = is_own
        self.called: dict[str, None] = {}

    def conversation(self, messages: tuple[Message, ...]) -> tuple[list[Any], list[dict[str, Any]]]:
        """The blocks of `system`, and the messages."""
        system: list[Any] = []
        turns: list[dict[str, Any]] = []
        for message in messages:
            is_system = message.role in ("system", "developer")
            if message.name:
                self.drops.add("messages.name")
            blocks = self._blocks(message.parts)
            extras = self.extras(message.extras, "messages") if message.extras else {}
            if is_system and (not turns or not self.is_own):
                self.drops.check(turns, "system.position")
                system += blocks
            elif not blocks and not self.is_own:
                continue
            elif not self.is_own and turns and turns[-1]["role"] == message.role:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": message.role, "content": blocks, **extras})
        if not self.is_own:
            for turn in turns:
                if len(turn["content"]) > 1:
                    turn["content"].sort(key=_is_no_result)
        return system, turns

    def _blocks(self, parts: tuple[Part, ...]) -> list[Any]:
        return [block for part in parts if (block := self._block(part)) is not None]

    def extras(self, extras: Extras, where: str) -> Extras:
        return self.drops.nested(extras, where, is_own=self.is_own)

    def _block(self, part: Part) -> Any:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, ToolCall):
            return self._tool_use(part)
        if isinstance(part, ToolResult):
            return self._tool_result(part)
        if isinstance(part, Media):
            return self._media(part)
        if isinstance(part, Thinking):
            return self._thinking(part)
        if isinstance(part, Refusal):
            return {"type": "text", "text": part.text} if part.text.strip() else None
        return self._opaque(part)

    def _text(self, part: Text) -> Any:
        if not self.is_own and not part.text.strip():
            return None
        block: dict[str, Any] = {"type": "text", "text": part.text}
        if part.citations:
            own = [citation.raw for citation in part.citations if citation.origin == NAME]
            self.drops.check(len(own) < len(part.citations), "citations")
            if own:
                block["citations"] = own
        return self._with_rest(block, part)

    def _with_rest(self, block: dict[str, Any], part: Text | ToolCall | ToolResult | Media) -> dict[str, Any]:
        """The block with what any kind of part can have."""
        if part.cache is None and not part.extras:
            return block
        return block | cache_control(part.cache) | self.extras(part.extras, "content")

    def _thinking(self, part: Thinking) -> Any:
        if part.origin != NAME or not (part.signature or part.sealed or self.is_own):
            self.drops.add("thinking")
            return None
        if part.sealed:
            return {"type": "redacted_thinking", "data": part.sealed, **part.extras}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature, **part.extras}

    def _tool_use(self, part: ToolCall) -> Any:
        self.drops.check(part.signature, "thinking")
        given = arguments(wrapped(part).arguments)
        self.called[part.name] = None
        block = {"type": "tool_use", "id": self._id(part.id), "name": part.name, "input": given}
        return self._with_rest(block, part)

    def _tool_result(self, part: ToolResult) -> Any:
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": self._id(part.call)}
        if content := self._blocks(part.parts):
            block["content"] = content
        if part.is_error:
            block["is_error"] = True
        return self._with_rest(block, part)

    def _id(self, call: str) -> str:
        return call if self.is_own else _NOT_IN_AN_ID.sub("_", call)

    def _opaque(self, part: Opaque) -> Any:
        if part.origin == NAME:
            return part.raw
        self.drops.add(f"content.{part.kind}")
        return None

    def _media(self, part: Media) -> Any:
        if self.is_own and BLOCK in part.extras:
            return part.extras[BLOCK]
        source = self._image(part) if part.kind == "image" else self._document(part)
        if source is None:
            self.drops.add({"audio": "input_audio"}.get(part.kind, part.kind))
            return None
        block: dict[str, Any] = {"type": part.kind, "source": source}
        if part.name and part.kind == "document":
            block["title"] = part.name
        return self._with_rest(block, part)

    def _image(self, part: Media) -> dict[str, str] | None:
        self.drops.check(part.detail not in ("", "auto"), "image.detail")
        mime = part.mime if self.is_own else AS_REGISTERED.get(part.mime, part.mime)
        if part.data and (self.is_own or mime in _IMAGES):
            return {"type": "base64", "media_type": mime, "data": part.data}
        return self._elsewhere(part)

    def _document(self, part: Media) -> dict[str, str] | None:
        if part.kind != "document":
            return None
        if part.data and (self.is_own or part.mime == "application/pdf"):
            return {"type": "base64", "media_type": part.mime, "data": part.data}
        if part.data and part.mime.startswith("text/"):
            try:
                text = base64.b64decode(part.data).decode()
            except ValueError:
                return None
            return {"type": "text", "media_type": "text/plain", "data": text}
        return self._elsewhere(part) or (
            {"type": "text", "media_type": "text/plain", "data": part.text} if not part.data and part.text else None
        )

    def _elsewhere(self, part: Media) -> dict[str, str] | None:
        if part.url.startswith(("https:", "http:")) or (part.url and self.is_own):
            return {"type": "url", "url": part.url}
        return {"type": "file", "file_id": part.file} if part.file and self.is_own else None


def _is_no_result(block: Any) -> bool:
    return not (isinstance(block, dict) and block.get("type") == "tool_result")


def cache_control(cache: Cache | None) -> dict[str, Any]:
    if cache is None:
        return {}
    lifetime = {"ttl": cache.lifetime} if cache.lifetime else {}
    return {"cache_control": {"type": "ephemeral", **lifetime}}


def arguments(text: str) -> Raw:
    """The arguments of a call as the object that the API has them as. What is none is told as the guide on
    fine-grained tool streaming says."""
    if not text:
        return Raw(b"{}")
    try:
        msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return Raw(json_text({"INVALID_JSON": text}).encode())
    return Raw(text.encode())


# -- tools ------------------------------------------------------------------------------------------------------------


def _add_tools(fields: dict[str, Any], request: Request, writer: _Writer) -> None:
    choice = request.tool_choice
    offered = request.tools
    if choice is not None and choice.mode == "allowed":
        offered = tuple(tool for tool in offered if isinstance(tool, ServerTool) or tool.name in choice.names)
    tools = [written for tool in offered if (written := _tool(tool, writer)) is not None] if offered else []
    if not tools:
        if not writer.is_own:
            _add_called(fields, writer.called)
        return
    fields["tools"] = tools
    told: dict[str, Any] = {}
    if choice is not None:
        is_required = choice.mode == "required" or (choice.mode == "allowed" and choice.required)
        told["type"] = "any" if is_required else {"none": "none", "tool": "tool"}.get(choice.mode, "auto")
        if choice.mode == "tool":
            told["name"] = choice.names[0] if choice.names else ""
    if request.parallel_tools is not None and told.get("type") != "none" and (told or not request.parallel_tools):
        told.setdefault("type", "auto")
        told["disable_parallel_tool_use"] = not request.parallel_tools
    if told:
        fields["tool_choice"] = told


def _add_called(fields: dict[str, Any], called: dict[str, None]) -> None:
    """A conversation with calls in it must have tools: where a caller offers none any more, those that were called,
    and none may be."""
    if called:
        fields["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        fields["tool_choice"] = {"type": "none"}


def _tool(tool: Tool | ServerTool, writer: _Writer) -> Any:
    if isinstance(tool, ServerTool):
        if tool.origin == NAME:
            return tool.raw
        writer.drops.add(f"tools.{tool.kind}")
        return None
    if tool.custom:
        writer.drops.check(tool.schema != NULL, "tools.grammar")
        writer.extras(tool.extras, "tools")
        tool = as_function(tool)
    written: dict[str, Any] = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    written["input_schema"] = {"type": "object", "properties": {}} if tool.schema == NULL else tool.schema
    if tool.strict is not None and (tool.strict or writer.is_own):
        written["strict"] = tool.strict
    return written | cache_control(tool.cache) | writer.extras(tool.extras, "tools")


# -- reasoning, form, sampling ----------------------------------------------------------------------------------------


def _add_reasoning(fields: dict[str, Any], request: Request, target: TargetFacts, drops: Drops) -> None:
    """Words where the model takes words, a budget where it takes a budget; none where it cannot go with the rest."""
    reasoning = request.reasoning
    if reasoning is None:
        return
    if request.origin != NAME:
        reasoning = _fitting(reasoning, fields, request, target, drops)
    display = {} if reasoning.show is None else {"display": "summarized" if reasoning.show else "omitted"}
    if reasoning.budget is not None:
        if reasoning.budget > 0:
            fields["thinking"] = {"type": "enabled", "budget_tokens": reasoning.budget, **display}
        elif reasoning.budget < 0:
            fields["thinking"] = {"type": "adaptive", **display}
        else:
            is_between = request.origin != NAME and _THINKS_BETWEEN_TOOLS.search(target.model)
            fields["thinking"] = {"type": "between_tools" if is_between else "disabled"}
    if reasoning.effort:
        fields["output_config"] = _with(fields.get("output_config"), {"effort": reasoning.effort})


def _fitting(
    reasoning: Reasoning, fields: dict[str, Any], request: Request, target: TargetFacts, drops: Drops
) -> Reasoning:
    """Another dialect's wish as this model takes it."""
    effort, budget = reasoning.effort, reasoning.budget
    if "reasoning" in target.lacks:
        drops.check(effort != "none" and budget != 0, "reasoning")
        return Reasoning()
    if effort == "none" or budget == 0:
        if _ALWAYS_THINKS.search(target.model):
            drops.add("reasoning")
            return Reasoning("low")
        return Reasoning(budget=0)
    is_forced = fields.get("tool_choice", {}).get("type") in ("any", "tool")
    if not _TAKE_A_BUDGET.search(target.model):
        word = "low" if effort == "minimal" else effort
        if is_forced:  # thinking is not told to begin, and the effort stands
            return Reasoning(word)
        return Reasoning(word, -1 if effort or budget is not None else None, reasoning.show)
    wanted = budget if budget is not None and budget > 0 else _BUDGETS.get(effort or "medium", LEAST_BUDGET)
    room = fields["max_tokens"] - 1
    if is_forced or room < LEAST_BUDGET or _lacks_thinking(fields["messages"]):
        drops.add("reasoning")
        return Reasoning()
    return Reasoning(budget=max(LEAST_BUDGET, min(wanted, room)), show=reasoning.show)


def _lacks_thinking(messages: list[dict[str, Any]]) -> bool:
    """Whether the turn that goes on has calls without the thinking that led to them, which a budget does not allow."""
    for turn in reversed(messages):
        if turn["role"] == "assistant":
            kinds = [block.get("type") for block in turn["content"] if isinstance(block, dict)]
            return "tool_use" in kinds and not {"thinking", "redacted_thinking"} & set(kinds)
    return False


def _add_format(fields: dict[str, Any], request: Request, target: TargetFacts, drops: Drops) -> None:
    wanted = request.format
    if wanted is None or wanted.kind == "text":
        return
    if wanted.kind == "json" or wanted.schema == NULL:
        drops.add("response_format")
        return
    form = {"type": "json_schema", "schema": wanted.schema}
    fields["output_config"] = _with_members(fields.get("output_config"), form)


def _with_members(config: Any, form: dict[str, Any]) -> dict[str, Any]:
    return {**(config if isinstance(config, dict) else _with(config, {})), "format": form}


_SCALES = ("temperature", "top_p", "top_k")


def _add_sampling(fields: dict[str, Any], request: Request, target: TargetFacts, drops: Drops) -> None:
    sampling = request.sampling
    given = {name: value for name in _SCALES if (value := getattr(sampling, name)) is not None}
    if given and request.origin != NAME:
        _fit_scales(given, fields, target, drops)
    fields |= given
    if sampling.stop:
        stops = sampling.stop if request.origin == NAME else [stop for stop in sampling.stop if stop.strip()]
        drops.check(len(stops) < len(sampling.stop), "stop")
        if stops:
            fields["stop_sequences"] = list(stops)


def _fit_scales(given: dict[str, Any], fields: dict[str, Any], target: TargetFacts, drops: Drops) -> None:
    """Changes what of another dialect's sampling must change: the scale ends at 1, thinking goes with the defaults
    alone, and newer models take either of temperature and top_p."""
    thinks = fields.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for name in [name for name, value in given.items() if name in target.lacks or (thinks and value != 1)]:
        drops.add(name)
        del given[name]
    if given.get("temperature", 0) > 1:
        drops.add("temperature")
        given["temperature"] = 1.0
    if "temperature" in given and "top_p" in given:
        drops.check(given.pop("top_p") != 1, "top_p")
