"""The parts of a chat message, read and written: content, reasoning, tool calls, citations.

Source: OpenAI API reference, "Create chat completion"; OpenRouter, "Reasoning tokens" (`reasoning_details`) and
"Image generation" (`images`); Google, "OpenAI compatibility" and "Thought signatures" (`extra_content`); DeepSeek,
"Thinking mode" (`reasoning_content`); Mistral, "Reasoning" (`thinking` parts) and "Citations" (`reference` parts, which
may have text: langchain-ai/langchain pull request 37008; read 2026-11); Databricks, "Query reasoning models"
(`reasoning` parts); Perplexity, "Chat completions", and xAI, "Citations"; Azure, "Azure OpenAI On Your Data";
Groq, "Compound".
"""

import mimetypes
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.codec import seal
from penstock.dialects.members import Members, as_raw, is_set, is_string, providers_fault
from penstock.dialects.openai_chat_codec.places import FIRST, Place, placed, places_in
from penstock.domain.chat import Cache, Citation, Extras, Media, Opaque, Part, Refusal, Text, Thinking, ToolCall

NAME = "openai_chat"

Opened = Callable[[str], tuple[str, str]]
"""A proof as it came -> the dialect it is of, and the proof itself."""

_FORMATS = {
    "anthropic_messages": "anthropic-claude-v1",
    "gemini": "google-gemini-v1",
    "openai_responses": "openai-responses-v1",
}
"""OpenRouter's names for whose reasoning an entry of `reasoning_details` is."""

REFERENCE = "reference"

AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
AUDIO_TYPES = {"mp3": "audio/mpeg"}


def bare(proof: str) -> tuple[str, str]:
    """A proof from a target that speaks the dialect: its own, whatever it is."""
    return NAME, proof


# -- content ----------------------------------------------------------------------------------------------------------


def content_of(message: Members) -> list[Part]:
    """The parts of `content`, which is a string or a list."""
    raw = message.raw("content")
    if raw is None:
        return []
    message.put("content", raw)
    if is_string(raw):
        return [Text(message.text("content"))]
    return [part for one in message.objects("content") for part in part_of(one)]


def part_of(part: Members) -> list[Part]:
    """One part of a content. Of Mistral's reasoning, the texts in it; of a type that nobody knows, itself."""
    whole, kind = part.whole(), part.text("type")
    if kind in ("text", "input_text", "output_text"):
        return [Text(part.text("text"), (), cache_of(part), part.rest())]
    if kind == "refusal":
        return [Refusal(part.text("refusal"))]
    if kind == "thinking" and not part.is_empty():
        return [Thinking("".join(piece.text("text") for piece in part.objects("thinking")), origin=NAME)]
    if kind == "reasoning":
        return [_summarised(part)]
    if kind == REFERENCE:
        return [_referring(part, whole)]
    if kind == "image_url":
        image = _url_object(part, "image_url")
        medium = linked(Media("image", detail=image.text("detail")), image.text("url"))
        return [_with_rest(medium, part, image)]
    if kind == "video_url":
        video = _url_object(part, "video_url")
        return [_with_rest(linked(Media("video"), video.text("url")), part, video)]
    if kind == "input_audio":
        audio = part.object("input_audio")
        data, form = audio.text("data"), audio.text("format")
        mime = AUDIO_TYPES.get(form, f"audio/{form}" if form else "")
        medium = Media("audio", mime, url=data) if is_link(data) else Media("audio", mime, data)
        return [_with_rest(medium, part, audio)]
    if kind == "file":
        file = part.object("file")
        medium = Media("document", file=file.text("file_id"), name=file.text("filename"))
        medium = linked(medium, file.text("file_data"))
        return [_with_rest(medium, part, file)]
    return [Opaque(NAME, kind, whole)]


def _with_rest(medium: Media, part: Members, inner: Members) -> Media:
    """The medium with what nobody knows of its part: of either level, so that none of it is lost in silence."""
    return structs.replace(medium, cache=cache_of(part), extras={**inner.rest(), **part.rest()})


def _referring(part: Members, whole: Raw) -> Text:
    """Mistral's reference to what a tool had found: by its numbers or names there, for the words in it or before it."""
    listed = _decoded(part.raw("reference_ids") or Raw(b"[]"))
    named = ", ".join(str(one) for one in listed) if isinstance(listed, list) else ""
    return Text(part.text("text"), (Citation(title=named, origin=NAME, raw=whole),))


def reference_in(text: Text) -> Raw | None:
    """The reference that a text was; None where it was none."""
    told = [one.raw for one in text.citations if one.origin == NAME and b'"reference_ids"' in bytes(one.raw)]
    return told[0] if told else None


