"""Laws of the Messages codec: what is written is read again, whole or in any pieces, and nothing crashes it."""

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

from penstock.dialects.anthropic import Messages
from penstock.dialects.anthropic.blocks import NAME
from penstock.dialects.codec import Heading, TargetFacts
from penstock.domain.chat import (
    Answer,
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
from penstock.domain.stream import Begin, Ended, Finished, collect, events_of
from penstock.errors import InvalidRequest, UpstreamMalformed, UpstreamReset

DIALECT = Messages()
CODEC = DIALECT.codec
HEADING = Heading("model-1", wants_usage=True, request=Request(NAME, "model-1", ()))
FINISHES: list[tuple[Finish, str]] = [
    ("stop", "end_turn"),
    ("length", "max_tokens"),
    ("tool_calls", "tool_use"),
    ("pause", "pause_turn"),
    ("pause", "compaction"),
    ("refusal", "refusal"),
    ("context", "model_context_window_exceeded"),
]


def opaque(kind: str, members: str) -> Opaque:
    return Opaque(NAME, kind, Raw(f'{{"type":{compact(kind)},{members}}}'.encode()))


CITATIONS = st.builds(
    lambda title, quote: Citation(
        title=title,
        quote=quote,
        origin=NAME,
        raw=Raw(compact({"type": "char_location", "cited_text": quote, "document_title": title}).encode()),
    ),
    WORDS,
    WORDS,
)
THINKING = st.builds(lambda text, proof: Thinking(text, signature=proof, origin=NAME), WORDS, NAMES)
REDACTED = st.builds(lambda data: Thinking(sealed=data, origin=NAME), NAMES)
FOREIGN = st.builds(
    Thinking,
    WORDS,
    st.booleans(),
    st.just("") | WORDS,
    st.just("") | WORDS,
    st.sampled_from(["gemini", "openai_responses"]),
    st.just("") | NAMES,
)
SERVER_BLOCKS = st.builds(
    lambda given: opaque("server_tool_use", f'"id":"srvtoolu_1","name":"web_search","input":{given}'), JSON_OBJECTS
) | st.builds(lambda text: opaque("compaction", f'"content":{compact(text)}'), WORDS)
ANSWERED: st.SearchStrategy[Part] = st.one_of(
    TEXTS,
    st.builds(Text, WORDS, st.lists(CITATIONS, max_size=2).map(tuple)),
    CALLS,
    THINKING,
    REDACTED,
    SERVER_BLOCKS,
)
IMAGES = st.builds(Media, st.just("image"), st.just("image/png"), NAMES, cache=CACHES) | st.builds(
    lambda name: Media("image", url=f"https://example.com/{name}.png"), NAMES
)
DOCUMENTS = st.one_of(
    st.builds(Media, st.just("document"), st.just("application/pdf"), NAMES, name=st.just("") | NAMES, cache=CACHES),
    st.builds(lambda text: Media("document", "text/plain", text=text), WORDS),
    st.builds(lambda id_: Media("document", file=id_), NAMES),
)
MEDIA = IMAGES | DOCUMENTS
ASKED: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORDS, cache=CACHES),
    MEDIA,
    st.builds(
        ToolResult,
        IDS,
        st.lists(st.one_of(st.builds(Text, WORDS), MEDIA), max_size=2).map(tuple),
        is_error=st.booleans(),
        cache=CACHES,
    ),
    st.builds(lambda name: opaque("container_upload", f'"file_id":{compact(name)}'), NAMES),
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    top_p=st.none() | st.sampled_from([0.5, 0.99]),
    top_k=st.none() | st.integers(1, 50),
    stop=st.lists(WORDS, max_size=2).map(tuple),
)
SERVER_TOOLS = st.builds(
    lambda uses: ServerTool(
        NAME, "web_search_20250305", Raw(b'{"type":"web_search_20250305","name":"web_search","max_uses":%d}' % uses)
    ),
    st.integers(1, 9),
)
CHOICES = st.one_of(
    st.just((None, None)),
    st.tuples(
        st.sampled_from([ToolChoice("auto"), ToolChoice("required"), ToolChoice("tool", ("look_up",))]),
        st.none() | st.booleans(),
    ),
    st.just((ToolChoice("none"), None)),
)


