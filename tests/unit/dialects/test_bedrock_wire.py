"""Converse on the wire: bounds, usage, errors."""

import json
from typing import Any

import pytest

from penstock.dialects.base import Address, Call, Demand
from penstock.dialects.bedrock import Converse
from penstock.dialects.bedrock.errors import exception_frame, kind_of
from penstock.dialects.bedrock.invoke import Unpacked
from penstock.dialects.eventstream import Frame, Splitter, encode
from penstock.domain.chat import Opaque, Thinking
from penstock.domain.stream import collect
from penstock.domain.usage import Usage
from penstock.errors import InsufficientQuota, InvalidRequest

DIALECT = Converse()
CODEC = Converse.codec


def parse(*blocks: dict[str, Any], **members: Any) -> Call:
    content = list(blocks) or [{"text": "Hi"}]
    body = {"messages": [{"role": "user", "content": content}], **members}
    return DIALECT.parse(json.dumps(body).encode(), Address("nova"))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [{"role": "user", "content": "text"}]}, "messages"),
        ({"inferenceConfig": {"maxTokens": "9"}}, "inferenceConfig"),
        ({"inferenceConfig": {"maxTokens": 0}}, "inferenceConfig.maxTokens"),
        ({"serviceTier": "flex"}, "serviceTier"),
        ({"additionalModelRequestFields": {"max_tokens": 99_999}}, "additionalModelRequestFields"),
        ({"additionalModelRequestFields": {"inferenceConfig": {"maxTokens": 9}}}, "additionalModelRequestFields"),
    ],
)
def test_a_refusal_names_the_member_at_fault(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(**members)
    assert refusal.value.param == param


def test_media_are_counted_and_not_measured() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "A" * 50_000}}}
    inside = {"toolResult": {"toolUseId": "t", "content": [image]}}
    pdf = {"document": {"format": "pdf", "name": "d", "source": {"bytes": "A" * 20_480}}}
    call = parse(image, inside, pdf)
    assert call.images == 22
    assert call.input_bound < 600
    assert not call.unseen


@pytest.mark.parametrize(
    "block",
    [
        {"video": {"format": "mp4", "source": {"bytes": "AAAA"}}},
        {"audio": {"format": "wav", "source": {"s3Location": {"uri": "s3://bucket/a"}}}},
        {"document": {"format": "pdf", "name": "d", "source": {"s3Location": {"uri": "s3://bucket/a"}}}},
        {"document": {"format": "docx", "name": "d", "source": {"bytes": "AAAA"}}},
    ],
)
def test_what_cannot_be_counted_is_bounded_by_the_context_window(block: dict[str, Any]) -> None:
    assert parse(block).unseen


def test_the_cap_is_injected_where_the_dialect_has_it() -> None:
    call = parse(inferenceConfig={"temperature": 0.5})
    assert call.max_output is None
    sent = json.loads(DIALECT.rebuild(call, Demand("nova", ("maxTokens", 77))))
    assert sent["inferenceConfig"] == {"temperature": 0.5, "maxTokens": 77}
    assert parse(inferenceConfig={"maxTokens": 5}).max_output == 5


def test_the_tier_that_is_asked_for_is_held() -> None:
    assert parse(serviceTier={"type": "priority"}).service_tier == "priority"
    assert parse(serviceTier={"type": "default"}).service_tier == ""


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}, Usage(9, 5)),
        (
            {
                "inputTokens": 9,
                "outputTokens": 5,
                "totalTokens": 3014,
                "cacheReadInputTokens": 1000,
                "cacheWriteInputTokens": 2000,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 1500}],
            },
            Usage(9, 5, 1000, {"1h": 2000}),
        ),
        (
            {"inputTokens": 1009, "outputTokens": 5, "totalTokens": 1014, "cacheReadInputTokens": 1000},
            Usage(9, 5, 1000),
        ),
        (  # as a stream of OpenAI's told it, whose prompt had 4,995 tokens
            {"inputTokens": 4995, "outputTokens": 19, "totalTokens": 10007, "cacheWriteInputTokens": 4993},
            Usage(4995, 19, 0, {"5m": 4993}),
        ),
        ({"inputTokens": -1, "outputTokens": 5, "totalTokens": 4}, None),
        ({"inputTokens": 1, "outputTokens": 10**18, "totalTokens": 4}, None),
        ({"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": 5, "inputTokens": 1}]}, None),
        ([1], None),
    ],
)
def test_usage_is_told_in_disjoint_classes_or_not_believed(told: Any, usage: Usage | None) -> None:
    reading = DIALECT.read(json.dumps({"stopReason": "end_turn", "usage": told}).encode())
    assert reading.usage == usage
    assert reading.hostile == (usage is None)


