"""Conversations that a provider keeps: each project goes on with its own, and nobody with another's, although all of
them share the provider's credential."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from penstock.testing.caller import Answer
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import Received, Reply, WireServer, eventually

Sdk = Callable[[str], openai.OpenAI]
KEYS = {
    "search": {"team": "growth", "project": "search"},
    "search-2": {"team": "growth", "project": "search"},
    "mail": {"team": "growth", "project": "mail"},
    "rival": {"team": "abroad", "project": "elsewhere"},
    "loner": {"team": "growth"},
    "loner-2": {"team": "growth"},
    "narrow": {"team": "growth", "project": "search", "models": ["azure"]},
    "sole": {"team": "growth", "project": "search", "models": ["open", "azure"]},
}
SECRETS = {name: new_secret() for name in KEYS}
STRANGERS = ("mail", "rival", "loner")
CREDENTIALS = {"main": "sk-main", "spare": "sk-spare"}


class Keeper(WireServer):
    """An OpenAI that keeps what it answers, for each credential apart."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}

    async def answer(self, reply: Reply) -> None:
        told = reply.received
        account = (told.header("authorization") or told.header("api-key") or "").removeprefix("Bearer ")
        place = told.path.partition("?")[0].removeprefix("/openai").removeprefix("/v1").removeprefix("/responses")
        if told.method == "POST" and place in ("", "/input_tokens"):
            await self._create(reply, account, place)
        else:
            await self._look_up(reply, account, place.strip("/").split("/"))

    async def _create(self, reply: Reply, account: str, place: str) -> None:
        body = reply.received.json()
        before = body.get("previous_response_id")
        if before is not None and (account, before) not in self.kept:
            await say(reply, 400, {"error": {"message": f"Previous response with id '{before}' not found."}})
            return
        if place:
            await say(reply, 200, {"object": "response.input_tokens", "input_tokens": 7})
            return
        made = self._made(body)
        if body.get("store") is not False:
            self.kept[account, made["id"]] = made
        if body.get("stream"):
            await self._stream(reply, made)
        else:
            await say(reply, 200, made)

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        text = {"type": "output_text", "text": "Hello.", "annotations": []}
        output = [
            {"type": "reasoning", "id": f"rs_{number}", "summary": []},
            {"type": "code_interpreter_call", "id": f"ci_{number}", "container_id": f"cntr_{number}", "code": "1"}
            | {"status": "completed", "outputs": []},
            {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [text]},
        ]
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        used = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, **details}
        asked = {name: body.get(name) for name in ("previous_response_id", "store")}
        kind = {"object": "response", "created_at": 1_760_000_000, "status": "completed", "tools": []}
        return {"id": f"resp_{number}", **kind, "model": body["model"], "output": output, "usage": used} | asked

    async def _stream(self, reply: Reply, made: dict[str, Any]) -> None:
        events = (
            {"type": "response.created", "response": {**made, "status": "in_progress", "output": [], "usage": None}},
            {"type": "response.output_text.delta", "delta": "Hello.", "item_id": "x", "output_index": 0}
            | {"content_index": 0, "logprobs": []},
            {"type": "response.completed", "response": made},
        )
        await reply.head(200, [("content-type", "text/event-stream")])
        for number, event in enumerate(events):
            await reply.body(b"data: " + json.dumps({**event, "sequence_number": number}).encode() + b"\n\n")
        await reply.end()

    async def _look_up(self, reply: Reply, account: str, place: list[str]) -> None:
        found = self.kept.get((account, place[0]))
        if found is None:
            await say(reply, 404, {"error": {"message": f"Response with id '{place[0]}' not found."}})
        elif reply.received.method == "DELETE":
            del self.kept[account, place[0]]
            await say(reply, 200, {"id": place[0], "object": "response", "deleted": True})
        elif place[1:] == ["cancel"]:
            await say(reply, 400, {"error": {"message": "Cannot cancel a synchronous response."}})
        elif place[1:] == ["input_items"]:
            item = {"type": "message", "id": "msg_in", "role": "user", "content": [], "status": "completed"}
            await say(reply, 200, {"object": "list", "data": [item], "has_more": False, "first_id": "", "last_id": ""})
        else:
            await say(reply, 200, found)


