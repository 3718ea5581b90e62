"""What is asked of a conversation that OpenAI keeps, and what an answer shows of it."""

import json
from typing import Any

import pytest

from penstock.dialects.base import NO_ADDRESS, Address, Call, Demand
from penstock.dialects.openai_responses import Conversations, Responses
from penstock.domain.kept import Errand
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, UpstreamMalformed

CONVERSATIONS = Conversations()


def asked(body: Any, errand: Errand | None = None) -> Call:
    address = Address(errand=errand) if errand is not None else NO_ADDRESS
    return CONVERSATIONS.parse(b"" if body is None else json.dumps(body).encode(), address)


def test_the_model_says_where_a_new_one_lies_and_does_not_go_there() -> None:
    call = asked({"model": "gpt-4.1", "metadata": {"a": "b"}})
    assert (call.model, call.refers, call.errand) == ("gpt-4.1", {}, Errand("POST", ""))
    assert json.loads(CONVERSATIONS.rebuild(call, Demand("x"))) == {"metadata": {"a": "b"}}
    assert asked(None).fields == {}


def test_what_is_asked_of_one_needs_it_and_what_its_items_name() -> None:
    items = [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "Hi", "id": "msg_2"}]
    call = asked({"items": items, "model": "kept"}, Errand("POST", "conv_1", "items"))
    assert call.refers == {"conv_1": "conversation_id", "msg_1": "input"}
    assert (call.model, json.loads(CONVERSATIONS.rebuild(call, Demand("x")))["model"]) == ("", "kept")
    look = asked({"items": items}, Errand("GET", "conv_1", "items", "limit=5"))
    assert (look.refers, CONVERSATIONS.rebuild(look, Demand("x"))) == ({"conv_1": "conversation_id"}, b"")
    assert not asked(None, Errand("DELETE", "conv_1")).keeps


@pytest.mark.parametrize("body", [[], {"items": {}}, {"items": [5]}, {"model": 5}, {"model": "x" * 300}])
def test_what_is_no_request_is_refused(body: Any) -> None:
    with pytest.raises(InvalidRequest):
        asked(body)


def test_what_an_answer_shows_is_kept_and_nothing_is_used() -> None:
    reading = CONVERSATIONS.read(b'{"object":"list","data":[{"id":"a"},{"id":5},{"id":"b"},{}]}')
    assert (reading.usage, reading.kept) == (Usage(), ("a", "b"))
    assert CONVERSATIONS.read(b'{"id":"conv_1","object":"conversation"}').kept == ("conv_1",)
    for told in (b"[]", b'{"data":7}', b"\xff"):
        with pytest.raises(UpstreamMalformed):
            CONVERSATIONS.read(told)


def test_a_response_keeps_its_conversation_known() -> None:
    told = {"id": "resp_1", "conversation": {"id": "conv_1"}, "output": [{"id": "msg_1"}], "usage": None}
    assert Responses().read(json.dumps(told).encode()).kept == ("resp_1", "conv_1", "msg_1")
    for odd in (None, "conv_1", {"id": 5}, []):
        assert Responses().read(json.dumps(told | {"conversation": odd}).encode()).kept == ("resp_1", "msg_1")
