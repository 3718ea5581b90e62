"""Several credentials of one provider: a refused one is set aside, and no caller notices."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.testing.gateway import Gateway, new_secret
from penstock.testing.lab import PRICE, chat
from penstock.testing.scripted import Script, ScriptedProvider, fails, plain
from penstock.testing.wire import Reply, eventually

A, B = "sk-first-canary-0d5e", "sk-second-canary-77aa"


LABS = ("refused", "all-refused", "at-its-rate")
"""A provider for each test, with a model of the same name."""


@pytest.fixture(scope="module")
def vendors() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def provider(vendors: ScriptedProvider) -> ScriptedProvider:
    vendors.forget()
    return vendors


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, vendors: ScriptedProvider) -> Iterator[Gateway]:
    tmp_path = tmp_path_factory.mktemp("gateway")
    (tmp_path / "first").write_text(A)
    credentials = [
        {"name": "first", "value": f"file:{tmp_path / 'first'}", "weight": 3},
        {"name": "second", "value": "env:SECOND_KEY"},
    ]
    config = {
        "providers": [
            {"name": lab, "kind": "compatible", "base_url": vendors.base_url, "credentials": credentials}
            for lab in LABS
        ],
        "models": [
            {
                "name": lab,
                "targets": [{"provider": lab, "model": lab}],
                "price": PRICE,
                "max_output": 100,
            }
            for lab in LABS
        ],
        "keys": [{"name": "ci", "secret": "env:CI_KEY"}],
        "limits": [{"name": "all", "unit": "requests", "amount": 1000, "per": "day"}],
    }
    with Gateway(tmp_path, config, {"CI_KEY": new_secret(), "SECOND_KEY": B}, workers=2) as gateway:
        yield gateway


def refusing(status: int, *refused: str) -> Script:
    """A vendor that does not take these keys."""

    async def answer(reply: Reply) -> None:
        key = dict(reply.received.headers).get("authorization", "").removeprefix("Bearer ")
        await (fails(status) if key in refused else plain())(reply)

    return answer


def call(gateway: Gateway, lab: str, **more: Any) -> Any:
    return gateway.caller(gateway.environment["CI_KEY"]).post("/v1/chat/completions", chat(lab, **more))


def keys_of(provider: ScriptedProvider) -> Counter[str]:
    return Counter(dict(it.headers)["authorization"].removeprefix("Bearer ") for it in provider.received)


def set_aside(gateway: Gateway, lab: str) -> list[tuple[str, str]]:
    found = gateway.admin("GET", "/admin/v1/status").json()["credentials"]["set_aside"]
    return [(it["credential"], it["verdict"]) for it in found if it["provider"] == lab]


def test_a_rejected_credential_is_set_aside_and_the_next_one_serves_the_same_call(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    for _ in range(16):
        assert call(gateway, "refused").status == 200
    # Each of the two workers shares its own calls three to one, whichever it gets.
    assert 11 <= keys_of(provider)[A] <= 13
    provider.on("refused", refusing(401, A))
    answer = next(it for it in iter(lambda: call(gateway, "refused"), None) if _tries(it) > 1)
    assert answer.status == 200
    receipt = gateway.receipt(answer.request_id)
    tried = [(it["deployment"], it["status"], it["cost_nanousd"] > 0) for it in receipt["attempts"]]
    assert tried == [("refused/refused#first", 401, False), ("refused/refused#second", 200, True)]
    assert receipt["deployment"] == "refused/refused#second"

    eventually(lambda: set_aside(gateway, "refused") == [("first", "rejected")], 5, "the status tells")
    provider.received.clear()
    answers = [call(gateway, "refused", stream=True) for _ in range(10)]
    assert {(it.status, _tries(it)) for it in answers} == {(200, 1)}
    assert keys_of(provider) == {B: 10}
    metrics = gateway.admin("GET", "/metrics").body.decode()
    assert 'penstock_credential_set_aside{credential="first",provider="refused"} 1.0' in metrics
    doctor = gateway.run("doctor", "-c", str(gateway.file))
    assert "refused refuses first (rejected)" in doctor.stdout
    assert doctor.returncode == 1
    assert "a provider refuses a credential, which is set aside" in gateway.output()
    assert "canary" not in metrics + doctor.stdout + gateway.output()
    eventually(lambda: gateway.held() == 0, 3, "nothing is held")


def test_the_caller_is_told_when_every_credential_is_rejected_and_a_good_one_is_found_again(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    provider.on("all-refused", refusing(401, A, B))
    answer = call(gateway, "all-refused")
    assert answer.status == 502
    assert answer.error["code"] == "upstream_credential"
    assert [it["deployment"] for it in gateway.receipt(answer.request_id)["attempts"]] == [
        "all-refused/all-refused#first",
        "all-refused/all-refused#second",
    ]
    eventually(lambda: len(set_aside(gateway, "all-refused")) == 2, 5, "both are set aside")
    provider.on("all-refused", plain())
    assert call(gateway, "all-refused").status == 200
    eventually(lambda: len(set_aside(gateway, "all-refused")) < 2, 5, "one is taken again")


def test_a_credential_at_its_rate_leaves_the_call_to_the_next(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.on("at-its-rate", refusing(429, A))
    answers = [call(gateway, "at-its-rate") for _ in range(8)]
    assert {it.status for it in answers} == {200}
    assert max(_tries(it) for it in answers) == 2
    assert keys_of(provider)[A] <= 2  # once in each worker
    assert set_aside(gateway, "at-its-rate") == []
    provider.on("at-its-rate", refusing(429, A, B))
    assert call(gateway, "at-its-rate").status == 429


def _tries(answer: Any) -> int:
    return int(answer.headers["x-penstock-attempts"])
