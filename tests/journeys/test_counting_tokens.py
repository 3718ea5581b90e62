"""Counts of tokens: whoever has the model is asked in its own way, and the caller is answered in its own."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.testing.caller import Answer
from penstock.testing.gateway import Gateway, new_secret
from penstock.testing.wire import Reply, WireServer

KEY = new_secret()
ANSWERS = {
    "/messages/count_tokens": {"input_tokens": 14},
    ":countTokens": {"totalTokens": 14, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 14}]},
    "/responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 14},
    "/count-tokens": {"inputTokens": 14},
    "count-tokens:rawPredict": {"input_tokens": 14},
}
TARGETS = {
    "anthropic": ("anthropic", "claude-sonnet-4-5"),
    "google": ("google", "gemini-2.5-flash"),
    "openai": ("openai", "gpt-5-codex"),
    "bedrock": ("bedrock", "anthropic.claude-sonnet-4-5-v1:0"),
    "nova": ("bedrock", "amazon.nova-pro-v1:0"),
    "vertex": ("vertex", "claude-sonnet-4-5"),
    "gemini-at-vertex": ("vertex", "gemini-2.5-flash"),
}
TOLD = {
    "messages": {"input_tokens": 14},
    "gemini": {"totalTokens": 14},
    "responses": {"object": "response.input_tokens", "input_tokens": 14},
    "converse": {"inputTokens": 14},
    "invocation": {"inputTokens": 14},
}


class Counter(WireServer):
    async def answer(self, reply: Reply) -> None:
        found = next((told for end, told in ANSWERS.items() if reply.received.path.endswith(end)), None)
        found = None if reply.received.path.startswith("/nothing") else found
        body = json.dumps(found or {"error": {"message": "no such thing"}}).encode()
        await reply.whole(200 if found else 404, [("content-type", "application/json")], body)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Counter, Gateway]]:
    with Counter() as counter:
        options = {"vertex": {"project": "acme"}}
        config: dict[str, Any] = {
            "providers": [
                {
                    "name": name,
                    "kind": kind,
                    "base_url": counter.origin,
                    "credentials": [{"name": "main", "value": "env:LAB_KEY"}],
                    "options": options.get(kind, {}),
                }
                for name, (kind, _) in TARGETS.items()
            ]
            + [{"name": "cohere", "kind": "cohere", "base_url": counter.origin}]
            + [{"name": "local", "kind": "compatible", "base_url": f"{counter.origin}/nothing/here"}],
            "models": [
                {"name": name, "targets": [{"provider": name, "model": model}]} for name, (_, model) in TARGETS.items()
            ]
            + [{"name": name, "targets": [{"provider": name, "model": "m"}]} for name in ("cohere", "local")],
            "teams": [{"name": "growth"}],
            "keys": [{"name": "ci", "team": "growth", "secret": "env:CI_KEY"}],
            "limits": [{"match": {"team": "growth"}, "unit": "tokens", "amount": 1, "per": "day"}],
        }
        folder = tmp_path_factory.mktemp("counting")
        with Gateway(folder, config, {"LAB_KEY": "sk-lab", "CI_KEY": KEY}) as gateway:
            yield counter, gateway


def count(gateway: Gateway, caller: str, model: str) -> Answer:
    """A count of the same conversation, as each kind of caller asks for it."""
    turns = [{"role": "user", "content": "How deep is it?"}]
    schema = {"type": "object", "properties": {"place": {"type": "string"}}}
    tool = {"name": "depth", "description": "In metres.", "input_schema": schema}
    contents = [{"role": "user", "parts": [{"text": "How deep is it?"}]}]
    declared = {"name": "depth", "description": "In metres.", "parameters": schema}
    function = {"type": "function", "name": "depth", "description": "In metres.", "parameters": schema}
    asked = {
        "messages": [{"role": "user", "content": [{"text": "How deep is it?"}]}],
        "system": [{"text": "Be brief."}],
    }
    asked["toolConfig"] = {"tools": [{"toolSpec": {"name": "depth", "inputSchema": {"json": schema}}}]}  # type: ignore[assignment]
    claude = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": turns, "tools": [tool]}
    invoked = base64.b64encode(json.dumps({**claude, "system": "Be brief."}).encode()).decode()
    system = {"parts": [{"text": "Be brief."}]}
    path, body = {
        "messages": (
            "/v1/messages/count_tokens",
            {"model": model, "messages": turns, "system": "Be brief.", "tools": [tool]},
        ),
        "gemini": (
            f"/v1beta/models/{model}:countTokens",
            {
                "generateContentRequest": {
                    "model": f"models/{model}",
                    "contents": contents,
                    "systemInstruction": system,
                    "tools": [{"functionDeclarations": [declared]}],
                }
            },
        ),
        "responses": (
            "/v1/responses/input_tokens",
            {"model": model, "input": "How deep is it?", "instructions": "Be brief.", "tools": [function]},
        ),
        "converse": (f"/bedrock/model/{model}/count-tokens", {"input": {"converse": asked}}),
        "invocation": (f"/bedrock/model/{model}/count-tokens", {"input": {"invokeModel": {"body": invoked}}}),
    }[caller]
    return gateway.caller(KEY).post(path, body)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("caller", list(TOLD))
def test_every_caller_is_told_what_the_models_vendor_counts(
    stage: tuple[Counter, Gateway], caller: str, target: str
) -> None:
    counter, gateway = stage
    counter.received.clear()
    answer = count(gateway, caller, target)
    assert answer.status == 200, answer.body
    told = answer.json()
    told.pop("promptTokensDetails", None)
    assert told == TOLD[caller]
    (asked,) = counter.received
    sent = asked.body.decode()
    if "invokeModel" in sent:
        sent = base64.b64decode(asked.json()["input"]["invokeModel"]["body"]).decode()
    assert all(text in sent for text in ("How deep is it?", "Be brief.", "depth"))
    assert "x-penstock-dropped" not in answer.headers
    receipt = gateway.receipt(answer.request_id)
    assert (receipt["cost_nanousd"], receipt["usage"].get("input", 0), receipt["cause"]) == (0, 0, "completed")


def test_each_vendor_is_asked_at_its_own_address_with_the_model_that_is_counted(
    stage: tuple[Counter, Gateway],
) -> None:
    counter, gateway = stage
    places = {
        "google": "/models/gemini-2.5-flash:countTokens",
        "openai": "/responses/input_tokens",
        "bedrock": "/model/anthropic.claude-sonnet-4-5-v1%3A0/count-tokens",
        "vertex": "/publishers/anthropic/models/count-tokens:rawPredict",
        "gemini-at-vertex": "/publishers/google/models/gemini-2.5-flash:countTokens",
    }
    for target, place in places.items():
        counter.received.clear()
        count(gateway, "messages", target)
        assert counter.received[0].path.endswith(place)
    counter.received.clear()
    count(gateway, "gemini", "vertex")
    assert counter.received[0].json()["model"] == "claude-sonnet-4-5"
    counter.received.clear()
    count(gateway, "messages", "gemini-at-vertex")
    assert set(counter.received[0].json()) <= {"contents", "systemInstruction", "tools", "generationConfig"}


@pytest.mark.parametrize("caller", list(TOLD))
def test_where_nobody_counts_the_caller_is_told_so(stage: tuple[Counter, Gateway], caller: str) -> None:
    _, gateway = stage
    answer = count(gateway, caller, "cohere")
    assert (answer.status, answer.headers["x-penstock-error"]) == (400, "unsupported_by_target")
    answer = count(gateway, "messages", "local")
    assert answer.status == 404
    assert "does not count tokens" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": 5},
        {"input": {}},
        {"input": {"converse": 7}},
        {"input": {"invokeModel": {"body": "%%%"}}},
        {"input": {"invokeModel": {"body": base64.b64encode(b"[]").decode()}}},
    ],
)
def test_what_is_no_question_is_refused(stage: tuple[Counter, Gateway], body: dict[str, Any]) -> None:
    _, gateway = stage
    answer = gateway.caller(KEY).post("/bedrock/model/anthropic/count-tokens", body)
    assert (answer.status, answer.headers["x-penstock-error"]) == (400, "invalid_request")
    wrong = {"generateContentRequest": {"contents": 5}}
    assert gateway.caller(KEY).post("/v1beta/models/anthropic:countTokens", wrong).status == 400
