"""Recorded Bedrock traffic, replayed behind a real gateway: Converse byte for byte, InvokeModel as the Messages events
that it carries, each at the cost that it states, and read by the AWS SDK and by Anthropic's."""

import base64
import json
from contextlib import closing
from typing import Any

import anthropic
import boto3
import botocore.config
import botocore.exceptions
import pytest
from tests.conformance.stage import PRICES_NANOUSD, Stage, recordings_of
from tests.laws.conversations import decode_in_pieces

from penstock.dialects import eventstream
from penstock.dialects.base import Address
from penstock.dialects.bedrock import Converse
from penstock.dialects.codec import Heading, TargetFacts
from penstock.domain.chat import Answer as ToldAnswer
from penstock.domain.stream import collect, events_of
from penstock.testing.caller import Answer
from penstock.testing.replay import Recording

CONVERSE = ("converse", "converse-stream")
INVOKE = ("invoke", "invoke-with-response-stream")


def _is_conversation(recording: Recording) -> bool:
    is_known = recording.surface in CONVERSE or "anthropic." in (recording.model or "")
    return is_known and "messages" in (recording.request.json or {})


RECORDINGS = [one for one in recordings_of(*CONVERSE, *INVOKE) if _is_conversation(one)]
AT_ONCE = "own-converse-stream-refused-at-once"
CONVERSED = [one for one in RECORDINGS if one.surface in CONVERSE and one.id != AT_ONCE]
INVOKED = [one for one in RECORDINGS if one.surface in INVOKE and one.response.status == 200]
TOLD = [one for one in CONVERSED if one.response.status == 200 and "throttled" not in one.id]


def name(recording: Recording) -> str:
    return recording.id


every_conversation = pytest.mark.parametrize("recording", CONVERSED, ids=name)
every_told_one = pytest.mark.parametrize("recording", TOLD, ids=name)
every_invocation = pytest.mark.parametrize("recording", INVOKED, ids=name)

DIALECT = Converse()
CODEC = DIALECT.codec


def _call(stage: Stage, recording: Recording) -> Answer:
    if recording.surface in CONVERSE:
        return stage.caller().post(f"/bedrock/model/{recording.id}/{recording.surface}", recording.request.json)
    return stage.caller().post("/v1/messages", _message(recording))


def _message(recording: Recording) -> dict[str, Any]:
    body = {key: value for key, value in recording.request.json.items() if key != "anthropic_version"}
    return {**body, "model": recording.id, "stream": recording.response_kind == "eventstream"}


# -- Converse ---------------------------------------------------------------------------------------------------------


@every_conversation
def test_the_caller_gets_what_the_provider_sent(stage: Stage, recording: Recording) -> None:
    answer = _call(stage, recording)
    if recording.response.status == 403:
        assert answer.status == 502
        assert answer.headers["x-penstock-error"] == "upstream_credential"
        return
    assert answer.status == recording.response.status
    assert answer.body == recording.response.content
    assert answer.headers["content-type"] == recording.response.headers["content-type"]


