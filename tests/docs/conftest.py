"""The gateway that the documents' examples speak to: the README's own configuration, with a simulated provider."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.testing.gateway import Gateway

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def readme_configuration() -> dict[str, Any]:
    """The configuration file that the README shows."""
    shown = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    configuration: dict[str, Any] = yaml.safe_load(shown[1])
    return configuration


@pytest.fixture(scope="session")
def gateway(readme_configuration: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Its providers answer without a network, at the price and with the cap that the catalogue has for gpt-4.1."""
    facts = {"price": {"input": 2, "output": 8, "cache_read": 0.5}, "max_output": 32_768}
    configuration = {
        **readme_configuration,
        "providers": [{"name": name, "kind": "simulated"} for name in ("openai", "lab")],
        "models": [{**model, **facts} for model in readme_configuration["models"]],
    }
    # An empty variable is none: the gateway makes its administrator's key itself, as the README says.
    with Gateway(tmp_path_factory.mktemp("gateway"), configuration, {"PENSTOCK_ADMIN_KEY": ""}) as running:
        running.admin_key = (running.data / "admin_key").read_text().strip()
        running.environment["PENSTOCK_ADMIN_KEY"] = running.admin_key
        yield running
