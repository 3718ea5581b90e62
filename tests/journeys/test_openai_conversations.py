"""Conversations that OpenAI keeps as such: a project makes them and goes on with its own, and nobody with another's."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.journeys.test_kept_conversations import ENVIRONMENT, SECRETS, STRANGERS, Keeper, Stage, config, say

from penstock.testing.gateway import Gateway
from penstock.testing.wire import Reply

HELLO = {"type": "message", "role": "user", "content": "Hi"}


class Conversing(Keeper):
    """One that has conversations, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conversations: dict[tuple[str, str], dict[str, Any]] = {}

    async def answer(self, reply: Reply) -> None:
        told = reply.received
        account = (told.header("authorization") or "").removeprefix("Bearer ")
        place = told.path.partition("?")[0].strip("/").split("/")[1:]
        if place[0] == "conversations":
            await self._converse(reply, account, place[1:])
        elif told.method == "POST" and (asked := told.json().get("conversation")) is not None:
            id = asked if isinstance(asked, str) else asked["id"]
            if (account, id) not in self.conversations:
                await say(reply, 404, {"error": {"message": f"Conversation with id '{id}' not found."}})
            else:
                await say(reply, 200, self._made(told.json()) | {"conversation": {"id": id}})
        else:
            await super().answer(reply)

    async def _converse(self, reply: Reply, account: str, place: list[str]) -> None:
        method, body = reply.received.method, reply.received.json() if reply.received.body else {}
        if not place:
            id = f"conv_{next(self._numbers)}"
            kept = {"id": id, "object": "conversation", "created_at": 5, "metadata": body.get("metadata") or {}}
            self.conversations[account, id] = {"kept": kept, "items": self._items(body)}
            await say(reply, 200, kept)
            return
        found = self.conversations.get((account, place[0]))
        if found is None:
            await say(reply, 404, {"error": {"message": f"Conversation with id '{place[0]}' not found."}})
        elif place[1:2] == ["items"]:
            await self._at_items(reply, found, place[2:])
        elif method == "DELETE":
            del self.conversations[account, place[0]]
            await say(reply, 200, {"id": place[0], "object": "conversation.deleted", "deleted": True})
        else:
            found["kept"]["metadata"] |= body.get("metadata") or {}
            await say(reply, 200, found["kept"])

    async def _at_items(self, reply: Reply, found: dict[str, Any], place: list[str]) -> None:
        if reply.received.method == "DELETE":
            found["items"] = [item for item in found["items"] if item["id"] != place[0]]
            await say(reply, 200, found["kept"])
        elif place:
            await say(reply, 200, next(item for item in found["items"] if item["id"] == place[0]))
        else:
            shown = found["items"]
            if reply.received.method == "POST":
                shown = self._items(reply.received.json())
                found["items"] += shown
            ends = {"first_id": shown[0]["id"] if shown else "", "last_id": shown[-1]["id"] if shown else ""}
            await say(reply, 200, {"object": "list", "data": shown, "has_more": False, **ends})

    def _items(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**item, "id": f"msg_{next(self._numbers)}", "status": "completed"} for item in body.get("items") or ()]


@pytest.fixture(scope="module")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Conversing() as keeper, Gateway(tmp_path_factory.mktemp("kept"), config(keeper), ENVIRONMENT) as gateway:
        yield Stage(keeper, gateway)


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    shared_stage.keeper.received.clear()
    return shared_stage


def _made(stage: Stage, key: str = "search", **members: Any) -> str:
    answer = stage.gateway.caller(SECRETS[key]).post("/v1/conversations", {"model": "open", **members})
    assert answer.status == 200, answer.body
    id: str = answer.json()["id"]
    return id