@every_conversation
def test_the_provider_gets_a_signed_request_with_what_the_caller_sent(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    _call(stage, recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    assert received.json() == recording.request.json
    assert received.path.endswith(f"/{recording.surface}")
    authorization = received.header("authorization") or ""
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAREPLAYCANARY00/")
    assert "replay/secret" not in str(received.headers)
    assert stage.key not in str(received.headers)


def _said_usage(recording: Recording) -> dict[str, int]:
    """The usage that a recording states, class by class, apart from the gateway's own reading of it."""
    told = [json.loads(payload) for payload in _payloads(recording)]
    usage: dict[str, Any] = next(one["usage"] for one in reversed(told) if "usage" in one)
    hour = sum(part["inputTokens"] for part in usage.get("cacheDetails", ()) if part["ttl"] == "1h")
    counted = {"input": usage["inputTokens"], "output": usage["outputTokens"], "1h": hour}
    counted["5m"] = usage.get("cacheWriteInputTokens", 0) - hour
    counted["cache_read"] = usage.get("cacheReadInputTokens", 0)
    return {meter: count for meter, count in counted.items() if count}


def _payloads(recording: Recording) -> list[bytes]:
    if recording.response_kind != "eventstream":
        return [recording.response.content]
    return [frame.payload for frame in eventstream.Splitter().feed(recording.response.content)]


@every_told_one
def test_the_receipt_says_what_the_recording_says(stage: Stage, recording: Recording) -> None:
    receipt = stage.gateway.receipt(_call(stage, recording).request_id)
    stated = _said_usage(recording)
    counted = {**receipt["usage"], **receipt["usage"].get("cache_write", {})}
    assert {meter: counted[meter] for meter in PRICES_NANOUSD if counted.get(meter)} == stated
    assert receipt["cost_nanousd"] == sum(count * PRICES_NANOUSD[meter] for meter, count in stated.items())
    assert (receipt["cost_basis"], receipt["cause"]) == ("computed", "completed")
    assert "hold_exceeded" not in receipt.get("flags", ())


def _told(recording: Recording) -> ToldAnswer:
    content = recording.response.content
    if recording.response_kind != "eventstream":
        return CODEC.decode_answer(content)
    decoder = CODEC.decoder()
    return collect([*decoder.feed(content), *decoder.close()])


@every_told_one
def test_the_codec_reads_a_recording_and_what_it_writes_itself(recording: Recording) -> None:
    address = Address(recording.model or "nova", recording.streaming)
    request = CODEC.decode_request(DIALECT.parse(json.dumps(recording.request.json).encode(), address))
    encoded = CODEC.encode_request(request, TargetFacts(request.model))
    assert encoded.dropped == ()
    assert CODEC.decode_request(DIALECT.parse(encoded.body, address)) == request
    answer = _told(recording)
    heading = Heading(request.model, wants_usage=True, request=request)
    assert CODEC.decode_answer(CODEC.encode_answer(answer, heading)) == answer
    encoder = CODEC.encoder(heading)
    stream = b"".join([encoder.encode(event) for event in events_of(answer)])
    assert collect(decode_in_pieces(CODEC.decoder(), stream, seed=3)) == answer
    if recording.response_kind == "eventstream":
        assert collect(decode_in_pieces(CODEC.decoder(), recording.response.content, seed=5)) == answer


def _aws(base_url: str, key: str) -> Any:
    """The AWS SDK's client; without TLS it sends no API key, and so signs with one."""
    settings = botocore.config.Config(retries={"max_attempts": 1}, read_timeout=30)
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=base_url,
        config=settings,
        aws_access_key_id=key,
        aws_secret_access_key="not looked at",
    )


def _sdk_sees(client: Any, model: str, surface: str) -> Any:
    ask = {"modelId": model, "messages": [{"role": "user", "content": [{"text": "How deep is the reservoir?"}]}]}
    try:
        if surface == "converse":
            told = client.converse(**ask)
            return {key: value for key, value in told.items() if key != "ResponseMetadata"}
        with closing(client.converse_stream(**ask)["stream"]) as stream:
            return list(stream)
    except botocore.exceptions.ClientError as error:
        return [type(error).__name__, error.response["Error"]["Message"]]


@pytest.mark.parametrize("recording", [one for one in CONVERSED if one.response.status != 403], ids=name)
def test_the_aws_sdk_sees_the_same_as_without_the_gateway(stage: Stage, recording: Recording) -> None:
    with closing(_aws(f"{stage.gateway.url}/bedrock", stage.key)) as through:
        seen = _sdk_sees(through, recording.id, recording.surface)
    with closing(_aws(stage.replay.base_url(recording.id), "direct")) as direct:
        assert seen == _sdk_sees(direct, recording.model or "nova", recording.surface)


def test_an_exception_that_comes_first_is_an_error_with_its_words_that_costs_nothing(stage: Stage) -> None:
    """A stream that has not begun is none: callers of every dialect are told as of a plain call."""
    turns = [{"role": "user", "content": "How deep?"}]
    asked = {"model": AT_ONCE, "messages": turns, "max_tokens": 64, "stream": True}
    own = {"messages": [{"role": "user", "content": [{"text": "How deep?"}]}], "inferenceConfig": {"maxTokens": 64}}
    for path, body in (
        (f"/bedrock/model/{AT_ONCE}/converse-stream", own),
        ("/v1/messages", asked),
        ("/v1/chat/completions", asked),
    ):
        answer = stage.caller().post(path, body)
        assert answer.status == 424
        assert "The model broke off. Try again." in answer.body.decode()
        receipt = stage.gateway.receipt(answer.request_id)
        assert (receipt["cause"], receipt["cost_nanousd"]) == ("failed", 0)


# -- InvokeModel ------------------------------------------------------------------------------------------------------


def _events(recording: Recording) -> list[dict[str, Any]]:
    return [json.loads(base64.b64decode(json.loads(payload)["bytes"])) for payload in _payloads(recording)]


@every_invocation
def test_a_messages_caller_gets_the_models_own_events(stage: Stage, recording: Recording) -> None:
    answer = _call(stage, recording)
    if recording.response_kind != "eventstream":
        assert answer.body == recording.response.content
        return
    assert answer.headers["content-type"] == "text/event-stream"
    lines = [line for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert [json.loads(line[6:]) for line in lines] == _events(recording)
    assert answer.body.startswith(b"event: message_start\ndata: ")


@every_invocation
def test_the_body_of_an_invocation_has_the_version_and_neither_model_nor_stream(
    stage: Stage, recording: Recording
) -> None:
    before = len(stage.replay.calls(recording.id))
    _call(stage, recording)
    (received,) = stage.replay.calls(recording.id)[before:]
    sent = _message(recording)
    expected = {key: value for key, value in sent.items() if key not in ("model", "stream")}
    assert received.json() == expected | {"anthropic_version": "bedrock-2023-05-31"}
    assert received.path.endswith(f"/{recording.surface}")


@every_invocation
def test_anthropics_sdk_reads_an_invocation_and_it_costs_what_it_states(stage: Stage, recording: Recording) -> None:
    body = _message(recording)
    known = {key: body.pop(key) for key in ("model", "messages", "max_tokens")}
    streaming = body.pop("stream")
    client = anthropic.Anthropic(base_url=stage.gateway.url, api_key=stage.key, max_retries=0, http_client=stage.http)
    if streaming:
        with client.messages.stream(**known, extra_body=body) as stream:
            message, request_id = stream.get_final_message(), stream.response.headers["x-request-id"]
    else:
        raw = client.messages.with_raw_response.create(**known, extra_body=body)
        message, request_id = raw.parse(), raw.headers["x-request-id"]
    receipt = stage.gateway.receipt(request_id)
    assert receipt["usage"]["output"] == message.usage.output_tokens
    assert receipt["usage"].get("input", 0) == message.usage.input_tokens
    assert receipt["usage"].get("cache_read", 0) == (message.usage.cache_read_input_tokens or 0)
    assert message.content


# -- InvokeModel, as its callers speak it -----------------------------------------------------------------------------


@every_invocation
def test_a_caller_of_invoke_gets_what_the_provider_sent(stage: Stage, recording: Recording) -> None:
    before = len(stage.replay.calls(recording.id))
    path = f"/bedrock/model/{recording.id}/{recording.surface}"
    answer = stage.caller().post(path, recording.request.json)
    assert (answer.status, answer.body) == (200, recording.response.content)
    assert answer.headers["content-type"] == recording.response.headers["content-type"]
    (received,) = stage.replay.calls(recording.id)[before:]
    assert received.json() == {"anthropic_version": "bedrock-2023-05-31", **recording.request.json}
    receipt = stage.gateway.receipt(answer.request_id)
    assert (receipt["cause"], receipt["cost_basis"]) == ("completed", "computed")
    assert receipt["cost_nanousd"] > 0
    at_messages = stage.gateway.receipt(_call(stage, recording).request_id)
    assert receipt["usage"] == at_messages["usage"]


@pytest.mark.parametrize("model", ["own-messages-stream-tools", "own-messages-plain", "elsewhere"])
def test_anthropics_client_of_bedrock_reaches_models_elsewhere(stage: Stage, model: str) -> None:
    """As Claude Code does it. Both ways of the client, whatever form the answer was recorded in."""
    client = anthropic.AnthropicBedrock(
        base_url=f"{stage.gateway.url}/bedrock",
        aws_access_key=stage.key,
        aws_secret_key="not looked at",
        aws_region="us-east-1",
        max_retries=0,
        http_client=stage.http,
    )
    asked: dict[str, Any] = {"model": model, "max_tokens": 40, "messages": [{"role": "user", "content": "Deep?"}]}
    if "plain" not in model:
        with client.messages.stream(**asked) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert message.content
    assert message.stop_reason in ("end_turn", "tool_use", "max_tokens")
    assert message.usage.output_tokens


def test_a_body_that_is_not_anthropics_is_refused_as_bedrock_refuses(stage: Stage) -> None:
    body = {"schemaVersion": "messages-v1", "messages": [], "inferenceConfig": {"max_new_tokens": 5}}
    answer = stage.caller().post("/bedrock/model/elsewhere/invoke", body)
    assert answer.status == 400
    assert "Converse" in answer.json()["message"]
