"""A request as the body of a response's creation, for a target that speaks the dialect.

Nothing is kept at the vendor for callers of other dialects (`store: false`): their reasoning comes and goes encrypted.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import structs

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Drops, Encoded, TargetFacts, shortened
from penstock.dialects.members import is_set
from penstock.dialects.openai_chat_codec.parts import cache_member
from penstock.dialects.openai_responses.items import (
    NAME,
    are_of_one_item,
    call_item,
    media_part,
    reasoning_item,
    text_part,
)
from penstock.dialects.openai_responses.request_in import INSTRUCTIONS
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

LEAST_OUTPUT = 16
"""Tokens: the smallest cap that the vendor takes."""

_MAX_ID = 64
_EFFORT_BUDGETS = (("low", 2_048), ("medium", 8_192))


def encode_request(request: Request, target: TargetFacts) -> Encoded:
    return _Encoding(request, target).encoded()


class _Encoding:
    """One request being written."""

    def __init__(self, request: Request, target: TargetFacts) -> None:
        self._request = request
        self._target = target
        self._is_own = request.origin == NAME
        self._drops = Drops()
        self._thinks = request.reasoning is not None and request.reasoning.effort != "none"

    def encoded(self) -> Encoded:
        request = self._request
        members: dict[str, Any] = {"model": self._target.model}
        messages = request.messages
        if messages and messages[0].extras == INSTRUCTIONS and len(messages[0].parts) == 1:
            members["instructions"] = messages[0].parts[0].text if isinstance(messages[0].parts[0], Text) else None
            messages = messages[1:]
        members["input"] = [item for message in messages for item in self._items(message)]
        members |= self._tools() | self._limits() | self._text()
        if request.reasoning is not None:
            members |= self._reasoning(request.reasoning)
        members |= self._account()
        extras = self._drops.extras(request, NAME)
        included = self._included()
        if "include" in extras or included:
            members["include"] = included
        if "include" in extras:
            members["include"] = extras.pop("include")
        return Encoded(encode_object(members | extras), self._drops.names())

    # -- the input ----------------------------------------------------------------------------------------------------

    def _items(self, message: Message) -> Iterator[Any]:
        """The items of one message: texts that stand together are one, every other part is its own."""
        run: list[Part] = []
        is_assistant = message.role == "assistant"
        for part, before, after in _with_neighbours(message.parts):
            if isinstance(part, Text | Refusal | Media):
                run.append(part)
                continue
            yield from self._message(message, run)
            run = []
            if isinstance(part, ToolResult):
                yield self._result(part)
            elif isinstance(part, ToolCall):
                yield self._call(part)
            elif isinstance(part, Thinking):
                if not (isinstance(before, Thinking) and are_of_one_item(before, part)):
                    summary = after if after is not None and are_of_one_item(part, after) else None
                    yield from self._thinking(part, summary.text if isinstance(summary, Thinking) else "")
            elif isinstance(part, Opaque) and part.origin == NAME:
                yield part.raw
            elif isinstance(part, Opaque):
                self._drops.add(part.kind)
        if run or (not message.parts and not is_assistant):
            yield from self._message(message, run)

    def _message(self, message: Message, run: list[Part]) -> Iterator[dict[str, Any]]:
        self._drops.check(message.name and not self._is_own, "name")
        written = [self._part(part, message.role == "assistant") for part in run]
        content = [part for part in written if part is not None]
        if not content:
            return
        told: dict[str, Any] = {"type": "message", "role": message.role, "content": content}
        if self._is_own and message.id:
            told["id"] = message.id
        yield told | self._own(message.extras, "messages")

    def _part(self, part: Part, is_assistant: bool) -> Any:
        if isinstance(part, Text):
            own = self._own(part.extras, "content")
            kind = "output_text" if is_assistant else "input_text"
            return text_part(self._cited(part, is_assistant), kind) | self._cache(part.cache) | own
        if isinstance(part, Refusal):
            return {"type": "refusal", "refusal": part.text}
        if not isinstance(part, Media):
            return None
        if is_assistant or (part.file and not self._is_own and not (part.data or part.url or part.text)):
            self._drops.add(f"assistant.{part.kind}" if is_assistant else "file_id")
            return None
        if part.kind == "audio" and not self._is_own:
            self._drops.add("input_audio")
            return None
        written = media_part(part)
        self._drops.check(written is None, part.kind)
        return None if written is None else written | self._cache(part.cache) | self._own(part.extras, "content")

    def _cited(self, text: Text, is_assistant: bool) -> Text:
        """The text with the citations that there is a place for: what the model said may cite what has an address."""
        if self._is_own or not text.citations:
            return text
        kept = tuple(citation for citation in text.citations if citation.url and is_assistant)
        self._drops.check(len(kept) < len(text.citations), "citations")
        return structs.replace(text, citations=kept)

    def _own(self, extras: Extras, where: str) -> Extras:
        return self._drops.nested(extras, where, is_own=self._is_own)

    def _cache(self, cache: Cache | None) -> dict[str, Any]:
        """Only what a caller of the dialect wrote: the vendor caches by itself, and older models refuse the marks."""
        self._drops.check(cache is not None and not self._is_own, "cache_control")
        return cache_member(cache) if self._is_own else {}

    def _result(self, result: ToolResult) -> dict[str, Any]:
        self._drops.check(result.is_error, "tool_result.is_error")
        self._cache(result.cache)
        written = [self._output(part) for part in result.parts]
        output: Any = [part for part in written if part is not None]
        only = result.parts[0] if len(result.parts) == 1 else None
        if (isinstance(only, Text) and not (only.extras or only.cache)) or not result.parts:
            output = only.text if isinstance(only, Text) else ""
        kind = "custom_tool_call_output" if result.custom else "function_call_output"
        told: dict[str, Any] = {"type": kind, "call_id": self._id(result.call), "output": output}
        if self._is_own and result.name:
            told["name"] = result.name
        return told | self._own(result.extras, "content")

    def _output(self, part: Text | Media | Opaque) -> Any:
        if isinstance(part, Opaque):
            self._drops.check(part.origin != NAME, part.kind)
            return part.raw if part.origin == NAME else None
        return self._part(part, is_assistant=False)

    def _call(self, call: ToolCall) -> dict[str, Any]:
        is_foreign = call.origin not in ("", NAME)
        self._drops.check(is_foreign and call.signature, "thinking")
        self._cache(call.cache)
        self._own(call.extras, "content")
        told = structs.replace(call, id=self._id(call.id))
        return call_item(told, call.item if call.origin == NAME else "")

    def _id(self, call: str) -> str:
        return call if self._is_own else shortened(call, _MAX_ID)

    def _thinking(self, thinking: Thinking, summary: str) -> Iterator[dict[str, Any]]:
        """What the vendor can tell for its own; what another's model thought stays behind."""
        if thinking.origin == NAME and (thinking.sealed or self._is_own):
            self._thinks = True
            yield reasoning_item(thinking, thinking.id, summary)
        else:
            self._drops.add("thinking")

    # -- tools --------------------------------------------------------------------------------------------------------

    def _tools(self) -> dict[str, Any]:
        request = self._request
        written = [told for tool in request.tools if (told := self._tool(tool)) is not None]
        members: dict[str, Any] = {"tools": written} if written else {}
        if request.tool_choice is not None and (written or self._is_own):
            members["tool_choice"] = self._choice(request.tool_choice)
        if request.parallel_tools is not None and (written or self._is_own):
            members["parallel_tool_calls"] = request.parallel_tools
        return members

    def _tool(self, tool: Tool | ServerTool) -> Any:
        if isinstance(tool, ServerTool):
            self._drops.check(tool.origin != NAME, f"tools.{tool.kind}")
            return tool.raw if tool.origin == NAME else None
        self._cache(tool.cache)
        extras = self._own(tool.extras, "tools")
        told: dict[str, Any] = {"type": "custom" if tool.custom else "function", "name": tool.name}
        if tool.description:
            told["description"] = tool.description
        if tool.custom:
            told |= {"format": tool.schema} if is_set(tool.schema) else {}
        else:
            told |= {"parameters": tool.schema, "strict": tool.strict if self._is_own else bool(tool.strict)}
        return told | extras

    def _choice(self, choice: ToolChoice) -> Any:
        if choice.mode == "tool":
            return self._named(choice.names[0])
        if choice.mode != "allowed":
            return choice.mode
        tools = [self._named(name) for name in choice.names]
        return {"type": "allowed_tools", "mode": "required" if choice.required else "auto", "tools": tools}

    def _named(self, name: str) -> dict[str, str]:
        is_custom = any(isinstance(tool, Tool) and tool.custom and tool.name == name for tool in self._request.tools)
        return {"type": "custom" if is_custom else "function", "name": name}

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _limits(self) -> dict[str, Any]:
        """The dialect has one answer, no stop sequences and no seed."""
        request, sampling, drops = self._request, self._request.sampling, self._drops
        drops.check(sampling.choices != 1, "n")
        drops.check(sampling.stop, "stop")
        drops.check(sampling.logit_bias is not None, "logit_bias")
        for name in ("top_k", "seed", "presence_penalty", "frequency_penalty"):
            drops.check(getattr(sampling, name) is not None, name)
        drops.check(any(kind != "text" for kind in request.modalities), "modalities")
        members: dict[str, Any] = {
            "stream": request.streaming or None,
            "max_output_tokens": self._cap(),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_logprobs": sampling.top_logprobs,
        }
        return {name: value for name, value in members.items() if value is not None}

    def _cap(self) -> int | None:
        cap = self._request.max_output
        if cap is None or cap >= LEAST_OUTPUT or self._is_own:
            return cap
        self._drops.add("max_output")
        return LEAST_OUTPUT

    def _text(self) -> dict[str, Any]:
        request = self._request
        told: dict[str, Any] = {}
        if request.format is not None and (request.format.kind != "text" or self._is_own):
            told["format"] = _format(request.format)
        if request.verbosity:
            told["verbosity"] = request.verbosity
        return {"text": told} if told else {}

    def _reasoning(self, reasoning: Reasoning) -> dict[str, Any]:
        if "reasoning" in self._target.lacks:
            self._drops.check(reasoning.effort not in ("", "none") or reasoning.budget, "reasoning")
            self._thinks = False
            return {}
        effort, summary = reasoning.effort, reasoning.summary
        if reasoning.budget is not None:
            self._drops.add("reasoning.budget")
            if reasoning.budget > 0 and not effort:
                effort = next((name for name, most in _EFFORT_BUDGETS if reasoning.budget <= most), "high")
        if reasoning.show and not summary:
            summary = "auto"
        told = ({"effort": effort} if effort else {}) | ({"summary": summary} if summary else {})
        return {"reasoning": told} if told else {}

    def _included(self) -> list[str]:
        included = ["reasoning.encrypted_content"] if self._thinks and "reasoning" not in self._target.lacks else []
        return [*included, "message.output_text.logprobs"] if self._request.sampling.logprobs else included

    def _account(self) -> dict[str, Any]:
        """What bears on the vendor's account and not on the answer."""
        request = self._request
        tier = request.service_tier
        self._drops.check(tier and tier not in ASKED_OF_OPENAI and not self._is_own, "service_tier")
        self._drops.check(request.store and not self._is_own, "store")
        members: dict[str, Any] = {
            "user": request.user or None,
            "metadata": request.metadata,
            "service_tier": tier if tier and (self._is_own or tier in ASKED_OF_OPENAI) else None,
            "prompt_cache_key": request.cache_key or None,
            "store": request.store if self._is_own else False,
        }
        return {name: value for name, value in members.items() if value is not None}


def _with_neighbours(parts: tuple[Part, ...]) -> Iterator[tuple[Part, Part | None, Part | None]]:
    """Each part with the one before it and the one behind it."""
    for at, part in enumerate(parts):
        yield part, parts[at - 1] if at else None, parts[at + 1] if at + 1 < len(parts) else None


def _format(form: Format) -> dict[str, Any]:
    if form.kind != "json_schema":
        return {"type": "json_object" if form.kind == "json" else "text"}
    told: dict[str, Any] = {"type": "json_schema", "name": form.name or "answer"}
    told |= {"description": form.description} if form.description else {}
    told |= {"schema": form.schema} if is_set(form.schema) else {}
    return told | ({"strict": form.strict} if form.strict is not None else {})
