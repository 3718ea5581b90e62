"""The control plane that the tests here turn the knobs of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_plane import Clock, Plane

from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.money import PriceOverride
from penstock.domain.snapshot import Credential, Deployment, Provider
from penstock.store.engine import control_engine, database_url
from penstock.store.migrate import upgrade


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    engine = control_engine(database_url("sqlite", tmp_path))
    await upgrade(engine)
    clock = Clock()

    def resolve(provider: Provider, model: str, price: PriceOverride | None, max_output: int | None) -> Deployment:
        return whole.resolve(provider, model, price, max_output)

    def credentials(name: str, base_url: str) -> tuple[Credential, ...]:
        return whole.credentials(name, base_url)

    publisher = Publisher(Sources(resolve, credentials), clock)
    whole = Plane(Door(engine, publisher, clock), clock)
    publisher.subscribe(whole.changes.append)
    await whole.door.load()
    yield whole
    await engine.dispose()
