"""Tools whose names a target does not take are called by names that it takes, and the caller hears its own."""

import json
from typing import Any

import pytest

from penstock.dialects.base import Address
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.dialects.translation import Passages
from penstock.domain.chat import Answer, Choice, Request, ToolCall
from penstock.domain.stream import events_of
from penstock.domain.usage import Usage

NAMES = ("mcp:files.read", "get_time")
TARGETS = ("chat.completions", "responses", "messages", "converse", "cohere.chat")


def _asked(*names: str) -> bytes:
    declared = [{"name": name, "parametersJsonSchema": {"type": "object"}} for name in names]
    called = {"functionCall": {"name": names[0], "args": {}, "id": "c1"}}
    result = {"functionResponse": {"name": names[0], "id": "c1", "response": {"output": "ok"}}}
    body = {
        "contents": [
            {"role": "user", "parts": [{"text": "Read it."}]},
            {"role": "model", "parts": [called]},
            {"role": "user", "parts": [result]},
        ],
        "tools": [{"functionDeclarations": declared}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [names[0]]}},
    }
    return json.dumps(body).encode()


def _passage(target: str, *names: str, streaming: bool = False) -> Any:
    caller = DIALECTS["generateContent"]
    call = caller.parse(_asked(*names), Address("m", streaming, "sse"))
    return Passages(caller, call, 5, "ours").to((target,), TargetFacts("claude-m", 4096))


def _calls(told: str) -> list[str]:
    return [name for name in NAMES if f'"name":"{name}"' in told]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_caller_hears_the_names_that_it_wrote(target: str, streaming: bool) -> None:
    passage = _passage(target, *NAMES, streaming=streaming)
    sent = json.dumps({name: json.loads(bytes(value)) for name, value in passage.call.fields.items()})
    assert "mcp:files.read" not in sent
    assert sent.count("mcp_files_read") >= 2
    calls = (ToolCall("c2", "mcp_files_read", "{}"), ToolCall("c3", "get_time", "{}"))
    answer = Answer("", "id_1", "m", (Choice(calls, "tool_calls"),), usage=Usage(input=3, output=2))
    heading = Heading("m", wants_usage=True, request=Request(DIALECTS[target].name, "m", ()), id="theirs")
    if streaming:
        encoder, tee = CODECS[target].encoder(heading), passage.tee(False)
        told = b"".join([tee.feed(encoder.encode(event)) for event in events_of(answer)]) + tee.close()[0]
    else:
        told = passage.answer(CODECS[target].encode_answer(answer, heading))
    assert _calls(told.decode()) == list(NAMES)


def test_names_that_would_be_the_same_and_targets_that_take_them_keep_them() -> None:
    sent = bytes(_passage("messages", "a.b", "a:b").call.fields["tools"])
    assert (b'"a.b"' in sent, b'"a:b"' in sent) == (True, True)
    chat = DIALECTS["chat.completions"]
    tools = [{"type": "function", "function": {"name": "a.b", "parameters": {"type": "object"}}}]
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": tools}
    passage = Passages(chat, chat.parse(json.dumps(body).encode()), 5).to(("generateContent",), TargetFacts("m"))
    assert b'"a.b"' in bytes(passage.call.fields["tools"])
