"""What a caller is told: an answer as `generateContent` gives it, and the stream of one.

Source: Gemini API reference, `GenerateContentResponse`; "Method: models.streamGenerateContent" (a list of answers, or
server-sent events). A call is told when it is whole, as the API does; the reasons to have finished and the usage come
last, for they are the stream's ending.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import encode_object
from penstock.dialects.codec import Heading
from penstock.dialects.gemini.errors import error_object
from penstock.dialects.gemini.names import NAME
from penstock.dialects.gemini.parts import arguments, is_bare_proof, is_made, media_part, packed, sealed
from penstock.dialects.gemini.usage import metadata_of
from penstock.dialects.tiers import TOLD_BY_GOOGLE, in_others_words
from penstock.domain.chat import Answer, Choice, Citation, Media, Opaque, Part, Refusal, Text, Thinking, ToolCall
from penstock.domain.stream import (
    Begin,
    Ended,
    Event,
    Failed,
    Finished,
    Logprobs,
    PartBegin,
    PartDelta,
    PartEnd,
    PartMore,
    Reported,
    text_of,
    with_more,
    with_text,
)

_REASONS = {"stop": "STOP", "stop_sequence": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "pause": "STOP"}
_REASONS |= {"context": "MAX_TOKENS", "content_filter": "SAFETY", "refusal": "SAFETY", "error": "OTHER"}


# -- a plain answer ---------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, heading: Heading) -> bytes:
    is_own = answer.origin == NAME
    extras = answer.extras if is_own else {}
    told: dict[str, Any] = {}
    if "promptFeedback" not in extras or any(choice.parts for choice in answer.choices):
        told["candidates"] = [_candidate(choice, number, is_own) for number, choice in enumerate(answer.choices)]
    return encode_object({**told, **_frame(answer, heading), **extras})


def _frame(answer: Answer, heading: Heading) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if answer.usage is not None:
        told["usageMetadata"] = metadata_of(answer.usage)
        if answer.service_tier in TOLD_BY_GOOGLE:
            told["usageMetadata"]["serviceTier"] = in_others_words(answer.service_tier)
    told["modelVersion"] = answer.model or heading.model
    if answer.id:
        told["responseId"] = answer.id
    return told


def _candidate(choice: Choice, number: int, is_own: bool) -> dict[str, Any]:
    parts: list[Any] = []
    cited: list[_Cited] = []
    for part in choice.parts:
        if isinstance(part, Text) and part.citations:
            cited.append(_Cited(part, part=len(parts)))
        _add_part(parts, part)
    return {"content": {"parts": parts, "role": "model"}, **_ending(choice, number, is_own, cited)}


class _Cited(NamedTuple):
    """A text with citations, and where it is told: the number of its part, and the bytes of text before it in that."""

    text: Text
    part: int = 0
    before: int = 0


def _ending(choice: Choice, number: int, is_own: bool, cited: list[_Cited]) -> dict[str, Any]:
    """All of a candidate but its content."""
    told: dict[str, Any] = {
        "finishReason": choice.native if is_own and choice.native else _REASONS[choice.finish],
        "index": number,
    }
    if choice.explanation:
        told["finishMessage"] = choice.explanation
    if choice.logprobs:
        told["logprobsResult"] = _logprobs(choice.logprobs)
    if is_own:
        return {**told, **choice.extras}
    if grounding := _grounding(cited):
        told["groundingMetadata"] = grounding
    return told


def _add_part(parts: list[Any], part: Part) -> None:
    """A signature alone belongs to the text or the medium before it."""
    last = parts[-1] if parts and isinstance(parts[-1], dict) else {}
    if (
        isinstance(part, Thinking)
        and is_bare_proof(part)
        and last.keys() & {"text", "inlineData"}
        and not last.keys() & {"thought", "thoughtSignature"}
    ):
        last["thoughtSignature"] = part.signature
    elif (written := _part(part)) is not None:
        parts.append(written)


def _part(part: Part) -> Any:
    if isinstance(part, Text | Refusal):
        return {"text": part.text} if part.text else None
    if isinstance(part, Thinking):
        return _thought(part)
    if isinstance(part, ToolCall):
        return _call(part)
    if isinstance(part, Media):
        return media_part(part)
    return part.raw if isinstance(part, Opaque) and part.origin == NAME else None


def _thought(part: Thinking) -> dict[str, Any]:
    proof = part.signature if part.origin == NAME else packed(part)
    signature = {"thoughtSignature": proof} if proof else {}
    return {"text": part.text, **({} if is_bare_proof(part) else {"thought": True}), **signature}


def _call(part: ToolCall) -> dict[str, Any]:
    told: dict[str, Any] = {} if is_made(part.id) or not part.id else {"id": part.id}
    written: dict[str, Any] = {"functionCall": {**told, "name": part.name, "args": arguments(part)}}
    if part.signature:
        written["thoughtSignature"] = sealed(part.origin, part.signature)
    return written


def _logprobs(tokens: tuple[Raw, ...]) -> dict[str, Any]:
    told = [msgspec.json.decode(one, type=dict[str, Any]) for one in tokens]
    return {
        "chosenCandidates": [_token(one) for one in told],
        "topCandidates": [{"candidates": [_token(top) for top in one.get("top_logprobs") or ()]} for one in told],
    }


def _token(told: dict[str, Any]) -> dict[str, Any]:
    return {"token": told.get("token", ""), "logProbability": told.get("logprob", 0)}


def _grounding(cited: list[_Cited]) -> dict[str, Any]:
    """Citations of another dialect, as sources and the texts that they bear on."""
    sources: dict[tuple[str, str, str], int] = {}
    supports = []
    for one in cited:
        for citation in one.text.citations:
            quote = "" if citation.url else citation.quote
            place = sources.setdefault((citation.url, citation.title, quote), len(sources))
            supports.append({"segment": _segment(one, citation), "groundingChunkIndices": [place]})
    chunks = [
        {"retrievedContext": {"title": title, "text": quote}} if quote else {"web": {"uri": url, "title": title}}
        for url, title, quote in sources
    ]
    return {"groundingChunks": chunks, "groundingSupports": supports} if supports else {}


def _segment(cited: _Cited, citation: Citation) -> dict[str, Any]:
    """Places are in bytes here."""
    text = cited.text.text
    start, end = citation.span(len(text))
    segment: dict[str, Any] = {"partIndex": cited.part} if cited.part else {}
    if begin := cited.before + len(text[:start].encode()):
        segment["startIndex"] = begin
    return {**segment, "endIndex": cited.before + len(text[:end].encode()), "text": text[start:end]}


# -- a stream ---------------------------------------------------------------------------------------------------------


class GeminiEncoder:
    """Writes events as the caller's stream: server-sent events, or one JSON list. Each piece has one part, so the place
    of what is cited is one in all the text of the candidate."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._is_list = heading.form == "list"
        self._is_first = True
        self._begin = Begin("")
        self._frame: dict[str, Any] = {}
        self._open: dict[tuple[int, int], Part] = {}
        self._texts: dict[tuple[int, int], list[str]] = {}
        self._starts: dict[tuple[int, int], int] = {}
        self._text_bytes: dict[int, int] = {}
        self._said: dict[tuple[int, int], _Cited] = {}
        self._choices: dict[int, Choice] = {}
        self._reported: Reported | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, PartDelta):
            return self._more(event)
        if isinstance(event, PartBegin):
            return self._part_begin(event)
        if isinstance(event, PartEnd):
            return self._part_end(event.choice, event.index)
        if isinstance(event, Failed):
            body = {"error": error_object(event.message, event.status or 500, event.kind)}
            return self._framed(body) + self._close()
        if isinstance(event, Ended):
            return self._ended()
        self._learn(event)
        return b""

    def _learn(self, event: Begin | PartMore | Logprobs | Finished | Reported) -> None:
        """What is told later, with the piece that it belongs to."""
        if isinstance(event, Begin):
            self._begin = event
            extras = event.extras if event.origin == NAME else {}
            self._frame = {**_frame(Answer(event.origin, event.id, event.model, ()), self._heading), **extras}
        elif isinstance(event, PartMore):
            key = (event.choice, event.index)
            if key in self._open:
                self._open[key] = with_more(self._open[key], event)
            elif (said := self._said.get(key)) is not None and event.citation is not None:
                cited = structs.replace(said.text, citations=(*said.text.citations, event.citation))
                self._said[key] = said._replace(text=cited)
        elif isinstance(event, Reported):
            self._reported = event
        else:
            known = self._choices.get(event.choice, Choice(()))
            if isinstance(event, Logprobs):
                known = structs.replace(known, logprobs=known.logprobs + event.content)
            else:
                known = structs.replace(
                    known,
                    finish=event.finish,
                    native=event.native,
                    extras=event.extras,
                    explanation=event.explanation,
                )
            self._choices[event.choice] = known

    def _part_begin(self, event: PartBegin) -> bytes:
        self._open[event.choice, event.index] = event.part
        self._starts[event.choice, event.index] = self._text_bytes.get(event.choice, 0)
        text = "" if isinstance(event.part, ToolCall) else text_of(event.part)
        return self._more(PartDelta(event.choice, event.index, text)) if text else b""

    def _more(self, event: PartDelta) -> bytes:
        """A piece of text leaves at once, a call when it is whole."""
        key = (event.choice, event.index)
        part = self._open.get(key)
        if isinstance(part, ToolCall):
            self._open[key] = with_text(part, event.text)
            return b""
        if isinstance(part, Thinking):
            return self._piece(event.choice, {"text": event.text, "thought": True})
        self._texts.setdefault(key, []).append(event.text)
        self._text_bytes[event.choice] = self._text_bytes.get(event.choice, 0) + len(event.text.encode())
        return self._piece(event.choice, {"text": event.text})

    def _part_end(self, choice: int, index: int) -> bytes:
        part = self._open.pop((choice, index), None)
        if isinstance(part, Thinking):
            proof = _thought(structs.replace(part, text="", summary=part.summary or bool(part.text)))
            return self._piece(choice, proof) if "thoughtSignature" in proof else b""
        if isinstance(part, Text):
            whole = structs.replace(part, text="".join(self._texts.pop((choice, index), ())))
            self._said[choice, index] = _Cited(whole, before=self._starts[choice, index])
            return b""
        written = None if part is None or isinstance(part, Refusal) else _part(part)
        return b"" if written is None else self._piece(choice, written)

    def _piece(self, choice: int, part: Any) -> bytes:
        candidate = {"content": {"parts": [part], "role": "model"}, "index": choice}
        return self._framed({"candidates": [candidate], **self._frame})

    def _ended(self) -> bytes:
        """What was left open, then the last piece: why each candidate finished, and what was used."""
        left = b"".join([self._part_end(*key) for key in list(self._open)])
        begin, reported = self._begin, self._reported
        is_own = begin.origin == NAME
        content = {"content": {"parts": [{"text": ""}], "role": "model"}}
        endings = [
            {**content, **_ending(self._choices[key], key, is_own, self._cited(key))} for key in sorted(self._choices)
        ]
        usage, tier = (reported.usage, reported.service_tier) if reported is not None else (None, "")
        frame = {
            **self._frame,
            **_frame(Answer(begin.origin, begin.id, begin.model, (), 0, usage, tier), self._heading),
        }
        candidates = {} if "promptFeedback" in frame else {"candidates": endings}
        return left + self._framed({**candidates, **frame}) + self._close()

    def _cited(self, choice: int) -> list[_Cited]:
        """The texts of a candidate, in order, that cite something."""
        return [self._said[key] for key in sorted(self._said) if key[0] == choice and self._said[key].text.citations]

    def _close(self) -> bytes:
        return b"\n]" if self._is_list else b""

    def _framed(self, told: dict[str, Any]) -> bytes:
        body = encode_object(told)
        if b"\n" in body:  # in a value that is verbatim; a line's end would end the event's line
            body = msgspec.json.format(body, indent=-1)
        if not self._is_list:
            return b"data: " + body + b"\r\n\r\n"
        first, self._is_first = self._is_first, False
        return (b"[" if first else b",\n") + body