def _summarised(part: Members) -> Thinking:
    """Databricks's reasoning: a summary whose pieces bring the text, and the proof."""
    pieces = part.objects("summary")
    text, signature = ("".join(piece.text(name) for piece in pieces) for name in ("text", "signature"))
    return Thinking(text, signature=signature, origin=NAME)


def _url_object(part: Members, name: str) -> Members:
    """`{"url": ...}`; Mistral and others take the URL alone."""
    raw = part.raw(name)
    if raw is not None:
        part.put(name, as_raw({"url": raw}) if bytes(raw).startswith(b'"') else raw)
    return part.object(name)


def is_link(data: str) -> bool:
    return data.startswith(("http:", "https:", "gs:", "s3:"))


def linked(medium: Media, url: str) -> Media:
    """The medium with what its URL says: `data:` URLs hold it, bare base64 is one without a type."""
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        return structs.replace(medium, mime=head.split(";")[0], data=data)
    if is_link(url) or medium.kind != "document":
        return structs.replace(medium, url=url)
    mime = (mimetypes.guess_type(medium.name)[0] or "application/pdf") if url else ""
    return structs.replace(medium, data=url, mime=mime)


def cache_of(part: Members) -> Cache | None:
    """`cache_control`, as OpenRouter and others pass it on to Anthropic; `prompt_cache_breakpoint`, OpenAI's own."""
    control = part.take("cache_control", dict[str, Raw])
    own = part.raw("prompt_cache_breakpoint")
    if control is None:
        return Cache() if own is not None else None
    return Cache(Members(control, part.fault, "cache_control.").text("ttl"))


def cache_member(cache: Cache | None) -> dict[str, Any]:
    if cache is None:
        return {}
    if cache.lifetime:
        return {"cache_control": {"type": "ephemeral", "ttl": cache.lifetime}}
    return {"prompt_cache_breakpoint": {"mode": "explicit"}}


def media_part(medium: Media) -> dict[str, Any] | None:
    """A medium as a part of a user's content; None for what the dialect has no part for."""
    shared = medium.extras
    if medium.kind == "image" and (medium.url or medium.data):
        detail = {"detail": medium.detail} if medium.detail else {}
        return {"type": "image_url", "image_url": {"url": url_of(medium), **detail}, **shared}
    if medium.kind == "video" and (medium.url or medium.data):
        return {"type": "video_url", "video_url": {"url": url_of(medium)}, **shared}
    if medium.kind == "audio" and (medium.url or medium.data):
        form = AUDIO_FORMATS.get(medium.mime, medium.mime.removeprefix("audio/"))
        audio = {"data": medium.url or medium.data} | ({"format": form} if form else {})
        return {"type": "input_audio", "input_audio": audio, **shared}
    if medium.kind == "document" and medium.text:
        return {"type": "text", "text": f"{medium.name}\n{medium.text}" if medium.name else medium.text}
    if medium.kind == "document":
        file = {"file_id": medium.file} if medium.file else {"file_data": url_of(medium)}
        return {"type": "file", "file": file | ({"filename": medium.name} if medium.name else {}), **shared}
    return None


def url_of(medium: Media) -> str:
    return medium.url or f"data:{medium.mime};base64,{medium.data}"


# -- reasoning --------------------------------------------------------------------------------------------------------


def thinking_of(message: Members, opened: Opened) -> list[Thinking]:
    return [thinking for _, thinking in numbered_thinking(message, opened)]


def numbered_thinking(message: Members, opened: Opened) -> list[tuple[int | None, Thinking]]:
    """The reasoning of a message: its details where there are any, by their index, else its text."""
    text = message.text("reasoning_content")
    text = message.text("reasoning") or text
    found: list[tuple[int | None, Thinking]] = []
    latest: dict[int | None, int] = {}
    for detail in message.objects("reasoning_details"):
        index = detail.take("index", int)
        at = latest.get(index)
        if index is None or at is None or is_another(found[at][1], detail.peek("id")):
            latest[index] = len(found)
            found.append((index, _with_detail(Thinking(origin=NAME), detail, opened)))
        else:
            found[at] = (index, _with_detail(found[at][1], detail, opened))
    if text and not any(block.text for _, block in found):
        return [(None, Thinking(text, origin=NAME)), *found]
    return found


def is_another(block: Thinking, id: str) -> bool:
    """Whether what comes with this id is another block than this one, whatever its index is: what OpenRouter's seal is
    of, a call of Gemini's or an item of OpenAI's, comes with it at the index of the text before it."""
    return bool(id) and id != block.id


