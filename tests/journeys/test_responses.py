"""Responses through the gateway: from a provider that has them, and from one that has chats alone."""

from collections.abc import Callable

import openai
import pytest
from openai.types.responses import ResponseCompletedEvent

from penstock.testing.lab import Lab
from penstock.testing.scripted import Script, well
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