def test_half_a_report_is_not_believed_as_a_whole() -> None:
    assert DIALECT.read(b'{"usage": {"inputTokens": 5}}').hostile


def test_an_exception_in_a_stream_is_read_with_its_status() -> None:
    tee = DIALECT.tee(parse(), asked_usage=False)
    tee.feed(encode(Frame("throttlingException", b'{"message":"Slow down."}', is_exception=True)))
    assert (tee.reading.error, tee.reading.error_status) == ("Slow down.", 429)


def test_a_stream_that_is_cut_is_counted_by_its_text() -> None:
    tee = DIALECT.tee(parse(), asked_usage=False)
    for _ in range(3000):
        tee.feed(encode(Frame("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"word"}}')))
    assert tee.close() == (b"", False)
    assert tee.counted_output() == 3000


def test_our_errors_are_the_sdks_exceptions_with_our_code() -> None:
    error = InsufficientQuota("The money is spent.")
    body = json.loads(DIALECT.error_body(error))
    assert body == {
        "__type": "ThrottlingException",
        "message": "The money is spent.",
        "penstock_error": "insufficient_quota",
    }
    (frame,) = Splitter().feed(DIALECT.tee(parse(), asked_usage=False).error_event(error))
    assert (frame.kind, frame.is_exception) == ("throttlingException", True)
    assert json.loads(frame.payload)["penstock_error"] == "insufficient_quota"


def test_a_strangers_error_is_wrapped() -> None:
    own = b'{"message":"No."}'
    assert DIALECT.envelope(own, 400) is own
    assert json.loads(DIALECT.envelope(b'{"error":1}', 500))["upstream"] == {"error": 1}


def _stream(*events: tuple[str, dict[str, Any]]) -> bytes:
    ending: Any = (("messageStop", {"stopReason": "max_tokens"}), ("metadata", {"usage": {"inputTokens": 3}}))
    told = (("messageStart", {"role": "assistant"}), *events, *ending)
    return b"".join([encode(Frame(kind, json.dumps(payload).encode())) for kind, payload in told])


def test_sealed_reasoning_in_pieces_is_put_together_as_bytes() -> None:
    pieces = [{"delta": {"reasoningContent": {"redactedContent": data}}} for data in ("AAE=", "AgM=")]
    stream = _stream(*[("contentBlockDelta", one) for one in pieces], ("contentBlockStop", {"contentBlockIndex": 0}))
    (thought,) = collect(CODEC.decoder().feed(stream)).choices[0].parts
    assert isinstance(thought, Thinking)
    assert thought.sealed == "AAECAw=="


def test_a_call_of_the_vendors_own_that_the_cap_cut_off_is_told_as_it_is() -> None:
    named = {"toolUseId": "t1", "name": "nova_grounding", "type": "server_tool_use"}
    stream = _stream(
        ("contentBlockStart", {"start": {"toolUse": named}}),
        ("contentBlockDelta", {"delta": {"toolUse": {"input": '{"a": "unf'}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
    )
    (call,) = collect(CODEC.decoder().feed(stream)).choices[0].parts
    assert isinstance(call, Opaque)
    assert json.loads(bytes(call.raw))["toolUse"]["input"] == {"INVALID_JSON": '{"a": "unf'}


@pytest.mark.parametrize(
    ("status", "in_a_stream", "plain"),
    [
        (424, "modelStreamErrorException", "modelErrorException"),
        (408, "internalServerException", "modelTimeoutException"),
        (404, "validationException", "resourceNotFoundException"),
        (529, "serviceUnavailableException", "serviceUnavailableException"),
    ],
)
def test_a_fault_is_an_exception_that_its_place_has(status: int, in_a_stream: str, plain: str) -> None:
    (frame,) = Splitter().feed(exception_frame("No.", status, ""))
    assert (frame.kind, kind_of(status)) == (in_a_stream, plain)


@pytest.mark.parametrize(
    ("kind", "told"), [("modelStreamErrorException", "api_error"), ("modelTimeoutException", "timeout_error")]
)
def test_a_models_fault_is_not_the_callers_in_messages(kind: str, told: str) -> None:
    event = Unpacked().feed(encode(Frame(kind, b'{"message":"No."}', is_exception=True)))
    assert json.loads(event.splitlines()[1].removeprefix(b"data: "))["error"]["type"] == told
