"""Reasoning between texts and calls goes back to its vendor where it stood, also from callers of Chat, whose messages
have one place for all of it."""

import json
from typing import Any

import pytest
from msgspec import structs

from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.domain.chat import Answer, Choice, Message, Part, Request, Text, Thinking, ToolCall
from penstock.domain.stream import events_of

CHAT = CODECS["chat.completions"]
ASKED = Message("user", (Text("Hi."),))
HEADING = Heading("model-1", True, Request("openai_chat", "model-1", (ASKED,)), 1_700_000_000, "id_1")


def thought(text: str, origin: str) -> Thinking:
    if origin == "openai_responses":
        return Thinking(text, True, "", f"sealed {text}", origin, f"rs_{text}")
    return Thinking(text, origin == "gemini", f"signed {text}", "", origin)


def call(number: int) -> ToolCall:
    return ToolCall(f"call_{number}", "look", f'{{"n":{number}}}')


def plain(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(CHAT.encode_answer(answer, HEADING))["choices"][0]["message"]
    return message


def streamed(answer: Answer) -> dict[str, Any]:
    """The message that a client puts together."""
    encoder = CHAT.encoder(HEADING)
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_details": [], "tool_calls": []}
    for line in b"".join(map(encoder.encode, events_of(answer))).split(b"\n\n"):
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            for detail in delta.get("reasoning_details", ()):
                _add(message["reasoning_details"], detail)
            for told in delta.get("tool_calls", ()):
                if "id" in told:
                    message["tool_calls"].append(told)
                else:
                    function = message["tool_calls"][told["index"]]["function"]
                    function["arguments"] += told["function"]["arguments"]
    return message


def _add(details: list[dict[str, Any]], detail: dict[str, Any]) -> None:
    known = next((one for one in details if one["index"] == detail["index"]), None)
    if known is None:
        details.append(detail)
        return
    for name, value in detail.items():
        is_grown = isinstance(value, str) and name in ("text", "summary", "signature", "data") and name in known
        known[name] = known[name] + value if is_grown else value


def sent_back(message: dict[str, Any]) -> tuple[Part, ...]:
    body = {"model": "model-1", "messages": [{"role": "user", "content": "Hi."}, message]}
    request = CHAT.decode_request(DIALECTS["chat.completions"].parse(json.dumps(body).encode()))
    return request.messages[1].parts


def kinds(parts: tuple[Part, ...]) -> list[str]:
    return [
        part.text if isinstance(part, Text | Thinking) else part.id if isinstance(part, ToolCall) else ""
        for part in parts
    ]


ORDERS = [
    ("t1", "Rain.", "t2", 1),
    ("t1", 1, "t2", 2),
    ("t1", "Ra", "t2", "in.", "t3", 1, "t4", 2),
    ("Rain.", "t1", 1),
    ("t1", "t2", "Rain.", 1),
    ("t1", 1),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("origin", ["anthropic_messages", "openai_responses", "gemini"])
@pytest.mark.parametrize("told", [plain, streamed])
def test_reasoning_comes_back_where_it_stood(order: tuple[str | int, ...], origin: str, told: Any) -> None:
    parts: tuple[Part, ...] = tuple(
        call(one) if isinstance(one, int) else thought(one, origin) if one.startswith("t") else Text(one)
        for one in order
    )
    answer = Answer(origin, "1", "m", (Choice(parts, "tool_calls"),))
    back = sent_back(told(answer))
    assert kinds(back) == kinds(parts)
    proofs = [(one.signature, one.sealed, one.origin) for one in back if isinstance(one, Thinking)]
    assert proofs == [(one.signature, one.sealed, one.origin) for one in parts if isinstance(one, Thinking)]


def test_the_vendor_gets_its_blocks_in_the_order_in_which_it_gave_them() -> None:
    parts = (thought("t1", "anthropic_messages"), Text("Rain."), thought("t2", "anthropic_messages"), call(1))
    back = sent_back(plain(Answer("anthropic_messages", "1", "m", (Choice(parts, "tool_calls"),))))
    request = structs.replace(HEADING.request, messages=(ASKED, Message("assistant", back)))
    body = json.loads(CODECS["messages"].encode_request(request, TargetFacts("claude-sonnet-4-6")).body)
    assert [block["type"] for block in body["messages"][1]["content"]] == ["thinking", "text", "thinking", "tool_use"]
    assert body["messages"][1]["content"][2]["signature"] == "signed t2"


def test_reasoning_that_comes_first_says_nothing_of_its_place() -> None:
    parts = (thought("t1", "anthropic_messages"), Text("Rain."))
    (detail,) = plain(Answer("anthropic_messages", "1", "m", (Choice(parts),)))["reasoning_details"]
    assert detail["signature"].count(".") == 2


def test_a_text_that_a_client_has_shortened_still_goes_back_whole() -> None:
    parts = (Text("Rain. "), thought("t1", "anthropic_messages"), Text("Wind. "), call(1))
    message = plain(Answer("anthropic_messages", "1", "m", (Choice(parts, "tool_calls"),)))
    message["content"] = "Rain."
    assert kinds(sent_back(message)) == ["Rain.", "t1", "call_1"]
