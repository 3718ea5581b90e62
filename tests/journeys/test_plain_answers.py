"""A plain call arrives as it was sent, and its answer as it was given."""

from collections.abc import Callable

import msgspec
import openai
import pytest

from penstock.testing.lab import CREDENTIAL_CANARY, INPUT_NANOUSD, OUTPUT_NANOUSD, Lab, chat
from penstock.testing.scripted import completion, gzipped, plain, usage

Sdk = Callable[..., openai.OpenAI]


def test_the_official_sdk_gets_an_answer(lab: Lab, sdk: Sdk) -> None:
    answer = sdk(lab).chat.completions.create(**chat())
    assert answer.choices[0].message.content == "Hello there."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15
    assert answer._request_id


def test_the_body_of_the_answer_is_the_bytes_that_the_provider_sent(lab: Lab) -> None:
    oddly = b'{ "choices":[],\n\t"id": "x", "big": 12345678901234567890123, "float": 1.0, "usage": {"prompt_tokens":1, '
    oddly += (
        b'"completion_tokens": 2,"total_tokens":3}, "emoji": "\xf0\x9f\x8c\x8a \\u00e9", "new": {"deep": [null]} }\n'
    )
    lab.provider.on("lab-upstream", plain(oddly))
    answer = lab.chat("ci")
    assert answer.status == 200
    assert answer.body == oddly


def test_nested_values_and_unknown_fields_of_the_request_reach_the_provider(lab: Lab) -> None:
    body = chat(
        tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}],
        tool_choice="auto",
        parallel_tool_calls=True,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        logprobs=True,
        top_logprobs=2,
        seed=7,
        reasoning_effort="low",
        metadata={"a": "b"},
        brand_new_field={"nested": [1, 2.5, None, "é"]},
    )
    assert lab.caller("ci").post("/v1/chat/completions", body).status == 200
    (received,) = lab.provider.calls("lab-upstream")
    assert received.json() == body | {"model": "lab-upstream"}


def test_numbers_and_escapes_inside_the_request_keep_their_spelling(lab: Lab) -> None:
    raw = b'{"model":"lab-model","max_tokens":20,"messages":[{"role":"user","content":"caf\\u00e9 \xf0\x9f\x8c\x8a"}],'
    raw += b'"temperature":0.10000000000000000001,"extra":{"n":1e2,"big":123456789012345678901234567890}}'
    assert lab.caller("ci").post("/v1/chat/completions", raw).status == 200
    (received,) = lab.provider.calls("lab-upstream")
    assert b'"caf\\u00e9 \xf0\x9f\x8c\x8a"' in received.body
    assert b"123456789012345678901234567890" in received.body
    assert b"0.10000000000000000001" in received.body
    assert b"1e2" in received.body


def test_images_and_documents_in_a_message_pass_untouched(lab: Lab) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    ]
    body = chat(messages=[{"role": "user", "content": parts}])
    assert lab.caller("ci").post("/v1/chat/completions", body).status == 200
    assert lab.provider.calls("lab-upstream")[0].json()["messages"] == body["messages"]


def test_tool_calls_come_back_as_the_sdk_expects_them(lab: Lab, sdk: Sdk) -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
        for n, city in enumerate(("Paris", "Oslo"))
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": calls},
        "finish_reason": "tool_calls",
    }
    lab.provider.on("lab-upstream", plain(completion("lab-upstream", choices=[choice])))
    answer = sdk(lab).chat.completions.create(**chat())
    told = answer.choices[0].message.tool_calls
    assert told is not None
    assert [call.function.arguments for call in told if call.type == "function"] == [
        '{"city":"Paris"}',
        '{"city":"Oslo"}',
    ]
    assert lab.gateway.receipt(answer._request_id or "")["finish_reason"] == "tool_calls"


def test_several_choices_logprobs_and_reasoning_survive(lab: Lab, sdk: Sdk) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}
    choices = [
        {
            "index": n,
            "message": {"role": "assistant", "content": f"Hi {n}", "reasoning_content": "thinking"},
            "logprobs": logprobs,
            "finish_reason": "stop",
        }
        for n in range(3)
    ]
    counted = usage(10, 30, completion_tokens_details={"reasoning_tokens": 12})
    lab.provider.on("lab-upstream", plain(completion("lab-upstream", choices=choices, usage=counted)))
    answer = sdk(lab).chat.completions.create(**chat(n=3, logprobs=True))
    assert [choice.message.content for choice in answer.choices] == ["Hi 0", "Hi 1", "Hi 2"]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[2].message.model_extra == {"reasoning_content": "thinking"}
    receipt = lab.gateway.receipt(answer._request_id or "")
    assert receipt["usage"]["output"] == 30
    assert receipt["usage"]["reasoning"] == 12


