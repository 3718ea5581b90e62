"""What a vendor's entry says decides how it is called: the cap's name, and whether usage is asked for."""

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.lab import chat
from penstock.testing.scripted import ScriptedProvider

KINDS = ("groq", "mistral", "deepseek", "perplexity", "vllm")
KEY = new_secret()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedProvider, Gateway]]:
    with ScriptedProvider() as provider:
        config: dict[str, Any] = {
            "providers": [
                {
                    "name": kind,
                    "kind": kind,
                    "base_url": provider.base_url,
                    "credentials": [{"name": "main", "value": "env:LAB_KEY"}],
                }
                for kind in KINDS
            ],
            "models": [
                {
                    "name": kind,
                    "targets": [{"provider": kind, "model": f"{kind}-upstream"}],
                    "price": usd_price(1, 10),
                    "max_output": 1000,
                }
                for kind in KINDS
            ],
            "teams": [{"name": "growth"}],
            "keys": [{"name": "ci", "team": "growth", "secret": "env:CI_KEY"}],
            "limits": [{"match": {"team": "growth"}, "unit": "usd", "amount": 100, "per": "day"}],
        }
        folder = tmp_path_factory.mktemp("vendors")
        with Gateway(folder, config, {"LAB_KEY": "sk-lab", "CI_KEY": KEY}) as gateway:
            yield provider, gateway


@pytest.mark.parametrize(
    ("kind", "cap", "asked"),
    [
        ("groq", "max_completion_tokens", True),
        ("mistral", "max_tokens", False),
        ("deepseek", "max_tokens", True),
        ("perplexity", "max_tokens", False),
        ("vllm", "max_tokens", True),
    ],
)
def test_a_stream_is_asked_for_as_the_vendor_wants_it(
    stage: tuple[ScriptedProvider, Gateway], kind: str, cap: str, asked: bool
) -> None:
    provider, gateway = stage
    body = chat(kind, stream=True)
    del body["max_tokens"]
    assert gateway.caller(KEY).post("/v1/chat/completions", body).status == 200
    (call,) = provider.calls(f"{kind}-upstream")
    assert call.path.endswith("/chat/completions")
    assert call.json()[cap] == 1000
    assert len({"max_tokens", "max_completion_tokens"} & set(call.json())) == 1
    assert ("stream_options" in call.json()) is asked
