"""A request as the body of a Chat call, for a target that speaks the dialect.

Source: Cohere API reference, "Chat V2" (ranges and what cannot go together); guides "Structured outputs" and
"Reasoning" (which models think).
"""

import re
from typing import Any

from msgspec import Raw

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Drops, Encoded, TargetFacts
from penstock.dialects.cohere.parts import NAME, document_object, tool_call_object
from penstock.dialects.custom_tools import as_function
from penstock.dialects.members import is_set
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
    ToolResult,
)

MAX_STOPS = 5
MAX_K = 500

_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_DOES_NOT_THINK = re.compile(r"command-r|command-a(-\d|-vision|-translate|$)|c4ai-|command(-light)?(-nightly)?$")
_NO_SCHEMA = Raw(b'{"type":"object","properties":{}}')


def encode_request(request: Request, target: TargetFacts) -> Encoded:
    return _Encoding(request, target).encoded()


class _Encoding:
    """One request being written."""

    def __init__(self, request: Request, target: TargetFacts) -> None:
        self._request = request
        self._target = target
        self._is_own = request.origin == NAME
        self._drops = Drops()
        self._documents: list[Any] = []

    def encoded(self) -> Encoded:
        request = self._request
        members: dict[str, Any] = {"model": self._target.model, "messages": self._messages()}
        members |= {"stream": True} if request.streaming else {}
        members |= {"documents": self._documents} if self._documents else {}
        members |= self._tools()
        members |= self._format(request.format, members) if request.format is not None else {}
        members |= {"max_tokens": request.max_output} if request.max_output is not None else {}
        members |= self._sampling(request.sampling)
        members |= self._reasoning(request.reasoning) if request.reasoning is not None else {}
        self._account()
        members |= self._drops.extras(request, NAME)
        return Encoded(encode_object(members), self._drops.names())

    # -- messages -----------------------------------------------------------------------------------------------------

    def _messages(self) -> list[dict[str, Any]]:
        messages = self._request.messages
        last = max((at for at, message in enumerate(messages) if _has_words_of_a_user(message)), default=-1)
        written: list[dict[str, Any]] = []
        for at, message in enumerate(messages):
            self._drops.check(message.name, "messages.name")
            if message.role == "assistant":
                spoken = self._assistant(message)
                if self._is_own or spoken.get("content") or "tool_calls" in spoken:
                    written.append(spoken)
            else:
                written += self._spoken(message, is_last=at == last)
        return written

    def _spoken(self, message: Message, *, is_last: bool) -> list[dict[str, Any]]:
        """Results of tools come first, each a message of its own. The dialect has no images in them, so those follow
        in a message of the user's."""
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        shown: list[Any] = []
        written = [self._result(result, shown) for result in results]
        if shown:
            written.append({"role": "user", "content": shown})
        rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
        told = tuple(part for part in rest if not self._is_document(part, is_last=is_last))
        if told or not (results or rest):
            role = message.role if self._is_own or message.role != "developer" else "system"
            written.append({"role": role, "content": self._content(told), **self._own(message.extras, "messages")})
        return written

    def _is_document(self, part: Part, *, is_last: bool) -> bool:
        """A text beside the last question is a document of the request, which the model may cite."""
        if not isinstance(part, Media) or part.kind != "document" or not part.text:
            return False
        if is_last and (self._is_own or self._request.format is None):
            self._drops.check(part.cache, "cache_control")
            self._own(part.extras, "content")
            self._documents.append(document_object(part))
            return True
        return False

    def _result(self, result: ToolResult, shown: list[Any]) -> dict[str, Any]:
        self._drops.check(result.is_error, "tool_result.is_error")
        self._drops.check(result.cache, "cache_control")
        content: list[Any] = []
        for part in result.parts:
            if isinstance(part, Media) and part.kind == "document" and part.text and not self._is_own:
                self._own(part.extras, "content")
                content.append({"type": "document", "document": document_object(part)})
            elif isinstance(part, Media):
                if (written := self._part(part)) is not None:
                    shown += [{"type": "text", "text": f"The tool call {result.call} returned:"}, written]
            elif (written := self._part(part)) is not None:
                content.append(written)
        own = self._own(result.extras, "content")
        return {"role": "tool", "tool_call_id": result.call, "content": _shortest(content), **own}

    def _own(self, extras: Extras, where: str) -> Extras:
        return self._drops.nested(extras, where, is_own=self._is_own)

    def _assistant(self, message: Message) -> dict[str, Any]:
        """What a model says before its calls is its plan."""
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        rest = [part for part in message.parts if not isinstance(part, ToolCall)]
        plans = [part for part in rest if isinstance(part, Text) and calls]
        content = tuple(part for part in rest if part not in plans)
        written: dict[str, Any] = {"role": "assistant"}
        if (told := self._content(content)) or not calls:
            written["content"] = told
        if plans:
            written["tool_plan"] = "\n".join([self._text(part)["text"] for part in plans])
        if calls:
            written["tool_calls"] = [self._tool_call(call) for call in calls]
        return written | self._own(message.extras, "messages")

    def _tool_call(self, call: ToolCall) -> dict[str, Any]:
        self._drops.check(call.signature, "thinking")
        self._drops.check(call.cache, "cache_control")
        self._own(call.extras, "content")
        written = tool_call_object(call, is_own=self._is_own)
        written["function"]["arguments"] = written["function"]["arguments"] or "{}"
        return written

    def _content(self, parts: tuple[Part, ...]) -> Any:
        return _shortest([written for part in parts if (written := self._part(part)) is not None])

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, Refusal):
            return {"type": "text", "text": part.text}
        if isinstance(part, Thinking) and part.origin in ("", NAME):
            self._drops.check(part.signature or part.sealed, "thinking")
            own = part.extras if self._is_own else {}
            return {"type": "thinking", "thinking": part.text, **own} if part.text else None
        if isinstance(part, Media):
            self._drops.check(part.cache, "cache_control")
            return self._medium(part)
        if isinstance(part, Opaque) and part.origin == NAME:
            return part.raw
        self._drops.add(f"content.{part.kind}" if isinstance(part, Opaque) else "thinking")
        return None

    def _text(self, part: Text) -> dict[str, Any]:
        self._drops.check(part.cache, "cache_control")
        self._drops.check(part.citations, "citations")
        return {"type": "text", "text": part.text, **self._own(part.extras, "content")}

    def _medium(self, medium: Media) -> Any:
        own = self._own(medium.extras, "content")
        if medium.kind == "image" and (medium.url or medium.data):
            url = medium.url or f"data:{medium.mime};base64,{medium.data}"
            detail = {"detail": medium.detail} if medium.detail else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}, **own}
        if medium.kind == "document" and medium.text:
            return {"type": "text", "text": f"{medium.name}\n{medium.text}" if medium.name else medium.text}
        self._drops.add("file_id" if medium.file else {"audio": "input_audio"}.get(medium.kind, medium.kind))
        return None

    # -- tools --------------------------------------------------------------------------------------------------------

    def _tools(self) -> dict[str, Any]:
        """Of a choice among some tools, or of one, those alone are told."""
        request = self._request
        choice, tools = request.tool_choice, request.tools
        if choice is not None and choice.mode in ("tool", "allowed"):
            tools = tuple(tool for tool in tools if isinstance(tool, Tool) and tool.name in choice.names)
        written = [told for tool in tools if (told := self._tool(tool)) is not None]
        members: dict[str, Any] = {"tools": written} if written else {}
        strictness = {tool.strict for tool in tools if isinstance(tool, Tool)}
        if len(strictness) == 1 and strictness != {None}:
            members["strict_tools"] = strictness.pop()
        self._drops.check(True in strictness and len(strictness) > 1, "tools.strict")
        if choice is not None and (written or self._is_own):
            is_forced = choice.mode in ("required", "tool") or (choice.mode == "allowed" and choice.required)
            word = "REQUIRED" if is_forced else "NONE" if choice.mode == "none" else ""
            members |= {"tool_choice": word} if word else {}
        self._drops.check(request.parallel_tools is False, "parallel_tool_calls")
        return members

    def _tool(self, tool: Tool | ServerTool) -> Any:
        if isinstance(tool, ServerTool):
            if tool.origin == NAME:
                return tool.raw
            self._drops.add(f"tools.{tool.kind}")
            return None
        self._drops.check(tool.cache, "cache_control")
        extras = self._own(tool.extras, "tools")
        if tool.custom:
            self._drops.check(is_set(tool.schema), "tools.grammar")
            tool = as_function(tool)
        function: dict[str, Any] = {"name": tool.name}
        function |= {"description": tool.description} if tool.description else {}
        function["parameters"] = tool.schema if is_set(tool.schema) else _NO_SCHEMA
        return {"type": "function", "function": {**function, **extras}}

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _format(self, form: Format, members: dict[str, Any]) -> dict[str, Any]:
        """It does not go together with tools and documents."""
        if form.kind == "text":
            return {"response_format": {"type": "text"}} if self._is_own else {}
        if not self._is_own and ("tools" in members or "documents" in members):
            self._drops.add("response_format")
            return {}
        schema = {"json_schema": form.schema} if is_set(form.schema) else {}
        return {"response_format": {"type": "json_object", **schema}}

    def _sampling(self, sampling: Sampling) -> dict[str, Any]:
        """Penalties are from 0 to 1; of `p`, whose most is 0.99, the nearest that is allowed does the same."""
        drops, is_own = self._drops, self._is_own
        stops = sampling.stop if is_own else sampling.stop[:MAX_STOPS]
        drops.check(len(stops) < len(sampling.stop), "stop")
        drops.check(sampling.logit_bias is not None, "logit_bias")
        drops.check(sampling.top_logprobs, "top_logprobs")
        drops.check(sampling.choices > 1, "n")
        p, k = sampling.top_p, sampling.top_k
        if not is_own:
            p = None if p is None else min(max(p, 0.01), 0.99)
            k = None if k is None else min(max(k, 0), MAX_K)
        members: dict[str, Any] = {
            "temperature": sampling.temperature,
            "p": p,
            "k": k,
            "stop_sequences": list(stops) or None,
            "seed": sampling.seed,
            "presence_penalty": self._penalty("presence_penalty", sampling.presence_penalty),
            "frequency_penalty": self._penalty("frequency_penalty", sampling.frequency_penalty),
            "logprobs": sampling.logprobs or None,
        }
        return {name: value for name, value in members.items() if value is not None}

    def _penalty(self, name: str, value: float | None) -> float | None:
        if self._is_own or value is None or 0 <= value <= 1:
            return value
        self._drops.add(name)
        return None

    def _reasoning(self, reasoning: Reasoning) -> dict[str, Any]:
        effort, budget = reasoning.effort, reasoning.budget
        is_off = effort == "none" or budget == 0
        self._drops.check(reasoning.summary, "reasoning.summary")
        if "reasoning" in self._target.lacks or (not self._is_own and _DOES_NOT_THINK.match(self._target.model)):
            self._drops.check(not is_off and (effort or budget), "reasoning")
            return {}
        if is_off:
            return {"thinking": {"type": "disabled"}}
        most = budget if budget is not None else _BUDGETS.get(effort)
        if most is None and reasoning != Reasoning():  # nothing but how it is to be shown
            return {}
        return {"thinking": {"type": "enabled"} | ({"token_budget": most} if most is not None and most > 0 else {})}

    def _account(self) -> None:
        """What the dialect has no words for."""
        request, drops = self._request, self._drops
        drops.check(request.user, "user")
        drops.check(is_set(request.metadata), "metadata")
        drops.check(request.service_tier not in ("", "auto"), "service_tier")
        drops.check(request.verbosity not in ("", "medium"), "verbosity")
        drops.check(request.cache_key, "prompt_cache_key")
        drops.check(request.store, "store")
        drops.check(set(request.modalities) - {"text"}, "modalities")


def _has_words_of_a_user(message: Message) -> bool:
    return message.role == "user" and any(isinstance(part, Text) for part in message.parts)


def _shortest(content: list[Any]) -> Any:
    """A string where it says everything, else a list."""
    if len(content) == 1 and isinstance(content[0], dict) and set(content[0]) == {"type", "text"}:
        return content[0]["text"]
    return content or ""
