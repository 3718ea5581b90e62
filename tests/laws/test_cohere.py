"""Laws of the Cohere codec: what is written is read again as it was, a plain answer and a stream say the same, any
split of a stream gives the same events, every truncation is flagged, and nothing that comes from outside crashes it."""

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
    unhurried,
)

from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.cohere import CohereChat
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
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
from penstock.domain.stream import collect, events_of
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed, UpstreamReset

ORIGIN = "cohere_chat"
CODEC = CohereChat.codec
DIALECT = CohereChat()
HEADING = Heading("model-1", wants_usage=True, request=Request(ORIGIN, "model-1", ()), id="ours")


def raw(value: object) -> Raw:
    return Raw(compact(value).encode())


# -- requests ---------------------------------------------------------------------------------------------------------

TEXTS: st.SearchStrategy[Part] = st.builds(Text, WORDS)
THOUGHTS: st.SearchStrategy[Part] = st.builds(Thinking, WORDS, origin=st.just(ORIGIN))
PLANS: st.SearchStrategy[Part] = st.builds(lambda text: Text(text, extras={"tool_plan": Raw(b"true")}), WORDS)
CALLS: st.SearchStrategy[Part] = st.builds(
    ToolCall, st.integers(0, 99).map("call_{}".format), NAMES, JSON_OBJECTS, origin=st.just(ORIGIN)
)
IMAGES: st.SearchStrategy[Part] = st.sampled_from(
    [
        Media("image", "image/png", "QUJD", detail="low"),
        Media("image", url="https://example.com/a.png"),
    ]
)
ODD: st.SearchStrategy[Part] = st.just(Opaque(ORIGIN, "odd", raw({"type": "odd", "x": [1]})))


def _document(text: str) -> Media:
    return Media("document", "text/plain", text=text, name="Rivers")


RESULTS = st.builds(
    lambda call, parts: ToolResult(call, tuple(parts)),
    st.integers(0, 99).map("call_{}".format),
    st.lists(st.builds(Text, WORDS), max_size=2),
)
ASSISTANT = st.builds(lambda content: Message("assistant", tuple(content)), st.lists(TEXTS | THOUGHTS, max_size=2))
CALLING = st.builds(
    lambda thoughts, plan, calls: Message("assistant", (*thoughts, *plan, *calls)),
    st.lists(THOUGHTS, max_size=1),
    st.lists(TEXTS, max_size=1),
    st.lists(CALLS, min_size=1, max_size=2),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("system", (Text(draw(WORDS)),))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        messages += [
            Message("user", tuple(draw(st.lists(TEXTS | IMAGES | ODD, max_size=2)))),
            draw(ASSISTANT | CALLING),
        ]
        messages.append(Message("user", tuple(draw(st.lists(RESULTS, min_size=1, max_size=2)))))
    documents = draw(st.lists(st.builds(_document, WORDS), max_size=2))
    return (*messages, Message("user", (*documents, draw(TEXTS), *draw(st.lists(IMAGES, max_size=1)))))


def _tools(strict: bool | None) -> st.SearchStrategy[tuple[Tool | ServerTool, ...]]:
    function = st.builds(Tool, NAMES, st.just("") | WORDS, SCHEMAS, st.just(strict))
    return st.lists(function, min_size=1, max_size=2).map(tuple)


REQUESTS = requests(
    ORIGIN,
    conversations(),
    tools=st.just(())
    | _tools(None)
    | _tools(True)
    | _tools(False)
    | st.just((ServerTool(ORIGIN, "odd", raw({"type": "odd"})),)),
    tool_choice=st.sampled_from([None, ToolChoice("required"), ToolChoice("none")]),
    max_output=st.none() | st.integers(1, 9_999),
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.just(0.5),
        top_p=st.none() | st.just(0.75),
        top_k=st.none() | st.integers(0, 500),
        stop=st.lists(WORDS, max_size=3).map(tuple),
        seed=st.none() | st.integers(0, 9),
        presence_penalty=st.none() | st.just(0.5),
        frequency_penalty=st.none() | st.just(0.25),
        logprobs=st.booleans(),
    ),
    format=st.sampled_from([None, Format("text"), Format("json")])
    | SCHEMAS.map(lambda schema: Format("json_schema", schema=schema)),
    reasoning=st.sampled_from([None, Reasoning(), Reasoning(effort="none"), Reasoning(budget=2_048)]),
    streaming=st.booleans(),
    extras=st.sampled_from(
        [{}, {"safety_mode": raw("OFF"), "citation_options": raw({"mode": "FAST"}), "priority": raw(3)}]
    ),
)


@unhurried
@given(REQUESTS)
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    encoded = CODEC.encode_request(request, TargetFacts("model-1"))
    assert encoded.dropped == ()
    assert CODEC.decode_request(DIALECT.parse(encoded.body)) == request


# -- answers ----------------------------------------------------------------------------------------------------------


