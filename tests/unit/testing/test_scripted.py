"""The scripted provider does what it is told, and says what it saw."""

import http.client
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from penstock.testing import scripted
from penstock.testing.caller import Caller
from penstock.testing.scripted import ScriptedProvider
from penstock.testing.wire import eventually

PATH = "/v1/chat/completions"


def _chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def caller(provider: ScriptedProvider) -> Caller:
    return Caller(provider.origin)


def test_the_official_sdk_can_talk_to_it(provider: ScriptedProvider) -> None:
    with openai.OpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        assert client.chat.completions.create(**_chat()).choices[0].message.content == "Hello there."
        options = {"stream": True, "stream_options": {"include_usage": True}}
        parts = list(client.chat.completions.create(**_chat(**options)))
        assert parts[-1].usage.total_tokens == 15
        assert len(client.embeddings.create(model="e", input=["a", "b"], encoding_format="float").data) == 2


def test_usage_is_streamed_only_when_asked_for(caller: Caller) -> None:
    without = caller.post(PATH, _chat(stream=True)).body
    asked = caller.post(PATH, _chat(stream=True, stream_options={"include_usage": True})).body
    assert b"usage" not in without
    assert asked.count(b'"usage":null') == 5
    assert without == asked.replace(b',"usage":null', b"").replace(_usage_event(asked), b"")


def _usage_event(body: bytes) -> bytes:
    return next(event + b"\n\n" for event in body.split(b"\n\n") if b'"choices":[]' in event)


def test_scripts_are_used_in_order_and_the_last_repeats(provider: ScriptedProvider, caller: Caller) -> None:
    provider.on("m", scripted.fails(500), scripted.fails(429), scripted.plain())
    assert [caller.post(PATH, _chat()).status for _ in range(4)] == [500, 429, 200, 200]
    assert len(provider.calls("m")) == 4


def test_a_reset_before_the_first_byte_is_a_reset(provider: ScriptedProvider, caller: Caller) -> None:
    provider.on("m", scripted.resets())
    with pytest.raises(ConnectionError):
        caller.post(PATH, _chat())


@pytest.mark.parametrize("script", [scripted.resets([b"a"]), scripted.closes([b"a"]), scripted.half_closes([b"a"])])
def test_a_body_that_is_cut_off_is_seen_as_cut_off(
    provider: ScriptedProvider, caller: Caller, script: scripted.Script
) -> None:
    provider.on("m", script)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        caller.post(PATH, _chat())


def test_a_peer_who_hangs_up_is_noticed(provider: ScriptedProvider, caller: Caller) -> None:
    provider.on("m", scripted.endless())
    with caller.open(PATH, _chat()) as call:
        assert call.read_some()
        (received,) = provider.calls("m")
        assert received.gone_at is None
    eventually(lambda: received.gone_at, 1, "the provider saw it")
    assert not received.answered


def test_silence_lasts_until_the_peer_gives_up(provider: ScriptedProvider, caller: Caller) -> None:
    provider.on("m", scripted.stalls())
    with pytest.raises(TimeoutError):
        caller.post(PATH, _chat(), timeout_s=0.1)


def test_garbage_is_not_http(provider: ScriptedProvider, caller: Caller) -> None:
    provider.on("m", scripted.garbage())
    with pytest.raises(http.client.HTTPException):
        caller.post(PATH, _chat())
