"""A streamed answer arrives as the provider wrote it, event by event, and is settled from the usage it carries."""

import time
from collections.abc import Callable

import msgspec
import openai
import pytest

from penstock.testing.lab import INPUT_NANOUSD, OUTPUT_NANOUSD, Lab, chat
from penstock.testing.scripted import DONE, chunk, event, pieces, stream_events, streamed, usage

Sdk = Callable[..., openai.OpenAI]
WORDS = ("Hello", " there", ", caf\u00e9", " \U0001f30a", ".")
ASKED = {"stream": True, "stream_options": {"include_usage": True}}


def _stream(lab: Lab, **more: object) -> tuple[dict[str, str], bytes]:
    with lab.caller("ci").open("/v1/chat/completions", chat(stream=True, **more)) as call:
        assert call.status == 200
        return call.headers, call.read_all()


def test_the_official_sdk_streams(lab: Lab, sdk: Sdk) -> None:
    lab.provider.on("lab-upstream", streamed(WORDS))
    with sdk(lab).chat.completions.create(**chat(stream=True)) as stream:
        told = [part.choices[0].delta.content for part in stream if part.choices]
    assert "".join(word or "" for word in told) == "".join(WORDS)


def test_the_official_sdk_sees_usage_when_it_asks_for_it(lab: Lab, sdk: Sdk) -> None:
    lab.provider.on("lab-upstream", streamed(WORDS, counted=usage(12, 34)))
    with sdk(lab).chat.completions.create(**chat(**ASKED)) as stream:
        counted = [part.usage for part in stream if part.usage]
    assert [(u.prompt_tokens, u.completion_tokens) for u in counted] == [(12, 34)]


def test_a_caller_who_asked_for_usage_gets_the_bytes_that_the_provider_sent(lab: Lab) -> None:
    lab.provider.on("lab-upstream", streamed(WORDS))
    headers, body = _stream(lab, stream_options={"include_usage": True})
    assert body == b"".join(stream_events("lab-upstream", WORDS, include_usage=True))
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-penstock-provider"] == "lab"
    assert headers["x-request-id"]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": None}])
def test_a_caller_who_did_not_ask_for_usage_sees_no_trace_of_it(lab: Lab, options: dict[str, object]) -> None:
    lab.provider.on("lab-upstream", streamed(WORDS))
    headers, body = _stream(lab, **options)
    assert body == b"".join(stream_events("lab-upstream", WORDS, include_usage=False))
    (received,) = lab.provider.calls("lab-upstream")
    assert received.json()["stream_options"]["include_usage"] is True
    assert lab.gateway.receipt(headers["x-request-id"])["usage"]["output"] == 5


@pytest.mark.parametrize("size", [1, 7, 1024])
def test_the_way_a_stream_is_cut_into_pieces_changes_nothing(lab: Lab, size: int) -> None:
    whole = b"".join(stream_events("lab-upstream", WORDS, include_usage=True))
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    lab.provider.on("lab-upstream", pieces(*parts, delay_ms=0))
    headers, body = _stream(lab)
    assert body == b"".join(stream_events("lab-upstream", WORDS, include_usage=False))
    receipt = lab.gateway.receipt(headers["x-request-id"])
    assert (receipt["usage"]["input"], receipt["usage"]["output"]) == (10, 5)


def test_a_stream_costs_what_its_usage_says(lab: Lab) -> None:
    lab.provider.on("lab-upstream", streamed(WORDS, counted=usage(12, 34)))
    headers, _ = _stream(lab)
    receipt = lab.gateway.receipt(headers["x-request-id"])
    assert receipt["cost_nanousd"] == 12 * INPUT_NANOUSD + 34 * OUTPUT_NANOUSD
    assert receipt["cost_basis"] == "computed"
    assert receipt["streaming"] is True
    assert receipt["finish_reason"] == "stop"
    assert receipt["cause"] == "completed"
    assert receipt["ttft_ms"] is not None


def test_usage_on_a_chunk_that_has_choices_counts_and_stays(lab: Lab) -> None:
    last = event(chunk("lab-upstream", {}, "stop", usage=usage(9, 4)))
    sent = event(chunk("lab-upstream", {"content": "x"})) + last + DONE
    lab.provider.on("lab-upstream", pieces(sent))
    headers, body = _stream(lab)
    assert body == sent
    receipt = lab.gateway.receipt(headers["x-request-id"])
    assert (receipt["usage"]["input"], receipt["usage"]["output"]) == (9, 4)


