"""The stage: throwaway boxes on one store, and for every scenario a bank, a fault proxy, a team, a key and limits."""

import itertools
import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

from msgspec import Struct, field

from penstock.testing import oracles
from penstock.testing.bank import Bank
from penstock.testing.clocks import WrongClock
from penstock.testing.faults import FaultProxy
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.oracles import Books, Told, Verdict, Watch

OUTPUT_NANOUSD = 10_000
"""What a token of output costs on the stage: 10 USD per million. Input is free."""
CREDENTIAL_CANARY = "sk-canary-9d1f4c7be2a05836"
CONTENT_CANARY = "the-content-canary-71c3e8"
"""The providers' credential and the words of every caller: they must not turn up in any output."""

Tick = Callable[[str], None]
"""Called when a step of a scenario is done, with what it was."""


class Scene(Struct, frozen=True):
    """What a scenario needs. Its name is also that of its provider, model, team and key, and its dollar limit is
    `budget-<name>`, of which `mode`. `proxied`: through a fault proxy. `timeouts`: of its provider, as in the
    configuration file."""

    name: str
    bank: Bank
    budget_usd: float = 1000
    each: str | None = None
    mode: str = "strict"
    proxied: bool = False
    timeouts: dict[str, str] | None = None


class Outcome(Struct, frozen=True):
    """What a scenario showed. `promise` is its own verdict. `figures`: name -> text, for people."""

    scenario: str
    calls: int
    verdicts: list[Verdict]
    promise: Verdict
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return all(verdict.holds for verdict in (*self.verdicts, self.promise))


class Size(Struct, frozen=True):
    """Of what a stage starts. `store`: as in the configuration file; more than one box takes a PostgreSQL. `workers`:
    of each box. `freshness_s`: `stop.freshness`. `wrong_clocks`: each box has its own, see `Stage.clocks`."""

    store: str = "sqlite"
    boxes: int = 1
    workers: int = 2
    freshness_s: int = 45
    wrong_clocks: bool = False


