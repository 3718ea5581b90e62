"""The lab: a real gateway in front of a scripted provider, with teams, keys, aliases and limits ready to use.

One lab serves many tests: each uses a key of its own, so that limits and receipts do not meet. `fresh` forgets the
scripts and the requests of the test before.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from penstock.testing.caller import Answer, Caller
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.ports import free_ports
from penstock.testing.scripted import ScriptedProvider

INPUT_NANOUSD = 1_000
OUTPUT_NANOUSD = 10_000
"""What one token costs in the lab: 1 and 10 USD per million."""
PRICE = usd_price(1, 10)
CREDENTIAL_CANARY = "sk-lab-canary-7f3a9d1c55e0"
TIMEOUTS = {"connect": "500ms", "first_byte": "400ms", "between_chunks": "400ms", "total": "1200ms"}
"""Those of the provider `hasty`."""


def message(content: str = "Say hello.") -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def chat(model: str = "lab-model", **more: Any) -> dict[str, Any]:
    """The body of a small chat completion."""
    return {"model": model, "messages": message(), "max_tokens": 20, **more}


def lab_config(provider: ScriptedProvider) -> dict[str, Any]:
    """The configuration of the lab, without keys and limits. Aliases: `lab-model`; `pair` and `trio`, which try
    several targets; `hasty`, `hasty-pair` with short timeouts; `nowhere`, where nobody
    listens; `searching`, where a search of the web has a price; `unpriced`; `embed`."""
    (closed_port,) = free_ports(1)
    credentials = [{"name": "main", "value": "env:LAB_KEY"}]
    compatible = {"kind": "compatible", "credentials": credentials}

    def alias(name: str, *targets: tuple[str, str], **more: Any) -> dict[str, Any]:
        chosen = [{"provider": provider_name, "model": model} for provider_name, model in targets]
        return {"name": name, "targets": chosen, "price": PRICE, "max_output": 1000, **more}

    unpriced = alias("unpriced", ("lab", "unpriced-upstream"))
    del unpriced["price"]
    return {
        "store": "sqlite",
        "providers": [
            {"name": "lab", "base_url": provider.base_url, **compatible},
            {"name": "hasty", "base_url": provider.base_url, "timeouts": TIMEOUTS, **compatible},
            {"name": "gone", "base_url": f"http://127.0.0.1:{closed_port}/v1", **compatible},
        ],
        "models": [
            alias("lab-model", ("lab", "lab-upstream")),
            alias("other-model", ("lab", "other-upstream")),
            alias("embed", ("lab", "embed-upstream"), price=usd_price(0.1, 0)),
            alias("pair", ("lab", "pair-first"), ("lab", "pair-second")),
            alias("trio", ("gone", "trio-first"), ("lab", "trio-second"), ("lab", "trio-third")),
            alias("searching", ("lab", "searching-upstream"), price={**PRICE, "web_search": 1}),
            alias("hasty", ("hasty", "hasty-upstream")),
            alias("hasty-pair", ("hasty", "hasty-upstream"), ("lab", "lab-upstream")),
            alias("nowhere", ("gone", "nowhere-upstream")),
            unpriced,
        ],
        "teams": [{"name": "growth"}, {"name": "other"}],
        "projects": [{"name": "search", "team": "growth", "environment": "production"}],
    }


class Lab:
    """`keys`: name -> `{team, project?, models?, tags?}`; each gets a secret of its own, found in `secrets`."""

    def __init__(
        self,
        directory: Path,
        keys: Mapping[str, Mapping[str, Any]],
        limits: list[dict[str, Any]] | None = None,
        config: Mapping[str, Any] | None = None,
        workers: int = 1,
    ) -> None:
        self.provider = ScriptedProvider()
        self.secrets = {name: new_secret() for name in keys}
        self._directory = directory
        self._keys = keys
        self._limits = limits or []
        self._config = config or {}
        self._workers = workers
        self._stack = ExitStack()
        self.gateway: Gateway

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.provider)
            variables = {name: f"KEY_{number}" for number, name in enumerate(self.secrets)}
            config = lab_config(self.provider)
            secret = {
                n: {} if k.get("tokens_only") else {"secret": f"env:{variables[n]}"} for n, k in self._keys.items()
            }
            config["keys"] = [{"name": n, **secret[n], **k} for n, k in self._keys.items()]
            config["limits"] = self._limits
            environment = {variables[name]: secret for name, secret in self.secrets.items()}
            environment["LAB_KEY"] = CREDENTIAL_CANARY
            self.gateway = Gateway(self._directory, {**config, **self._config}, environment, self._workers)
            stack.enter_context(self.gateway)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fresh(self) -> None:
        """Forgets scripts and requests."""
        self.provider.forget()

    def caller(self, key: str) -> Caller:
        """A raw caller with the key that is named `key`."""
        return self.gateway.caller(self.secrets[key])

    def chat(self, key: str, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        """A small chat completion with the key that is named `key`."""
        return self.caller(key).post("/v1/chat/completions", chat(**more), headers)
