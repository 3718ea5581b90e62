"""A control plane over a real database, without workers: what is published is collected."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.control import models, projects, providers, teams, users
from penstock.control.door import Door
from penstock.control.publisher import Publisher, Sources
from penstock.domain.money import NANO, PriceOverride, Rate, RateCard
from penstock.domain.snapshot import Change, Credential, Deployment, Provider, Secret
from penstock.identity.secret import pepper

LAB_URL = "http://127.0.0.1:9001/v1"
PEPPER = pepper("a root secret for tests")


class Clock:
    """Unix nanoseconds, which move on by a millisecond with each look."""

    def __init__(self) -> None:
        self.now_ns = 1_790_000_000_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


@dataclass
class Plane:
    door: Door
    clock: Clock
    changes: list[Change] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    credential: str = "vendor-key-one"
    pepper: bytes = PEPPER
    lab_url: str = LAB_URL

    async def change(self, verb: Any, *arguments: Any) -> Any:
        return await self.door.change("tester", verb, *arguments)

    async def seed(self) -> None:
        """A team with a project, a user, a provider and two models."""
        await self.change(teams.create, {"name": "growth", "required_tags": ["feature"]})
        await self.change(projects.create, {"name": "search", "team": "growth", "environment": "production"})
        await self.change(users.create, {"name": "ada"})
        await self.change(providers.create, {"name": "lab", "kind": "compatible", "base_url": LAB_URL})
        targets = [{"provider": "lab", "model": "big-2025"}]
        await self.change(models.create, {"name": "big", "targets": targets, "price": {"input": "2.00", "output": 8}})
        await self.change(models.create, {"name": "lab/*"})

    def resolve(
        self, provider: Provider, model: str, price: PriceOverride | None, max_output: int | None
    ) -> Deployment:
        self.resolved.append(model)
        card = None if price is None else RateCard({"input": Rate(int(price.input * NANO))}, "override")
        return Deployment(provider="", model="", price=card, max_output=max_output)

    def credentials(self, name: str, base_url: str) -> tuple[Credential, ...]:
        return (Credential("main", Secret(self.credential)),) if base_url == LAB_URL else ()


@pytest.fixture
async def plane(whole_store: AsyncEngine) -> Plane:
    clock = Clock()

    def resolve(provider: Provider, model: str, price: PriceOverride | None, max_output: int | None) -> Deployment:
        return whole.resolve(provider, model, price, max_output)

    def credentials(name: str, base_url: str) -> tuple[Credential, ...]:
        return whole.credentials(name, base_url)

    publisher = Publisher(Sources(resolve, credentials), clock)
    whole = Plane(Door(whole_store, publisher, clock), clock)
    publisher.subscribe(whole.changes.append)
    await whole.door.load()
    return whole
