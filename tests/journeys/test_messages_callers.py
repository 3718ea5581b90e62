"""Anthropic's own client against a model whose provider speaks OpenAI's dialect."""

import json
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from penstock.testing import scripted
from penstock.testing.lab import Lab


def _client(lab: Lab) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=lab.gateway.url, api_key=lab.secrets["ci"], max_retries=0)


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    called = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [called]}
    return scripted.completion("m", choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])


@beta_tool
def depth(river: str) -> str:
    """How deep a river is.

    Args:
        river: Its name.
    """
    return f"{len(river)} m"


def test_the_tool_runner_sends_the_whole_conversation_where_the_vendor_keeps_no_threads(lab: Lab) -> None:
    calls = [_call("call_1", "depth", '{"river": "Po"}'), _call("call_2", "depth", '{"river": "Elbe"}')]
    lab.provider.on("lab-upstream", *map(scripted.plain, calls), scripted.plain())
    with _client(lab) as client:
        asked: list[Any] = [{"role": "user", "content": "How deep are they?"}]
        runner = client.beta.messages.tool_runner(model="lab-model", max_tokens=20, tools=[depth], messages=asked)
        last = runner.until_done()
    (said,) = last.content
    assert said.type == "text"
    assert said.text == "Hello there."
    roles = [message["role"] for message in lab.provider.received[-1].json()["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]
    assert len(lab.provider.received) == 3  # what was refused never left


def test_a_conversation_that_is_too_long_is_told_in_the_words_that_agents_look_for(lab: Lab) -> None:
    said = {"error": {"message": "This model's maximum context length is 128000 tokens.", "type": "x", "code": None}}
    lab.provider.on("lab-upstream", scripted.fails(400, said))
    with _client(lab) as client, pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(model="lab-model", max_tokens=20, messages=[{"role": "user", "content": "Hello"}])


def test_a_tool_with_a_long_name_is_called_by_it(lab: Lab) -> None:
    name = "mcp__" + "gauge_" * 13
    told: list[str] = []

    async def answer(reply: Any) -> None:
        (tool,) = reply.received.json()["tools"]
        told.append(tool["function"]["name"])
        await scripted.plain(_call("call_1", told[0], "{}"))(reply)

    lab.provider.on("lab-upstream", answer)
    with _client(lab) as client:
        reply = client.messages.create(
            model="lab-model",
            max_tokens=20,
            messages=[{"role": "user", "content": "Look."}],
            tools=[{"name": name, "input_schema": {"type": "object"}}],
        )
    assert len(told[0]) == 64
    assert [block.name for block in reply.content if block.type == "tool_use"] == [name]
    sent = json.dumps(lab.provider.received[-1].json()["tools"])
    assert '"properties": {}' in sent