def test_the_stock_client_makes_one_and_does_everything_with_it(stage: Stage) -> None:
    with openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key=SECRETS["search"], max_retries=0) as client:
        id = client.conversations.create(items=[HELLO], metadata={"a": "b"}, extra_body={"model": "open"}).id  # type: ignore[list-item]
        assert client.conversations.retrieve(id).metadata == {"a": "b"}
        assert client.conversations.update(id, metadata={"c": "d"}).metadata == {"a": "b", "c": "d"}
        (added,) = client.conversations.items.create(id, items=[HELLO]).data  # type: ignore[list-item]
        assert len(client.conversations.items.list(id, limit=5).data) == 2
        item = str(added.id)
        assert client.conversations.items.retrieve(item, conversation_id=id).id == item
        again = client.responses.create(model="open", input="On", conversation=id, max_output_tokens=20)
        assert again.conversation is not None
        assert again.conversation.id == id
        client.conversations.items.delete(item, conversation_id=id)
        client.conversations.delete(id)
        with pytest.raises(openai.NotFoundError, match="Conversation with id"):
            client.conversations.retrieve(id)
    created = stage.sent()[0]
    assert (created.method, created.path) == ("POST", "/v1/conversations")
    assert created.json() == {"items": [HELLO], "metadata": {"a": "b"}}
    asked = [(sent.method, sent.path.removeprefix(f"/v1/conversations/{id}")) for sent in stage.sent()[1:]]
    assert asked[:6] == [
        *(("GET", ""), ("POST", ""), ("POST", "/items"), ("GET", "/items?limit=5"), ("GET", f"/items/{item}")),
        ("POST", "/v1/responses"),
    ]
    assert asked[6:] == [("DELETE", f"/items/{item}"), ("DELETE", ""), ("GET", "")]


def _everything(id: str, item: str) -> list[tuple[str, str, Any]]:
    path = f"/v1/conversations/{id}"
    return [
        *(("GET", path, None), ("POST", path, {"metadata": {}}), ("GET", f"{path}/items", None)),
        *(("POST", f"{path}/items", {"items": []}), ("GET", f"{path}/items/{item}", None)),
        *(("DELETE", f"{path}/items/{item}", None), ("DELETE", path, None)),
    ]


def test_nobody_else_can_ask_anything_of_it_or_go_on_with_it(stage: Stage) -> None:
    id = _made(stage)
    listed = stage.gateway.caller(SECRETS["search"]).post(f"/v1/conversations/{id}/items", {"items": [HELLO]})
    item = listed.json()["data"][0]["id"]
    sent = len(stage.sent())
    for key in STRANGERS:
        for method, path, body in _everything(id, item):
            caller = stage.gateway.caller(SECRETS[key])
            answer = caller.post(path, body) if method == "POST" else caller.send(method, path, None)
            stage.is_refused(answer, "conversation_id")
        for conversation in (id, {"id": id}):
            stage.is_refused(stage.ask(key, conversation=conversation), "conversation")
    stage.is_refused(stage.gateway.caller(SECRETS["search"]).get("/v1/conversations/conv_x"), "conversation_id")
    assert stage.gateway.caller().get(f"/v1/conversations/{id}").status == 401
    assert len(stage.sent()) == sent
    assert stage.ask("search-2", conversation=id).status == 200
    narrow = stage.gateway.caller(SECRETS["narrow"]).get(f"/v1/conversations/{id}")
    assert (narrow.status, narrow.headers["x-penstock-error"]) == (403, "not_permitted")


def test_no_item_of_anothers_can_be_put_into_it(stage: Stage) -> None:
    theirs = stage.made("rival")["output"][2]["id"]
    mine = stage.made("search")["output"][2]["id"]
    id, caller = _made(stage), stage.gateway.caller(SECRETS["search"])
    sent = len(stage.sent())
    reference = {"items": [{"type": "item_reference", "id": theirs}]}
    stage.is_refused(caller.post(f"/v1/conversations/{id}/items", reference), "input")
    stage.is_refused(caller.post("/v1/conversations", {"model": "open", **reference}), "input")
    assert len(stage.sent()) == sent
    reference["items"][0]["id"] = mine
    assert caller.post(f"/v1/conversations/{id}/items", reference).status == 200
    assert caller.post("/v1/conversations", reference).status == 200, "it lies where the item does"


