"""An answer, or the stream of one, -> events.

Source: Gemini API reference, `GenerateContentResponse`, `Candidate`, `GroundingMetadata`, `LogprobsResult`.

A plain answer is a stream of one piece: both are read by the same `Teller`, so they give the same message. Pieces of
one text follow each other; a part of another kind ends it. Offsets into a text are in bytes there, in characters here.
"""

from bisect import bisect_right
from typing import Any

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import Forgiving, encode_object, members_of
from penstock.dialects.codec import json_text
from penstock.dialects.gemini.errors import read_error
from penstock.dialects.gemini.names import (
    FINISH_REASONS,
    NAME,
    NULL,
    all_in_camel,
    elements,
    in_camel,
    pop,
    text_in,
    word,
)
from penstock.dialects.gemini.partial import PartialCall, is_partial
from penstock.dialects.gemini.parts import decode_part, is_bare_proof, made_id
from penstock.dialects.gemini.searches import Searches
from penstock.dialects.gemini.usage import Metadata, normalise
from penstock.dialects.tiers import in_openais_words
from penstock.domain.chat import Answer, Citation, Extras, Finish, Opaque, Part, Text, Thinking, ToolCall
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
    collect,
)
from penstock.errors import UpstreamMalformed

_FINISH: dict[str, Finish] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
"""`CONTINUATION`: a limit of the vendor's for one request was reached (reference, `FinishReason`)."""
_FAULTS = frozenset(
    (
        *("OTHER", "LANGUAGE", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "5"),
        *("MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "NO_IMAGE", "IMAGE_OTHER", "FINISH_REASON_UNSPECIFIED"),
    )
)
"""Reasons that are a fault; the rest are filters."""
MAX_CITED_CHARACTERS = 4_000_000
"""Of a text beyond this the places of citations are not told."""

_members_decoder = msgspec.json.Decoder(dict[str, Raw])
_metadata_decoder = msgspec.json.Decoder(Metadata)
_index_decoder = Forgiving(int)


def finish_of(native: str, *, has_calls: bool) -> Finish:
    if native == "STOP":
        return "tool_calls" if has_calls else "stop"
    return _FINISH.get(native) or ("error" if native in _FAULTS or not native else "content_filter")


class _Told:
    """One candidate while it is told. `goes_on`: it spoke behind the last reason to have finished, or that came
    with code for the vendor to run; both are seen in the midst of streams."""

    def __init__(self, number: int, scope: str, searches: Searches) -> None:
        self.number = number
        self._searches = searches
        self.native = ""
        self.goes_on = False
        self.explanation = ""
        self.extras: Extras = {}
        self._scope = scope
        self._next = 0
        self._open: Part | None = None
        self._proof: Thinking | None = None
        self._partial: PartialCall | None = None
        self._has_calls = False
        self._texts: dict[int, list[str]] = {}
        self._held_characters = 0
        self._places: list[tuple[int, int]] = []
        self._said: list[int] = []
        self._ends: list[int] = []
        self._waiting: list[tuple[int, Any, Citation]] = []
        self._sources: list[dict[str, Any]] = []
        self._has_supports = False

    def take(self, candidate: dict[str, Raw]) -> list[Event]:
        events: list[Event] = []
        content = in_camel(_members_decoder.decode(candidate.pop("content", b"{}")))
        candidate.pop("index", None)
        reason = candidate.pop("finishReason", None)
        self.explanation = pop(candidate, "finishMessage", str, "") or self.explanation
        logprobs = candidate.pop("logprobsResult", None)
        self._find_citations(candidate)
        last: Part | None = None
        for name, value in candidate.items():
            self.extras[name] = _merged(self.extras[name], value) if name in self.extras else value
        for raw in elements(bytes(content.pop("parts", Raw(b"[]")))):
            parts = self._joined(decode_part(raw))
            if not parts:
                continue
            index = self._next - 1 if self._goes_on(parts[0]) else self._next
            self._places.append((index, len(self._texts.get(index, ()))))
            for part in parts:
                events += self._part(part)
                self.goes_on = self.goes_on or not (part == Text("") or is_bare_proof(part))
                last = part
        if logprobs is not None and (tokens := _tokens(logprobs)):
            events.append(Logprobs(self.number, tokens))
        if reason is not None:
            self.native = word(msgspec.json.decode(reason), FINISH_REASONS) or self.native
            self.goes_on = self.native == "STOP" and isinstance(last, Opaque) and last.kind == "executableCode"
        return events

    def _joined(self, parts: list[Part]) -> list[Part]:
        """The parts, with a call whose arguments come in pieces when it is whole."""
        if not isinstance(part := parts[0], ToolCall) or not (self._partial or is_partial(part)):
            return parts
        if self._partial is None or part.name:
            before = [] if self._partial is None else [self._partial.call()]
            self._partial = PartialCall(part) if is_partial(part) else None
            parts = [*before, *([] if self._partial else parts)]
        else:
            self._partial.add(part)
            parts = []
        if self._partial is None or not self._partial.whole:
            return parts
        whole, self._partial = self._partial.call(), None
        return [*parts, whole]

    def end(self) -> list[Event]:
        events = self._part(self._partial.call()) if self._partial else []
        for source in filter(None, [] if self._has_supports else self._sources):
            self._cite({}, source, source)  # the answer as a whole rests on them
        events += [*self._close(), *self._late_citations()]
        finish = finish_of(self.native, has_calls=self._has_calls)
        return [*events, Finished(self.number, finish, self.native, "", self.extras, self.explanation)]

    def _goes_on(self, part: Part) -> bool:
        """Whether this is more of the part that is open."""
        if isinstance(part, Text):
            return isinstance(self._open, Text) and self._proof is None
        return isinstance(part, Thinking) and isinstance(self._open, Thinking) and not is_bare_proof(part)

    def _part(self, part: Part) -> list[Event]:
        if isinstance(part, Text) and not part.text:
            return []
        if isinstance(part, ToolCall):
            self._has_calls = True
            if not part.id:
                part = structs.replace(part, id=made_id(self._scope, self._next + 100 * self.number))
        if isinstance(part, Thinking) and is_bare_proof(part) and isinstance(self._open, Text) and not self._proof:
            self._proof = part  # told behind the text, of which the sources may still come
            return []
        events: list[Event] = []
        if not self._goes_on(part):
            events += self._close()
            events.append(PartBegin(self.number, self._next, _without_growth(part)))
            self._open = part
            self._next += 1
        index = self._next - 1
        text = part.arguments if isinstance(part, ToolCall) else part.text if isinstance(part, Text | Thinking) else ""
        if text:
            events.append(PartDelta(self.number, index, text))
            if isinstance(part, Text):
                self._keep(index, text)
        signature = part.signature if isinstance(part, ToolCall | Thinking) else ""
        if signature:
            events.append(PartMore(self.number, index, signature))
        if signature or not isinstance(part, Text | Thinking):
            events += self._close()
        return events

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        index = self._next - 1
        cited = self._citations(index) if isinstance(self._open, Text) else []
        self._open = None
        proof, self._proof = self._proof, None
        return [*cited, PartEnd(self.number, index), *(self._part(proof) if proof else [])]

    def _keep(self, index: int, text: str) -> None:
        self._held_characters += len(text)
        if self._held_characters <= MAX_CITED_CHARACTERS:
            self._texts.setdefault(index, []).append(text)

    # -- citations ----------------------------------------------------------------------------------------------------

    def _find_citations(self, candidate: dict[str, Raw]) -> None:
        if "groundingMetadata" in candidate:
            grounding = _object(candidate["groundingMetadata"])
            self._searches.take(grounding)
            self._find_sources(grounding)
        told = _object(candidate.get("citationMetadata", Raw(b"{}")))
        for source in told.get("citationSources") or told.get("citations") or ():
            self._cite(source, source, source)

    def _find_sources(self, grounding: dict[str, Any]) -> None:
        """Sources are numbered within their own piece; a number beyond it counts through all that were told (seen of
        searches in files)."""
        sources = [_source(chunk) for chunk in grounding.get("groundingChunks") or ()]
        self._sources += sources
        supports = [
            (support, number)
            for support in grounding.get("groundingSupports") or ()
            for number in support.get("groundingChunkIndices") or ()
            if isinstance(number, int)
        ]
        self._has_supports = self._has_supports or bool(supports)
        if any(number >= len(sources) for _, number in supports):
            sources = self._sources
        for support, number in supports:
            source = sources[number] if 0 <= number < len(sources) else {}
            self._cite(support.get("segment") or {}, source, support)

    def _cite(self, segment: dict[str, Any], source: dict[str, Any], raw: dict[str, Any]) -> None:
        place = segment.get("partIndex")
        citation = Citation(
            url=str(source.get("uri") or source.get("sourceUri") or ""),
            title=str(source.get("title") or ""),
            quote=str(source.get("text") or "") if source is not segment else "",
            origin=NAME,
            raw=Raw(json_text(raw).encode()),
        )
        self._waiting.append((place if isinstance(place, int) else 0, segment, citation))

    def _citations(self, index: int, *, is_last: bool = False) -> list[Event]:
        """Those of the text that ends. `is_last`: no more parts come. A place that is no text, such as a thought before
        it, means the first text; one behind the end of the first, as streams tell it, is in the texts together."""
        data = "".join(self._texts.get(index, ())).encode()
        if not is_last:
            self._said.append(index)
            self._ends.append(len(data) + (self._ends[-1] if self._ends else 0))
        found, waiting = [], []
        for place, segment, citation in self._waiting:
            start = segment.get("startIndex") or 0
            before = self._bytes_before(index, place, start, is_last=is_last)
            if before is None:
                waiting.append((place, segment, citation))
                continue
            end = _offset(data, segment.get("endIndex"), before)
            placed = structs.replace(citation, start=_offset(data, start, before), end=end)
            found.append(PartMore(self.number, index, citation=placed))
        self._waiting = waiting
        return list(found)

    def _bytes_before(self, index: int, place: int, start: Any, *, is_last: bool) -> int | None:
        """Where in this text, in bytes, the places of a citation count from; None where it is another's."""
        if place >= len(self._places) and not is_last:
            return None
        meant, after = self._places[place] if place > 0 and place < len(self._places) else (-1, 0)
        if meant in self._texts:
            return len("".join(self._texts[meant][:after]).encode()) if meant == index else None
        at = bisect_right(self._ends, start) if isinstance(start, int) else 0
        if at == len(self._said) and not is_last:
            return None
        at = min(at, len(self._said) - 1)
        return -(self._ends[at - 1] if at else 0) if self._said[at] == index else None

    def _late_citations(self) -> list[Event]:
        """Those that came when their text was closed already."""
        return [event for index in self._said if self._waiting for event in self._citations(index, is_last=True)]


def _offset(data: bytes, place: Any, before: int) -> int:
    """Characters of the text up to this byte, counted from the byte `before`; -1 where there is no such place."""
    if not isinstance(place, int) or not 0 <= before + place <= len(data):
        return -1
    return len(data[: before + place].decode(errors="ignore"))


def _merged(known: Raw, more: Raw) -> Raw:
    """What is told of a candidate in several pieces: lists grow, the rest is what was said last."""
    try:
        old, new = msgspec.json.decode(known, type=dict[str, Any]), msgspec.json.decode(more, type=dict[str, Any])
    except msgspec.DecodeError:
        return more
    lists = {name: old[name] + value for name, value in new.items() if _are_lists(old.get(name), value)}
    return Raw(msgspec.json.encode({**old, **new, **lists}))


def _are_lists(old: Any, new: Any) -> bool:
    return isinstance(old, list) and isinstance(new, list)


def _object(raw: Raw) -> dict[str, Any]:
    """What is told beside the answer; nothing where it is no object."""
    told = msgspec.json.decode(raw)
    return told if isinstance(told, dict) else {}


def _source(chunk: Any) -> dict[str, Any]:
    """Where something was found, in the web, in files or on a map."""
    told = chunk.values() if isinstance(chunk, dict) else ()
    return next((one for one in told if isinstance(one, dict)), {})


def _without_growth(part: Part) -> Part:
    if isinstance(part, Text):
        return Text("", extras=part.extras)
    if isinstance(part, Thinking):
        return structs.replace(part, text="", signature="")
    return structs.replace(part, arguments="", signature="") if isinstance(part, ToolCall) else part


def _tokens(raw: Raw) -> tuple[Raw, ...]:
    """A candidate's log-probabilities, each in OpenAI's form."""
    result = msgspec.json.decode(raw, type=dict[str, Any])
    tops = result.get("topCandidates") or []
    tokens = []
    for number, chosen in enumerate(result.get("chosenCandidates") or ()):
        top = (tops[number].get("candidates") or []) if number < len(tops) else []
        tokens.append(Raw(encode_object({**_token(chosen), "top_logprobs": [_token(one) for one in top]})))
    return tuple(tokens)


def _token(told: dict[str, Any]) -> dict[str, Any]:
    token = str(told.get("token") or "")
    return {"token": token, "logprob": told.get("logProbability") or 0, "bytes": list(token.encode())}


class Teller:
    """Reads whole answers, one after the other, as the pieces of one. `failed`: it broke off with an error."""

    def __init__(self) -> None:
        self.failed = False
        self._begun = False
        self._extras: Extras = {}
        self._told: dict[int, _Told] = {}
        self._block = ""
        self._why_blocked = ""
        self._scope = ""
        self._reported: Reported | None = None
        self._searches = Searches()

    def take(self, body: bytes) -> list[Event]:
        """Raises `UpstreamMalformed`. Values that are kept verbatim lose the line breaks between their members."""
        reply = members_of(body)
        if b"\n" in body:
            reply = members_of(msgspec.json.format(body, indent=-1))
        reply = in_camel(reply)
        try:
            return self._take(reply)
        except (msgspec.DecodeError, RecursionError, AttributeError, TypeError, ValueError, LookupError):
            raise UpstreamMalformed("The provider's answer is not what its API allows.") from None

    @property
    def is_whole(self) -> bool:
        told = self._told.values()
        return bool(self._block) or (bool(told) and all(one.native and not one.goes_on for one in told))

    def end(self) -> list[Event]:
        """The ending. A candidate without a reason to have finished ends in `error`."""
        events = [event for number in sorted(self._told) for event in self._told[number].end()]
        if not self._told:
            finish: Finish = "content_filter" if self._block else "error"
            events.append(Finished(0, finish, self._block, explanation=self._why_blocked))
        if (told := self._reported) is not None:
            events.append(structs.replace(told, usage=self._searches.within(told.usage)))
        return [*events, Ended()]

    def _take(self, reply: dict[str, Raw]) -> list[Event]:
        if "error" in reply:
            self.failed = True
            message, status = read_error(msgspec.json.decode(reply["error"]))
            return [Failed(message or "The provider reported an error.", status)]
        candidates = elements(bytes(reply.pop("candidates", Raw(b"[]"))))
        if (metadata := reply.pop("usageMetadata", None)) is not None:
            self._report(metadata)
        if (feedback := reply.get("promptFeedback")) is not None:
            told_of = in_camel(_members_decoder.decode(feedback))
            self._block = word(msgspec.json.decode(told_of.get("blockReason", NULL)), {}) or self._block
            self._why_blocked = pop(told_of, "blockReasonMessage", str, "") or self._why_blocked
        self._scope = self._scope or text_in(reply, "responseId")
        events: list[Event] = [] if self._begun else [self._begin(reply)]
        for raw in candidates:
            candidate = in_camel(_members_decoder.decode(raw))
            number = _index_decoder.decode(candidate.get("index", b"0"))
            told = self._told.setdefault(number, _Told(number, self._scope, self._searches))
            events += told.take(candidate)
        return events

    def _begin(self, reply: dict[str, Raw]) -> Event:
        self._begun = True
        id_, model = text_in(reply, "responseId"), text_in(reply, "modelVersion")
        reply = {name: value for name, value in reply.items() if name not in ("responseId", "modelVersion")}
        self._searches.model = model
        return Begin(NAME, id_, model, extras=reply)

    def _report(self, raw: Raw) -> None:
        told = bytes(raw)
        try:
            metadata = _metadata_decoder.decode(all_in_camel(told) if b"_count" in told else told)
        except msgspec.DecodeError:
            return
        if metadata.is_told() and (usage := normalise(metadata)) is not None:
            self._reported = Reported(usage, in_openais_words(metadata.tier()))


_ANSWERS = (b'"candidates"', b'"usageMetadata"', b'"usage_metadata"', b'"promptFeedback"', b'"prompt_feedback"')


def decode_answer(body: bytes) -> Answer:
    """A plain answer. Raises `UpstreamMalformed`."""
    teller = Teller()
    events = teller.take(body)
    if teller.failed or not any(name in body for name in _ANSWERS):
        raise UpstreamMalformed("The provider's answer is not what its API allows.")
    return collect([*events, *teller.end()])
