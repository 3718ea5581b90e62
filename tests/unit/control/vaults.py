"""A control plane with a vault, for tests."""

from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.control import audit, providers
from penstock.control.door import Door
from penstock.control.paging import Page
from penstock.control.publisher import Publisher, Sources
from penstock.control.vault import Values, Vault
from penstock.domain.snapshot import Deployment
from penstock.errors import VaultUnavailable
from penstock.store.migrate import upgrade
from penstock.vault.wrappers import RootWrapper

URL_OF_LAB = "http://127.0.0.1:9001/v1"
KEY = b"k" * 32
NEW = {"name": "lab-key", "value": "sk-canary-1", "kind": "compatible", "base_url": URL_OF_LAB}
LAB = {"name": "lab", "kind": "compatible", "base_url": URL_OF_LAB}
USING = {**LAB, "credentials": [{"name": "main", "value": "vault:lab-key"}]}


class Down(RootWrapper):
    """A wrapper whose key is kept by somebody who can be away."""

    is_down = False
    uses = 0

    def wrap(self, key: bytes, scope: str) -> bytes:
        self._use()
        return super().wrap(key, scope)

    def unwrap(self, wrapped: bytes, scope: str) -> bytes:
        self._use()
        return super().unwrap(wrapped, scope)

    def _use(self) -> None:
        self.uses += 1
        if self.is_down:
            raise VaultUnavailable("the keeper is away")


class Box:
    def __init__(self, engine: AsyncEngine, node: str = "box") -> None:
        self.engine = engine
        self.wrapper = Down(KEY, "fingerprint")
        values = Values()
        self.door = Door(self.engine, Publisher(Sources(lambda *_: Deployment("", ""), lambda *_: (), values)))
        self.vault = Vault(self.door, values, {"root": self.wrapper}, "root", node)

    async def start(self) -> "Box":
        await upgrade(self.engine)
        await self.door.load()
        await self.vault.open_new()
        return self

    async def change(self, verb: Any, *arguments: Any) -> Any:
        return await self.door.change("ana", verb, *arguments)

    async def use(self) -> None:
        await self.vault.create("ana", NEW)
        await self.change(providers.create, USING)

    def sent(self, provider: str = "lab") -> list[str]:
        return [it.value.reveal() for it in self.door.publisher.snapshot.providers[provider].credentials]

    async def records(self) -> list[tuple[str, str, str]]:
        async with self.door.read() as conn:
            items = (await audit.list_page(conn, Page(500), "credential")).items
        return [(item["action"], item["name"], item["actor"]) for item in reversed(items)]

    async def count(self, table: Any) -> int:
        async with self.door.read() as conn:
            return int((await conn.execute(select(func.count()).select_from(table))).scalar_one())

    async def everything_stored(self) -> str:
        tables = ("credentials", "credential_versions", "data_keys", "providers", "audit")
        async with self.door.read() as conn:
            return str([[*(await conn.execute(text(f"SELECT * FROM {name}")))] for name in tables])
