"""Recorded Cohere traffic, and reranking at Voyage, replayed behind a real gateway: callers get what the vendor sent,
and are charged what it billed."""

import json
import re
from typing import Any

import cohere
import httpx
import openai
import pytest
from tests.conformance.stage import Stage, place_of, recordings_of
from tests.laws.conversations import decode_in_pieces

from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.cohere import CohereChat
from penstock.domain.chat import Request
from penstock.domain.stream import collect, events_of
from penstock.testing.caller import Answer
from penstock.testing.replay import Recording

PATHS = {"v2.chat": "/cohere/v2/chat", "v2.rerank": "/v1/rerank", "v1.rerank": "/v1/rerank"}

RECORDINGS = recordings_of(*PATHS)
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)


def _call(stage: Stage, recording: Recording) -> Answer:
    return stage.caller().post(PATHS[recording.surface], {**recording.request.json, "model": recording.id})


def _billed(recording: Recording, unit: str) -> int:
    found = re.findall(rf'"billed_units":\{{[^}}]*"{unit}":(\d+)', recording.response.content.decode())
    return int(found[-1]) if found else 0


@every_recording
def test_the_caller_gets_what_was_sent_and_is_charged_what_was_billed(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    answer = _call(stage, recording)
    assert (answer.status, answer.body) == (recording.response.status, recording.response.content)
    (received,) = stage.replay.calls(recording.id)[before:]
    assert received.json() == {**recording.request.json, "model": place_of(recording).model}
    receipt = stage.gateway.receipt(answer.request_id)
    if recording.response.status >= 400:
        assert receipt["cost_nanousd"] == 0
        return
    tokens = re.findall(r'"total_tokens":(\d+)', recording.response.content.decode())
    input_ = int(tokens[-1]) if recording.provider == "voyage" else _billed(recording, "input_tokens")
    output = _billed(recording, "output_tokens")
    assert receipt["cost_nanousd"] == input_ * 1_000 + output * 10_000
    assert (receipt["cost_basis"], receipt["cause"]) == ("computed", "completed")
    assert receipt["usage"]["requests"] == max(_billed(recording, "search_units"), 1)


@every_recording
def test_the_way_a_stream_is_cut_changes_nothing(stage: Stage, recording: Recording) -> None:
    if not recording.streaming:
        pytest.skip("not a stream")
    try:
        stage.replay.cuts = "random"
        assert _call(stage, recording).body == recording.response.content
    finally:
        stage.replay.cuts = "recorded"


def test_the_official_sdk_reads_what_comes_through(stage: Stage) -> None:
    """Cohere's clients add `/v2/chat` and `/v2/rerank` to their base URL."""

    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=stage.key, base_url=f"{stage.gateway.url}/cohere", httpx_client=http)
        messages = [cohere.UserChatMessageV2(content="Name a river.")]
        plain = client.chat(model="own-cohere-plain", messages=messages, max_tokens=40)
        assert plain.message.content is not None
        assert plain.message.content[0].text == "The Po."
        events = list(client.chat_stream(model="own-cohere-stream", messages=messages, max_tokens=40))
        assert [event.type for event in events][-1] == "message-end"
        ranked = client.rerank(model="own-rerank", query="river", documents=["The Po", "Rome"])
        assert [(one.index, one.relevance_score) for one in ranked.results] == [(0, 0.7)]


# -- translated -------------------------------------------------------------------------------------------------------

CHATS = [one for one in RECORDINGS if one.surface == "v2.chat" and one.response.status == 200]
every_chat = pytest.mark.parametrize("recording", CHATS, ids=lambda recording: recording.id)
CODEC = CohereChat.codec


@every_chat
def test_a_recorded_request_is_read_as_it_is_written_again(recording: Recording) -> None:
    asked = CODEC.decode_request(CohereChat().parse(json.dumps(recording.request.json).encode()))
    encoded = CODEC.encode_request(asked, TargetFacts(asked.model))
    assert encoded.dropped == ()
    assert CODEC.decode_request(CohereChat().parse(encoded.body)) == asked


@every_chat
def test_a_recorded_answer_is_the_same_written_again_plain_and_streamed(recording: Recording) -> None:
    content, heading = recording.response.content, Heading("m", True, Request("cohere_chat", "m", ()))
    if recording.streaming:
        told = decode_in_pieces(CODEC.decoder(), content, 1)
        assert decode_in_pieces(CODEC.decoder(), content, 2) == told
        answer = collect(told)
    else:
        answer = CODEC.decode_answer(content)
    assert answer.usage is not None
    assert answer.usage.total_output == _billed(recording, "output_tokens")
    assert CODEC.decode_answer(CODEC.encode_answer(answer, heading)) == answer
    encoder = CODEC.encoder(heading)
    stream = b"".join(encoder.encode(event) for event in events_of(answer))
    assert collect(decode_in_pieces(CODEC.decoder(), stream, 3)) == answer


def test_a_caller_of_cohere_reaches_a_model_elsewhere(stage: Stage) -> None:
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=stage.key, base_url=f"{stage.gateway.url}/cohere", httpx_client=http)
        messages = [cohere.UserChatMessageV2(content="Name a river.")]
        plain = client.chat(model="elsewhere", messages=messages, max_tokens=9)
        assert plain.message.content is not None
        assert plain.message.content[0].text
        assert plain.finish_reason in ("COMPLETE", "MAX_TOKENS")
        assert plain.usage is not None
        assert plain.usage.billed_units is not None
        assert plain.usage.billed_units.output_tokens
        events = list(client.chat_stream(model="elsewhere", messages=messages, max_tokens=9))
        assert [event.type for event in events if event.type != "content-delta"] == [
            "message-start",
            "content-start",
            "content-end",
            "message-end",
        ]


@pytest.mark.parametrize(
    ("recording_id", "said"), [("own-cohere-plain", "The Po."), ("own-cohere-stream", "The Rhône.")]
)
def test_callers_of_other_dialects_reach_coheres_own_chat(stage: Stage, recording_id: str, said: str) -> None:
    body = {"model": recording_id, "max_tokens": 40, "messages": [{"role": "user", "content": "Name a river."}]}
    answer = stage.caller().post("/v1/messages", {**body, "top_k": 7, "stream": recording_id == "own-cohere-stream"})
    assert answer.status == 200
    assert said in answer.body.decode()
    sent = stage.replay.calls(recording_id)[-1]
    assert sent.path.endswith("/v2/chat")
    assert (sent.json()["k"], sent.json()["max_tokens"]) == (7, 40)
    assert stage.gateway.receipt(answer.request_id)["usage"]["input"] == 5


@pytest.mark.parametrize(
    ("recording_id", "said"), [("own-cohere-plain", "The Po."), ("own-cohere-stream", "The Rhône.")]
)
def test_callers_of_openais_dialect_are_told_what_cohere_bills(stage: Stage, recording_id: str, said: str) -> None:
    client = openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key=stage.key, max_retries=0, http_client=stage.http)
    asked: Any = {"model": recording_id, "max_tokens": 40, "messages": [{"role": "user", "content": "Name a river."}]}
    if recording_id == "own-cohere-stream":
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
            completion: Any = events.get_final_completion()
    else:
        completion = client.chat.completions.create(**asked)
    assert completion.choices[0].message.content == said
    assert completion.usage.prompt_tokens == 5
