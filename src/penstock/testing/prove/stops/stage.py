"""Two boxes on one PostgreSQL, a store proxy before each, one provider behind both, and callers who never stop."""

import http.client
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct

from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.postgres import Postgres
from penstock.testing.scripted import ScriptedProvider, endless, plain
from penstock.testing.store_proxy import StoreProxy
from penstock.testing.wire import Reply, eventually

PATH = "/v1/chat/completions"
TAGS = "customer=acme,feature=search"
PATIENCE_S = 60.0
PAUSE_S = 0.003
"""Between two calls of one caller: how exactly the last admission is seen, and the load that the probes are."""
SURE_AFTER = 6
"""So many refusals one after another: the probe is stopped, on every worker."""
STREAM_PIECE_MS = 1_000
SCOPES: tuple[dict[str, Any], ...] = (
    {"key": "probe"},
    {"user": "ada"},
    {"project": "apps"},
    {"team": "stopped"},
    {"organisation": "default"},
    {"customer": "acme"},
    {"tag": "feature=search"},
    {"provider": "lab"},
    {"model": "plain"},
    {"all": True},
)
"""Each covers the probes; all but the organisation and the last spare the spared ones."""


class Provider(ScriptedProvider):
    """Notes when each caller's newest call reached it, in Unix seconds. The caller is the body's `user`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen_s: dict[str, float] = {}
        self.on("endless", endless(STREAM_PIECE_MS))

    async def answer(self, reply: Reply) -> None:
        self.seen_s[str(reply.received.json().get("user", ""))] = time.time()
        if self._scripts.get(reply.received.model):
            await super().answer(reply)
            return
        self.received.remove(reply.received)
        await plain()(reply)


class Stage:
    """Everything running, for as long as the block lasts. `boxes[0]` is where kills are raised."""

    def __init__(self, folder: Path, server: Postgres, workers: int, freshness_s: int) -> None:
        self.freshness_s = freshness_s
        self.provider = Provider()
        self.boxes: list[Gateway] = []
        self.proxies: list[StoreProxy] = []
        self.secrets = {name: new_secret() for name in ("probe", "spared")}
        self._folder, self._server, self._workers = folder, server, workers
        self._database = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._database = database = stack.enter_context(self._server.database())
            stack.enter_context(self.provider)
            root = secrets.token_hex(32)
            environment = {"PENSTOCK_SECRET": root, "CREDENTIAL": "sk-lab", "PROBE": self.secrets["probe"]}
            environment["SPARED"] = self.secrets["spared"]
            for number in range(2):
                proxy = stack.enter_context(StoreProxy(self._server.port))
                store = self._server.url(database).replace(f":{self._server.port}/", f":{proxy.port}/")
                config = self._config(f"{store}?sslmode=disable")
                box = Gateway(self._folder / f"box-{number}", config, environment, self._workers)
                stack.callback(box.stop)
                box.start(wait=False)
                self.boxes.append(box)
                self.proxies.append(proxy)
            for box in self.boxes:
                box.wait_until_started()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _config(self, store: str) -> dict[str, Any]:
        credentials = [{"name": "main", "value": "env:CREDENTIAL"}]
        vendor = {"kind": "compatible", "base_url": self.provider.base_url, "credentials": credentials}
        return {
            "store": store,
            "stop": {"freshness": f"{self.freshness_s}s"},
            "providers": [{"name": name, **vendor} for name in ("lab", "other")],
            "models": [
                {"name": name, "targets": [{"provider": provider, "model": name}], "price": usd_price(0, 10)}
                for name, provider in (("plain", "lab"), ("spare", "other"), ("endless", "lab"))
            ],
            "teams": [{"name": "stopped"}, {"name": "spared"}],
            "projects": [{"name": "apps", "team": "stopped", "environment": "production"}],
            "keys": [
                {"name": "probe", "team": "stopped", "project": "apps", "user": "ada", "secret": "env:PROBE"},
                {"name": "spared", "team": "spared", "secret": "env:SPARED"},
            ],
            "limits": [{"name": "budget", "match": {}, "unit": "usd", "amount": 1_000_000, "per": "total"}],
        }

    # -- what an administrator does -----------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None, box: int = 0) -> Any:
        """The answer's value. Raises RuntimeError for a refusal."""
        answer = self.boxes[box].admin(method, f"/admin/v1{path}", body, timeout_s=PATIENCE_S)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} was answered {answer.status}: {answer.body[:300]!r}")
        return answer.json() if answer.body else None

    def kill(self, scope: dict[str, Any]) -> int:
        """The generation."""
        return int(self.ask("POST", "/kill", {"scope": scope, "reason": "a proof"})["generation"])

    def killed_s(self, generation: int) -> float:
        """When the stop was committed, in Unix seconds."""
        return self._committed_s("kills", f"generation = {generation}")

    def changed_s(self, table: str, name: str) -> float:
        """When the newest change of that row was committed, in Unix seconds."""
        return self._committed_s(table, f"name = '{name}'")

    def _committed_s(self, table: str, where: str) -> float:
        """As PostgreSQL tells it. It is asked when everything has been seen: the question takes time of the machine."""
        statement = f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM {table} WHERE {where}"  # noqa: S608
        return float(self._server.run(statement, self._database))

    def lift(self, generation: int) -> None:
        self.ask("DELETE", f"/kill/{generation}", {"reason": "it is measured"})

    def lift_all(self) -> None:
        """Whatever a scenario has left in force that was broken off."""
        for kill in self.ask("GET", "/kills?limit=500")["items"]:
            if kill["lifted_at"] is None:
                self.lift(kill["generation"])