def _citation(at: int, start: int) -> Citation:
    document = {"id": "doc_1", "title": "Rivers", "url": "https://example.com", "snippet": "The Po."}
    source = {"type": "document", "id": "doc_1", "document": document}
    told = {"start": start, "end": start + 2, "text": "Po", "sources": [source], "content_index": at}
    return Citation("https://example.com", "Rivers", "The Po.", start, start + 2, ORIGIN, raw(told))


def _logprob(token: str) -> Raw:
    return raw({"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []})


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Texts and thoughts, then the plan, then the calls, as the dialect has them; places that are told are true."""
    content: list[Part] = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            content.append(draw(THOUGHTS))
        else:
            cited = draw(st.lists(st.integers(0, 9), max_size=2))
            content.append(Text(draw(WORDS), tuple(_citation(len(content), start) for start in cited)))
    parts = (*content, *draw(st.lists(PLANS, max_size=1)), *draw(st.lists(CALLS, max_size=3)))
    finish, native = draw(
        st.sampled_from(
            [
                ("stop", "COMPLETE"),
                ("stop_sequence", "STOP_SEQUENCE"),
                ("length", "MAX_TOKENS"),
                ("tool_calls", "TOOL_CALL"),
                ("error", "TIMEOUT"),
            ]
        )
    )
    logprobs = tuple(map(_logprob, draw(st.lists(WORDS, max_size=2)))) if content else ()
    output = draw(st.integers(0, 999))
    usage = draw(st.sampled_from([None, Usage(input=7, output=output, reasoning=output // 2)]))
    extras = draw(st.sampled_from([{}, {"meta": raw({"x": 1})}]))
    return Answer(ORIGIN, "id_1", "", (Choice(parts, finish, native, logprobs=logprobs),), usage=usage, extras=extras)  # type: ignore[arg-type]


def _stream(answer: Answer) -> bytes:
    encoder = CODEC.encoder(HEADING)
    return b"".join(encoder.encode(event) for event in events_of(answer))


@unhurried
@given(answers(), st.integers(0, 9))
def test_an_answer_is_read_as_it_was_written_plain_and_streamed_and_in_any_pieces(answer: Answer, seed: int) -> None:
    body, stream = CODEC.encode_answer(answer, HEADING), _stream(answer)
    assert CODEC.decode_answer(body) == answer
    assert DIALECT.read(body).usage == answer.usage
    whole = decode_in_pieces(CODEC.decoder(), stream, seed)
    assert collect(whole) == answer
    assert decode_in_pieces(CODEC.decoder(), stream, seed + 1) == whole


@unhurried
@given(answers(), st.data())
def test_a_truncated_stream_is_flagged(answer: Answer, data: st.DataObject) -> None:
    stream = _stream(answer)
    cut = stream[: data.draw(st.integers(0, stream.index(b"event: message-end") + 25))]
    decoder, tee = CODEC.decoder(), DIALECT.tee(_call(), False)
    decoder.feed(cut)
    with pytest.raises((UpstreamReset, UpstreamMalformed)):
        decoder.close()
    tee.feed(cut)
    assert tee.close()[1] is False


def _call():  # type: ignore[no-untyped-def]
    return DIALECT.parse(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')


# -- noise ------------------------------------------------------------------------------------------------------------

KINDS = ["message-start", "content-start", "content-delta", "tool-call-start", "tool-call-delta", "message-end"]
NOISE = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        JSON_VALUES | st.sampled_from([*KINDS, "citation-start", "text", "document", "tool", "user", "assistant"]),
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    *("message", "messages", "content", "type", "role", "text", "thinking", "tool_plan", "tool_calls"),
                    *("function", "arguments", "citations", "sources", "document", "documents", "data", "delta"),
                    *("finish_reason", "usage", "billed_units", "input_tokens", "logprobs", "index", "image_url"),
                    *("tools", "response_format", "json_schema", "token_budget", "error", "content_index", "id"),
                ]
            ),
            inner | st.lists(inner, max_size=2),
            max_size=4,
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
)
BEGUN = b'data: {"type":"message-start","id":"1"}\n\n'


@unhurried
@given(NOISE)
def test_what_comes_from_outside_ends_in_a_typed_error_or_is_read(noise: bytes) -> None:
    asked = [
        noise,
        b'{"model":"m","messages":[{"role":"user","content":[' + noise + b']}],"documents":[' + noise + b"]}",
    ]
    for body in asked:
        with contextlib.suppress(InvalidRequest):
            CODEC.decode_request(DIALECT.parse(body))
    for body in (noise, b'{"message":' + noise + b"}"):
        with contextlib.suppress(UpstreamMalformed):
            CODEC.decode_answer(body)
    for kind in KINDS:
        event = b'data: {"type":"' + kind.encode() + b'","delta":{"message":' + noise + b"}}\r\n\r\n"
        for stream in (noise, BEGUN + event, BEGUN + b"data: " + noise + b"\n\n"):
            _play(stream)


def _play(stream: bytes) -> None:
    decoder = CODEC.decoder()
    try:
        decoder.feed(stream)
        decoder.close()
    except GatewayError as error:
        assert isinstance(error, UpstreamMalformed | UpstreamReset)
