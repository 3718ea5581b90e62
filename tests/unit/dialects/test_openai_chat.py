"""The chat dialect: what is read, what is refused, what passes untouched."""

import json

import msgspec
import pytest

from penstock.dialects import openai_chat, openai_errors
from penstock.dialects.base import Demand, is_deeper_than
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed

HELLO = [{"role": "user", "content": "hi"}]


def _body(**members: object) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO, **members}).encode()


def test_a_request_is_read_without_touching_what_is_not_understood() -> None:
    call = openai_chat.parse(_body(stream=True, max_tokens=7, n=2, new_member={"a": [1, 2.5]}))
    assert (call.model, call.streaming, call.max_output, call.choices) == ("m", True, 7, 2)
    sent = openai_chat.rebuild(call, Demand("vendor-model"))
    assert b'"new_member":{"a": [1, 2.5]}' in sent
    assert json.loads(sent)["model"] == "vendor-model"


def test_the_last_of_duplicate_members_is_the_one_that_is_priced_and_sent() -> None:
    call = openai_chat.parse(b'{"model":"m","messages":[{"role":"user"}],"max_tokens":1,"max_tokens":900}')
    assert call.max_output == 900
    assert openai_chat.rebuild(call, Demand("m")).count(b"max_tokens") == 1


def test_a_cap_and_a_usage_report_are_added_where_they_are_needed() -> None:
    call = openai_chat.parse(_body(stream=True, stream_options={"include_obfuscation": False}))
    sent = json.loads(openai_chat.rebuild(call, Demand("m", ("max_completion_tokens", 50), ask_usage=True)))
    assert sent["max_completion_tokens"] == 50
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'"text"',
        b'{"model":"m"}',
        b'{"messages":[{"role":"user"}]}',
        b'{"model":7,"messages":[{"role":"user"}]}',
        b'{"model":"m","messages":[]}',
        b'{"model":"m","messages":"hi"}',
        b'{"model":"m","messages":[{"content":"no role"}]}',
        b'{"model":"m\\r\\nx-evil: 1","messages":[{"role":"user"}]}',
        b'{"model":"m","messages":[{"role":"user","content":NaN}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        *(
            b'{"model":"m","messages":[{"role":"user"}],"max_tokens":' + cap + b"}"
            for cap in (b"-1", b"0", b"1e999", b"1.5", b'"9"', b"true", b"1000000000000000000000000000000", b"[]")
        ),
        b'{"model":"m","messages":[{"role":"user"}],"n":0}',
        b'{"model":"m","messages":[{"role":"user"}],"n":1000000}',
        b'{"model":"m","messages":[{"role":"user"}],"stream":"yes"}',
        b'{"model":"m","messages":[{"role":"user"}],"stream_options":7}',
        b'{"model":"m","messages":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_bad_input_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        openai_chat.parse(body)
    assert refusal.value.message.endswith(".")


def test_depth_counts_brackets_outside_strings_only() -> None:
    assert not is_deeper_than(json.dumps(["[" * 500, '\\"[[[[' * 80]).encode(), 64)
    assert is_deeper_than(b"[" * 65 + b"]" * 65, 64)
    assert not is_deeper_than(b"[" + b"[]," * 500 + b"0]", 64)


def test_the_input_bound_covers_the_text_and_prices_an_image_by_the_piece() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}
    call = openai_chat.parse(
        _body(messages=[{"role": "user", "content": [{"type": "text", "text": "é" * 100}, image]}])
    )
    assert call.images == 1
    assert 200 < call.input_bound < 3_000