async def say(reply: Reply, status: int, body: dict[str, Any]) -> None:
    await reply.whole(status, [("content-type", "application/json")], json.dumps(body).encode())


class Stage:
    """A gateway before a keeper, with one credential for all, one with two, and one like Azure's."""

    def __init__(self, keeper: Keeper, gateway: Gateway) -> None:
        self.keeper = keeper
        self.gateway = gateway

    def ask(self, key: str, path: str = "/v1/responses", **members: Any) -> Answer:
        body = {"model": "open", "input": "Hi", "max_output_tokens": 20, **members}
        return self.gateway.caller(SECRETS[key]).post(path, body)

    def made(self, key: str, **members: Any) -> Any:
        answer = self.ask(key, **members)
        assert answer.status == 200, answer.body
        return answer.json()

    def sent(self) -> list[Received]:
        return list(self.keeper.received)

    def is_refused(self, answer: Answer, param: str) -> None:
        """As what nobody knows: not sent, nothing held, nothing charged."""
        assert (answer.status, answer.headers["x-penstock-error"]) == (404, "not_found"), answer.body
        assert answer.headers["x-should-retry"] == "false"
        assert (answer.error["param"], answer.error["type"]) == (param, "invalid_request_error")
        receipt = self.gateway.receipt(answer.request_id)
        assert (receipt["cause"], receipt["cost_nanousd"], receipt["attempts"]) == ("refused", 0, [])
        assert self.gateway.held() == 0


def config(keeper: Keeper, **more: Any) -> dict[str, Any]:
    def provider(name: str, kind: str, *credentials: str) -> dict[str, Any]:
        url = keeper.origin if kind == "azure" else f"{keeper.origin}/v1"
        values = [{"name": each, "value": f"env:{each.upper()}_KEY"} for each in credentials]
        return {"name": name, "kind": kind, "base_url": url, "credentials": values}

    def alias(name: str, *providers: str) -> dict[str, Any]:
        targets = [{"provider": each, "model": "gpt-4.1"} for each in providers]
        return {"name": name, "targets": targets, "price": usd_price(1, 10), "max_output": 100}

    return {
        "providers": [
            provider("open", "openai", "main"),
            provider("two", "openai", "main", "spare"),
            provider("azure", "azure", "main"),
        ],
        "models": [alias("open", "open"), alias("two", "two"), alias("azure", "azure"), alias("any", "azure", "open")],
        "organisations": [{"name": "abroad"}],
        "teams": [{"name": "growth"}, {"name": "abroad", "organisation": "abroad"}],
        "projects": [
            {"name": "search", "team": "growth"},
            {"name": "mail", "team": "growth"},
            {"name": "elsewhere", "team": "abroad"},
        ],
        "keys": [{"name": name, "secret": f"env:{_variable(name)}", **key} for name, key in KEYS.items()],
        "limits": [{"name": "all", "match": {}, "unit": "usd", "amount": 1000, "per": "total"}],
        **more,
    }


def _variable(name: str) -> str:
    return f"KEY_{name.upper().replace('-', '_')}"


ENVIRONMENT = {
    **{_variable(name): secret for name, secret in SECRETS.items()},
    **{f"{name.upper()}_KEY": value for name, value in CREDENTIALS.items()},
}


@pytest.fixture(scope="module")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Keeper() as keeper, Gateway(tmp_path_factory.mktemp("kept"), config(keeper), ENVIRONMENT) as gateway:
        yield Stage(keeper, gateway)


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    shared_stage.keeper.received.clear()
    return shared_stage