def test_what_was_put_into_it_is_the_projects_too(stage: Stage) -> None:
    id = _made(stage, items=[HELLO])
    (item,) = stage.gateway.caller(SECRETS["search"]).get(f"/v1/conversations/{id}/items").json()["data"]
    named = [{"type": "item_reference", "id": item["id"]}]
    assert stage.ask("search-2", input=named).status == 200
    stage.is_refused(stage.ask("rival", input=named), "input")


def test_it_stays_with_the_provider_and_the_credential_that_keep_it(stage: Stage) -> None:
    ids = [_made(stage, model="two") for _ in range(2)]
    accounts = [sent.header("authorization") for sent in stage.sent()]
    assert set(accounts) == {"Bearer sk-main", "Bearer sk-spare"}
    for id, account in list(zip(ids, accounts, strict=True)) * 2:
        assert stage.ask("search", model="two", conversation=id).status == 200
        assert stage.gateway.caller(SECRETS["search"]).get(f"/v1/conversations/{id}").status == 200
        assert {sent.header("authorization") for sent in stage.sent()[-2:]} == {account}
    elsewhere = stage.ask("search", model="open", conversation=ids[0])
    assert (elsewhere.status, elsewhere.headers["x-penstock-error"]) == (400, "unsupported_by_target")


def test_where_it_is_to_lie_must_be_one_place(stage: Stage) -> None:
    """Two providers of OpenAI's are here, and one of Azure's, which keeps none."""
    caller = stage.gateway.caller(SECRETS["search"])
    for body, status, code in (
        ({}, 400, "invalid_request"),
        ({"model": "azure"}, 400, "unsupported_by_target"),
        ({"model": "nobody"}, 404, "model_not_found"),
        ({"model": 5}, 400, "invalid_request"),
        ({"model": "open", "items": 5}, 400, "invalid_request"),
    ):
        answer = caller.post("/v1/conversations", body)
        assert (answer.status, answer.headers["x-penstock-error"]) == (status, code), body
        assert answer.error["param"] == ("items" if "items" in body else "model")
    refused = stage.gateway.caller(SECRETS["narrow"]).post("/v1/conversations", {})
    assert (refused.status, refused.headers["x-penstock-error"]) == (400, "unsupported_by_target")
    assert not stage.sent()
    made = stage.gateway.caller(SECRETS["sole"]).send("POST", "/v1/conversations", None)
    assert (made.status, made.headers["x-penstock-provider"]) == (200, "open"), "it has models of one provider alone"


def test_making_one_costs_nothing_and_leaves_a_receipt(stage: Stage) -> None:
    spent = stage.gateway.settled("all")
    answer = stage.gateway.caller(SECRETS["search"]).post("/v1/conversations", {"model": "open"})
    receipt = stage.gateway.receipt(answer.request_id)
    shown = {name: receipt[name] for name in ("surface", "cause", "cost_nanousd", "alias", "provider")}
    assert shown == {
        **{"surface": "conversations", "cause": "completed", "cost_nanousd": 0},
        **{"alias": "open", "provider": "open"},
    }
    assert stage.gateway.settled("all") == spent
    assert stage.gateway.held() == 0


def test_a_stop_of_its_model_holds_for_it(stage: Stage) -> None:
    id, caller = _made(stage), stage.gateway.caller(SECRETS["search"])
    scope = {"scope": {"model": "open"}, "reason": "test"}
    generation = stage.gateway.admin("POST", "/admin/v1/kill", scope).json()["generation"]
    try:
        for answer in (caller.get(f"/v1/conversations/{id}"), caller.post("/v1/conversations", {"model": "open"})):
            assert (answer.status, answer.headers["x-penstock-error"]) == (403, "killed")
    finally:
        stage.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "done"})
