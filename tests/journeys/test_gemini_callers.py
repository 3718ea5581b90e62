"""Google's own client against a model whose provider speaks OpenAI's dialect."""

import base64
import json
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from penstock.testing import scripted
from penstock.testing.lab import Lab


def _client(lab: Lab) -> genai.Client:
    return genai.Client(api_key=lab.secrets["ci"], http_options=types.HttpOptions(base_url=lab.gateway.url))


def test_a_plain_answer_and_a_stream_say_the_same(lab: Lab) -> None:
    lab.provider.on("lab-upstream", scripted.plain(), scripted.streamed(("Hello", " there", ".")))
    with _client(lab) as client:
        config = types.GenerateContentConfig(max_output_tokens=20, system_instruction="Be brief.")
        plain = client.models.generate_content(model="lab-model", contents="Say hello.", config=config)
        pieces = list(client.models.generate_content_stream(model="lab-model", contents="Say hello.", config=config))
    assert plain.text == "".join(piece.text or "" for piece in pieces) == "Hello there."
    for last in (plain, pieces[-1]):
        assert last.usage_metadata is not None
        assert (last.usage_metadata.prompt_token_count, last.usage_metadata.candidates_token_count) == (10, 5)
        assert last.candidates is not None
        assert last.candidates[0].finish_reason == types.FinishReason.STOP
    sent = lab.provider.received[-1].json()
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]


def test_a_tool_is_called_and_its_result_goes_back(lab: Lab) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "depth", "arguments": '{"river": "Po"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    lab.provider.on("lab-upstream", scripted.plain(scripted.completion("m", choices=[choice])), scripted.plain())

    def depth(river: str) -> dict[str, Any]:
        """How deep a river is."""
        return {"metres": len(river)}

    with _client(lab) as client:
        config = types.GenerateContentConfig(tools=[depth], max_output_tokens=20)
        answer = client.models.generate_content(model="lab-model", contents="How deep is the Po?", config=config)
    assert answer.text == "Hello there."
    asked, told = lab.provider.received[-1].json()["messages"][-2:]
    assert asked["tool_calls"][0]["id"] == told["tool_call_id"] == "call_1"
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"river": "Po"}
    assert "2" in told["content"]


def test_an_overloaded_provider_is_unavailable_in_the_status_that_googles_client_tries_again(lab: Lab) -> None:
    lab.provider.on("lab-upstream", scripted.fails(529))
    config = types.GenerateContentConfig(max_output_tokens=20)
    with _client(lab) as client, pytest.raises(errors.ServerError) as told:
        client.models.generate_content(model="lab-model", contents="Say hello.", config=config)
    assert told.value.code == 503
    assert told.value.status == "UNAVAILABLE"


def test_an_image_reaches_another_vendor_as_it_was(lab: Lab) -> None:
    pixels = bytes(range(200, 256)) * 3
    config = types.GenerateContentConfig(max_output_tokens=20)
    with _client(lab) as client:
        shown: Any = types.Part.from_bytes(data=pixels, mime_type="image/png")
        client.models.generate_content(model="lab-model", contents=["What is it?", shown], config=config)
    sent = lab.provider.received[-1].json()["messages"][0]["content"][1]["image_url"]["url"]
    assert base64.b64decode(sent.removeprefix("data:image/png;base64,"), validate=True) == pixels
