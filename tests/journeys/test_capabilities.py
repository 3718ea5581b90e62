"""What a model does not have: it is not sent to it, and the caller is told; or it is had by other means."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from penstock.testing.caller import Answer
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.scripted import DONE, SSE_TYPE, ScriptedProvider, chunk, completion, event, plain, usage
from penstock.testing.wire import Reply

KEY = new_secret()
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
SCHEMA = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}
LACKS = {"blind": ["image", "document"], "handless": ["tools", "json_schema"], "formless": ["json_schema"], "all": []}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedProvider, Gateway]]:
    with ScriptedProvider() as provider:
        lab: dict[str, Any] = {"base_url": provider.base_url, "credentials": [{"name": "main", "value": "env:LAB_KEY"}]}

        def alias(name: str, provider_name: str, model: str, lacks: list[str]) -> dict[str, Any]:
            target = {"provider": provider_name, "model": model, **({"lacks": lacks} if lacks else {})}
            return {"name": name, "targets": [target], "price": usd_price(1, 10), "max_output": 500}

        config = {
            "providers": [{"name": "lab", "kind": "compatible", **lab}, {"name": "groq", "kind": "groq", **lab}],
            "models": [
                *(alias(name, "lab", f"{name}-upstream", lacks) for name, lacks in LACKS.items()),
                alias("old", "lab", "gpt-3.5-turbo", []),
                alias("fast", "groq", "fast-upstream", []),
            ],
            "teams": [{"name": "growth"}],
            "keys": [{"name": "ci", "team": "growth", "secret": "env:CI_KEY"}],
            "limits": [{"match": {"team": "growth"}, "unit": "usd", "amount": 10, "per": "day"}],
        }
        folder = tmp_path_factory.mktemp("capabilities")
        with Gateway(folder, config, {"LAB_KEY": "sk-lab", "CI_KEY": KEY}) as gateway:
            yield provider, gateway


def ask(gateway: Gateway, model: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """A call of Messages, which is translated."""
    turns = [{"role": "user", "content": [{"type": "text", "text": "How deep?"}]}]
    body = {"model": model, "max_tokens": 50, "messages": turns, **more}
    return gateway.caller(KEY).post("/v1/messages", body, headers)


def picture() -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


@pytest.mark.parametrize(("model", "upstream"), [("blind", "blind-upstream"), ("old", "gpt-3.5-turbo")])
def test_a_picture_is_not_sent_to_a_model_that_sees_none(
    stage: tuple[ScriptedProvider, Gateway], model: str, upstream: str
) -> None:
    """Whether its target says so, or the catalogue."""
    provider, gateway = stage
    provider.forget()
    turns = [{"role": "user", "content": [picture(), {"type": "text", "text": "What is this?"}]}]
    answer = ask(gateway, model, messages=turns)
    assert answer.status == 200
    assert answer.headers["x-penstock-dropped"] == "image"
    assert gateway.receipt(answer.request_id)["dropped"] == ["image"]
    (call,) = provider.calls(upstream)
    assert "image" not in call.body.decode()
    assert "What is this?" in call.body.decode()
    strict = ask(gateway, model, {"x-penstock-strict": "true"}, messages=turns)
    assert (strict.status, strict.headers["x-penstock-error"]) == (400, "unsupported_by_target")
    assert "image" in strict.json()["error"]["message"]
    assert len(provider.calls(upstream)) == 1


def test_a_picture_in_a_tools_result_is_one_as_well(stage: tuple[ScriptedProvider, Gateway]) -> None:
    provider, gateway = stage
    provider.forget()
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": [picture()]}]},
    ]
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    answer = ask(gateway, "blind", messages=turns, tools=tools)
    assert answer.headers["x-penstock-dropped"] == "image"
    assert "image" not in provider.calls("blind-upstream")[0].body.decode()


def test_tools_and_forms_are_left_out_and_named(stage: tuple[ScriptedProvider, Gateway]) -> None:
    provider, gateway = stage
    provider.forget()
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = ask(gateway, "handless", tools=tools, output_config=form)
    assert sorted(answer.headers["x-penstock-dropped"].split(",")) == ["response_format", "tools"]
    sent = provider.calls("handless-upstream")[0].json()
    assert "tools" not in sent
    assert sent["response_format"] == {"type": "json_object"}


def _called(model: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "answer_in_json", "arguments": '{"depth":7}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return completion(model, choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])


async def _streams_a_call(reply: Reply) -> None:
    model = reply.received.model
    function = {"name": "answer_in_json", "arguments": ""}
    await reply.head(200, [SSE_TYPE])
    await reply.body(
        event(chunk(model, {"role": "assistant", "tool_calls": [{"index": 0, "id": "c", "function": function}]}))
    )
    for piece in ('{"dep', 'th":7', "}"):
        more = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        await reply.body(event(chunk(model, more)))
    await reply.body(event(chunk(model, {}, "tool_calls")))
    await reply.body(event(chunk(model, {}) | {"choices": [], "usage": usage()}) + DONE)
    await reply.end()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_by_a_schema_is_had_from_a_tool(stage: tuple[ScriptedProvider, Gateway], stream: bool) -> None:
    provider, gateway = stage
    provider.forget()
    provider.on("formless-upstream", _streams_a_call if stream else plain(_called("formless-upstream")))
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        form = {"format": {"type": "json_schema", "schema": SCHEMA}}
        asked: dict[str, Any] = {"model": "formless", "max_tokens": 50, "extra_body": {"output_config": form}}
        asked["messages"] = [{"role": "user", "content": "How deep?"}]
        asked["extra_headers"] = {"x-penstock-strict": "true"}
        if stream:
            with client.messages.stream(**asked) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**asked)
    assert [block.type for block in message.content] == ["text"]
    assert json.loads(message.content[0].text) == {"depth": 7}  # type: ignore[union-attr]
    assert message.stop_reason == "end_turn"
    sent = provider.calls("formless-upstream")[0].json()
    assert "response_format" not in sent
    assert sent["tools"][0]["function"]["parameters"] == SCHEMA
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "answer_in_json"}}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_by_a_schema_is_had_from_a_tool_among_others(
    stage: tuple[ScriptedProvider, Gateway], stream: bool
) -> None:
    provider, gateway = stage
    provider.forget()
    provider.on("formless-upstream", _streams_a_call if stream else plain(_called("formless-upstream")))
    tools = [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = ask(gateway, "formless", tools=tools, output_config=form, stream=stream)
    told = answer.body.decode().replace("\\", "")
    assert "tool_use" not in told
    assert "end_turn" in told
    assert stream or json.loads(answer.json()["content"][0]["text"]) == {"depth": 7}
    sent = provider.calls("formless-upstream")[0].json()
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["look", "answer_in_json"]
    assert sent["tool_choice"] == "required"
    assert "x-penstock-dropped" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_vendor_that_gives_one_choice_is_asked_several_times_by_its_own_callers_too(
    stage: tuple[ScriptedProvider, Gateway], stream: bool
) -> None:
    provider, gateway = stage
    provider.forget()
    body = {"model": "fast", "n": 2, "max_tokens": 20, "messages": [{"role": "user", "content": "Say hello."}]}
    answer = gateway.caller(KEY).post("/v1/chat/completions", {**body, "stream": stream})
    assert answer.status == 200
    if not stream:
        assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]
    assert ["n" in call.json() for call in provider.calls("fast-upstream")] == [False, False]
    assert len(gateway.receipt(answer.request_id)["attempts"]) == 2
    one = gateway.caller(KEY).post("/v1/chat/completions", {**body, "n": 1, "top_logprobs": 2})
    assert provider.calls("fast-upstream")[-1].json()["top_logprobs"] == 2
    assert one.headers.get("x-penstock-dropped") is None


def test_what_is_not_lacked_is_sent(stage: tuple[ScriptedProvider, Gateway]) -> None:
    provider, gateway = stage
    provider.forget()
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = ask(gateway, "all", messages=[{"role": "user", "content": [picture()]}], output_config=form)
    assert "x-penstock-dropped" not in answer.headers
    sent = provider.calls("all-upstream")[0].json()
    assert sent["response_format"]["type"] == "json_schema"
    assert "image_url" in provider.calls("all-upstream")[0].body.decode()


def test_a_target_says_what_it_lacks_in_the_admin_api(stage: tuple[ScriptedProvider, Gateway]) -> None:
    _, gateway = stage
    shown = gateway.admin("GET", "/admin/v1/models/blind").json()
    assert shown["targets"] == [
        {"provider": "lab", "model": "blind-upstream", "weight": 1, "lacks": ["image", "document"]}
    ]
    target = {"provider": "lab", "model": "m", "lacks": ["wings"]}
    refused = gateway.admin("POST", "/admin/v1/models", {"name": "x", "targets": [target]})
    assert refused.status == 422
