"""What goes wrong at the provider reaches the caller as an error of the caller's dialect, and costs what it cost."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from penstock.testing.caller import Answer
from penstock.testing.lab import CREDENTIAL_CANARY, Lab, chat
from penstock.testing.scripted import (
    JSON_TYPE,
    chunk,
    closes,
    event,
    fails,
    garbage,
    half_closes,
    pieces,
    plain,
    resets,
    stalls,
)
from penstock.testing.wire import eventually

Sdk = Callable[..., openai.OpenAI]
FIRST = [event(chunk("lab-upstream", {"role": "assistant", "content": "Hel"}))]


def _nothing_held(lab: Lab) -> None:
    eventually(lambda: lab.gateway.held() == 0, 3, "nothing is held")


def _envelope(answer: Answer, status: int, code: str) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert set(answer.error) >= {"message", "type", "param", "code"}
    assert answer.error["code"] == code == answer.headers["x-penstock-error"]
    assert answer.request_id
    return answer.error


def _streamed_error(lab: Lab, model: str = "lab-model") -> tuple[str, dict[str, Any], bytes]:
    """The request id, the error event that ends a stream, and the whole body."""
    with lab.caller("ci").open("/v1/chat/completions", chat(model, stream=True)) as call:
        assert call.status == 200
        request_id, body = call.headers["x-request-id"], call.read_all()
    assert b"[DONE]" not in body
    last = [line for line in body.decode().splitlines() if line.startswith("data:")][-1]
    told = json.loads(last.removeprefix("data:"))
    return request_id, told["error"], body


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
def test_an_openai_style_error_passes_as_it_is(lab: Lab, status: int, stream: bool) -> None:
    sent = b'{"error": {"message":"No.", "type":"some_type","param":"x","code":"some_code","more":[1]}}'
    lab.provider.on("lab-upstream", fails(status, sent, [JSON_TYPE, ("x-request-id", "up-1"), ("retry-after", "7")]))
    answer = lab.chat("ci", stream=stream)
    assert (answer.status, answer.body) == (status, sent)
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["content-type"].startswith("application/json")
    receipt = lab.gateway.receipt(answer.request_id)
    assert receipt["cause"] == "failed"
    assert receipt["attempts"][0]["status"] == status
    assert receipt["cost_nanousd"] == 0
    _nothing_held(lab)


@pytest.mark.parametrize(
    "sent",
    [
        {"object": "error", "message": "Too many.", "type": "invalid", "param": None, "code": "3210"},
        {"error": "Too many."},
        {"detail": [{"loc": ["body"], "msg": "Too many."}]},
    ],
)
def test_an_error_in_another_form_is_wrapped_and_kept(lab: Lab, sent: dict[str, Any]) -> None:
    lab.provider.on("lab-upstream", fails(400, sent))
    answer = lab.chat("ci")
    assert answer.status == 400
    assert set(answer.error) >= {"message", "type", "param", "code"}
    assert isinstance(answer.error["message"], str)
    assert answer.error["upstream"] == sent


@pytest.mark.parametrize("sent", [b"", b"<html>Bad Gateway</html>", b"\xff\xfe", b"{half"])
def test_an_error_that_is_not_json_comes_in_the_envelope(lab: Lab, sent: bytes) -> None:
    lab.provider.on("lab-upstream", fails(502, sent, [("content-type", "text/html")]))
    answer = lab.chat("ci")
    assert answer.status == 502
    assert set(answer.error) >= {"message", "type", "param", "code"}
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_rejects_our_credential_is_never_the_callers_401(lab: Lab, stream: bool) -> None:
    sent = {"error": {"message": f"Incorrect API key provided: {CREDENTIAL_CANARY}", "code": "invalid_api_key"}}
    lab.provider.on("lab-upstream", fails(401, sent))
    answer = lab.chat("ci", stream=stream)
    _envelope(answer, 502, "upstream_credential")
    assert CREDENTIAL_CANARY not in answer.body.decode()


def test_the_sdk_raises_the_providers_error(lab: Lab, sdk: Sdk) -> None:
    sent = {"error": {"message": "Slow down.", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
    lab.provider.on("lab-upstream", fails(429, sent, [JSON_TYPE, ("retry-after-ms", "20"), ("x-should-retry", "true")]))
    with pytest.raises(openai.RateLimitError) as told:
        sdk(lab).chat.completions.create(**chat())
    assert "Slow down." in told.value.message
    assert told.value.response.headers["retry-after-ms"] == "20"


def test_the_sdk_retries_as_the_provider_asked(lab: Lab, sdk: Sdk) -> None:
    lab.provider.on("lab-upstream", fails(429, None, [JSON_TYPE, ("retry-after-ms", "20")]), plain())
    answer = sdk(lab, max_retries=2).chat.completions.create(**chat())
    assert answer.choices[0].message.content == "Hello there."
    assert len(lab.provider.calls("lab-upstream")) == 2


def test_a_provider_where_nobody_listens_is_502_and_costs_nothing(lab: Lab) -> None:
    answer = lab.chat("ci", model="nowhere")
    _envelope(answer, 502, "upstream_unreachable")
    receipt = lab.gateway.receipt(answer.request_id)
    assert (receipt["cause"], receipt["cost_nanousd"]) == ("failed", 0)
    _nothing_held(lab)


@pytest.mark.parametrize("script", [resets(), closes()])
def test_a_connection_that_breaks_before_the_first_byte_is_502(lab: Lab, script: Any) -> None:
    lab.provider.on("lab-upstream", script)
    for stream in (False, True):
        answer = lab.chat("ci", stream=stream)
        _envelope(answer, 502, "upstream_reset")
        assert lab.gateway.receipt(answer.request_id)["cost_basis"] == "estimated"
    assert len(lab.provider.calls("lab-upstream")) == 2, "a call that may have been billed is not sent twice"
    _nothing_held(lab)


@pytest.mark.parametrize("script", [resets(FIRST), closes(FIRST), half_closes(FIRST)])
def test_a_stream_that_breaks_ends_with_an_error_event(lab: Lab, script: Any) -> None:
    lab.provider.on("lab-upstream", script)
    request_id, error, body = _streamed_error(lab)
    assert error["code"] == "upstream_reset"
    assert b'"Hel"' in body
    receipt = lab.gateway.receipt(request_id)
    assert (receipt["cause"], receipt["cost_basis"]) == ("failed", "estimated")
    assert receipt["cost_nanousd"] > 0
    _nothing_held(lab)


def test_the_sdk_raises_when_a_stream_breaks(lab: Lab, sdk: Sdk) -> None:
    lab.provider.on("lab-upstream", resets(FIRST))
    with pytest.raises(openai.APIError), sdk(lab).chat.completions.create(**chat(stream=True)) as stream:
        for _ in stream:
            pass


def test_an_error_event_inside_a_200_stream_passes_and_is_recorded(lab: Lab) -> None:
    told = event({"error": {"message": "Overloaded.", "type": "server_error", "code": "overloaded"}})
    lab.provider.on("lab-upstream", pieces(*FIRST, told))
    request_id, error, _ = _streamed_error(lab)
    assert error["message"] == "Overloaded."
    receipt = lab.gateway.receipt(request_id)
    assert receipt["cause"] == "failed"
    _nothing_held(lab)


@pytest.mark.parametrize("fault", [{"message": "Overloaded."}, {"detail": [{"msg": "Overloaded."}]}])
def test_an_error_event_that_is_nothing_but_its_words_is_raised_by_the_sdk(
    lab: Lab, sdk: Sdk, fault: dict[str, Any]
) -> None:
    lab.provider.on("lab-upstream", pieces(*FIRST, event(fault)))
    request_id, error, _ = _streamed_error(lab)
    assert "Overloaded." in error["message"]
    assert lab.gateway.receipt(request_id)["cause"] == "failed"
    with (
        pytest.raises(openai.APIError, match="Overloaded"),
        sdk(lab).chat.completions.create(**chat(stream=True)) as stream,
    ):
        list(stream)
    lab.provider.on("lab-upstream", pieces(event({**fault, "code": 503})))
    answer = lab.chat("ci", stream=True)
    assert (answer.status, "Overloaded." in answer.error["message"]) == (503, True)
    _nothing_held(lab)


@pytest.mark.parametrize("size", [10_000, 7])
@pytest.mark.parametrize("asked", [False, True])
def test_an_error_event_at_the_start_of_a_200_stream_is_answered_as_an_error(lab: Lab, size: int, asked: bool) -> None:
    told = {"error": {"message": "Overloaded.", "type": "server_error", "param": None, "code": 503}}
    sent = event(told) + b"data: [DONE]\n\n"
    lab.provider.on("lab-upstream", pieces(*(sent[at : at + size] for at in range(0, len(sent), size))))
    answer = lab.chat("ci", stream=True, stream_options={"include_usage": asked})
    assert answer.status == 503
    assert answer.json() == told
    assert lab.gateway.receipt(answer.request_id)["cause"] == "failed"
    _nothing_held(lab)


def test_bytes_that_are_not_http_are_502(lab: Lab) -> None:
    lab.provider.on("lab-upstream", garbage())
    _envelope(lab.chat("ci"), 502, "upstream_malformed")
    _nothing_held(lab)


@pytest.mark.parametrize("sent", [b"not json", b"[1,2]", b"", b'{"choices": ', b"null"])
def test_a_plain_200_that_is_not_a_json_object_is_502(lab: Lab, sent: bytes) -> None:
    lab.provider.on("lab-upstream", plain(sent))
    answer = lab.chat("ci")
    _envelope(answer, 502, "upstream_malformed")
    assert lab.gateway.receipt(answer.request_id)["cost_basis"] == "estimated"
    _nothing_held(lab)


def test_an_error_object_inside_a_plain_200_reaches_the_caller(lab: Lab) -> None:
    sent = {"error": {"message": "Provider returned error", "code": 502}}
    lab.provider.on("lab-upstream", plain(sent))
    answer = lab.chat("ci")
    assert answer.error["message"] == "Provider returned error"
    _nothing_held(lab)


@pytest.mark.parametrize("stream", [False, True])
def test_silence_before_the_first_byte_is_504(lab: Lab, stream: bool) -> None:
    lab.provider.on("hasty-upstream", stalls())
    answer = lab.chat("ci", model="hasty", stream=stream)
    _envelope(answer, 504, "upstream_timeout")
    assert 350 < answer.elapsed_ms < 1500
    received = lab.provider.calls("hasty-upstream")[0]
    eventually(lambda: received.gone_at, 1, "the upstream is closed")
    assert lab.gateway.receipt(answer.request_id)["cost_basis"] == "estimated"
    _nothing_held(lab)


def test_silence_in_the_middle_of_a_stream_ends_it_with_a_timeout(lab: Lab) -> None:
    lab.provider.on("hasty-upstream", stalls(FIRST))
    request_id, error, _ = _streamed_error(lab, "hasty")
    assert error["code"] == "upstream_timeout"
    assert lab.gateway.receipt(request_id)["cause"] == "failed"
    _nothing_held(lab)


def test_a_stream_that_takes_too_long_altogether_is_cut(lab: Lab) -> None:
    lab.provider.on("hasty-upstream", pieces(*FIRST * 100, delay_ms=100))
    _, error, body = _streamed_error(lab, "hasty")
    assert error["code"] == "upstream_timeout"
    assert body.count(b'"Hel"') > 5
    _nothing_held(lab)


def test_usage_that_no_provider_can_mean_does_not_reach_the_ledger_unflagged(lab: Lab) -> None:
    for hostile in (-5, 10**30, 1.5, "7", None, True, {"a": 1}):
        body = {"choices": [], "usage": {"prompt_tokens": hostile, "completion_tokens": hostile}}
        lab.provider.on("lab-upstream", plain(body))
        answer = lab.chat("outsider")
        assert answer.status == 200
        receipt = lab.gateway.receipt(answer.request_id)
        assert receipt["flags"], hostile
        assert 0 <= receipt["cost_nanousd"] < 2**63
    assert lab.chat("outsider", model="other-model").status == 200


def test_headers_that_belong_to_one_connection_do_not_pass(lab: Lab) -> None:
    headers = [("connection", "keep-alive, x-private"), ("x-private", "1"), ("keep-alive", "timeout=5")]
    headers += [("set-cookie", "session=1"), ("server", "scripted")]
    lab.provider.on("lab-upstream", plain(headers=headers))
    answer = lab.chat("ci")
    assert answer.status == 200
    assert not {"x-private", "keep-alive", "set-cookie"} & set(answer.headers)