class Stage:
    """Everything running, for as long as the block lasts. The boxes share their store, so that any of them can be asked
    for what all have done; each is a `Gateway` in a folder of its own. `clocks`: one for each box, where `Size` says
    so."""

    def __init__(self, folder: Path, scenes: Sequence[Scene], size: Size) -> None:
        self.scenes = {scene.name: scene for scene in scenes}
        self.keys = {scene.name: new_secret() for scene in scenes}
        self.proxies: dict[str, FaultProxy] = {}
        self.boxes: list[Gateway] = []
        self.clocks: list[WrongClock] = []
        self._folder = folder
        self._size = size
        self._stack = ExitStack()
        self._turns = itertools.count()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for scene in self.scenes.values():
                stack.enter_context(scene.bank)
                if scene.proxied:
                    self.proxies[scene.name] = stack.enter_context(FaultProxy(scene.bank.port))
            variables = {name: f"KEY_{number}" for number, name in enumerate(self.keys)}
            environment = {variables[name]: secret for name, secret in self.keys.items()}
            environment |= {"CREDENTIAL": CREDENTIAL_CANARY, "PENSTOCK_SECRET": secrets.token_hex(32)}
            config = self._config(variables)
            for number in range(self._size.boxes):
                own = {**environment, **self._clock(number)}
                box = Gateway(self._folder / f"box-{number}", config, own, self._size.workers)
                self.boxes.append(box)
                stack.callback(box.stop)
                box.start(wait=False)
            for box in self.boxes:
                box.wait_until_started()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _clock(self, number: int) -> dict[str, str]:
        """The variables that give the next box a clock of its own."""
        if not self._size.wrong_clocks:
            return {}
        self.clocks.append(WrongClock(self._folder / f"clock-{number}"))
        return self.clocks[-1].environment

    def _config(self, variables: dict[str, str]) -> dict[str, Any]:
        names = list(self.scenes)
        return {
            "store": self._size.store,
            "stop": {"freshness": f"{self._size.freshness_s}s"},
            "providers": [self._provider(scene) for scene in self.scenes.values()],
            "models": [
                {"name": name, "targets": [{"provider": name, "model": name}], "price": usd_price(0, 10)}
                for name in names
            ],
            "teams": [{"name": name} for name in names],
            "keys": [{"name": name, "team": name, "secret": f"env:{variables[name]}"} for name in names],
            "limits": [limit for scene in self.scenes.values() for limit in _limits(scene)],
        }

    def _provider(self, scene: Scene) -> dict[str, Any]:
        return {
            "name": scene.name,
            "kind": "compatible",
            "base_url": f"{self.proxies.get(scene.name, scene.bank).origin}/v1",
            "credentials": [{"name": "main", "value": "env:CREDENTIAL"}],
            **({"timeouts": scene.timeouts} if scene.timeouts else {}),
        }

    @property
    def secrets(self) -> list[str]:
        """What must not be in any output."""
        of_the_boxes = [secret for box in self.boxes for secret in (box.admin_key, box.environment["PENSTOCK_SECRET"])]
        return [*self.keys.values(), *of_the_boxes, CREDENTIAL_CANARY, CONTENT_CANARY]

    def next_box(self) -> Gateway:
        """The boxes in turn, as a load balancer would choose."""
        return self.boxes[next(self._turns) % len(self.boxes)]

    def drain(self) -> None:
        """Has every box bring what its journals hold into the store, by asking it for its ledger."""
        for box in self.boxes:
            box.limits()

    def books(self, name: str, told: Sequence[Told], began: datetime) -> Books:
        """The books of a scenario's calls since `began`, as they stand when every box has settled what it has."""
        self.drain()
        return Books(
            told=told,
            statement=list(self.scenes[name].bank.statement),
            events=oracles.events_since(self.boxes[0], name, began),
            limits=self.boxes[0].limits(),
            budget=f"budget-{name}",
            output_nanousd=OUTPUT_NANOUSD,
        )

    def judge(self, books: Books) -> list[Verdict]:
        """What O3, O4 and O6 say of these books. O1 is for the scenario to choose."""
        return [
            oracles.nothing_twice(books),
            oracles.complete_is_settled(books),
            oracles.silent(self.secrets, oracles.seen_in(books)),
        ]

    def judge_the_end(self, watch: Watch) -> list[Verdict]:
        """What O2, O3, O5 and O6 say of all boxes, when all callers have gone."""
        return [
            watch.verdict(),
            oracles.nothing_held(self.boxes),
            oracles.ledger_is_sound(self.boxes[0]),
            oracles.healthy(self.boxes, self.secrets),
        ]


def draws(seed: int) -> random.Random:
    """Chance that the same seed repeats."""
    return random.Random(seed)  # noqa: S311 - it decides who calls when, and keeps no secret


def _limits(scene: Scene) -> list[dict[str, Any]]:
    """The budget, and limits of the other units with room for everything, so that every call meets several."""
    of_the_key = {"match": {"key": scene.name}}
    each = {"each": scene.each} if scene.each else {}
    budget = {"match": {"team": scene.name}, "unit": "usd", "amount": scene.budget_usd, "per": "total", **each}
    minute = {"unit": "requests", "amount": 10**6, "per": "minute", **of_the_key}
    return [
        {"name": f"budget-{scene.name}", "mode": scene.mode, **budget},
        {"name": f"at-once-{scene.name}", "unit": "concurrent", "amount": 5_000, **of_the_key},
        {"name": f"tokens-{scene.name}", "unit": "tokens", "amount": 10**12, "per": "day", **of_the_key},
        {"name": f"requests-{scene.name}", "unit": "requests", "amount": 10**9, "per": "month", **of_the_key},
        {"name": f"minute-{scene.name}", **minute},
        {"name": f"sliding-{scene.name}", "window": "sliding", **minute},
    ]


class Times:
    """Measured times, in milliseconds, from several threads. What a promise is held against is the worst."""

    def __init__(self) -> None:
        self._all: list[float] = []

    def add(self, ms: float) -> None:
        self._all.append(ms)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def worst_ms(self) -> float:
        return max(self._all, default=0.0)

    def __str__(self) -> str:
        """`1,204 ms (median of 71: 1,020)`"""
        if len(self) < 2:
            return f"{self.worst_ms:,.0f} ms"
        return f"{self.worst_ms:,.0f} ms (median of {len(self)}: {median(self._all):,.0f})"
