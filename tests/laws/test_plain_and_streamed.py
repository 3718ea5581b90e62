"""Whatever a model of another vendor's answered, a caller that streams is told the same as one that does not."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs
from tests.laws.conversations import JSON_OBJECTS, NAMES, WORDS, compact, unhurried, usages

from penstock.dialects.codec import Heading
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Finish,
    Media,
    Message,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
)
from penstock.domain.stream import Event, Failed, Finished, PartEnd, PartMore, collect, events_of
from penstock.errors import UpstreamError

FINISHES: list[Finish] = [
    *("stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause", "context", "error")  # type: ignore[list-item]
]
CITATIONS = st.builds(
    lambda number, quote: Citation(f"https://example.com/{number}", f"Page {number}", quote),
    st.integers(0, 9),
    st.just("") | WORDS,
)
PIXEL = "iVBORw0KGgo="
LOGPROBS = st.builds(
    lambda token: Raw(compact({"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}).encode()), WORDS
)
TEXTS: st.SearchStrategy[Part] = st.builds(Text, WORDS, st.lists(CITATIONS, max_size=2).map(tuple))
THOUGHTS: st.SearchStrategy[Part] = st.builds(
    Thinking, WORDS, signature=st.sampled_from(["", "c2lnbmVk"]), origin=st.sampled_from(["elsewhere", "gemini_like"])
)
PARTS: st.SearchStrategy[list[Part]] = st.lists(
    TEXTS
    | THOUGHTS
    | st.builds(ToolCall, st.just(""), NAMES, JSON_OBJECTS)
    | st.builds(ToolCall, st.just(""), NAMES, WORDS, st.just(True))
    | st.builds(Refusal, WORDS)
    | st.just(Media("image", "image/png", PIXEL)),
    max_size=5,
)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    parts = [
        structs.replace(part, id=f"call_{number}") if isinstance(part, ToolCall) else part
        for number, part in enumerate(draw(PARTS))
    ]
    finish = draw(st.sampled_from(FINISHES))
    met = draw(st.sampled_from(["", "END"])) if finish == "stop_sequence" else ""
    said = draw(st.sampled_from(["", "Declined."])) if finish in ("refusal", "content_filter", "error") else ""
    is_text = bool(parts) and isinstance(parts[-1], Text)
    logprobs = draw(st.lists(LOGPROBS, max_size=2).map(tuple)) if is_text else ()
    return Choice(tuple(parts), finish, "", met, logprobs, explanation=said)


ANSWERS = st.builds(
    lambda choice, usage, tier: Answer("elsewhere", "id_1", "model-1", (choice,), 1_700_000_000, usage, tier),
    choices(),
    usages(),
    st.sampled_from(["", "default", "priority", "flex"]),
)
REQUEST = Request("elsewhere", "model-1", (Message("user", (Text("Hi."),)),))


def as_told_late(answer: Answer) -> list[Event]:
    """What is cited is found out when all texts are there, and the calls at the end are whole when the choice is."""
    parts = answer.choices[0].parts
    others = [index for index, part in enumerate(parts) if not isinstance(part, ToolCall)]
    told: list[Event] = []
    late: list[Event] = []
    for event in events_of(answer):
        is_cited = isinstance(event, PartMore) and event.citation is not None
        if is_cited or (isinstance(event, PartEnd) and event.index > max(others, default=-1)):
            late.append(event)
            continue
        if isinstance(event, Finished):
            told += late
        told.append(event)
    return told


def heading(surface: str) -> Heading:
    return Heading("model-1", True, structs.replace(REQUEST, origin=DIALECTS[surface].name), 1_700_000_000, "id_2")


def _together(parts: list[Part]) -> list[Part]:
    """Texts and refusals as the one string that each of them is."""
    told: list[Part] = []
    for part in parts:
        last = told[-1] if told else None
        if isinstance(part, Text) and isinstance(last, Text):
            told[-1] = structs.replace(last, text=last.text + part.text, citations=last.citations + part.citations)
        elif isinstance(part, Refusal) and isinstance(last, Refusal):
            told[-1] = Refusal(last.text + part.text)
        else:
            told.append(part)
    return told


def _as_read(part: Part) -> Part:
    """Without whose reasoning is sealed in it, and how a citation was written: a stream tells of its place in all of
    the text where a plain answer tells of that in its part."""
    if isinstance(part, Thinking):
        return structs.replace(part, origin="", summary=False, extras={})
    if isinstance(part, Text):
        bare = tuple(structs.replace(citation, raw=Raw(b"null")) for citation in part.citations)
        return structs.replace(part, citations=bare)
    return part


def as_kept(surface: str, answer: Answer) -> Answer:
    """The message that a caller has in the end: some dialects' have a place for each kind of part, and no order among
    the kinds."""
    (choice,) = answer.choices
    parts = list(map(_as_read, choice.parts))
    if surface in ("chat.completions", "cohere.chat"):
        kinds = (Thinking, Text, Refusal, ToolCall) if surface == "chat.completions" else (Text | Thinking, ToolCall)
        parts = [part for kind in kinds for part in parts if isinstance(part, kind)]
    if surface == "chat.completions":
        parts = _together(parts)
    return structs.replace(answer, choices=(structs.replace(choice, parts=tuple(parts), extras={}),))


def plain(surface: str, answer: Answer) -> Answer | str:
    """What a plain answer tells; of one that the dialect has no words for, the error's."""
    codec = CODECS[surface]
    try:
        return as_kept(surface, codec.decode_answer(codec.encode_answer(answer, heading(surface))))
    except UpstreamError as error:
        return error.message


def streamed(surface: str, events: Iterable[Event]) -> Answer | str:
    """What a stream tells."""
    codec = CODECS[surface]
    encoder, decoder = codec.encoder(heading(surface)), codec.decoder()
    told = decoder.feed(b"".join(map(encoder.encode, events)))
    told += decoder.close()
    failed = [event.message for event in told if isinstance(event, Failed)]
    return failed[0] if failed else as_kept(surface, collect(told))


@pytest.mark.parametrize("surface", CONVERSATIONS)
@unhurried
@given(answer=ANSWERS)
def test_a_stream_tells_what_a_plain_answer_tells(surface: str, answer: Answer) -> None:
    assert streamed(surface, events_of(answer)) == plain(surface, answer)
    assert streamed(surface, as_told_late(answer)) == plain(surface, answer)
