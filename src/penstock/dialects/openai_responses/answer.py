"""A response, read and written."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.custom_tools import restored
from penstock.dialects.endings import refused_in_words
from penstock.dialects.logprobs import of_the_form
from penstock.dialects.members import Members, reply_members
from penstock.dialects.openai_responses.items import (
    NAME,
    CallProof,
    call_item,
    call_of,
    call_proof_item,
    part_of,
    raw_kind,
    reasoning_item,
    text_part,
    thoughts_of,
)
from penstock.dialects.openai_responses.request_out import encode_request
from penstock.dialects.openai_responses.usage import ResponseUsage, normalise, response_usage
from penstock.dialects.tiers import TOLD_BY_OPENAI
from penstock.domain.chat import (
    Answer,
    Choice,
    Finish,
    Media,
    Opaque,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
)
from penstock.domain.usage import Usage
from penstock.errors import UpstreamMalformed


class End(NamedTuple):
    """How an answer ended, and whether it is whole (`completed`)."""

    finish: Finish
    native: str = ""
    explanation: str = ""


_REASONS: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_INCOMPLETE: dict[Finish, str] = {
    "length": "max_output_tokens",
    "context": "max_output_tokens",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}
"""Why a response is incomplete; every other end but a fault completes it."""


def bare(proof: str) -> tuple[str, str]:
    """A proof from a target that speaks the dialect: its own, whatever it is."""
    return NAME, proof


def usage_of(members: Members) -> Usage | None:
    """The report that is there, if it can be believed."""
    try:
        reported = members.take("usage", ResponseUsage)
    except UpstreamMalformed:
        return None
    return normalise(reported) if reported is not None else None


def end_of(response: Members, calls_tools: bool) -> End:
    status = response.text("status")
    reason = response.object("incomplete_details").text("reason")
    if status == "incomplete":
        return End(_REASONS.get(reason, "length"), reason or status)
    if status in ("failed", "cancelled"):
        return End("error", status)
    return End("tool_calls" if calls_tools else "stop", status)


# -- read -------------------------------------------------------------------------------------------------------------

_ECHOED = (
    *("object", "completed_at", "background", "instructions", "max_output_tokens", "max_tool_calls", "tools", "text"),
    *("parallel_tool_calls", "previous_response_id", "reasoning", "store", "temperature", "tool_choice", "top_p"),
    *("top_logprobs", "truncation", "user", "safety_identifier", "prompt_cache_key", "metadata", "output_text"),
    *("conversation", "prompt", "prompt_cache_retention", "presence_penalty", "frequency_penalty"),
)
"""What a response says of its request and not of the answer."""


def decode_answer(body: bytes) -> Answer:
    """A target's plain answer. Raises `UpstreamMalformed`."""
    response = reply_members(body)
    response.drop(*_ECHOED)
    failed = response.object("error").text("message")
    items = response.objects("output")
    if failed:
        raise UpstreamMalformed(failed)
    if not response.has("id") and not items:
        raise UpstreamMalformed("The provider's answer is no response.")
    parts: list[Part] = []
    logprobs: list[Raw] = []
    for item in items:
        parts += item_parts(item, logprobs)
    id, model, created = response.json_text("id"), response.json_text("model"), response.moment("created_at")
    usage, tier = usage_of(response), response.word("service_tier")
    end = end_of(response, any(isinstance(part, ToolCall) for part in parts))
    choice = Choice(tuple(parts), end.finish, end.native, logprobs=tuple(logprobs))
    return Answer(NAME, id, model, (choice,), created, usage, tier, response.rest())


def item_parts(item: Members, logprobs: list[Raw]) -> Iterator[Part]:
    """The parts of one item of an output."""
    kind = raw_kind(item)
    if kind == "message":
        for part in item.objects("content"):
            logprobs += of_the_form(part.take("logprobs", list[Raw]) or ())
            yield part_of(part)
    elif kind == "reasoning":
        found = thoughts_of(item, bare)
        if not isinstance(found, CallProof):
            yield from found
    elif kind in ("function_call", "custom_tool_call"):
        yield call_of(item)
    elif kind == "image_generation_call" and (data := item.peek("result")):
        item.drop("type", "result")
        yield Media("image", f"image/{item.peek('output_format') or 'png'}", data, extras=item.rest())
    else:
        yield Opaque(NAME, kind, item.whole())


# -- write ------------------------------------------------------------------------------------------------------------


class Echo:
    """The parts of a response that stay the same while it comes: its id, and what it says of its request."""

    def __init__(self, id: str, model: str, created: int, request: Request) -> None:
        self.id = id
        self._stem = self.id.removeprefix("resp_")
        self._members = {
            "id": self.id,
            "object": "response",
            "created_at": created,
            "model": model,
            **_echoed(request),
        }

    def item_id(self, prefix: str, number: int) -> str:
        return f"{prefix}_{self._stem}_{number}"

    def response(self, status: str, output: list[Any], **more: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"status": status, "error": None, "incomplete_details": None}
        return {**self._members, **told, "output": output, **more}


def response_id(id: str, origin: str) -> str:
    """The id that the vendor gave; one of another dialect's looks like one of this."""
    return id if origin == NAME or id.startswith("resp_") else f"resp_{id}"


