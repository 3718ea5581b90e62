"""A chat completion, read and written."""

from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Heading
from penstock.dialects.custom_tools import is_unknown, restored, wrapped
from penstock.dialects.endings import fault_told, is_fault, refused_in_words, stop_met
from penstock.dialects.logprobs import of_the_form
from penstock.dialects.members import Members, as_raw, reply_members
from penstock.dialects.openai_chat_codec import functions
from penstock.dialects.openai_chat_codec.parts import (
    NAME,
    annotation,
    bare,
    calls_of,
    citation_of,
    content_of,
    media_part,
    part_of,
    reasoning_members,
    sources_of,
    sources_within,
    thinking_of,
    tool_call_object,
    tool_call_of,
)
from penstock.dialects.openai_errors import fault_of, read_error
from penstock.dialects.openai_usage import ChatUsage, chat_usage, normalise
from penstock.dialects.tiers import TOLD_BY_OPENAI
from penstock.domain.chat import Answer, Choice, Citation, Finish, Media, Part, Refusal, Text, ToolCall
from penstock.domain.usage import Usage
from penstock.errors import AnswerFailed, UpstreamMalformed

_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "model_length": "context",  # Mistral
    "error": "error",  # Mistral, OpenRouter
    "insufficient_system_resource": "error",  # DeepSeek
    "sensitive": "content_filter",  # Zhipu
    "network_error": "error",  # Zhipu
    "model_context_window_exceeded": "context",  # Z.ai
    "abort": "error",  # vLLM, SGLang
    "stop_sequence": "stop_sequence",  # Text Generation Inference
    "max_output": "length",  # MiniMax
    # Words of Anthropic's and of Google's, at gateways that leave the maker's own.
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
}
_WORDS: dict[Finish, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "pause": "stop",
    "length": "length",
    "context": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "error": "content_filter",
}
"""The dialect has five words; `native_finish_reason` beside them (OpenRouter) says what the vendor said."""


class End(NamedTuple):
    """How a choice ended."""

    finish: Finish
    native: str = ""
    stop_sequence: str = ""


def end_of(choice: Members) -> End | None:
    """How a choice ended, None while it goes on. `stop_reason` (vLLM), `matched_stop` (SGLang): the stop sequence that
    was met."""
    word, native = choice.text("finish_reason"), choice.text("native_finish_reason")
    stopped = choice.raw("stop_reason")
    if not word:
        return None
    stopped = stopped or choice.raw("matched_stop")
    sequence = ""
    if stopped is not None and bytes(stopped).startswith(b'"'):
        choice.put("stop_reason", stopped)
        sequence = choice.text("stop_reason")
    known = word.partition(":")[0].lower().replace("-", "_")  # Google writes its own reason behind a colon
    finish = _FINISHES.get(known, "stop")
    return End("stop_sequence" if sequence and finish == "stop" else finish, native or word, sequence)


def seen_whole(end: End, calls_tools: bool) -> End:
    """The end of a choice when all of it is known: to be forced to call a tool is a `stop` at OpenAI, and every call is
    one at some servers."""
    return end._replace(finish="tool_calls") if calls_tools and end.finish == "stop" else end


def end_members(end: End) -> dict[str, Any]:
    word = _WORDS[end.finish]
    members: dict[str, Any] = {"finish_reason": word}
    if end.native and end.native != word:
        members["native_finish_reason"] = end.native
    return members | ({"stop_reason": end.stop_sequence} if end.stop_sequence else {})


def usage_of(members: Members, choices: list[Members]) -> Usage | None:
    """The report that is there, if it can be believed; Groq's lies in `x_groq`, Moonshot's in a choice."""
    reported = members.raw("usage") or members.object("x_groq").raw("usage")
    if reported is None:
        reported = next((raw for one in choices if (raw := one.raw("usage")) is not None), None)
    if reported is None:
        return None
    members.put("usage", reported)
    try:
        told = members.take("usage", ChatUsage)
    except UpstreamMalformed:
        return None
    return normalise(told) if told is not None else None


# -- read -------------------------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> Answer:
    """A target's plain answer. Raises `UpstreamMalformed`."""
    members = reply_members(body)
    fault = fault_of(body)
    choices = members.objects("choices")
    if fault.message is not None or not choices:
        raise UpstreamMalformed(fault.message or "The provider's answer has no choices.")
    members.drop("error")
    usage, sources = usage_of(members, choices), sources_of(members)
    id, model, created = members.json_text("id"), members.json_text("model"), members.moment("created")
    read = sorted((_choice(one, number, id, sources) for number, one in enumerate(choices)), key=lambda found: found[0])
    members.drop("object")
    tier = members.word("service_tier")
    return Answer(NAME, id, model, tuple(choice for _, choice in read), created, usage, tier, members.rest())