def test_a_prediction_and_audio_are_part_of_the_worst_case() -> None:
    call = openai_chat.parse(
        _body(max_tokens=5, prediction={"type": "content", "content": "x" * 40}, modalities=["audio"])
    )
    assert call.max_output == 5
    assert call.predicted > 40
    assert call.audio_out


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, Usage(input=9, output=3)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 9,
                "total_tokens": 109,
                "prompt_tokens_details": {"cached_tokens": 60},
            },
            Usage(input=40, cache_read=60, output=9),
        ),
        (  # xAI: reasoning is on top of completion, and shows in the total
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(input=10, output=35, reasoning=30),
        ),
        (  # a gateway whose completion and total both leave reasoning out
            {
                "prompt_tokens": 61,
                "completion_tokens": 10,
                "total_tokens": 71,
                "completion_tokens_details": {"reasoning_tokens": 96},
            },
            Usage(input=61, output=106, reasoning=96),
        ),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 30}, Usage(input=8, output=22)),
        (
            {"prompt_tokens": 20, "completion_tokens": 1, "prompt_cache_hit_tokens": 15},
            Usage(input=5, cache_read=15, output=1),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 1, "num_cached_tokens": 4},
            Usage(input=16, cache_read=4, output=1),
        ),
        ({"prompt_tokens": 20, "completion_tokens": 1, "cached_tokens": 4}, Usage(input=16, cache_read=4, output=1)),
        (  # more cached than there was
            {
                "prompt_tokens": 347,
                "completion_tokens": 18,
                "total_tokens": 365,
                "prompt_tokens_details": {"cached_tokens": 403},
            },
            Usage(cache_read=347, output=18),
        ),
        (
            {
                "prompt_tokens": 50,
                "completion_tokens": 40,
                "prompt_tokens_details": {"audio_tokens": 20, "cache_write_tokens": 10},
                "completion_tokens_details": {"audio_tokens": 30},
            },
            Usage(input=20, cache_write={"5m": 10}, audio_in=20, output=10, audio_out=30),
        ),
    ],
)
def test_usage_is_counted_once_in_disjoint_classes(reported: dict[str, object], expected: Usage) -> None:
    assert openai_chat.read(msgspec.json.encode({"usage": reported})).usage == expected


@pytest.mark.parametrize("hostile", [-1, 10**18, 1.5, "12", True, [], {}])
def test_usage_that_cannot_be_true_is_not_believed(hostile: object) -> None:
    reading = openai_chat.read(msgspec.json.encode({"usage": {"prompt_tokens": hostile, "completion_tokens": 1}}))
    assert reading.usage is None
    assert reading.hostile


def test_an_answer_that_is_not_the_dialect_is_an_upstream_fault() -> None:
    for body in (b"", b"<html>", b"[1]", b'{"choices":7}', b"\xff"):
        with pytest.raises(UpstreamMalformed):
            openai_chat.read(body)


def test_an_error_inside_an_answer_is_seen() -> None:
    reading = openai_chat.read(b'{"error":{"code":429,"message":"slow down"}}')
    assert (reading.error, reading.error_status) == ("slow down", 429)
    assert openai_chat.read(b'{"error":"plain words"}').error == "plain words"


def test_an_error_body_in_the_envelope_passes_verbatim_and_any_other_is_wrapped_whole() -> None:
    ours = b'{"error": {"message": "no", "details": [1]}}'
    assert openai_errors.envelope(ours, 400) is ours
    other = b'{"object":"error","message":"Too many inputs","type":"invalid","code":"3210","param":null}'
    wrapped = json.loads(openai_errors.envelope(other, 400))["error"]
    assert (wrapped["message"], wrapped["code"], wrapped["type"]) == ("Too many inputs", "3210", "invalid")
    assert wrapped["upstream"] == json.loads(other)
    assert json.loads(openai_errors.envelope(b'{"error":"words"}', 400))["error"]["message"] == "words"
    assert (
        json.loads(openai_errors.envelope(b'{"detail":[{"loc":["body"]}]}', 422))["error"]["message"]
        == '[{"loc":["body"]}]'
    )
    assert json.loads(openai_errors.envelope(b"<html>oops", 502))["error"]["message"] == "The provider answered 502."


def test_a_stream_that_reports_usage_all_along_is_still_truncated_without_its_ending() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}], "usage": usage}
    tee = openai_chat.ChatTee(strips_usage=False)
    tee.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
    assert tee.close() == (b"", False)
    assert tee.reading.usage is not None