@pytest.fixture
def sdk(stage: Stage) -> Iterator[Sdk]:
    clients: list[openai.OpenAI] = []

    def make(key: str) -> openai.OpenAI:
        clients.append(openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key=SECRETS[key], max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


# -- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
def test_a_project_goes_on_with_its_own_and_nobody_else_does(stage: Stage, sdk: Sdk, streams: bool) -> None:
    if streams:
        events = list(sdk("search").responses.create(model="open", input="Hi", max_output_tokens=20, stream=True))
        first = events[-1].response.id  # type: ignore[union-attr]
    else:
        first = sdk("search").responses.create(model="open", input="Hi", max_output_tokens=20).id
    for key in ("search", "search-2"):
        client = sdk(key)
        again = client.responses.create(model="open", input="On", previous_response_id=first, max_output_tokens=20)
        assert again.previous_response_id == first
    sent = len(stage.sent())
    for key in STRANGERS:
        with pytest.raises(openai.NotFoundError) as refused:
            sdk(key).responses.create(model="open", input="On", previous_response_id=first, max_output_tokens=20)
        assert refused.value.param == "previous_response_id"
    assert len(stage.sent()) == sent


def test_what_is_anothers_is_refused_in_the_words_for_what_nobody_knows(stage: Stage) -> None:
    id = stage.made("search")["id"]
    unknown = "resp_" + "9" * (len(id) - 5)
    answers = [stage.ask("rival", previous_response_id=each) for each in (id, unknown)]
    for answer in answers:
        stage.is_refused(answer, "previous_response_id")
    said = [answer.body.replace(id.encode(), b"X").replace(unknown.encode(), b"X") for answer in answers]
    assert said[0] == said[1]
    assert len(stage.sent()) == 1


def test_a_key_of_no_project_shares_with_no_other_key(stage: Stage) -> None:
    id = stage.made("loner")["id"]
    assert stage.ask("loner", previous_response_id=id).status == 200
    stage.is_refused(stage.ask("loner-2", previous_response_id=id), "previous_response_id")


def _naming(made: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every way to name what an answer left behind, with the member at fault where it is another's."""
    reasoning, run, message = made["output"]
    image = {"type": "image_generation_call", "id": message["id"], "status": "completed", "result": None}
    text = [{"type": "reasoning_text", "text": "x"}]
    return [
        ("input", {"input": [{"type": "item_reference", "id": message["id"]}]}),
        ("input", {"input": [{"id": message["id"]}]}),
        ("input", {"input": [reasoning]}),
        ("input", {"input": [{**reasoning, "encrypted_content": ""}]}),
        ("input", {"input": [{**reasoning, "content": text}]}),
        ("input", {"input": [image]}),
        ("input", {"input": [run]}),
        ("input", {"input": "Hi", "instructions": [{"type": "item_reference", "id": message["id"]}]}),
        ("input", {"tools": [{"type": "code_interpreter", "container": run["container_id"]}]}),
        ("input", {"tools": [{"type": "shell", "environment": {"container_id": run["container_id"]}}]}),
    ]


def test_items_and_containers_are_as_much_the_projects_as_the_response(stage: Stage) -> None:
    made = stage.made("search")
    for param, members in _naming(made):
        assert stage.ask("search-2", **members).status == 200, members
        sent = len(stage.sent())
        stage.is_refused(stage.ask("rival", **members), param)
        assert len(stage.sent()) == sent


def test_what_an_item_brings_needs_no_owner(stage: Stage) -> None:
    text = [{"type": "output_text", "text": "Hello."}]
    items = [
        {"type": "message", "role": "assistant", "id": "msg_of_nobody", "content": text},
        {"role": "assistant", "id": "msg_of_nobody", "content": "Hello."},
        {"type": "function_call", "id": "fc_of_nobody", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "id": "rs_of_nobody", "summary": [], "encrypted_content": "gAAA"},
        {"type": "web_search_call", "id": "ws_of_nobody", "status": "completed", "action": {"type": "search"}},
    ]
    assert stage.ask("search", input=items, store=False).status == 200


def test_conversations_that_nobody_has_made_are_refused(stage: Stage) -> None:
    for conversation in ("conv_1", {"id": "conv_1"}):
        stage.is_refused(stage.ask("search", conversation=conversation), "conversation")
    assert not stage.sent()


def test_a_count_of_tokens_names_nothing_of_anothers(stage: Stage) -> None:
    id = stage.made("search")["id"]
    count = {"path": "/v1/responses/input_tokens", "previous_response_id": id}
    assert stage.ask("search", **count).json()["input_tokens"] == 7
    stage.is_refused(stage.ask("rival", **count), "previous_response_id")


def test_what_was_not_to_be_kept_cannot_be_gone_on_with(stage: Stage) -> None:
    id = stage.made("search", store=False)["id"]
    stage.is_refused(stage.ask("search", previous_response_id=id), "previous_response_id")


def test_what_names_nothing_is_at_fault_itself(stage: Stage) -> None:
    for member, value in (("previous_response_id", 5), ("conversation", []), ("input", [{"id": 5}])):
        answer = stage.ask("search", **{member: value})
        assert (answer.status, answer.error["param"]) == (400, member)
    stage.is_refused(stage.ask("search", previous_response_id="\x00"), "previous_response_id")
    many = [{"type": "item_reference", "id": f"msg_x{number}"} for number in range(1_001)]
    assert stage.ask("search", input=many).status == 400
    assert not stage.sent()


# -- where it lies ----------------------------------------------------------------------------------------------------


def test_a_conversation_stays_with_the_provider_and_the_credential_that_keep_it(stage: Stage) -> None:
    ids = [stage.made("search", model="two")["id"] for _ in range(2)]
    accounts = [sent.header("authorization") for sent in stage.sent()]
    assert set(accounts) == {"Bearer sk-main", "Bearer sk-spare"}
    for id, account in list(zip(ids, accounts, strict=True)) * 2:
        assert stage.ask("search", model="two", previous_response_id=id).status == 200
        assert stage.sent()[-1].header("authorization") == account
    both = [{"type": "item_reference", "id": id.replace("resp", "msg")} for id in ids]
    assert stage.ask("search", model="two", input=both).status == 400


def test_of_several_targets_the_one_that_keeps_it_is_asked(stage: Stage) -> None:
    id = stage.made("search", model="open")["id"]
    answer = stage.ask("search", model="any", previous_response_id=id)
    assert (answer.status, answer.headers["x-penstock-provider"]) == (200, "open")
    elsewhere = stage.ask("search", model="azure", previous_response_id=id)
    assert (elsewhere.status, elsewhere.headers["x-penstock-error"]) == (400, "unsupported_by_target")
    assert "'open'" in elsewhere.error["message"]
    assert "'open'" not in stage.ask("rival", model="azure", previous_response_id=id).error["message"]


def test_azure_keeps_conversations_alike(stage: Stage) -> None:
    id = stage.made("search", model="azure")["id"]
    again = stage.ask("search", "/openai/v1/responses", model="azure", previous_response_id=id)
    assert (again.status, again.headers["x-penstock-provider"]) == (200, "azure")
    stage.is_refused(stage.ask("rival", model="azure", previous_response_id=id), "previous_response_id")


# -- what is asked of a response --------------------------------------------------------------------------------------


def _every_errand(id: str, base: str = "/v1") -> list[tuple[str, str]]:
    path = f"{base}/responses/{id}"
    return [("GET", path), ("POST", f"{path}/cancel"), ("GET", f"{path}/input_items"), ("DELETE", path)]


@pytest.mark.parametrize("model", ["open", "azure", "two"])
def test_the_stock_client_looks_at_its_own_response_and_deletes_it(stage: Stage, sdk: Sdk, model: str) -> None:
    id = stage.made("search", model=model)["id"]
    account = [sent.header("authorization") or sent.header("api-key") for sent in stage.sent()][-1]
    client = sdk("search-2")
    assert client.responses.retrieve(id, include=["reasoning.encrypted_content"]).output_text == "Hello."
    assert [item.id for item in client.responses.input_items.list(id, limit=5)] == ["msg_in"]
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        client.responses.cancel(id)
    client.responses.delete(id)
    with pytest.raises(openai.NotFoundError, match="Response with id"):
        client.responses.retrieve(id)
    place = f"/openai/v1/responses/{id}" if model == "azure" else f"/v1/responses/{id}"
    asked = [(sent.method, sent.path) for sent in stage.sent()[1:]]
    assert asked == [
        ("GET", f"{place}?include%5B%5D=reasoning.encrypted_content"),
        ("GET", f"{place}/input_items?limit=5"),
        ("POST", f"{place}/cancel"),
        ("DELETE", place),
        ("GET", place),
    ]
    assert {sent.header("authorization") or sent.header("api-key") for sent in stage.sent()} == {account}
    assert all(sent.body == b"" for sent in stage.sent()[1:])


def test_nobody_else_can_ask_anything_of_it(stage: Stage) -> None:
    id = stage.made("search")["id"]
    for key in STRANGERS:
        for base in ("/v1", "/openai/v1"):
            for method, path in _every_errand(id, base):
                stage.is_refused(stage.gateway.caller(SECRETS[key]).send(method, path, None), "response_id")
    assert stage.gateway.caller().get(f"/v1/responses/{id}").status == 401
    assert len(stage.sent()) == 1
    narrow = stage.gateway.caller(SECRETS["narrow"]).get(f"/v1/responses/{id}")
    assert (narrow.status, narrow.headers["x-penstock-error"]) == (403, "not_permitted")


def test_asking_costs_nothing_and_leaves_a_receipt(stage: Stage) -> None:
    id = stage.made("search")["id"]
    spent = stage.gateway.settled("all")
    answer = stage.gateway.caller(SECRETS["search"]).get(f"/v1/responses/{id}")
    receipt = stage.gateway.receipt(answer.request_id)
    shown = {name: receipt[name] for name in ("surface", "cause", "cost_nanousd", "alias", "provider", "model")}
    assert shown == {
        **{"surface": "responses.stored", "cause": "completed", "cost_nanousd": 0},
        **{"alias": "open", "provider": "open", "model": "gpt-4.1"},
    }
    assert receipt["usage"]["input"] == receipt["usage"]["output"] == 0
    assert stage.gateway.settled("all") == spent


def test_a_response_is_not_streamed_again_and_takes_no_other_method(stage: Stage) -> None:
    id = stage.made("search")["id"]
    caller = stage.gateway.caller(SECRETS["search"])
    for query in ("stream=true", "stream=true&starting_after=4", "starting_after=4"):
        assert caller.get(f"/v1/responses/{id}?{query}").status == 400
    assert caller.get(f"/v1/responses/{id}?stream=false").status == 200
    put = caller.send("PUT", f"/v1/responses/{id}", b"{}")
    assert (put.status, put.headers["x-penstock-error"]) == (405, "method_not_allowed")
    for path in ("/v1/responses/", "/v1/responses/..", f"/v1/responses/{id}/x", f"/v1/responses/{id}%2F..%2Fx"):
        assert caller.get(path).status in (400, 404)
    assert len(stage.sent()) == 2


def test_a_stop_holds_for_it_too(stage: Stage) -> None:
    id = stage.made("search")["id"]
    scope = {"scope": {"model": "open"}, "reason": "test"}
    generation = stage.gateway.admin("POST", "/admin/v1/kill", scope).json()["generation"]
    caller = stage.gateway.caller(SECRETS["search"])
    eventually(lambda: caller.get(f"/v1/responses/{id}").status == 403, 5)
    assert caller.get(f"/v1/responses/{id}").headers["x-penstock-error"] == "killed"
    stage.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "over"})
    eventually(lambda: caller.get(f"/v1/responses/{id}").status == 200, 5)


# -- whatever dies ----------------------------------------------------------------------------------------------------


def test_what_a_caller_has_seen_the_end_of_is_its_own_after_a_crash(tmp_path: Any) -> None:
    with Keeper() as keeper, Gateway(tmp_path, config(keeper), ENVIRONMENT, 2) as gateway:
        stage = Stage(keeper, gateway)
        ids = [stage.made("search")["id"] for _ in range(4)]
        gateway.kill_tree()
        gateway.start()
        for id in ids:
            assert stage.ask("search", previous_response_id=id).status == 200
            assert stage.ask("rival", previous_response_id=id).status == 404
        gateway.kill("control")
        answer = stage.ask("search", previous_response_id=ids[0])
        assert answer.status == 200 or answer.headers["x-penstock-error"] == "store_unavailable"
        eventually(lambda: stage.ask("search", previous_response_id=ids[0]).status == 200, 20)