def test_the_cost_of_a_plain_answer_is_in_its_headers(lab: Lab) -> None:
    answer = lab.chat("ci")
    cost = 10 * INPUT_NANOUSD + 5 * OUTPUT_NANOUSD
    assert float(answer.headers["x-penstock-cost-usd"]) == pytest.approx(cost / 1e9, abs=0)
    assert answer.headers["x-penstock-provider"] == "lab"
    assert answer.headers["x-penstock-model"] == "lab-upstream"
    assert answer.headers["x-penstock-attempts"] == "1"
    assert answer.headers["x-penstock-cache"] == "off"


def test_the_providers_rate_limit_headers_pass_and_the_request_id_is_ours(lab: Lab) -> None:
    answer = lab.chat("ci")
    assert answer.headers["x-ratelimit-remaining-requests"] == "9999"
    assert answer.headers["openai-processing-ms"] == "12"
    assert answer.headers["content-type"] == "application/json"
    assert answer.request_id
    assert answer.request_id != "req_scripted"


def test_the_callers_key_stays_here_and_the_operators_credential_goes_out(lab: Lab) -> None:
    lab.chat("ci", {"x-penstock-tags": "feature=search", "cookie": "session=1"})
    (received,) = lab.provider.calls("lab-upstream")
    assert received.header("authorization") == f"Bearer {CREDENTIAL_CANARY}"
    assert lab.secrets["ci"] not in str(received.headers)
    assert not [name for name, _ in received.headers if name.startswith("x-penstock") or name == "cookie"]


def test_an_answer_that_is_compressed_unasked_arrives_readable(lab: Lab, sdk: Sdk) -> None:
    lab.provider.on("lab-upstream", gzipped(completion("lab-upstream", "unpacked")))
    answer = sdk(lab).chat.completions.create(**chat())
    assert answer.choices[0].message.content == "unpacked"


def test_cached_tokens_are_priced_in_a_class_of_their_own(lab: Lab) -> None:
    counted = usage(100, 5, prompt_tokens_details={"cached_tokens": 60})
    lab.provider.on("lab-upstream", plain(completion("lab-upstream", usage=counted)))
    receipt = lab.gateway.receipt(lab.chat("ci").request_id)
    assert receipt["usage"]["input"] == 40
    assert receipt["usage"]["cache_read"] == 60
    assert {line["meter"]: line["quantity"] for line in receipt["cost_lines"]} == {
        "input": 40,
        "cache_read": 60,
        "output": 5,
    }


def test_an_answer_without_usage_is_charged_as_an_estimate(lab: Lab) -> None:
    body = completion("lab-upstream")
    del body["usage"]
    lab.provider.on("lab-upstream", plain(body))
    answer = lab.chat("ci")
    assert answer.status == 200
    receipt = lab.gateway.receipt(answer.request_id)
    assert receipt["cost_basis"] == "estimated"
    assert receipt["cost_nanousd"] > 0


def test_a_large_request_and_a_large_answer_pass(lab: Lab) -> None:
    large = "word " * 400_000
    lab.provider.on("lab-upstream", plain(completion("lab-upstream", large)))
    answer = lab.caller("outsider").post("/v1/chat/completions", chat(messages=[{"role": "user", "content": large}]))
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == large
    assert lab.provider.calls("lab-upstream")[0].json()["messages"][0]["content"] == large


def test_one_connection_carries_many_calls(lab: Lab) -> None:
    caller = lab.caller("ci")
    request = caller.request_bytes("POST", "/v1/chat/completions", msgspec.json.encode(chat()), {})
    with caller.connect() as connection:
        for _ in range(3):
            connection.sendall(request)
            head, _, rest = _until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(rest) < length:
                rest += connection.recv(65536)
            assert len(rest) == length


def _until(connection: object, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        data += connection.recv(65536)  # type: ignore[attr-defined]
    return data