class Who(Struct, frozen=True):
    """A caller: what the provider knows it by, its key, the model it calls, its tags."""

    name: str
    secret: str
    model: str = "plain"
    tags: str = TAGS


class Probe:
    """Callers of one box who never stop calling, each call on a connection of its own, so that all workers get some."""

    def __init__(self, stage: Stage, box: int, who: Who) -> None:
        self.name = f"{who.name}-{box}"
        self.box = box
        self.refusals = 0
        self.admissions = 0
        self.told: tuple[int, str] = (0, "")
        self._stage = stage
        self._who = who
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self) -> None:
        caller = self._stage.boxes[self.box].caller(self._who.secret)
        body = {"model": self._who.model, "user": self.name, "max_tokens": 5}
        body["messages"] = [{"role": "user", "content": "Say hello."}]
        content = msgspec.json.encode(body)
        headers = {"connection": "close", **({"x-penstock-tags": self._who.tags} if self._who.tags else {})}
        while not self._stopping.wait(PAUSE_S):
            try:
                answer = caller.post(PATH, content, headers, PATIENCE_S)
            except (OSError, http.client.HTTPException):
                continue  # the box is away, which admits nothing
            self.told = (answer.status, answer.headers.get("x-penstock-error", ""))
            if answer.status == 200:
                self.refusals, self.admissions = 0, self.admissions + 1
            else:
                self.refusals += 1

    def until_admitted(self) -> None:
        before = self.admissions
        self._wait(lambda: self.admissions > before + 1, "is not admitted")

    def until_refused(self, code: str) -> None:
        """Until every caller is refused so, again and again."""
        self._wait(lambda: self.refusals >= SURE_AFTER and self.told[1] == code, f"is not refused as {code}")

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        try:
            eventually(holds, PATIENCE_S)
        except TimeoutError:
            status, code = self.told
            raise TimeoutError(f"{self.name} {what} within {PATIENCE_S:g} s; it is told {status} {code}") from None

    def last_admission_ms(self, since_s: float) -> float:
        """How long after a moment its last call reached the provider."""
        return max(0.0, self._stage.provider.seen_s.get(self.name, 0.0) - since_s) * 1_000
