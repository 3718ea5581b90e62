"""Fixtures of the journeys: one lab per test process, one for the tests of a file, and one for a test alone.

A start of a gateway costs seconds of CPU, so tests share one wherever keys and limits of their own keep them apart.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.testing.lab import Lab
from penstock.testing.postgres import CannotRun, Postgres

KEYS: dict[str, dict[str, Any]] = {
    "ci": {"team": "growth", "project": "search"},
    "second": {"team": "growth"},
    "outsider": {"team": "other"},
    "narrow": {"team": "other", "models": ["other-model"]},
    "tiny-usd": {"team": "other"},
    "tiny-tokens": {"team": "other"},
    "tiny-requests": {"team": "other"},
    "tiny-concurrent": {"team": "other"},
    "observed": {"team": "other"},
    "tagged": {"team": "other"},
    "hold-usd": {"team": "other"},
    "bounded": {"team": "growth"},
}
LIMITS: list[dict[str, Any]] = [
    {"name": "growth-total", "match": {"team": "growth"}, "unit": "usd", "amount": 1000, "per": "total"},
    {"name": "growth-at-once", "match": {"team": "growth"}, "unit": "concurrent", "amount": 500},
    {"name": "growth-daily-tokens", "match": {"team": "growth"}, "unit": "tokens", "amount": 10_000_000, "per": "day"},
    {"name": "tiny-usd", "match": {"key": "tiny-usd"}, "unit": "usd", "amount": 0.0004, "per": "month"},
    {"name": "tiny-tokens", "match": {"key": "tiny-tokens"}, "unit": "tokens", "amount": 160, "per": "day"},
    {"name": "tiny-requests", "match": {"key": "tiny-requests"}, "unit": "requests", "amount": 2, "per": "hour"},
    {"name": "tiny-concurrent", "match": {"key": "tiny-concurrent"}, "unit": "concurrent", "amount": 1},
    {
        "name": "observed",
        "match": {"key": "observed"},
        "unit": "requests",
        "amount": 1,
        "per": "day",
        "mode": "observe",
    },
    {
        "name": "per-customer",
        "match": {"key": "tagged"},
        "each": "customer",
        "unit": "requests",
        "amount": 1,
        "per": "day",
    },
    {"name": "hold-usd", "match": {"key": "hold-usd"}, "unit": "usd", "amount": 0.001, "per": "total"},
]


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), KEYS, LIMITS) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The shared lab, with the scripts and requests of the test before forgotten."""
    shared_lab.fresh()
    yield shared_lab
    assert not shared_lab.provider.faults, shared_lab.provider.faults


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Makes a lab for one test, with the keys and limits of the shared one unless told otherwise."""
    with ExitStack() as stack:

        def make(
            keys: dict[str, dict[str, Any]] | None = None,
            limits: list[dict[str, Any]] | None = None,
            workers: int = 1,
            **config: Any,
        ) -> Lab:
            chosen = LIMITS if keys is None and limits is None else limits
            return stack.enter_context(Lab(tmp_path / "gateway", keys or KEYS, chosen, config, workers))

        yield make


@pytest.fixture(scope="module")
def file_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """Makes a lab that the tests of one file share; each of them uses keys and limits that no other uses."""
    with ExitStack() as stack:

        def make(keys: dict[str, dict[str, Any]], limits: list[dict[str, Any]], workers: int = 1, **config: Any) -> Lab:
            return stack.enter_context(Lab(tmp_path_factory.mktemp("gateway"), keys, limits, config, workers))

        yield make


@pytest.fixture
def sdk() -> Iterator[Callable[..., openai.OpenAI]]:
    """Makes a stock OpenAI client that calls a lab with one of its keys, without retries unless told otherwise."""
    with ExitStack() as stack:

        def make(lab: Lab, key: str = "ci", **options: Any) -> openai.OpenAI:
            options = {"max_retries": 0, **options}
            client = openai.OpenAI(base_url=f"{lab.gateway.url}/v1", api_key=lab.secrets[key], **options)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture(scope="module")
def file_database(postgres: Postgres) -> Iterator[str]:
    """The URL of a database that the tests of one file share."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may stop and freeze."""
    try:
        server = Postgres().__enter__()
    except CannotRun as reason:
        pytest.skip(str(reason))
    yield server
    server.close()