def _with_detail(block: Thinking, detail: Members, opened: Opened) -> Thinking:
    kind, origin = detail.text("type"), block.origin
    summary = detail.text("summary")  # also of sealed reasoning, where a client put both together
    text = summary + detail.text("text")
    signature, sealed = detail.text("signature"), detail.text("data")
    if signature:
        origin, signature = opened(signature)
    if sealed:
        origin, sealed = opened(sealed)
    id = detail.text("id") or block.id
    extras = block.extras | detail.rest()
    if origin != NAME:
        extras.pop("format", None)
    return Thinking(
        block.text + text,
        block.summary or bool(summary) or kind == "reasoning.summary",
        block.signature + signature,
        block.sealed + sealed,
        origin,
        id,
        extras,
    )


def is_proven(thinking: Thinking) -> bool:
    """Whether it must be told as an entry of `reasoning_details` to be replayable."""
    is_own = thinking.origin in ("", NAME)
    return bool(
        thinking.signature or thinking.sealed or thinking.summary or thinking.id or (thinking.extras and is_own)
    )


def details_of(thinking: Thinking, index: int, place: Place = FIRST) -> list[dict[str, Any]]:
    """Reasoning as entries of `reasoning_details`. `place`: of another dialect's, where it stood."""
    origin = thinking.origin or NAME
    own: Extras = thinking.extras if origin == NAME else {"format": as_raw(_FORMATS.get(origin, "unknown"))}
    shared: dict[str, Any] = {**({"id": thinking.id} if thinking.id else {}), **own, "index": index}
    signature, sealed = seal(origin, thinking.signature, NAME), seal(origin, thinking.sealed, NAME)
    if place != FIRST and origin != NAME:
        signature, sealed = placed(signature, place), placed(sealed, place)
    entries: list[dict[str, Any]] = []
    if thinking.text or signature or not sealed:
        told = {"type": "reasoning.summary" if thinking.summary else "reasoning.text"}
        told["summary" if thinking.summary else "text"] = thinking.text
        entries.append({**told, **({"signature": signature} if signature else {}), **shared})
    if sealed:
        entries.append({"type": "reasoning.encrypted", "data": sealed, **shared})
    return entries


def reasoning_members(parts: tuple[Part, ...]) -> dict[str, Any]:
    """What a message says of the reasoning among its parts."""
    thoughts = [part for part in parts if isinstance(part, Thinking)]
    if not thoughts:
        return {}
    members: dict[str, Any] = {}
    if text := "".join(thinking.text for thinking in thoughts):
        members["reasoning_content"] = text
    if len(thoughts) > 1 or any(map(is_proven, thoughts)):
        members["reasoning_details"] = [
            entry
            for index, (thinking, place) in enumerate(zip(thoughts, places_in(parts), strict=True))
            for entry in details_of(thinking, index, place)
        ]
    return members


# -- tool calls -------------------------------------------------------------------------------------------------------


def calls_of(message: Members) -> list[Members]:
    """The calls of tools in a message; Text Generation Inference streams one by itself, in no list."""
    raw = message.raw("tool_calls")
    if raw is None:
        return []
    message.put("tool_calls", raw)
    return [message.object("tool_calls")] if bytes(raw).startswith(b"{") else message.objects("tool_calls")


def tool_call_of(call: Members, opened: Opened, unnamed: str) -> ToolCall:
    """A tool call; `unnamed` is its id where the vendor gave it none."""
    call.drop("index")
    is_custom = call.text("type") == "custom" or call.has("custom")
    kind = "custom" if is_custom else "function"
    body = call.object(kind)
    origin, signature = signature_of(call, opened)
    arguments = body.text("input") if is_custom else body.json_text("arguments")
    return ToolCall(
        call.text("id") or unnamed,
        body.text("name"),
        arguments,
        is_custom,
        signature,
        origin,
        cache=cache_of(call),
        extras=call.rest() | rest_inside(kind, body),
    )


def rest_inside(kind: str, body: Members) -> Extras:
    """What nobody knows of a call's `function` or `custom`, under names that say where it stands."""
    return {f"{kind}.{name}": value for name, value in body.rest().items()}


def signature_of(call: Members, opened: Opened) -> tuple[str, str]:
    """Whose a call is, and Google's thought signature on it."""
    extra = call.take("extra_content", dict[str, Raw])
    if extra is None:
        return NAME, ""
    content = Members(extra, call.fault)
    google = content.object("google")
    origin, signature = opened(google.text("thought_signature"))  # of nothing: the dialect's own
    if rest := content.rest() | ({"google": google.whole()} if not google.is_empty() else {}):
        call.put("extra_content", as_raw(rest))
    return origin, signature