def _choice(one: Members, number: int, id: str, sources: list[Citation]) -> tuple[int, Choice]:
    index = one.take("index", int)
    message = one.object("message")
    end = end_of(one) or End("error")
    content, refusal = logprobs_of(one)
    one.drop("delta")
    parts = _parts(message, f"call_{id[-12:]}_{number}", sources)
    if end.finish == "error" and not parts and (said := read_error(one.take("error", object))[0]) is not None:
        raise UpstreamMalformed(said)  # OpenRouter
    end = seen_whole(end, any(isinstance(part, ToolCall) for part in parts))
    return (
        number if index is None else index,
        Choice(parts, end.finish, end.native, end.stop_sequence, content, refusal, one.rest()),
    )


class _Columns(Struct):
    """Log-probabilities in columns, as Completions has them: Together's in a chat."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    def rows(self) -> list[Raw]:
        columns = zip_longest(self.tokens or (), self.token_logprobs or (), self.top_logprobs or ())
        return [
            as_raw({**_row(token, logprob), "top_logprobs": [_row(*one) for one in (top or {}).items()]})
            for token, logprob, top in columns
            if token is not None and logprob is not None
        ]


def _row(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


_columns_decoder = msgspec.json.Decoder(_Columns)


def _in_columns(logprobs: Raw) -> list[Raw]:
    try:
        return _columns_decoder.decode(logprobs).rows()
    except (msgspec.DecodeError, RecursionError):
        return []  # of another form: nobody is to miss an answer for it


def logprobs_of(choice: Members) -> tuple[tuple[Raw, ...], tuple[Raw, ...]]:
    """Those of the text and of a refusal. Together tells a bare number in a stream, which is of no token."""
    raw = choice.raw("logprobs")
    if raw is None or not bytes(raw).startswith(b"{"):
        return (), ()
    choice.put("logprobs", raw)
    logprobs = choice.object("logprobs")
    content, refusal = logprobs.take("content", list[Raw]), logprobs.take("refusal", list[Raw])
    if content is None and logprobs.has("tokens"):
        content = _in_columns(raw)
    return of_the_form(content or ()), of_the_form(refusal or ())


def _parts(message: Members, unnamed: str, sources: list[Citation]) -> tuple[Part, ...]:
    """The parts in the order in which the dialect streams them. `sources`: what the whole answer says that it read,
    which its text is cited with where it says nothing itself."""
    parts: list[Part] = [*thinking_of(message, bare)]
    parts += _said(content_of(message))
    if refusal := message.text("refusal"):
        parts.append(Refusal(refusal))
    cited = [found for one in message.objects("annotations") if (found := citation_of(one)) is not None]
    calls = calls_of(message)
    sources = sources_within(message) or sources
    _cite(parts, cited or (sources if any(isinstance(part, Text) for part in parts) else []))
    parts += [tool_call_of(call, bare, f"{unnamed}_{number}") for number, call in enumerate(calls)]
    if (legacy := message.object("function_call")) and not legacy.is_empty():
        parts.append(tool_call_of(Members({"function": legacy.whole()}, message.fault), bare, f"{unnamed}_0"))
    parts += images_of(message)
    audio = message.object("audio")
    if not audio.is_empty():
        parts.append(audio_of(audio))
    return tuple(parts)


def _said(content: list[Part]) -> list[Part]:
    """The content without what says nothing; a reference without words is one of the text before it."""
    said: list[Part] = []
    for part in content:
        last = said[-1] if said else None
        if isinstance(part, Text) and not part.text and part.citations and isinstance(last, Text):
            said[-1] = structs.replace(last, citations=(*last.citations, *part.citations))
        elif part != Text(""):
            said.append(part)
    return said


def _cite(parts: list[Part], cited: list[Citation]) -> None:
    """Annotations are of the whole text: they go to the last part of it."""
    at = next((at for at in range(len(parts) - 1, -1, -1) if isinstance(parts[at], Text)), None)
    text = parts[at] if at is not None else Text("")
    if not cited or not isinstance(text, Text):
        return
    text = structs.replace(text, citations=(*text.citations, *cited))
    if at is None:
        parts.append(text)
    else:
        parts[at] = text


def images_of(message: Members) -> list[Part]:
    """Images that the model made, in OpenRouter's member; `index` is their number in a stream."""
    images = message.objects("images")
    for one in images:
        one.drop("index")
    return [part for one in images for part in part_of(one)]


