"""Responses through the gateway: from a provider that has them, and from one that has chats alone."""

from collections.abc import Callable

import openai
import pytest
from openai.types.responses import ResponseCompletedEvent

from penstock.domain.money import NANO
from penstock.testing.lab import INPUT_NANOUSD, OUTPUT_NANOUSD, Lab
from penstock.testing.scripted import Script, event, pieces, plain, well
from penstock.testing.wire import Reply

Sdk = Callable[..., openai.OpenAI]


def chats_alone() -> Script:
    """A server that has no Responses."""

    async def answer(reply: Reply) -> None:
        if reply.received.path.endswith("/responses"):
            await reply.whole(404, [("content-type", "application/json")], b'{"detail":"Not Found"}')
        else:
            await well(reply)

    return answer


@pytest.mark.parametrize("streams", [False, True])
def test_a_server_that_has_chats_alone_is_asked_in_a_chat(lab: Lab, sdk: Sdk, streams: bool) -> None:
    lab.provider.on("lab-upstream", chats_alone())
    client = sdk(lab)
    if streams:
        events = list(client.responses.create(model="lab-model", input="Hi", max_output_tokens=20, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert isinstance(events[-1], ResponseCompletedEvent)
        response = events[-1].response
    else:
        response = client.responses.create(model="lab-model", input="Hi", max_output_tokens=20)
    assert response.output_text == "Hello there."
    assert response.usage is not None
    assert response.usage.total_tokens == 15
    asked = [received.path for received in lab.provider.calls("lab-upstream")]
    assert asked == ["/v1/responses", "/v1/chat/completions"]


def searched(*, streams: bool) -> Script:
    """A provider that searched the web twice, opened a page, and answers."""
    actions = [{"type": "search", "query": "a"}, {"type": "open_page", "url": "https://a.example"}, {"type": "search"}]
    calls = [
        {"type": "web_search_call", "id": f"ws_{number}", "status": "completed", "action": action}
        for number, action in enumerate(actions)
    ]
    text = {"type": "output_text", "text": "Found.", "annotations": []}
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    answer = {
        "id": "resp_searched",
        "object": "response",
        "status": "completed",
        "output": [*calls, said],
        "usage": usage,
    }
    if not streams:
        return plain(answer)
    events = [
        {"type": "response.created", "sequence_number": 0, "response": {**answer, "output": [], "usage": None}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Found."},
        {"type": "response.completed", "sequence_number": 2, "response": answer},
    ]
    return pieces(*map(event, events))


SEARCHING = {"model": "searching", "input": "Hi", "max_output_tokens": 20, "tools": [{"type": "web_search"}]}


@pytest.mark.parametrize("streams", [False, True])
def test_searches_that_the_provider_ran_are_charged_apiece(lab: Lab, streams: bool) -> None:
    lab.provider.on("searching-upstream", searched(streams=streams))
    answer = lab.caller("ci").post("/v1/responses", {**SEARCHING, "max_tool_calls": 3, "stream": streams})
    assert answer.status == 200, answer.body
    receipt = lab.caller("ci").get(f"/v1/receipts/{answer.request_id}").json()
    assert receipt["usage"]["web_searches"] == 2
    (line,) = [line for line in receipt["cost_lines"] if line["meter"] == "web_searches"]
    assert (line["quantity"], line["cost_nanousd"]) == (2, 2 * NANO)
    assert receipt["cost_nanousd"] == 2 * NANO + 10 * INPUT_NANOUSD + 5 * OUTPUT_NANOUSD


def test_the_most_that_a_tool_may_search_is_held(lab: Lab) -> None:
    lab.provider.on("searching-upstream", searched(streams=False))
    limit = {"name": "searches", "match": {"key": "ci"}, "unit": "usd", "amount": 10, "per": "total"}
    assert lab.gateway.admin("POST", "/admin/v1/limits", limit).status == 201
    try:  # each sampling may read for 2 dollars, and a search costs another one
        refused = lab.caller("ci").post("/v1/responses", {**SEARCHING, "max_tool_calls": 3})
        assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
        assert lab.caller("ci").post("/v1/responses", {**SEARCHING, "max_tool_calls": 2}).status == 200
    finally:
        lab.gateway.admin("DELETE", "/admin/v1/limits/searches")


def test_a_conversation_that_is_kept_elsewhere_is_not_made_up(lab: Lab) -> None:
    lab.provider.on("lab-upstream", chats_alone())
    body = {"model": "lab-model", "input": "Hi", "previous_response_id": "resp_1", "max_output_tokens": 20}
    answer = lab.caller("ci").post("/v1/responses", body)
    assert (answer.status, answer.error["param"]) == (404, "previous_response_id")
    assert not lab.provider.calls("lab-upstream")


def test_a_call_in_the_background_is_refused(lab: Lab) -> None:
    answer = lab.caller("ci").post("/v1/responses", {"model": "lab-model", "input": "Hi", "background": True})
    assert (answer.status, answer.error["param"]) == (400, "background")
    assert not lab.provider.calls("lab-upstream")