def test_cumulative_usage_on_every_chunk_is_counted_once(lab: Lab) -> None:
    sent = b"".join(event(chunk("lab-upstream", {"content": "x"}, usage=usage(9, n))) for n in (1, 2, 3)) + DONE
    lab.provider.on("lab-upstream", pieces(sent))
    headers, body = _stream(lab)
    assert body == sent
    assert lab.gateway.receipt(headers["x-request-id"])["usage"]["output"] == 3


def test_comments_other_line_ends_and_unknown_events_pass(lab: Lab) -> None:
    sent = b": keep-alive\r\n\r\nevent: ping\r\ndata: {}\r\n\r\n"
    sent += b"data: " + msgspec.json.encode(chunk("lab-upstream", {"content": "x"}, "stop")) + b"\r\n\r\n"
    sent += b"data: [DONE]\r\n\r\n"
    lab.provider.on("lab-upstream", pieces(sent))
    _, body = _stream(lab)
    assert body == sent


def test_a_stream_that_ends_properly_without_done_ends_properly_here(lab: Lab) -> None:
    sent = event(chunk("lab-upstream", {"content": "x"}, "stop", usage=usage(9, 4)))
    lab.provider.on("lab-upstream", pieces(sent))
    headers, body = _stream(lab, stream_options={"include_usage": True})
    assert body == sent
    receipt = lab.gateway.receipt(headers["x-request-id"])
    assert (receipt["cause"], receipt["usage"]["output"]) == ("completed", 4)


def test_a_leading_chunk_without_choices_is_not_mistaken_for_usage(lab: Lab) -> None:
    lead = event({"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    sent = lead + b"".join(stream_events("lab-upstream", WORDS, include_usage=False))
    lab.provider.on("lab-upstream", pieces(sent))
    _, body = _stream(lab)
    assert body == sent


def test_parallel_tool_calls_stream_to_the_sdk(lab: Lab, sdk: Sdk) -> None:
    def delta(index: int, **more: object) -> bytes:
        return event(chunk("lab-upstream", {"tool_calls": [{"index": index, **more}]}))

    parts = [
        delta(0, id="a", type="function", function={"name": "f", "arguments": ""}),
        delta(0, function={"arguments": '{"x":'}),
        delta(0, function={"arguments": "1}"}),
        delta(1, id="b", type="function", function={"name": "g", "arguments": "{}"}),
        event(chunk("lab-upstream", {}, "tool_calls")),
        event(chunk("lab-upstream", {}) | {"choices": [], "usage": usage(20, 8)}),
        DONE,
    ]
    lab.provider.on("lab-upstream", pieces(*parts))
    arguments = {0: "", 1: ""}
    with sdk(lab).chat.completions.create(**chat(stream=True)) as stream:
        for part in stream:
            for call in part.choices[0].delta.tool_calls or []:
                arguments[call.index] += (call.function and call.function.arguments) or ""
    assert arguments == {0: '{"x":1}', 1: "{}"}


def test_events_are_passed_on_as_they_come(lab: Lab) -> None:
    lab.provider.on("lab-upstream", streamed(WORDS, delay_ms=60))
    with lab.caller("ci").open("/v1/chat/completions", chat(stream=True)) as call:
        times = [at for at, _ in call.pieces()]
    assert len(times) >= len(WORDS)
    assert times[-1] - times[0] > 0.25


def test_a_line_of_a_megabyte_passes(lab: Lab) -> None:
    large = event(chunk("lab-upstream", {"content": "x" * 1_000_000}, "stop", usage=usage(3, 2)))
    lab.provider.on("lab-upstream", pieces(large, DONE))
    headers, body = _stream(lab)
    assert body == large + DONE
    assert lab.gateway.receipt(headers["x-request-id"])["usage"]["output"] == 2


def test_a_stream_without_any_usage_is_charged_as_an_estimate(lab: Lab) -> None:
    lab.provider.on("lab-upstream", pieces(*stream_events("lab-upstream", WORDS, include_usage=False)))
    headers, _ = _stream(lab)
    receipt = lab.gateway.receipt(headers["x-request-id"])
    assert receipt["cost_basis"] == "estimated"
    assert 0 < receipt["cost_nanousd"] <= 200 * INPUT_NANOUSD + 20 * OUTPUT_NANOUSD


def test_a_slow_reader_does_not_slow_down_others(lab: Lab) -> None:
    large = [event(chunk("lab-upstream", {"content": "x" * 100_000})) for _ in range(60)]
    lab.provider.on("other-upstream", pieces(*large, DONE, delay_ms=0))
    with lab.caller("ci").open("/v1/chat/completions", chat("other-model", stream=True)) as slow:
        assert slow.status == 200
        began = time.monotonic()
        assert lab.chat("ci").status == 200
        assert time.monotonic() - began < 1
        assert slow.read_all().endswith(DONE)