def _echoed(request: Request) -> dict[str, Any]:
    """What a response repeats of its request, with the vendor's defaults for what was not said."""
    said: dict[str, Raw] = msgspec.json.decode(
        encode_request(request, TargetFacts(request.model)).body, type=dict[str, Raw]
    )
    text: dict[str, Raw] = msgspec.json.decode(said["text"], type=dict[str, Raw]) if "text" in said else {}
    defaults: dict[str, Any] = {
        "instructions": None,
        "max_output_tokens": None,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "top_logprobs": 0,
        "truncation": "disabled",
        "metadata": {},
        "store": False,
    }
    reasoning = {"effort": None, "summary": None}
    if "reasoning" in said:
        reasoning |= msgspec.json.decode(said["reasoning"])
    echoed = {name: said.get(name, default) for name, default in defaults.items()}
    if "user" in said:
        echoed["user"] = said["user"]
    fixed = {"background": False, "previous_response_id": None, "reasoning": reasoning}
    return {**echoed, **fixed, "text": {"format": {"type": "text"}, **text}}


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    """The caller's plain answer: one choice, which is all that the dialect has."""
    id = response_id(answer.id or heading.id, answer.origin)
    echo = Echo(id, answer.model or heading.model, answer.created or heading.created, heading.request)
    choice = refused_in_words(answer.choices[0]) if answer.choices else Choice((), "error")
    end = End(choice.finish, choice.native, choice.explanation)
    parts = [media_of_own(restored(part, heading.request), answer.origin == NAME) for part in choice.parts]
    choice = structs.replace(choice, parts=tuple(parts))
    items = _items(choice, echo, "incomplete" if end.finish in _INCOMPLETE else "completed")
    told = ending(end, answer.usage, answer.created or heading.created)
    if answer.service_tier and (answer.origin == NAME or answer.service_tier in TOLD_BY_OPENAI):
        told["service_tier"] = answer.service_tier
    own = answer.extras if answer.origin == NAME else {}
    return encode_object({**echo.response(output=items, **told), **own})


def ending(end: End, usage: Usage | None, completed: int) -> dict[str, Any]:
    """What a response says when it is over."""
    told: dict[str, Any] = {"status": "completed", "completed_at": completed}
    if end.finish in _INCOMPLETE:
        told = {"status": "incomplete", "incomplete_details": {"reason": _INCOMPLETE[end.finish]}}
    elif end.finish == "error":
        message = end.explanation or "The model's answer broke off."
        told = {"status": "failed", "error": {"code": "server_error", "message": message}}
    return told | ({"usage": response_usage(usage)} if usage is not None else {})


def _items(choice: Choice, echo: Echo, status: str) -> list[Any]:
    """The items of a choice: texts that stand together are one message."""
    items: list[Any] = []
    run: list[Part] = []

    def close() -> None:
        if run:
            items.append(message_item(run, echo.item_id("msg", len(items)), status, ()))
            run.clear()

    for part in choice.parts:
        if isinstance(part, Text | Refusal):
            run.append(part)
            continue
        close()
        items += part_items(part, echo, len(items))
    close()
    _give_logprobs(items, choice.logprobs)
    return items


def _give_logprobs(items: list[Any], logprobs: tuple[Raw, ...]) -> None:
    """Log-probabilities are of all the text; they go with the last of it."""
    texts = [
        part
        for item in items
        if isinstance(item, dict) and item.get("type") == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    ]
    if texts and logprobs:
        texts[-1]["logprobs"] = [logprob(told) for told in logprobs]


def logprob(told: Raw) -> Any:
    """A token's log-probability; its bytes, which some vendors leave out, must be there."""
    if b'"bytes":null' not in bytes(told).replace(b" ", b""):
        return told
    token = msgspec.json.decode(told)
    for one in (token, *(token.get("top_logprobs") or ())):
        one["bytes"] = one.get("bytes") or list(str(one.get("token", "")).encode())
    return token


def message_item(parts: list[Part], id: str, status: str, logprobs: tuple[Raw, ...]) -> dict[str, Any]:
    content = [output_part(part, logprobs) for part in parts]
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def output_part(part: Part, logprobs: tuple[Raw, ...] = ()) -> dict[str, Any]:
    if isinstance(part, Text):
        return text_part(part, "output_text") | {"logprobs": [logprob(told) for told in logprobs]}
    return {"type": "refusal", "refusal": part.text if isinstance(part, Refusal) else ""}


def media_of_own(part: Part, is_own: bool) -> Part:
    """A medium without what only another dialect says of it; any other part as it is."""
    return structs.replace(part, extras={}) if isinstance(part, Media) and not is_own else part


def part_items(part: Part, echo: Echo, number: int) -> list[Any]:
    """What is not text, as items: a call of another vendor's that is proven has its proof behind it."""
    if isinstance(part, ToolCall):
        kind = "ctc" if part.custom else "fc"
        item = call_item(part, part.item or echo.item_id(kind, number), "completed")
        if not part.signature or part.origin in ("", NAME):
            return [item]
        return [item, call_proof_item(part, echo.item_id("rs", number + 1))]
    if isinstance(part, Thinking):
        id = part.id if part.origin == NAME else ""
        return [reasoning_item(part, id or echo.item_id("rs", number))]
    if isinstance(part, Opaque) and part.origin == NAME:
        return [part.raw]
    if isinstance(part, Media) and part.kind == "image" and part.data:
        id = echo.item_id("ig", number)
        made = {"id": id, "type": "image_generation_call", "status": "completed", "result": part.data}
        return [{**made, **part.extras}]
    if isinstance(part, Media) and part.kind == "audio" and part.text:
        return [message_item([Text(part.text)], echo.item_id("msg", number), "completed", ())]
    return []
