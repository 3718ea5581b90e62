"""`Request` -> a `generateContent` request, and what could not be said in it.

Source: Gemini API reference, `models.generateContent`; guides "Function calling", "Structured output", "Thinking",
"Thought signatures", "OpenAI compatibility" (which budget of thinking an effort stands for).

Of what came in another dialect: system messages that come first are the system instruction, later ones turns of the
user; the results of one round of calls are one turn; what a tool answers is an object, and its media are parts of
it or, for models before Gemini 3, of the turn; what a document is called stands before it; a tool of free text is a
function with one argument, `input`.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects.codec import Drops, Encoded, TargetFacts
from penstock.dialects.custom_tools import as_function
from penstock.dialects.gemini.names import BEFORE_3, NAME, NULL
from penstock.dialects.gemini.parts import (
    NO_SIGNATURE,
    arguments,
    is_made,
    media_part,
    response_of,
)
from penstock.dialects.tiers import TOLD_BY_GOOGLE, in_others_words
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
    Sampling,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

MAX_STOPS = 5
_DOES_NOT_THINK = re.compile(r"(?:.*/)?gemini-(?:1|2\.0)[.-]")
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_LEVELS = {"none": "minimal", "xhigh": "high", "max": "high"}


def encode_request(request: Request, target: TargetFacts) -> Encoded:
    drops = Drops()
    writer = _Writer(drops, target.model, is_own=request.origin == NAME)
    fields: dict[str, Any] = dict(drops.extras(request, NAME))
    system, contents = writer.conversation(request.messages)
    fields["contents"] = contents
    if system:
        fields["systemInstruction"] = {"parts": system}
    _add_tools(fields, request, writer)
    config = {**_object(fields.pop("generationConfig", None)), **_config(request, target, drops)}
    if config:
        fields["generationConfig"] = config
    if request.service_tier in TOLD_BY_GOOGLE:
        fields["serviceTier"] = in_others_words(request.service_tier)
    else:
        drops.check(request.service_tier not in ("", "auto"), "service_tier")
    if request.store is not None and writer.is_own:
        fields["store"] = request.store
    _name_what_is_not_there(request, drops)
    return Encoded(msgspec.json.encode(fields), drops.names())


def _object(raw: Any) -> dict[str, Any]:
    """The members of an extra, verbatim."""
    return dict(msgspec.json.decode(raw, type=dict[str, Raw])) if isinstance(raw, Raw) else {}


def _name_what_is_not_there(request: Request, drops: Drops) -> None:
    drops.check(request.sampling.logit_bias is not None, "logit_bias")
    drops.check(request.parallel_tools is False and request.tools, "parallel_tool_calls")
    drops.check(request.metadata is not None, "metadata")
    drops.check(request.user, "user")
    drops.check(request.verbosity not in ("", "medium"), "verbosity")
    drops.check(request.cache_key, "prompt_cache_key")
    drops.check(request.store and request.origin != NAME, "store")


# -- the conversation -------------------------------------------------------------------------------------------------


class _Writer:
    """Writes messages and their parts. `is_own`: they came in this dialect."""

    def __init__(self, drops: Drops, model: str, *, is_own: bool) -> None:
        self.drops = drops
        self.is_own = is_own
        self.is_before_3 = BEFORE_3.match(model) is not None
        self._names: dict[str, str] = {}

    def conversation(self, messages: tuple[Message, ...]) -> tuple[list[Any], list[dict[str, Any]]]:
        """The parts of the system instruction, and the contents."""
        system: list[Any] = []
        turns: list[dict[str, Any]] = []
        for message in messages:
            is_system = message.role in ("system", "developer")
            self.drops.check(message.name, "messages.name")
            parts = self._parts(message)
            if is_system and not turns:
                system += parts
                continue
            self.drops.check(is_system, "system.position")
            role = "model" if message.role == "assistant" else "user"
            if not parts and not self.is_own:
                continue
            if turns and _are_results(parts) and _are_results(turns[-1]["parts"]) and not self.is_own:
                turns[-1]["parts"] += parts
            else:
                turns.append({"role": role, "parts": parts, **self._extras(message.extras, "messages")})
        return system, turns

    def _extras(self, extras: Extras, where: str) -> Extras:
        return self.drops.nested(extras, where, is_own=self.is_own)

    def _parts(self, message: Message) -> list[Any]:
        written: list[Any] = []
        for part in message.parts:
            if isinstance(part, Thinking):
                self._add_thinking(written, part)
            elif isinstance(part, ToolResult):
                written += self._result(part)
            elif isinstance(part, Media) and part.kind == "document" and part.name and not self.is_own:
                if (one := self._part(part)) is not None:
                    written += [{"text": part.name}, one]
            elif (one := self._part(part)) is not None:
                written.append(one)
        calls = [part for part in written if isinstance(part, dict) and "functionCall" in part]
        if calls and not self.is_before_3 and "thoughtSignature" not in calls[0]:
            calls[0]["thoughtSignature"] = NO_SIGNATURE
        return written

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text):
            self.drops.check(part.cache, "cache_control")
            self.drops.check(part.citations, "citations")
            extras = self._extras(part.extras, "content")
            return {"text": part.text, **extras} if part.text or extras else None
        if isinstance(part, Refusal):
            return {"text": part.text} if part.text else None
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, Media):
            return self._media(part)
        return self._opaque(part) if isinstance(part, Opaque) else None

    def _opaque(self, part: Opaque) -> Any:
        if part.origin == NAME:
            return part.raw
        self.drops.add(f"content.{part.kind}")
        return None

    def _add_thinking(self, written: list[Any], part: Thinking) -> None:
        """A signature alone belongs to the text or the medium before it."""
        if part.origin != NAME:
            self.drops.add("thinking")
            return
        signature = {"thoughtSignature": part.signature} if part.signature else {}
        last = written[-1] if written and isinstance(written[-1], dict) else {}
        if part.text or part.summary:
            written.append({"text": part.text, "thought": True, **signature, **part.extras})
        elif last.keys() & {"text", "inlineData"} and not last.keys() & {"thought", "thoughtSignature"}:
            last |= signature
        else:
            written.append({"text": "", **signature})

    def _call(self, part: ToolCall) -> dict[str, Any]:
        self.drops.check(part.cache, "cache_control")
        self._names[part.id] = part.name
        call: dict[str, Any] = {"name": part.name, "args": arguments(part)}
        if part.id and not is_made(part.id):
            call["id"] = part.id
        written: dict[str, Any] = {"functionCall": call}
        if part.signature and part.origin == NAME:
            written["thoughtSignature"] = part.signature
        return written | self._extras(part.extras, "content")

    def _result(self, part: ToolResult) -> list[Any]:
        """The result, and where the model takes no media in one, those behind it."""
        self.drops.check(part.cache, "cache_control")
        name = part.name or self._names.get(part.call, part.call)
        response: dict[str, Any] = {"name": name, "response": response_of(part)}
        if part.call and not is_made(part.call):
            response["id"] = part.call
        written_inside = [(inner, self._part(inner)) for inner in part.parts]
        media = [one for inner, one in written_inside if not isinstance(inner, Text) and one is not None]
        inside = [] if self.is_before_3 else [one for one in media if not isinstance(one, dict) or "inlineData" in one]
        if inside:
            response["parts"] = inside
        written = {"functionResponse": response} | self._extras(part.extras, "content")
        return [written, *[one for one in media if one not in inside]]

    def _media(self, part: Media) -> dict[str, Any] | None:
        self.drops.check(part.cache, "cache_control")
        self.drops.check(part.detail not in ("", "auto"), "image.detail")
        written = media_part(part)
        if written is None:
            self.drops.add("file_id" if part.file else part.kind)
            return None
        return written | self._extras(part.extras, "content")


def _are_results(parts: list[Any]) -> bool:
    return bool(parts) and isinstance(parts[0], dict) and "functionResponse" in parts[0]


# -- tools ------------------------------------------------------------------------------------------------------------


def _add_tools(fields: dict[str, Any], request: Request, writer: _Writer) -> None:
    functions = [_function(tool, writer) for tool in request.tools if isinstance(tool, Tool)]
    tools: list[Any] = [{"functionDeclarations": functions}] if functions else []
    for tool in request.tools:
        if isinstance(tool, ServerTool) and tool.origin == NAME:
            tools.append({tool.kind: tool.raw})
        elif isinstance(tool, ServerTool):
            writer.drops.add(f"tools.{tool.kind}")
    if tools:
        fields["tools"] = tools
    config = _object(fields.pop("toolConfig", None))
    if request.tool_choice is not None and functions:
        config["functionCallingConfig"] = {**_object(config.get("functionCallingConfig")), **_mode(request.tool_choice)}
    if config:
        fields["toolConfig"] = config


def _function(tool: Tool, writer: _Writer) -> dict[str, Any]:
    writer.drops.check(tool.cache, "cache_control")
    writer.drops.check(tool.strict, "tools.strict")
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.custom:
        writer.drops.check(tool.schema != NULL, "tools.grammar")
    schema = as_function(tool).schema if tool.custom else tool.schema
    if schema != NULL:
        declared["parametersJsonSchema"] = schema
    return declared | writer._extras(tool.extras, "tools")


def _mode(choice: ToolChoice) -> dict[str, Any]:
    if choice.mode in ("auto", "none"):
        return {"mode": choice.mode.upper()}
    if choice.mode == "required":
        return {"mode": "ANY"}
    is_free = choice.mode == "allowed" and not choice.required
    return {"mode": "VALIDATED" if is_free else "ANY", "allowedFunctionNames": list(choice.names)}


# -- the configuration ------------------------------------------------------------------------------------------------


def _config(request: Request, target: TargetFacts, drops: Drops) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.max_output is not None:
        config["maxOutputTokens"] = request.max_output
    config |= _sampling(request.sampling, drops)
    if request.format is not None:
        config |= _format(request.format)
    if request.modalities:
        config["responseModalities"] = [one.upper() for one in request.modalities]
    if request.reasoning is not None and (thinking := _thinking(request.reasoning, target, drops)):
        config["thinkingConfig"] = thinking
    return config


def _sampling(sampling: Sampling, drops: Drops) -> dict[str, Any]:
    drops.check(len(sampling.stop) > MAX_STOPS, "stop")
    told: dict[str, Any] = {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "stopSequences": sampling.stop[:MAX_STOPS] or None,
        "seed": sampling.seed,
        "presencePenalty": sampling.presence_penalty,
        "frequencyPenalty": sampling.frequency_penalty,
        "candidateCount": sampling.choices if sampling.choices > 1 else None,
        "responseLogprobs": sampling.logprobs or None,
        "logprobs": sampling.top_logprobs if sampling.logprobs else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _format(wanted: Format) -> dict[str, Any]:
    if wanted.kind == "text":
        return {"responseMimeType": "text/plain"}
    if wanted.kind == "json":
        return {"responseMimeType": "application/json"}
    return {"responseMimeType": "application/json", "responseJsonSchema": wanted.schema}


def _thinking(reasoning: Reasoning, target: TargetFacts, drops: Drops) -> dict[str, Any]:
    """How much to think: a level from Gemini 3 on, a budget before, where a budget was not asked for."""
    model = target.model
    wants_none = reasoning.effort == "none" or reasoning.budget == 0
    if "reasoning" in target.lacks or _DOES_NOT_THINK.match(model):
        drops.check(not wants_none and (reasoning.effort or reasoning.budget), "reasoning")
        return {}
    config: dict[str, Any] = {}
    if reasoning.budget is not None:
        config["thinkingBudget"] = reasoning.budget
    elif reasoning.effort and BEFORE_3.match(model):
        cannot_stop = wants_none and "pro" in model
        drops.check(cannot_stop, "reasoning")
        config["thinkingBudget"] = 128 if cannot_stop else _BUDGETS.get(reasoning.effort, -1)
    elif reasoning.effort:
        level = _LEVELS.get(reasoning.effort, reasoning.effort)
        config["thinkingLevel"] = "low" if level == "minimal" and "pro" in model else level
    show = reasoning.show if reasoning.show is not None else bool(reasoning.summary) or None
    if show is not None:
        config["includeThoughts"] = show
    return config
