"""A request as the body of a chat completion, for a target that speaks the dialect."""

from typing import Any

from msgspec import structs

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Drops, Encoded, TargetFacts, shortened
from penstock.dialects.custom_tools import as_function, wrapped
from penstock.dialects.members import is_set
from penstock.dialects.openai_chat_codec.parts import (
    NAME,
    cache_member,
    media_part,
    nested_format,
    reasoning_members,
    reference_in,
    tool_call_object,
)
from penstock.dialects.tiers import ASKED_OF_OPENAI
from penstock.domain.chat import (
    Cache,
    Extras,
    Format,
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
    ToolChoice,
    ToolResult,
)

_MAX_ID = 40
"""Characters of a call's id that OpenAI takes."""


_EFFORT_BUDGETS = (("low", 2_048), ("medium", 8_192))
"""An effort for a budget in tokens, where the target takes no budgets: the first that it fits."""


def encode_request(request: Request, target: TargetFacts) -> Encoded:
    return _Encoding(request, target).encoded()


class _Encoding:
    """One request being written."""

    def __init__(self, request: Request, target: TargetFacts) -> None:
        self._request = request
        self._target = target
        self._is_own = request.origin == NAME
        self._drops = Drops()

    def encoded(self) -> Encoded:
        request = self._request
        members: dict[str, Any] = {"model": self._target.model, "messages": self._messages()}
        members |= self._tools()
        members |= self._limits() | self._sampling()
        if request.format is not None and (request.format.kind != "text" or self._is_own):
            members["response_format"] = _format(request.format)
        members |= self._reasoning(request.reasoning) if request.reasoning is not None else {}
        members |= self._account()
        members |= self._drops.extras(request, NAME)
        return Encoded(encode_object(members), self._drops.names())

    # -- messages -----------------------------------------------------------------------------------------------------

    def _messages(self) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        for message in self._request.messages:
            if message.role == "assistant":
                written.append(self._assistant(message))
            else:
                written += self._spoken(message)
        return written

    def _spoken(self, message: Message) -> list[dict[str, Any]]:
        """Results of tools come first, each a message of its own. The dialect has no media in them, so those follow
        in a message of the user's."""
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        shown: list[dict[str, Any]] = []
        written = [self._result(result, shown) for result in results]
        if shown:
            written.append({"role": "user", "content": shown})
        rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
        if rest or not results:
            role = message.role if self._is_own or message.role != "developer" else "system"
            spoken: dict[str, Any] = {"role": role, "content": self._content(rest)}
            written.append(spoken | self._name(message) | self._own(message.extras, "messages"))
        return written

    def _own(self, extras: Extras, where: str) -> Extras:
        return self._drops.nested(extras, where, is_own=self._is_own)

    def _name(self, message: Message) -> dict[str, str]:
        return {"name": message.name} if message.name else {}

    def _result(self, result: ToolResult, shown: list[dict[str, Any]]) -> dict[str, Any]:
        texts = tuple(part for part in result.parts if isinstance(part, Text))
        media = [self._part(part) for part in result.parts if not isinstance(part, Text)]
        if told := [part for part in media if part is not None]:
            shown += [{"type": "text", "text": f"The tool call {result.call} returned:"}, *told]
        self._drops.check(result.is_error, "tool_result.is_error")
        written: dict[str, Any] = {
            "role": "tool",
            "tool_call_id": self._id(result.call),
            "content": self._content(texts),
        }
        if result.name and self._is_own:
            written["name"] = result.name
        return written | self._cache(result.cache) | self._own(result.extras, "content")

    def _assistant(self, message: Message) -> dict[str, Any]:
        parts = message.parts
        told = tuple([part for part in parts if not isinstance(part, Thinking) or part.origin in ("", NAME)])
        self._drops.check(any(isinstance(p, Thinking) and p.origin not in ("", NAME) for p in parts), "thinking")
        calls = [part for part in parts if isinstance(part, ToolCall)]
        content = tuple(part for part in parts if isinstance(part, Text | Opaque))
        written: dict[str, Any] = {"role": "assistant", "content": self._content(content) if content else None}
        written |= reasoning_members(told)
        if refusal := "".join(part.text for part in parts if isinstance(part, Refusal)):
            written["refusal"] = refusal
        if calls:
            written["tool_calls"] = [self._tool_call(call) for call in calls]
        for medium in parts:
            if isinstance(medium, Media):
                is_spoken = medium.kind == "audio" and bool(medium.file) and self._is_own
                self._drops.check(not is_spoken, f"assistant.{medium.kind}")
                written |= {"audio": {"id": medium.file}} if is_spoken else {}
        if not content and not calls and "refusal" not in written:
            written["content"] = ""
        return written | self._name(message) | self._own(message.extras, "messages")

    def _tool_call(self, call: ToolCall) -> dict[str, Any]:
        """A foreign signature stays behind: the target could not read it. Few that speak the dialect know free text."""
        call = call if self._is_own else wrapped(call)
        is_foreign = call.origin not in ("", NAME)
        self._drops.check(is_foreign and call.signature, "thinking")
        signature = "" if is_foreign else call.signature
        extras = self._own(call.extras, "content")
        return tool_call_object(
            ToolCall(self._id(call.id), call.name, call.arguments, call.custom, signature, NAME, extras=extras)
        ) | self._cache(call.cache)

    def _id(self, call: str) -> str:
        return call if self._is_own else shortened(call, _MAX_ID)

    def _content(self, parts: tuple[Part, ...]) -> str | list[dict[str, Any] | Any]:
        """A string where it says everything, else a list."""
        if not parts:
            return ""
        only = parts[0] if len(parts) == 1 else None
        if isinstance(only, Text) and not (only.cache or only.extras or (self._is_own and reference_in(only))):
            self._drops.check(only.citations, "citations")
            return only.text
        written = [self._part(part) for part in parts]
        return [part for part in written if part is not None]

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text):
            if self._is_own and (reference := reference_in(part)) is not None:
                return reference
            self._drops.check(part.citations, "citations")
            own = self._own(part.extras, "content")
            return {"type": "text", "text": part.text, **self._cache(part.cache), **own}
        if isinstance(part, Media):
            if part.kind == "document" and part.data and not (part.name or self._is_own):
                part = structs.replace(part, name="document.pdf")  # a file must be called something
            written = media_part(structs.replace(part, extras=self._own(part.extras, "content")))
            is_elsewhere = bool(part.file) and not (part.url or part.data or part.text) and not self._is_own
            if written is None or is_elsewhere:
                self._drops.add(part.kind if written is None else "file_id")
                return None
            return written | self._cache(part.cache)
        if isinstance(part, Refusal):
            return {"type": "refusal", "refusal": part.text}
        if isinstance(part, Opaque) and part.origin == NAME:
            return part.raw
        self._drops.add(part.kind if isinstance(part, Opaque) else "thinking")
        return None

    def _cache(self, cache: Cache | None) -> dict[str, Any]:
        """Only what a caller of the dialect wrote: most vendors cache by themselves and refuse the marks of others."""
        self._drops.check(cache is not None and not self._is_own, "cache_control")
        return cache_member(cache) if self._is_own else {}

    # -- tools --------------------------------------------------------------------------------------------------------

    def _tools(self) -> dict[str, Any]:
        request = self._request
        choice, tools = request.tool_choice, request.tools
        if choice is not None and choice.mode == "allowed" and "allowed_tools" in self._target.lacks:
            tools = tuple(tool for tool in tools if isinstance(tool, ServerTool) or tool.name in choice.names)
            choice = ToolChoice("required" if choice.required else "auto")
        written = [told for tool in tools if (told := self._tool(tool)) is not None]
        members: dict[str, Any] = {"tools": written} if written else {}
        if choice is not None and (written or self._is_own):
            members["tool_choice"] = self._choice(choice)
        if request.parallel_tools is not None and (written or self._is_own):
            members["parallel_tool_calls"] = request.parallel_tools
        return members

    def _tool(self, tool: Tool | ServerTool) -> Any:
        if isinstance(tool, ServerTool):
            if tool.origin == NAME:
                return tool.raw
            self._drops.add(f"tools.{tool.kind}")
            return None
        extras = self._own(tool.extras, "tools")
        if tool.custom and not self._is_own:
            self._drops.check(is_set(tool.schema), "tools.grammar")
            tool = as_function(tool)
        own: dict[str, Any] = {"description": tool.description} if tool.description else {}
        if tool.custom:
            own |= {"format": nested_format(tool.schema)} if is_set(tool.schema) else {}
            return {"type": "custom", "custom": {"name": tool.name, **own}, **self._cache(tool.cache)}
        own |= {"parameters": tool.schema} if is_set(tool.schema) else {}
        if tool.strict is not None:
            own["strict"] = tool.strict
        own |= extras
        return {"type": "function", "function": {"name": tool.name, **own}, **self._cache(tool.cache)}

    def _choice(self, choice: ToolChoice) -> Any:
        if choice.mode == "tool":
            return self._named(choice.names[0])
        if choice.mode != "allowed":
            return choice.mode
        mode = "required" if choice.required else "auto"
        allowed = {"mode": mode, "tools": [self._named(name) for name in choice.names]}
        return {"type": "allowed_tools", "allowed_tools": allowed}

    def _named(self, name: str) -> dict[str, Any]:
        is_custom = self._is_own and any(
            isinstance(tool, Tool) and tool.custom and tool.name == name for tool in self._request.tools
        )
        kind = "custom" if is_custom else "function"
        return {"type": kind, kind: {"name": name}}

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _limits(self) -> dict[str, Any]:
        request = self._request
        members: dict[str, Any] = {}
        if request.streaming:
            members["stream"] = True
        if request.max_output is not None:
            members["max_completion_tokens"] = request.max_output
        if request.sampling.choices != 1:
            members["n"] = request.sampling.choices
        return members

    def _sampling(self) -> dict[str, Any]:
        """`top_k` is of some vendors alone; OpenAI refuses it."""
        sampling = self._request.sampling
        self._drops.check(sampling.top_k is not None and not self._is_own, "top_k")
        members: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k if self._is_own else None,
            "stop": list(sampling.stop) or None,
            "seed": sampling.seed,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "logit_bias": sampling.logit_bias,
            "logprobs": sampling.logprobs or None,
            "top_logprobs": sampling.top_logprobs,
        }
        return {name: value for name, value in members.items() if value is not None}

    def _reasoning(self, reasoning: Reasoning) -> dict[str, Any]:
        effort, budget = reasoning.effort, reasoning.budget
        self._drops.check((reasoning.summary or reasoning.show) and not self._is_own, "reasoning.summary")
        if "reasoning" in self._target.lacks:
            self._drops.check(effort not in ("", "none") or budget, "reasoning")
            return {}
        members: dict[str, Any] = {}
        if self._is_own and (budget is not None or reasoning.show is not None):
            told = {"max_tokens": budget, "exclude": None if reasoning.show is None else not reasoning.show}
            members["reasoning"] = {name: value for name, value in told.items() if value is not None}
        elif budget is not None:
            self._drops.add("reasoning.budget")
            if budget > 0 and not effort:
                effort = next((name for name, most in _EFFORT_BUDGETS if budget <= most), "high")
        if reasoning == Reasoning() and self._is_own:
            members["reasoning"] = {"enabled": True}
        return members | ({"reasoning_effort": effort} if effort else {})

    def _account(self) -> dict[str, Any]:
        """What bears on the vendor's account and not on the answer. Callers of other dialects have other service tiers
        and other stores."""
        request = self._request
        tier = request.service_tier
        self._drops.check(tier and tier not in ASKED_OF_OPENAI and not self._is_own, "service_tier")
        self._drops.check(request.store and not self._is_own, "store")
        self._drops.check(is_set(request.metadata) and not self._is_own, "metadata")
        members: dict[str, Any] = {
            "user": request.user or None,
            "metadata": request.metadata if self._is_own else None,
            "service_tier": tier if tier and (self._is_own or tier in ASKED_OF_OPENAI) else None,
            "verbosity": request.verbosity or None,
            "prompt_cache_key": request.cache_key or None,
            "store": request.store if self._is_own else None,
            "modalities": list(request.modalities) or None,
        }
        return {name: value for name, value in members.items() if value is not None}


def _format(form: Format) -> dict[str, Any]:
    if form.kind != "json_schema":
        return {"type": "json_object" if form.kind == "json" else "text"}
    schema: dict[str, Any] = {"name": form.name or "answer"}
    if form.description:
        schema["description"] = form.description
    if is_set(form.schema):
        schema["schema"] = form.schema
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": {**schema, **form.extras}}
