"""`/v1/responses/compact`: a long conversation is made short by its own vendor, exactly paid, and gone on with."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import Reply, WireServer

SECRETS = {"mine": new_secret(), "other": new_secret()}
USAGE = {
    **{"input_tokens": 300, "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0}},
    **{"output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 30}, "total_tokens": 340},
}
SHORT = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAAB-all-that-was-said"}
ASKED = {"role": "user", "content": "A long story."}
MOST_OUT = 128_000
"""Of the model, as its vendor says."""


class Vendor(WireServer):
    """Compacts, and answers what goes on with it."""

    async def answer(self, reply: Reply) -> None:
        body = reply.received.json()
        head = {"id": "resp_1", "created_at": 1_760_000_000, "usage": USAGE}
        if reply.received.path.partition("?")[0].endswith("/compact"):
            said = {"type": "message", "id": "msg_1", "status": "completed"} | ASKED
            kept = {**said, "content": [{"type": "input_text", "text": ASKED["content"]}]}
            made: dict[str, Any] = {**head, "object": "response.compaction", "output": [kept, SHORT]}
        else:
            text = {"type": "output_text", "text": "On.", "annotations": []}
            message = {"type": "message", "id": "msg_2", "role": "assistant", "status": "completed", "content": [text]}
            made = {**head, "object": "response", "status": "completed", "model": body["model"], "output": [message]}
        await reply.whole(200, [("content-type", "application/json")], json.dumps(made).encode())


def _config(vendor: Vendor) -> dict[str, Any]:
    def provider(name: str, kind: str, path: str = "/v1", **options: str) -> dict[str, Any]:
        credentials = [{"name": "main", "value": "env:VENDOR_KEY"}]
        return {"name": name, "kind": kind, "base_url": vendor.origin + path, "credentials": credentials, **options}

    def alias(provider: str, model: str) -> dict[str, Any]:
        targets = [{"provider": provider, "model": model}]
        return {"name": provider, "targets": targets, "price": usd_price(1, 10, cache_read=0.1), "max_output": 50}

    return {
        "providers": [
            provider("open", "openai"),
            provider("azure", "azure", ""),
            {**provider("old-azure", "azure", ""), "options": {"api_version": "2025-04-01-preview"}},
            provider("claude", "anthropic"),
        ],
        "models": [
            *(alias(name, "gpt-5.1") for name in ("open", "azure", "old-azure")),
            alias("claude", "claude-sonnet-4-5"),
        ],
        "teams": [{"name": "mine"}, {"name": "other"}],
        "keys": [{"name": name, "team": name, "secret": f"env:KEY_{name.upper()}"} for name in SECRETS],
        "limits": [{"name": "all", "match": {}, "unit": "usd", "amount": 1000, "per": "total"}],
    }


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with Vendor() as vendor:
        yield vendor


@pytest.fixture(scope="module")
def gateway(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {"VENDOR_KEY": "sk-vendor", **{f"KEY_{name.upper()}": value for name, value in SECRETS.items()}}
    with Gateway(tmp_path_factory.mktemp("compaction"), _config(vendor), environment) as gateway:
        vendor.received.clear()
        yield gateway


def test_a_conversation_is_compacted_and_gone_on_with(gateway: Gateway, vendor: Vendor) -> None:
    spent = gateway.settled("all")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=SECRETS["mine"], max_retries=0) as sdk:
        found = sdk.responses.with_raw_response.compact(model="open", input=[ASKED], instructions="Be brief.")  # type: ignore[list-item]
        compacted = found.parse()
        assert compacted.output[-1].model_dump(exclude_none=True) == SHORT
        receipt = gateway.receipt(found.headers["x-request-id"])
        items = found.http_response.json()["output"]
        again = sdk.responses.create(model="open", input=[*items, ASKED])
        assert again.output_text == "On."
    asked, went_on = vendor.received[-2:]
    assert asked.json() == {"model": "gpt-5.1", "input": [ASKED], "instructions": "Be brief."}
    assert went_on.json()["input"][1] == SHORT
    shown = {name: receipt[name] for name in ("surface", "cause", "cost_nanousd")}
    cost = 200 * 1000 + 100 * 100 + 40 * 10_000
    assert shown == {"surface": "responses.compact", "cause": "completed", "cost_nanousd": cost}
    assert receipt["usage"] | {"input": 200, "cache_read": 100, "output": 40, "reasoning": 30} == receipt["usage"]
    assert gateway.settled("all") - spent == 2 * cost


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("azure", "/openai/v1/responses/compact"),
        ("old-azure", "/openai/responses/compact?api-version=2025-04-01-preview"),
    ],
)
def test_azure_compacts_at_its_own_address(gateway: Gateway, vendor: Vendor, model: str, path: str) -> None:
    for place in ("/v1/responses/compact", "/openai/v1/responses/compact"):
        answer = gateway.caller(SECRETS["mine"]).post(place, {"model": model, "input": [ASKED]})
        assert (answer.status, answer.json()["object"]) == (200, "response.compaction")
        assert vendor.received[-1].path == path


def test_no_cap_is_sent_and_all_that_the_model_can_say_is_held(gateway: Gateway, vendor: Vendor) -> None:
    limit = {"name": "small", "match": {"team": "other"}, "unit": "output_tokens", "per": "total"}
    created = gateway.admin("POST", "/admin/v1/limits", {**limit, "amount": MOST_OUT - 1})
    assert created.status == 201, created.body
    refused = gateway.caller(SECRETS["other"]).post("/v1/responses/compact", {"model": "open", "input": [ASKED]})
    assert (refused.status, refused.headers["x-penstock-error"]) == (429, "rate_limit_exceeded")
    changed = gateway.admin("PATCH", f"/admin/v1/limits/{created.json()['id']}", {"amount": MOST_OUT})
    assert changed.status == 200, changed.body
    served = gateway.caller(SECRETS["other"]).post("/v1/responses/compact", {"model": "open", "input": [ASKED]})
    assert served.status == 200
    assert set(vendor.received[-1].json()) == {"model", "input"}


def test_what_cannot_be_compacted_is_refused_before_anything_is_sent(gateway: Gateway, vendor: Vendor) -> None:
    sent = len(vendor.received)
    caller = gateway.caller(SECRETS["mine"])
    for body, status, code in (
        ({"model": "claude", "input": [ASKED]}, 400, "unsupported_by_target"),
        ({"model": "open", "input": [ASKED], "stream": True}, 400, "invalid_request"),
        ({"model": "open"}, 400, "invalid_request"),
        ({"model": "open", "input": 7}, 400, "invalid_request"),
        ({"model": "open", "previous_response_id": "resp_of_another"}, 404, "not_found"),
    ):
        answer = caller.post("/v1/responses/compact", body)
        assert (answer.status, answer.headers["x-penstock-error"]) == (status, code), body
    assert caller.get("/v1/responses/compact").status == 405
    assert len(vendor.received) == sent
    assert gateway.held() == 0
