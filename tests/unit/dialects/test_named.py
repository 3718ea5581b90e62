"""Members inside of a request's messages and tools: what a target is not told of, it is named."""

import json
from typing import Any

import pytest

from penstock.dialects.base import Address
from penstock.dialects.codec import Encoded, TargetFacts
from penstock.dialects.registry import CODECS, CONVERSATIONS, DIALECTS

TEXT = {"type": "text", "media_type": "text/plain", "data": "abc"}
CONTENT = {"type": "content", "content": [{"type": "text", "text": "abc"}]}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CALLED = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Rain."}]}
PDF = {"format": "pdf", "name": "paper", "source": {"bytes": "AAAA"}}
FUNCTION = {"name": "f", "input_schema": {"type": "object"}}


def _messages(*content: Any, tool: Any = FUNCTION) -> Any:
    told = [{"role": "assistant" if one.get("type") == "tool_use" else "user", "content": [one]} for one in content]
    asked = {"role": "user", "content": "Weather?"}
    return {"model": "m", "max_tokens": 99, "tools": [tool], "messages": [asked, *told]}


def _converse(*content: Any) -> Any:
    return {"messages": [{"role": "user", "content": [{"text": "Sum it up."}, *content]}]}


def _gemini(part: Any, answer: Any = None) -> Any:
    contents = [{"role": "user", "parts": [{"text": "Look."}, part]}]
    if answer is not None:
        contents.append({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]})
        contents.append({"role": "user", "parts": [{"functionResponse": {"name": "f", **answer}}]})
    return {"contents": contents}


VIDEO = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
OUTPUT = {"response": {"output": "Rain."}}

CASES: dict[str, tuple[str, Any, Any]] = {
    "a document's context": (
        "messages",
        _messages({"type": "document", "source": TEXT}),
        _messages({"type": "document", "source": TEXT, "context": "news"}),
    ),
    "a document's citations": (
        "messages",
        _messages({"type": "document", "source": CONTENT}),
        _messages({"type": "document", "source": CONTENT, "citations": {"enabled": True}}),
    ),
    "a document's mark for the cache": (
        "messages",
        _messages({"type": "document", "source": CONTENT}),
        _messages({"type": "document", "source": CONTENT, "cache_control": {"type": "ephemeral"}}),
    ),
    "an image inside of a document": (
        "messages",
        _messages({"type": "document", "source": CONTENT}),
        _messages({"type": "document", "source": {**CONTENT, "content": [*CONTENT["content"], PIXEL]}}),
    ),
    "a document's title": (
        "messages",
        _messages({"type": "document", "source": TEXT}),
        _messages({"type": "document", "source": TEXT, "title": "News"}),
    ),
    "who calls a tool": (
        "messages",
        _messages(CALLED, RESULT),
        _messages({**CALLED, "caller": {"type": "code_execution_20260120", "tool_id": "s1"}}, RESULT),
    ),
    "a mark for the cache inside of a result": (
        "messages",
        _messages(CALLED, RESULT),
        _messages(
            CALLED,
            {**RESULT, "content": [{"type": "text", "text": "Rain.", "cache_control": {"type": "ephemeral"}}]},
        ),
    ),
    "a tool's examples": (
        "messages",
        _messages(),
        _messages(tool={**FUNCTION, "input_examples": [{"a": 1}]}),
    ),
    "a document's context at Bedrock": (
        "converse",
        _converse({"document": PDF}),
        _converse({"document": {**PDF, "context": "news"}}),
    ),
    "what a guardrail looks at": (
        "converse",
        _converse(),
        _converse({"guardContent": {"text": {"text": "Secret?", "qualifiers": ["query"]}}}),
    ),
    "an image's resolution": ("generateContent", _gemini(VIDEO), _gemini({**VIDEO, "mediaResolution": {"level": "L"}})),
    "a result's scheduling": (
        "generateContent",
        _gemini(VIDEO, OUTPUT),
        _gemini(VIDEO, {**OUTPUT, "scheduling": "SILENT"}),
    ),
}