def tool_call_object(call: ToolCall) -> dict[str, Any]:
    kind = "custom" if call.custom else "function"
    body: dict[str, Any] = {"name": call.name, "input" if call.custom else "arguments": call.arguments}
    own: Extras = {}
    for name, value in call.extras.items():
        inside = name.removeprefix("function.").removeprefix("custom.")  # the one may be told as the other
        (own if inside == name else body)[inside] = value
    if call.signature:
        own |= signature_member(call)
    return {"id": call.id, "type": kind, kind: body, **own}


def signature_member(call: ToolCall) -> Extras:
    """A call's signature, among whatever else its `extra_content` holds."""
    content = Members(dict(call.extras), providers_fault).object("extra_content")
    google = content.object("google")
    google.put("thought_signature", as_raw(seal(call.origin or NAME, call.signature, NAME)))
    content.put("google", google.whole())
    return {"extra_content": content.whole()}


def flat_format(custom: Members) -> Raw:
    """The form of a custom tool's input, as Responses writes it: a grammar's members beside its type."""
    form = custom.object("format")
    if form.is_empty():
        return Raw(b"null")
    grammar = form.object("grammar")
    return as_raw(form.rest() | grammar.rest())


def nested_format(schema: Raw) -> Raw:
    """The same as this dialect writes it."""
    form = Members(msgspec.json.decode(schema, type=dict[str, Raw]), providers_fault)
    kind = form.text("type")
    grammar = {} if form.is_empty() else {kind: form.rest()}
    return as_raw({"type": kind, **grammar})


# -- citations --------------------------------------------------------------------------------------------------------


def citation_of(annotation: Members) -> Citation | None:
    """A citation of a URL; another kind is kept as it is."""
    annotation.drop("index")  # its number in a stream
    whole, kind = annotation.whole(), annotation.text("type")
    if kind != "url_citation":
        return Citation(origin=NAME, raw=whole)
    told = annotation.object("url_citation")
    start, end = told.take("start_index", int), told.take("end_index", int)
    url, title, quote = told.text("url"), told.text("title"), told.text("content")
    start, end = -1 if start is None else start, -1 if end is None else end
    is_more = not (annotation.is_empty() and told.is_empty())
    return Citation(url, title, quote, start, end, NAME, whole) if is_more else Citation(url, title, quote, start, end)


_SOURCES = (("search_results", "url", "snippet"), ("citations", "url", "content"), ("web_search", "link", "content"))


def sources_of(reply: Members) -> list[Citation]:
    """What an answer says beside its choices that it read: `search_results` (Perplexity), or bare addresses in
    `citations` (Perplexity, xAI), `web_search` (Zhipu). They stay where they are."""
    for name, address, quote in _SOURCES:
        if (raw := reply.raw(name)) is not None:
            reply.put(name, raw)
            return _sources(_decoded(raw), address, quote)
    return []


def sources_within(message: Members) -> list[Citation]:
    """What a message says that it read, where it does not say for which words: Azure's `context` of an answer on data
    of one's own, and the searches among the `executed_tools` of Groq's systems."""
    context, executed = message.raw("context"), message.raw("executed_tools")
    found = [] if context is None else _sources(_member(_decoded(context), "citations"), "url", "content")
    tools = _decoded(executed) if executed is not None else []
    for tool in tools if isinstance(tools, list) else ():
        found += _sources(_member(_member(tool, "search_results"), "results"), "url", "content")
    return found


def _sources(told: Any, address: str, quote: str) -> list[Citation]:
    """Those of a list, each an object or a bare address."""
    listed = told if isinstance(told, list) else ()
    sources = [{address: one} if isinstance(one, str) else one for one in listed if isinstance(one, str | dict)]
    told_of = [[_string(source.get(name)) for name in (address, "title", quote)] for source in sources]
    return [Citation(url, title, said) for url, title, said in told_of if url or title]


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _decoded(raw: Raw) -> Any:
    """A value that nothing hangs on; None where it is nested too deep to be read."""
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        return None


def annotation(citation: Citation, before: int, length: int) -> dict[str, Any]:
    """A citation of a text of this length that stands behind `before` characters of the message's content, as an
    annotation, whose places are places in the content. One without a URL (of a document that was sent) is told all the
    same."""
    if citation.origin == NAME and is_set(citation.raw):
        return msgspec.json.decode(citation.raw, type=dict[str, Any])
    start, end = citation.span(length)
    told: dict[str, Any] = {
        "start_index": before + start,
        "end_index": before + end,
        "url": citation.url,
        "title": citation.title,
    }
    return {"type": "url_citation", "url_citation": told | ({"content": citation.quote} if citation.quote else {})}
