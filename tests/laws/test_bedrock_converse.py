"""Laws of the Converse codec and of the binary event stream: what is written is read again, in any pieces; what is
damaged is noticed; nothing crashes it."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs
from tests.laws.conversations import (
    CACHES,
    CALLS,
    IDS,
    JSON_OBJECTS,
    JSON_VALUES,
    NAMES,
    RAW_OBJECTS,
    SCHEMAS,
    TEXTS,
    TOOLS,
    WORDS,
    answers,
    compact,
    decode_in_pieces,
    messages,
    requests,
    unhurried,
)

from penstock.dialects import eventstream
from penstock.dialects.base import Address
from penstock.dialects.bedrock import Converse
from penstock.dialects.bedrock.blocks import NAME
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.eventstream import Frame
from penstock.domain.chat import (
    Answer,
    Cache,
    Choice,
    Citation,
    Finish,
    Format,
    Media,
    Opaque,
    Part,
    Reasoning,
    Request,
    Sampling,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.domain.stream import collect, events_of
from penstock.errors import InvalidRequest, UpstreamMalformed, UpstreamReset

DIALECT = Converse()
CODEC = DIALECT.codec
HEADING = Heading("model-1", wants_usage=True, request=Request(NAME, "model-1", ()))
SHORTEST = DIALECT.parse(b'{"messages":[{"role":"user","content":[{"text":"x"}]}]}', Address("m"))
FINISHES: list[tuple[Finish, str]] = [
    ("stop", "end_turn"),
    ("length", "max_tokens"),
    ("tool_calls", "tool_use"),
    ("content_filter", "guardrail_intervened"),
    ("context", "model_context_window_exceeded"),
    ("error", "malformed_tool_use"),
]


def opaque(kind: str, value: str) -> Opaque:
    return Opaque(NAME, kind, Raw(f'{{"{kind}":{value}}}'.encode()))


def guarded(text: str) -> Raw:
    return Raw(f'{{"text":{{"text":{compact(text)},"qualifiers":["query"]}}}}'.encode())


def found(kind: str, source: str, text: str) -> Media:
    """A block that others are told as a document."""
    told = {"source": source, "title": "T", "content": [{"text": text}, {"text": "more"}]}
    extras = {"source": Raw(compact(source).encode()), "block": Raw(compact({kind: told}).encode())}
    return Media("document", "text/plain", text=text + "\nmore", name="T", extras=extras)


CITATIONS = st.builds(
    lambda title, quote: Citation(
        title=title,
        quote=quote,
        origin=NAME,
        raw=Raw(compact({"title": title, "sourceContent": [{"text": quote}]}).encode()),
    ),
    WORDS,
    WORDS,
)
THINKING = st.builds(lambda text, proof: Thinking(text, signature=proof, origin=NAME), WORDS, st.just("") | NAMES)
REDACTED = st.builds(lambda data: Thinking(sealed=data, origin=NAME), st.sampled_from(["c2VhbGVk", "/w=="]))
SERVER_CALLS = st.builds(
    lambda given: opaque("toolUse", f'{{"toolUseId":"t","name":"nova","type":"server_tool_use","input":{given}}}'),
    JSON_OBJECTS,
)
ANSWERED: st.SearchStrategy[Part] = st.one_of(
    TEXTS,
    st.builds(Text, WORDS, st.lists(CITATIONS, max_size=2).map(tuple)),
    CALLS,
    THINKING,
    REDACTED,
    SERVER_CALLS,
    st.builds(Media, st.just("image"), st.just("image/png"), NAMES),
)
MEDIA = st.one_of(
    st.builds(Media, st.just("image"), st.just("image/webp"), NAMES, cache=CACHES),
    st.builds(Media, st.just("document"), st.just("application/pdf"), NAMES, name=NAMES, cache=CACHES),
    st.builds(lambda text: Media("document", "text/plain", text=text, name="d"), WORDS),
    st.builds(Media, st.just("video"), st.just("video/mp4"), NAMES),
)
ASKED: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORDS, cache=CACHES),
    MEDIA,
    st.builds(
        ToolResult,
        IDS,
        st.lists(st.builds(Text, WORDS) | MEDIA, max_size=2).map(tuple),
        is_error=st.booleans(),
        cache=CACHES,
    ),
    st.builds(lambda text: Text(text, extras={"guardContent": guarded(text)}, cache=Cache("1h")), WORDS),
    st.builds(lambda text: found("searchResult", "https://a.example", text), WORDS),
)
CHOICES = st.sampled_from([None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("tool", ("look_up",))])


@st.composite
def asked(draw: st.DrawFn) -> Request:
    made: Request = draw(
        requests(
            NAME,
            messages(ASKED, st.one_of(TEXTS, CALLS, THINKING, REDACTED, SERVER_CALLS)),
            tools=st.lists(
                TOOLS | st.just(ServerTool(NAME, "systemTool", Raw(b'{"systemTool":{"name":"nova_grounding"}}'))),
                min_size=1,
                max_size=2,
            ).map(tuple),
            tool_choice=CHOICES,
            max_output=st.none() | st.integers(1, 100_000),
            sampling=st.builds(
                Sampling,
                temperature=st.sampled_from([None, 0.0, 0.5]),
                top_p=st.sampled_from([None, 0.9]),
                top_k=st.sampled_from([None, 20]),
                stop=st.lists(WORDS, max_size=2).map(tuple),
            ),
            format=st.none() | st.builds(lambda schema: Format("json_schema", schema=schema), SCHEMAS),
            reasoning=st.none() | st.builds(Reasoning, st.sampled_from(["", "low"]), st.sampled_from([-1, 0, 2048])),
            service_tier=st.sampled_from(["", "flex", "reserved"]),
            metadata=st.none() | RAW_OBJECTS,
            extras=st.dictionaries(st.sampled_from(["guardrailConfig", "performanceConfig"]), RAW_OBJECTS, max_size=2),
            streaming=st.booleans(),
        )
    )
    return made


def stream_of(answer: Answer) -> bytes:
    encoder = CODEC.encoder(HEADING)
    return b"".join([encoder.encode(event) for event in events_of(answer)])


@unhurried
@given(asked())
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    encoded = CODEC.encode_request(request, TargetFacts(request.model))
    assert CODEC.decode_request(DIALECT.parse(encoded.body, Address(request.model, request.streaming))) == request
    assert encoded.dropped == ()


def bare(answer: Answer) -> Answer:
    """The answer as the API can tell it: without an id and a model."""
    return structs.replace(answer, id="", model="")


@unhurried
@given(answers(NAME, ANSWERED, FINISHES))
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    told = CODEC.decode_answer(CODEC.encode_answer(answer, HEADING))
    usage = told.usage if answer.usage is None else structs.replace(answer.usage, reasoning=0)
    assert told == structs.replace(bare(answer), usage=usage)


@unhurried
@given(answers(NAME, ANSWERED, FINISHES), st.integers(0, 2**32))
def test_a_stream_tells_the_same_answer_in_any_pieces(answer: Answer, seed: int) -> None:
    stream = stream_of(answer)
    told = decode_in_pieces(CODEC.decoder(), stream, seed)
    decoder = CODEC.decoder()
    assert told == [*decoder.feed(stream), *decoder.close()]
    assert collect(told) == CODEC.decode_answer(CODEC.encode_answer(answer, HEADING))


@unhurried
@given(answers(NAME, ANSWERED, FINISHES), st.data())
def test_a_stream_that_breaks_off_or_is_damaged_is_never_taken_for_a_whole_one(answer: Answer, data: Any) -> None:
    stream = stream_of(answer)
    at = data.draw(st.integers(0, len(stream) - 1))
    decoder, tee = CODEC.decoder(), DIALECT.tee(SHORTEST, asked_usage=False)
    decoder.feed(stream[:at])
    with pytest.raises(UpstreamReset):
        decoder.close()
    assert stream[:at].startswith(tee.feed(stream[:at]))
    assert tee.close() == (b"", False)
    damaged = stream[:at] + bytes([stream[at] ^ data.draw(st.integers(1, 255))]) + stream[at + 1 :]
    whole = CODEC.decoder()
    with pytest.raises((UpstreamMalformed, UpstreamReset)):
        whole.feed(damaged)
        whole.close()


@unhurried
@given(answers(NAME, ANSWERED, FINISHES))
def test_what_is_metered_is_what_is_told(answer: Answer) -> None:
    plain = CODEC.encode_answer(answer, HEADING)
    told = CODEC.decode_answer(plain)
    assert DIALECT.read(plain).usage == told.usage
    tee = DIALECT.tee(SHORTEST, asked_usage=False)
    tee.feed(stream_of(answer))
    assert tee.close() == (b"", True)
    assert (tee.reading.usage, tee.reading.finish_reason) == (told.usage, answer.choices[0].native)


FOREIGN = st.builds(
    Thinking,
    WORDS,
    st.booleans(),
    st.just("") | WORDS,
    st.just("") | WORDS,
    st.sampled_from(["gemini", "openai_responses"]),
    st.just("") | NAMES,
)
SIGNED_CALLS = st.builds(ToolCall, st.uuids().map(str), NAMES, JSON_OBJECTS, signature=WORDS, origin=st.just("gemini"))


@unhurried
@given(st.lists(st.one_of(FOREIGN, TEXTS, SIGNED_CALLS), max_size=4))
def test_the_proofs_of_another_family_come_back_as_they_were(parts: list[Part]) -> None:
    answer = Answer("gemini", "", "", (Choice(tuple(parts)),))
    content = json.loads(CODEC.encode_answer(answer, HEADING))["output"]["message"]["content"]
    body = compact({"messages": [{"role": "assistant", "content": content}]}).encode()
    assert CODEC.decode_request(DIALECT.parse(body, Address("m"))).messages[0].parts == tuple(parts)
    decoder = CODEC.decoder()
    streamed = collect([*decoder.feed(stream_of(answer)), *decoder.close()])
    assert json.loads(CODEC.encode_answer(streamed, HEADING))["output"]["message"]["content"] == content


KINDS = st.sampled_from(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "new"]
)
PAYLOADS = JSON_VALUES | st.fixed_dictionaries(
    {},
    optional={
        "contentBlockIndex": st.integers(0, 2) | JSON_VALUES,
        "start": JSON_VALUES
        | st.sampled_from([{"toolUse": {"toolUseId": "t", "name": "n"}}, {"image": {"format": "x"}}]),
        "delta": JSON_VALUES | st.sampled_from([{"text": "x"}, {"toolUse": {"input": "{"}}, {"toolResult": [{}]}]),
        "stopReason": st.just("end_turn") | JSON_VALUES,
        "usage": JSON_VALUES | st.just({"inputTokens": 10**19}),
    },
)
FRAMES = st.builds(lambda kind, told, fails: Frame(kind, compact(told).encode(), fails), KINDS, PAYLOADS, st.booleans())


@unhurried
@given(st.lists(FRAMES.map(eventstream.encode) | st.binary(max_size=40), max_size=8))
def test_whatever_a_provider_sends_is_told_or_refused_by_type(pieces: list[bytes]) -> None:
    decoder, tee = CODEC.decoder(), DIALECT.tee(SHORTEST, asked_usage=False)
    with suppress(UpstreamMalformed, UpstreamReset):
        for piece in pieces:
            decoder.feed(piece)
        decoder.close()
    with suppress(UpstreamMalformed):
        passed = b"".join([tee.feed(piece) for piece in pieces])
        assert b"".join(pieces).startswith(passed)
    assert tee.counted_output() >= 0


@unhurried
@given(JSON_VALUES | st.binary(max_size=40))
def test_whatever_a_provider_answers_is_read_or_refused_by_type(value: Any) -> None:
    body = value if isinstance(value, bytes) else compact(value).encode()
    for read in (CODEC.decode_answer, DIALECT.read):
        with suppress(UpstreamMalformed):
            read(body)
    assert isinstance(json.loads(DIALECT.envelope(body, 500)), dict)


MEMBERS = st.sampled_from(
    [
        "messages",
        "system",
        "toolConfig",
        "inferenceConfig",
        "outputConfig",
        "serviceTier",
        "additionalModelRequestFields",
    ]
)


@unhurried
@given(st.dictionaries(MEMBERS, JSON_VALUES), st.lists(JSON_VALUES, max_size=2))
def test_whatever_a_caller_sends_is_read_or_refused_by_type(members: dict[str, Any], blocks: list[Any]) -> None:
    for body in (members, {"messages": [{"role": "user", "content": blocks}], **members}):
        with suppress(InvalidRequest):
            CODEC.decode_request(DIALECT.parse(compact(body).encode(), Address("m")))