@st.composite
def asked(draw: st.DrawFn) -> Request:
    choice, parallel = draw(CHOICES)
    made: Request = draw(
        requests(
            NAME,
            messages(ASKED, ANSWERED),
            tools=st.lists(TOOLS | SERVER_TOOLS, min_size=1, max_size=3).map(tuple),
            max_output=st.integers(0, 100_000),
            sampling=SAMPLINGS,
            format=st.none() | st.builds(lambda schema: Format("json_schema", schema=schema), SCHEMAS),
            reasoning=st.none()
            | st.builds(
                Reasoning,
                st.sampled_from(["low", "max"]),
                st.sampled_from([None, -1, 0, 2048]),
            )
            | st.builds(Reasoning, budget=st.just(-1), show=st.sampled_from([None, True, False])),
            streaming=st.booleans(),
            user=st.just("") | NAMES,
            service_tier=st.sampled_from(["", "auto", "default"]),
            extras=st.dictionaries(st.sampled_from(["context_management", "inference_geo"]), RAW_OBJECTS, max_size=2),
        )
    )
    return structs.replace(made, tool_choice=choice, parallel_tools=parallel)


SHORTEST = DIALECT.parse(b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1}')


def stream_of(answer: Answer) -> bytes:
    encoder = CODEC.encoder(HEADING)
    return b"".join([encoder.encode(event) for event in events_of(answer)])


def reads(body: bytes) -> Request:
    return CODEC.decode_request(DIALECT.parse(body))


@unhurried
@given(asked())
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    encoded = CODEC.encode_request(request, TargetFacts(request.model))
    assert reads(encoded.body) == request
    assert encoded.dropped == ()


@unhurried
@given(answers(NAME, ANSWERED, FINISHES))
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    told = CODEC.decode_answer(CODEC.encode_answer(answer, HEADING))
    usage = answer.usage or told.usage
    assert told == structs.replace(answer, usage=usage)


@unhurried
@given(answers(NAME, ANSWERED, FINISHES), st.integers(0, 2**32))
def test_a_stream_tells_the_same_answer_in_any_pieces(answer: Answer, seed: int) -> None:
    stream = stream_of(answer)
    told = decode_in_pieces(CODEC.decoder(), stream, seed)
    decoder = CODEC.decoder()
    assert told == [*decoder.feed(stream), *decoder.close()]
    assert collect(told) == CODEC.decode_answer(CODEC.encode_answer(answer, HEADING))


@unhurried
@given(answers(NAME, ANSWERED, FINISHES), st.floats(0, 1, exclude_max=True))
def test_a_stream_that_breaks_off_is_never_taken_for_a_whole_one(answer: Answer, where: float) -> None:
    stream = stream_of(answer)
    end = stream.rindex(b'"message_stop"')
    part = stream[: int(where * end)]
    decoder, tee = (
        CODEC.decoder(),
        DIALECT.tee(SHORTEST, asked_usage=False),
    )
    decoder.feed(part)
    with pytest.raises(UpstreamReset):
        decoder.close()
    passed = tee.feed(part)
    rest, seen = tee.close()
    assert (passed + rest, seen) == (part, False)


@unhurried
@given(answers(NAME, ANSWERED, FINISHES))
def test_what_is_metered_is_what_is_told(answer: Answer) -> None:
    plain = CODEC.encode_answer(answer, HEADING)
    assert DIALECT.read(plain).usage == CODEC.decode_answer(plain).usage
    tee = DIALECT.tee(SHORTEST, asked_usage=False)
    tee.feed(stream_of(answer))
    assert tee.close() == (b"", True)
    assert tee.reading.usage == (answer.usage or tee.reading.usage)
    assert tee.reading.finish_reason == answer.choices[0].native


# -- other families ---------------------------------------------------------------------------------------------------


def sent_back(answer: Answer, told: bytes) -> tuple[Part, ...]:
    """The parts as a caller sends them back that was told them in this message."""
    turn = {"role": "assistant", "content": json.loads(told)["content"]}
    body = {"model": "m", "max_tokens": 1, "messages": [turn]}
    return reads(compact(body).encode()).messages[0].parts


SIGNED_CALLS = st.builds(
    ToolCall,
    st.uuids().map(lambda unique: f"call_{unique}"),
    NAMES,
    JSON_OBJECTS,
    signature=st.just("") | WORDS,
    origin=st.just("gemini"),
).map(lambda call: call if call.signature else structs.replace(call, origin=""))


@unhurried
@given(st.lists(st.one_of(FOREIGN, TEXTS, SIGNED_CALLS), max_size=4))
def test_the_proofs_of_another_family_come_back_as_they_were(parts: list[Part]) -> None:
    answer = Answer("gemini", "id_1", "model-1", (Choice(tuple(parts)),))
    assert sent_back(answer, CODEC.encode_answer(answer, HEADING)) == tuple(parts)
    decoder = CODEC.decoder()
    streamed = collect([*decoder.feed(stream_of(answer)), *decoder.close()])
    again = CODEC.encode_answer(streamed, HEADING)
    assert json.loads(again)["content"] == json.loads(CODEC.encode_answer(answer, HEADING))["content"]


