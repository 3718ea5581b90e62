"""Laws of the Gemini codec: what is written is read again as it was, a plain answer and a stream say the same, any
split of a stream gives the same events, every truncation is flagged, and nothing that comes from outside crashes it."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.laws.conversations import (
    JSON_OBJECTS,
    JSON_VALUES,
    NAMES,
    SCHEMAS,
    WORDS,
    compact,
    decode_in_pieces,
    requests,
    usages,
)

from penstock.dialects.base import Address
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.gemini import GeminiCodec, GenerateContent
from penstock.dialects.gemini.frames import Frames
from penstock.domain.chat import (
    Answer,
    Choice,
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    Sampling,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.domain.stream import Event, collect, events_of
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed, UpstreamReset

ORIGIN = "gemini"
MODEL = "gemini-3-flash"
CODEC = GeminiCodec()
DIALECT = GenerateContent()
SIGNATURES = st.binary(min_size=3, max_size=9).map(lambda data: base64.b64encode(b"\x12" + data).decode())
THOUGHTS: st.SearchStrategy[Part] = st.builds(
    lambda text, proof: Thinking(text, True, proof, origin=ORIGIN), WORDS, st.just("") | SIGNATURES
)
PROOFS: st.SearchStrategy[Part] = st.builds(lambda proof: Thinking("", False, proof, origin=ORIGIN), SIGNATURES)
SIGNED_CALLS: st.SearchStrategy[Part] = st.builds(
    lambda id_, name, args, proof: ToolCall(id_, name, args, signature=proof, origin=ORIGIN if proof else ""),
    st.integers(0, 9999).map(lambda n: f"fc{n}"),
    NAMES,
    JSON_OBJECTS,
    st.just("") | SIGNATURES,
)
IMAGES: st.SearchStrategy[Part] = st.binary(min_size=1, max_size=9).map(
    lambda data: Media("image", "image/png", data=base64.b64encode(data).decode())
)
ELSEWHERE: st.SearchStrategy[Part] = st.sampled_from(
    [
        Media("video", "video/mp4", url="https://example.com/film.mp4"),
        Media("document", "application/pdf", file="gs://bucket/paper.pdf"),
        Media("audio", "audio/wav", data="AAAA"),
        Media("document", "text/plain", text="As follows."),
    ]
)
CODE: st.SearchStrategy[Part] = st.builds(
    lambda code: Opaque(ORIGIN, "executableCode", Raw(compact({"executableCode": {"code": code}}).encode())), WORDS
)
RESULTS: st.SearchStrategy[Part] = st.builds(
    lambda id_, text, name, is_error: ToolResult(id_, (Text(text),), name, is_error),
    st.integers(0, 9999).map(lambda n: f"fr{n}"),
    WORDS,
    NAMES,
    st.booleans(),
)
ASSISTANT = st.builds(Text, WORDS) | THOUGHTS | PROOFS | SIGNED_CALLS | IMAGES | CODE
USER = st.builds(Text, WORDS) | IMAGES | ELSEWHERE | RESULTS


def _tidy(parts: list[Part]) -> tuple[Part, ...]:
    """Without pieces that would be one: texts, and thoughts behind one that is not signed; and a signature of a call
    that is the first of its turn where it has none."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, Text) and isinstance(last, Text):
            continue
        if isinstance(part, Thinking) and isinstance(last, Thinking):
            continue
        whole.append(part)
    return tuple(whole)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("system", (Text(draw(WORDS)),))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", tuple(draw(st.lists(USER, min_size=1, max_size=3)))))
        if draw(st.booleans()):
            messages.append(Message("assistant", _tidy(draw(st.lists(ASSISTANT, min_size=1, max_size=4)))))
    return tuple(messages)


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.none() | st.sampled_from([0.0, 0.5, 1.25]),
    top_p=st.none() | st.just(0.5),
    top_k=st.none() | st.integers(1, 40),
    stop=st.lists(WORDS, max_size=5).map(tuple),
    seed=st.none() | st.integers(-5, 5),
    presence_penalty=st.none() | st.just(0.5),
    frequency_penalty=st.none() | st.just(-0.5),
    choices=st.integers(1, 3),
)
FORMATS = (
    st.none()
    | st.sampled_from([Format("text"), Format("json")])
    | SCHEMAS.map(lambda schema: Format("json_schema", schema=schema))
)
REASONING = st.none() | st.builds(
    Reasoning,
    effort=st.sampled_from(["minimal", "low", "medium", "high"]),
    show=st.none() | st.booleans(),
)
BUDGETS = st.builds(Reasoning, budget=st.integers(-1, 5000), show=st.none() | st.booleans())
FUNCTIONS = st.builds(Tool, NAMES, st.just("") | WORDS, SCHEMAS)
TOOLS = st.builds(
    lambda tools, searches: (*tools, *searches),
    st.lists(FUNCTIONS, min_size=1, max_size=3),
    st.lists(st.just(ServerTool(ORIGIN, "googleSearch", Raw(b"{}"))), max_size=1),
)
CHOICES = st.none() | st.sampled_from(
    [
        ToolChoice("auto"),
        ToolChoice("none"),
        ToolChoice("required"),
        ToolChoice("tool", ("f",)),
        ToolChoice("allowed", ("f", "g"), required=True),
        ToolChoice("allowed", ("f",)),
    ]
)
REQUESTS = requests(
    ORIGIN,
    conversations(),
    tools=TOOLS,
    tool_choice=CHOICES,
    max_output=st.none() | st.integers(1, 9999),
    sampling=SAMPLINGS,
    format=FORMATS,
    reasoning=REASONING | BUDGETS,
    service_tier=st.sampled_from(["", "default", "flex", "priority"]),
    modalities=st.sampled_from([(), ("text",), ("text", "image")]),
    extras=st.sampled_from(
        [{}, {"safetySettings": Raw(b'[{"category":"X"}]'), "cachedContent": Raw(b'"cachedContents/1"')}]
    ),
)
LOGPROB = Raw(b'{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1.5,"bytes":[98]}]}')


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    def choice() -> Choice:
        parts = _tidy(draw(st.lists(ASSISTANT, max_size=4)))
        has_calls = any(isinstance(part, ToolCall) for part in parts)
        finish, native = draw(
            st.sampled_from(
                [
                    ("tool_calls" if has_calls else "stop", "STOP"),
                    ("length", "MAX_TOKENS"),
                    ("content_filter", "SAFETY"),
                ]
            )
        )
        logprobs = draw(st.sampled_from([(), (LOGPROB,), (LOGPROB, LOGPROB)]))
        return Choice(parts, finish, native, logprobs=logprobs)  # type: ignore[arg-type]

    choices = tuple(choice() for _ in range(draw(st.integers(1, 2))))
    usage = draw(st.none() | usages(lifetimes=()))
    tier = draw(st.sampled_from(["", "default", "flex"])) if usage is not None else ""
    extras = draw(st.sampled_from([{}, {"createTime": Raw(b'"2026-01-01T00:00:00Z"')}]))
    return Answer(ORIGIN, "id_1", MODEL, choices, usage=usage, service_tier=tier, extras=extras)