def audio_of(audio: Members) -> Media:
    id, data, transcript = audio.text("id"), audio.text("data"), audio.text("transcript")
    return Media("audio", data=data, file=id, text=transcript, extras=audio.rest())


# -- write ------------------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    """The caller's plain answer. Raises `AnswerFailed` for one without a word that ended in a fault, for which the
    dialect has no reason to finish."""
    is_own = answer.origin == NAME
    first = answer.choices[0] if len(answer.choices) == 1 else None
    if first is not None and not first.parts and is_fault(first, has_content=True):
        raise AnswerFailed(fault_told(first))
    members: dict[str, Any] = {
        "id": answer.id or heading.id,
        "object": "chat.completion",
        "created": answer.created or heading.created,
        "model": answer.model or heading.model,
        "choices": [_choice_told(choice, heading, index, is_own) for index, choice in enumerate(answer.choices)],
    }
    if answer.usage is not None:
        members["usage"] = chat_usage(answer.usage)
    if answer.service_tier and (is_own or answer.service_tier in TOLD_BY_OPENAI):
        members["service_tier"] = answer.service_tier
    return encode_object(members | (answer.extras if is_own else {}))


def _choice_told(choice: Choice, heading: Heading, index: int, is_own: bool) -> dict[str, Any]:
    told = _choice_object(_restored(choice, heading, is_own), index, is_own)
    if heading.form == functions.FORM:
        return functions.ending({**told, "message": functions.told(told["message"])})
    return told


def _restored(choice: Choice, heading: Heading, is_own: bool) -> Choice:
    """The choice with its calls as the caller knows the tools."""
    choice = refused_in_words(choice)
    parts = [restored(part, heading.request) for part in choice.parts]
    if not is_own:
        parts = [
            wrapped(part) if isinstance(part, ToolCall) and is_unknown(part, heading.request) else part
            for part in parts
        ]
    return structs.replace(choice, parts=tuple(parts), stop_sequence=stop_met(choice, heading.request))


def _choice_object(choice: Choice, index: int, is_own: bool) -> dict[str, Any]:
    logprobs = logprobs_object(choice.logprobs, choice.refusal_logprobs)
    end = End(choice.finish, choice.native, choice.stop_sequence)
    own = choice.extras if is_own else {}
    message = _message(choice.parts, is_own=is_own)
    return {"index": index, "message": message, "logprobs": logprobs, **end_members(end), **own}


def logprobs_object(content: tuple[Raw, ...], refusal: tuple[Raw, ...]) -> dict[str, Any] | None:
    return {"content": content, "refusal": refusal or None} if content or refusal else None


def _message(parts: tuple[Part, ...], *, is_own: bool) -> dict[str, Any]:
    texts = [part for part in parts if isinstance(part, Text)]
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    text = "".join(part.text for part in texts)
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": refusal or None}
    message |= reasoning_members(parts)
    message["annotations"] = _annotations(texts, is_own=is_own)
    if calls := [tool_call_object(_plain_call(part, is_own)) for part in parts if isinstance(part, ToolCall)]:
        message["tool_calls"] = calls
    for medium in parts:
        if isinstance(medium, Media):
            told = medium if is_own else structs.replace(medium, extras={})
            message |= media_members(told, message.get("images", []))
    return message


def _annotations(texts: list[Text], *, is_own: bool) -> list[Any]:
    """The citations of all texts. Those of the dialect's own have their places in the content already."""
    told, before = [], 0
    for text in texts:
        told += [annotation(citation, before, len(text.text)) for citation in text.citations]
        before += 0 if is_own else len(text.text)
    return told


def _plain_call(call: ToolCall, is_own: bool) -> ToolCall:
    """Members of another dialect's call stay there."""
    return call if is_own else structs.replace(call, extras={})


def media_members(medium: Media, before: list[Any]) -> dict[str, Any]:
    """A medium that the model made, as members of its message; `before`: the images so far."""
    if medium.kind == "audio":
        expires = {} if "expires_at" in medium.extras else {"expires_at": 0}
        audio = {"id": medium.file, "data": medium.data, "transcript": medium.text}
        return {"audio": {**audio, **expires, **medium.extras}}
    written = media_part(medium)
    return {} if written is None else {"images": [*before, written]}
