"""What a text cites may be known when a tool's call has followed the text: callers of every dialect are told, and a
stream tells the same as a plain answer."""

import json
from typing import Any

import pytest
from msgspec import structs

from penstock.dialects.codec import Heading
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS
from penstock.domain.chat import Answer, Citation, Message, Request, Text
from penstock.domain.stream import Event, collect

REQUEST = Request("", "model-1", (Message("user", (Text("Hi."),)),))
URL = "https://example.com/a"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
NOTED = {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 5, "url": URL, "title": "A"}}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunks(*deltas: dict[str, Any], **members: Any) -> bytes:
    told = [{"choices": [{"index": 0, "delta": delta}], "id": "c", **members} for delta in deltas]
    ending = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "id": "c", **members}
    return sse(*told, ending) + b"data: [DONE]\n\n"


def read(surface: str, stream: bytes) -> list[Event]:
    decoder = CODECS[surface].decoder()
    return [*decoder.feed(stream), *decoder.close()]


def cited(answer: Answer) -> list[tuple[str, list[Citation]]]:
    return [(part.text, list(part.citations)) for part in answer.choices[0].parts if isinstance(part, Text)]


GROUNDED = {
    "groundingChunks": [{"web": {"uri": URL, "title": "A"}}],
    "groundingSupports": [{"segment": {"endIndex": 5, "text": "Rain."}, "groundingChunkIndices": [0]}],
}


def candidate(*parts: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": list(parts)}, **members}]}


FROM_GOOGLE = sse(
    candidate({"text": "Rain."}),
    candidate({"functionCall": {"name": "look", "args": {}, "id": "call_1"}}),
    candidate(finishReason="STOP", groundingMetadata=GROUNDED),
)
STREAMS = {
    "generateContent": FROM_GOOGLE,
    "chat.completions": chunks({"content": "Rain."}, {"tool_calls": [{"index": 0, **CALL}]}, {"annotations": [NOTED]}),
    "sources": chunks({"content": "Rain."}, {"tool_calls": [{"index": 0, **CALL}]}, citations=[URL]),
}


@pytest.mark.parametrize("caller", CONVERSATIONS)
@pytest.mark.parametrize("told", STREAMS)
def test_callers_of_every_dialect_are_told_what_is_cited_behind_a_call(told: str, caller: str) -> None:
    target = "chat.completions" if told == "sources" else told
    request = structs.replace(REQUEST, origin=DIALECTS[caller].name)
    codec = CODECS[caller]
    encoder = codec.encoder(Heading("model-1", True, request, 1_700_000_000, "id_1"))
    streamed = collect(read(caller, b"".join(map(encoder.encode, read(target, STREAMS[told])))))
    ((text, citations),) = cited(streamed)
    assert (text, [one.url for one in citations]) == ("Rain.", [URL])
    whole = codec.encode_answer(
        collect(read(target, STREAMS[told])), Heading("model-1", True, request, 1_700_000_000, "id_1")
    )
    ((_, plain),) = cited(codec.decode_answer(whole))
    assert [(one.url, one.start, one.end) for one in plain] == [(one.url, one.start, one.end) for one in citations]


@pytest.mark.parametrize("members", [{}, {"citations": [URL]}])
def test_annotations_and_sources_behind_a_call_are_of_the_text_before_it(members: dict[str, Any]) -> None:
    noted: list[dict[str, Any]] = [] if members else [{"annotations": [NOTED]}]
    stream = chunks({"content": "Rain."}, {"tool_calls": [{"index": 0, **CALL}]}, *noted, **members)
    message = {"role": "assistant", "content": "Rain.", "tool_calls": [CALL], **(noted[0] if noted else {})}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], **members}
    plain = CODECS["chat.completions"].decode_answer(json.dumps(body).encode())
    assert collect(read("chat.completions", stream)).choices == plain.choices
    assert [len(citations) for _, citations in cited(plain)] == [1]


def test_what_an_item_of_a_response_cites_when_it_is_done_is_told() -> None:
    note = {"type": "url_citation", "start_index": 0, "end_index": 5, "url": URL, "title": "A"}
    part = {"type": "output_text", "text": "Rain.", "annotations": [note], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    response = {"id": "resp_1", "model": "m", "status": "completed", "output": [item]}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    told = read(
        "responses",
        sse(
            {"type": "response.created", "response": {**response, "output": []}},
            {"type": "response.output_text.delta", **where, "delta": "Rain."},
            {"type": "response.output_text.done", **where, "text": "Rain."},
            {"type": "response.content_part.done", **where, "part": {**part, "annotations": []}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        ),
    )
    assert collect(told).choices == CODECS["responses"].decode_answer(json.dumps(response).encode()).choices


def test_a_citation_of_cohere_goes_to_the_text_that_it_names() -> None:
    source = {"type": "document", "id": "d", "document": {"url": URL, "title": "A"}}
    cite = {"start": 0, "end": 5, "text": "Rain.", "sources": [source], "content_index": 0, "type": "TEXT_CONTENT"}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

    def event(kind: str, index: int, **message: Any) -> dict[str, Any]:
        return {"type": kind, "index": index, "delta": {"message": message}}

    told = read(
        "cohere.chat",
        sse(
            {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}},
            event("content-start", 0, content={"type": "text", "text": ""}),
            event("content-delta", 0, content={"text": "Rain."}),
            event("content-end", 0),
            event("content-start", 1, content={"type": "text", "text": ""}),
            event("content-delta", 1, content={"text": "Wind."}),
            event("content-end", 1),
            event("tool-call-start", 0, tool_calls=call),
            event("tool-call-end", 0),
            event("citation-start", 0, citations=cite),
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
        ),
    )
    assert [(text, [one.url for one in found]) for text, found in cited(collect(told))] == [
        ("Rain.", [URL]),
        ("Wind.", []),
    ]


def test_a_source_of_google_is_of_the_part_that_it_names_and_of_the_texts_together_in_a_stream() -> None:
    parts = ({"text": "Rain."}, {"text": "Hm.", "thought": True}, {"text": "Wind."})
    support = {"segment": {"partIndex": 2, "endIndex": 5, "text": "Wind."}, "groundingChunkIndices": [0]}
    named = candidate(*parts, finishReason="STOP", groundingMetadata={**GROUNDED, "groundingSupports": [support]})
    plain = cited(CODECS["generateContent"].decode_answer(json.dumps(named).encode()))
    behind = {"segment": {"startIndex": 5, "endIndex": 10, "text": "Wind."}, "groundingChunkIndices": [0]}
    ending = candidate(finishReason="STOP", groundingMetadata={**GROUNDED, "groundingSupports": [behind]})
    streamed = cited(collect(read("generateContent", sse(*(candidate(part) for part in parts), ending))))
    for told in (plain, streamed):
        assert [(text, [(one.start, one.end) for one in found]) for text, found in told] == [
            ("Rain.", []),
            ("Wind.", [(0, 5)]),
        ]