def heading(form: str = "") -> Heading:
    return Heading(MODEL, True, Request(ORIGIN, MODEL, ()), form=form)


def _written(answer: Answer, form: str) -> bytes:
    encoder = CODEC.encoder(heading(form))
    return b"".join(encoder.encode(event) for event in events_of(answer))


@given(REQUESTS)
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    encoded = CODEC.encode_request(request, TargetFacts(MODEL))
    again = CODEC.decode_request(DIALECT.parse(encoded.body, Address(request.model)))
    assert encoded.dropped == ()
    assert again == request


@given(answers())
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    body = CODEC.encode_answer(answer, heading())
    assert CODEC.decode_answer(body) == answer
    assert DIALECT.read(body).usage == answer.usage


@given(answers(), st.integers(0, 9), st.sampled_from(["", "list"]))
def test_a_stream_tells_the_answer_and_any_split_gives_the_same_events(answer: Answer, seed: int, form: str) -> None:
    stream = _written(answer, form)
    whole = decode_in_pieces(CODEC.decoder(), stream, seed)
    assert collect(whole) == answer
    assert decode_in_pieces(CODEC.decoder(), stream, seed + 1) == whole


@given(answers(), st.integers(0, 9), st.sampled_from(["", "list"]))
def test_the_tee_passes_a_stream_untouched_and_reads_what_the_decoder_reads(
    answer: Answer, seed: int, form: str
) -> None:
    stream = _written(answer, form)
    tee, out = DIALECT.tee(_call(len(answer.choices)), False), b""
    for start in range(0, len(stream), seed + 1):
        out += tee.feed(stream[start : start + seed + 1])
    rest, seen = tee.close()
    assert (out + rest, seen) == (stream, True)
    assert tee.reading.usage == answer.usage
    assert tee.ended == (form == "list")


