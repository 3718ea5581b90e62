"""What changes without a change: prices that depend on time, and secrets in files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from genai_prices.data import providers as vendors
from genai_prices.types import ModelPrice

from penstock.app.control.outside import Outside, Prices
from penstock.catalog.prices import Catalog
from penstock.config.loading import load
from penstock.control import declared
from penstock.control.credentials import DeclaredCredentials
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.snapshot import Change, Provider
from penstock.identity import virtual_keys
from penstock.store.engine import control_engine, database_url
from penstock.store.migrate import upgrade

PEPPER = b"p" * 32


def a_model_whose_price_depends_on_the_hour() -> tuple[Provider, str, datetime]:
    """With an instant at which its price flips."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    for vendor in vendors:
        provider = Provider(vendor.id, vendor.id, "")
        for model in vendor.models:
            flip = None if isinstance(model.prices, ModelPrice) else Catalog().next_change(provider, model.id, now)
            if flip is None:
                continue
            before = Catalog().deployment(provider, model.id, at=flip - timedelta(seconds=1)).price
            if before != Catalog().deployment(provider, model.id, at=flip).price:
                return provider, model.id, flip
    pytest.skip("the installed catalogue has no price that depends on time")


def test_a_price_is_looked_up_once_and_again_when_it_can_be_another() -> None:
    provider, model, flip = a_model_whose_price_depends_on_the_hour()
    now = [flip - timedelta(seconds=1)]
    prices = Prices(lambda: now[0])
    before = prices.resolve(provider, model, None, None)
    assert prices.resolve(provider, model, None, None) is before
    now[0] = flip
    assert prices.resolve(provider, model, None, None).price != before.price


def test_what_differs_in_the_question_is_never_answered_from_memory() -> None:
    prices = Prices()
    openai = Provider("a", "openai", "")
    known = prices.resolve(openai, "gpt-4o-mini", None, None)
    assert known.price is not None
    assert prices.resolve(openai, "gpt-4o-mini", None, 7).max_output == 7
    unknown = Provider("a", "compatible", "http://127.0.0.1:9/v1")
    assert prices.resolve(unknown, "gpt-4o-mini", None, None).price is None


async def test_secrets_in_files_are_read_again_and_published_when_they_differ(tmp_path: Path) -> None:
    credential, secret = tmp_path / "credential", tmp_path / "key"
    credential.write_text("sk-first")
    secret.write_text("pk-" + "a" * 40)
    config: dict[str, Any] = {
        "providers": [
            {
                "name": "lab",
                "kind": "compatible",
                "base_url": "http://127.0.0.1:9/v1",
                "credentials": [{"name": "main", "value": f"file:{credential}"}],
            }
        ],
        "teams": [{"name": "growth"}],
        "keys": [{"name": "ci", "team": "growth", "secret": f"file:{secret}"}],
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config))
    loaded = load(tmp_path / "p.yaml", require_secrets=True)
    engine = control_engine(database_url("sqlite", tmp_path))
    try:
        await upgrade(engine)
        credentials = DeclaredCredentials(loaded.providers)
        door = Door(engine, Publisher(Sources(Prices().resolve, credentials)))
        await door.load()
        await door.change("file", declared.apply, PEPPER, loaded, "box")
        published: list[Change] = []
        door.publisher.subscribe(published.append)
        outside = Outside(loaded, credentials, PEPPER, "box")

        assert await outside.refresh(door) == 0
        assert published == []

        credential.write_text("sk-second")
        secret.write_text("pk-" + "b" * 40)
        assert await outside.refresh(door) == 0
        assert door.publisher.snapshot.providers["lab"].credentials[0].value.reveal() == "sk-second"
        assert set(door.publisher.snapshot.keys) == {virtual_keys.digest(PEPPER, "pk-" + "b" * 40)}

        credential.unlink()
        secret.unlink()
        published.clear()
        assert await outside.refresh(door) == 2
        assert published == []
        assert door.publisher.snapshot.providers["lab"].credentials[0].value.reveal() == "sk-second"
    finally:
        await engine.dispose()