@unhurried
@given(st.lists(st.one_of(TEXTS, CALLS), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_parts_that_overlap_are_told_one_after_the_other(parts: list[Part], dice: Any) -> None:
    answer = Answer("openai_chat", "id_1", "model-1", (Choice(tuple(parts)),))
    own = [[e for e in events_of(answer) if getattr(e, "index", None) == n] for n in range(len(parts))]
    mixed: list[Any] = [Begin("openai_chat", "id_1", "model-1"), *[events.pop(0) for events in own]]
    while any(own):
        mixed.append(dice.choice([events for events in own if events]).pop(0))
    encoder = CODEC.encoder(HEADING)
    stream = b"".join([encoder.encode(event) for event in [*mixed, Finished(0, "stop"), Ended()]])
    decoder = CODEC.decoder()
    assert collect([*decoder.feed(stream), *decoder.close()]).choices[0].parts == tuple(parts)


# -- anything at all --------------------------------------------------------------------------------------------------

KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
        *("message_stop", "ping", "error", "new_event", 7),
    ]
)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "index": st.integers(-1, 3) | JSON_VALUES,
        "message": JSON_VALUES | st.just({"id": "m", "usage": {"input_tokens": -4}}),
        "content_block": JSON_VALUES | st.sampled_from([{"type": "text"}, {"type": "tool_use", "input": 3}, {}]),
        "delta": JSON_VALUES | st.sampled_from([{"type": "text_delta", "text": "x"}, {"stop_reason": "end_turn"}]),
        "usage": JSON_VALUES | st.just({"output_tokens": 10**19}),
        "error": JSON_VALUES,
    },
)


@unhurried
@given(
    st.lists(
        st.one_of(EVENTS.map(lambda e: b"data: " + compact(e).encode() + b"\n\n"), st.binary(max_size=30)), max_size=8
    )
)
def test_whatever_a_provider_sends_is_told_or_refused_by_type(pieces: list[bytes]) -> None:
    decoder = CODEC.decoder()
    with suppress(UpstreamMalformed, UpstreamReset):
        for piece in pieces:
            decoder.feed(piece)
        decoder.close()
    tee = DIALECT.tee(SHORTEST, asked_usage=False)
    passed = b"".join([tee.feed(piece) for piece in pieces])
    assert passed + tee.close()[0] == b"".join(pieces)
    assert tee.counted_output() >= 0


@unhurried
@given(
    JSON_VALUES | st.binary(max_size=40) | st.dictionaries(st.sampled_from(["type", "content", "usage"]), JSON_VALUES)
)
def test_whatever_a_provider_answers_is_read_or_refused_by_type(value: Any) -> None:
    body = value if isinstance(value, bytes) else compact(value).encode()
    for read in (CODEC.decode_answer, DIALECT.read):
        with suppress(UpstreamMalformed):
            read(body)
    assert json.loads(DIALECT.envelope(body, 500))["type"] == "error" or json.loads(body)


MEMBERS = st.sampled_from(
    [
        *("model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "output_config", "stream"),
        *("metadata", "stop_sequences", "temperature", "service_tier", "speed", "mcp_servers", "content", "role"),
    ]
)


@unhurried
@given(st.dictionaries(MEMBERS, JSON_VALUES), st.lists(JSON_VALUES, max_size=2))
def test_whatever_a_caller_sends_is_read_or_refused_by_type(members: dict[str, Any], blocks: list[Any]) -> None:
    sound = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": blocks}]}
    for body in (members, sound | members):
        with suppress(InvalidRequest):
            CODEC.decode_request(DIALECT.parse(compact(body).encode()))


def test_a_stream_without_an_end_keeps_no_more_than_a_block() -> None:
    decoder = CODEC.decoder()
    decoder.feed(b'data: {"type":"message_start","message":{}}\n\n')
    decoder.feed(
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","input":{}}}\n\n'
    )
    piece = b'data: {"type":"content_block_delta","index":0,"delta":{"partial_json":"%b"}}\n\n' % (b"x" * 1_000_000)
    with pytest.raises(UpstreamMalformed):
        for _ in range(40):
            decoder.feed(piece)


def test_a_message_that_ends_before_its_blocks_is_malformed() -> None:
    answer = Answer(NAME, "id_1", "model-1", (Choice((Text("x"),)),))
    stream = stream_of(answer)
    for lost in (b"event: message_delta", b"event: content_block_stop"):
        start = stream.index(lost)
        broken = stream[:start] + stream[stream.index(b"\n\n", start) + 2 :]
        with pytest.raises(UpstreamMalformed):
            CODEC.decoder().feed(broken)