def _call(choices: int):  # type: ignore[no-untyped-def]
    body = {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"candidateCount": choices}}
    return DIALECT.parse(json.dumps(body).encode(), Address(MODEL, True, "sse"))


@given(answers(), st.data(), st.sampled_from(["", "list"]))
def test_a_truncated_stream_is_flagged(answer: Answer, data: st.DataObject, form: str) -> None:
    stream = _written(answer, form)
    ending = stream.rindex(b'"finishReason"') if form == "" else len(stream) - 1
    cut = stream[: data.draw(st.integers(1, ending))]
    tee, decoder = DIALECT.tee(_call(len(answer.choices)), False), CODEC.decoder()
    tee.feed(cut)
    assert tee.close()[1] is False
    decoder.feed(cut)
    with pytest.raises(UpstreamReset):
        decoder.close()


NOISE = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        JSON_VALUES,
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    *("candidates", "content", "parts", "text", "thought", "functionCall", "functionResponse", "args"),
                    *("inlineData", "data", "usageMetadata", "promptTokenCount", "promptTokensDetails", "finishReason"),
                    *("groundingMetadata", "groundingChunks", "groundingSupports", "logprobsResult", "error", "index"),
                    *("contents", "generationConfig", "tools", "toolConfig", "thoughtSignature", "promptFeedback"),
                    *("response", "functionDeclarations", "parameters", "responseSchema", "responseMimeType", "role"),
                ]
            ),
            inner | st.lists(inner, max_size=2),
            max_size=3,
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(NOISE)
def test_what_comes_from_outside_ends_in_a_typed_error_or_is_read(noise: bytes) -> None:
    try:
        call = DIALECT.parse(noise, Address(MODEL))
        CODEC.decode_request(call)
    except InvalidRequest:
        pass
    for read in (CODEC.decode_answer, DIALECT.read):
        with contextlib.suppress(UpstreamMalformed):
            read(noise)
    for stream in (noise, b"data: " + noise + b"\r\n\r\n", b"[" + noise + b",\n"):
        _play(stream)


def _play(stream: bytes) -> list[Event]:
    decoder, tee = CODEC.decoder(), DIALECT.tee(_call(1), False)
    try:
        tee.feed(stream)
        tee.close()
        tee.counted_output()
    except UpstreamMalformed:
        pass
    try:
        return [*decoder.feed(stream), *decoder.close()]
    except GatewayError as error:
        assert isinstance(error, UpstreamMalformed | UpstreamReset)
        return []


@given(st.lists(JSON_OBJECTS, max_size=4), st.sampled_from([",", ",\r\n", " , "]), st.integers(1, 9))
def test_a_list_is_cut_into_its_objects_whatever_they_hold(objects: list[str], comma: str, size: int) -> None:
    data = ("[" + comma.join(objects) + "\n]").encode()
    frames, found = Frames(), []
    for start in range(0, len(data), size):
        found += frames.feed(data[start : start + size])
    assert [one.decode() for one in found] == objects
    assert frames.closed