def _encoded(caller: str, body: Any, target: str) -> Encoded:
    call = DIALECTS[caller].parse(json.dumps(body).encode(), Address("m", False, "sse"))
    return CODECS[target].encode_request(CODECS[caller].decode_request(call), TargetFacts("m", 4096))


@pytest.mark.parametrize("case", CASES)
def test_a_member_is_told_or_named(case: str) -> None:
    caller, without, with_it = CASES[case]
    for target in CONVERSATIONS:
        if target != caller:
            assert _encoded(caller, with_it, target) != _encoded(caller, without, target), target


@pytest.mark.parametrize("target", [target for target in CONVERSATIONS if target != "converse"])
def test_texts_that_bedrock_packs_are_told_to_every_target(target: str) -> None:
    packed = (
        {"document": {"name": "one", "source": {"content": [{"text": "First."}, {"text": "Second."}]}}},
        {"searchResult": {"source": "https://a.example", "title": "two", "content": [{"text": "Third."}]}},
        {"guardContent": {"text": {"text": "Fourth."}}},
    )
    encoded = _encoded("converse", _converse(*packed), target)
    body = encoded.body.decode()
    if target == "generateContent":
        assert [body.count(word) for word in ("Fourth.", "RmlyLCBTZWNvbmQ=")] == [1, 0]
        assert body.count('"inlineData"') == 2
    else:
        assert [word in body for word in ("First.", "Second.", "Third.", "Fourth.")] == [True] * 4
    assert set(encoded.dropped) == {"content.source", "content.guardContent"}


def test_what_is_only_a_name_or_the_usual_is_not_named() -> None:
    call = {**CALLED, "caller": {"type": "direct"}}
    found = {"type": "search_result", "source": "https://a", "title": "T", "content": CONTENT["content"]}
    for target in CONVERSATIONS:
        if target != "messages":
            assert _encoded("messages", _messages(call, RESULT), target).dropped == ()
            assert _encoded("messages", _messages(call, {**RESULT, "content": [found]}), target).dropped == (
                "content.source",
            )


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CUSTOM = {"id": "call_1", "type": "custom", "custom": {"name": "f", "input": "x"}}


def _chat(**called: Any) -> Any:
    tools = [{"type": "custom", "custom": {"name": "f"}} if "custom" in str(called) else {**CALL, "function": FUNCTION}]
    said = {"role": "assistant", "content": None, **called}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}
    return {"model": "m", "tools": tools, "messages": [{"role": "user", "content": "Weather?"}, said, result]}


@pytest.mark.parametrize("target", [target for target in CONVERSATIONS if target != "chat.completions"])
@pytest.mark.parametrize(
    ("called", "name"),
    [
        ({"tool_calls": [{**CALL, "function": {**CALL["function"], "note": 1}}]}, "content.function.note"),
        ({"tool_calls": [{**CUSTOM, "custom": {**CUSTOM["custom"], "id": "a"}}]}, "content.custom.id"),
        ({"function_call": {"name": "f", "arguments": "{}", "note": None, "mark": "a"}}, "content.function.mark"),
    ],
)
def test_what_nobody_knows_inside_of_a_calls_function_is_named(called: Any, name: str, target: str) -> None:
    encoded = _encoded("chat.completions", _chat(**called), target)
    assert [dropped for dropped in encoded.dropped if dropped.startswith("content.")] == [name]


def test_it_goes_back_to_its_place_in_the_dialect_that_has_it() -> None:
    call = {**CALL, "function": {**CALL["function"], "id": "a", "note": {"b": 1}}, "mark": "c"}
    encoded = _encoded("chat.completions", _chat(tool_calls=[call]), "chat.completions")
    assert json.loads(encoded.body)["messages"][1]["tool_calls"] == [call]
    assert encoded.dropped == ()
