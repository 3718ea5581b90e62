"""What a worker holds while it serves, and what its calls have in common."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from penstock.admission.admit import kill_on, killed
from penstock.domain.events import Cause
from penstock.domain.exchange import Exchange
from penstock.domain.idempotency import KeyUse
from penstock.domain.kept import Keeper
from penstock.domain.snapshot import BREAK_GLASS, Deployment, Snapshot
from penstock.domain.tenancy import Principal
from penstock.domain.trust import Issuer
from penstock.errors import GatewayError, InvalidApiKey, Overloaded, StoreUnavailable
from penstock.identity.authenticate import Principals, authenticate
from penstock.identity.workloads import vouched
from penstock.ledger.ledger import Ledger
from penstock.upstream.call import Upstream


class Reply(Struct, frozen=True):
    """An answer on its way to the caller: `body` when it is plain, else `chunks`, which must be closed. `error_event`
    writes the last words of a stream that is cut where it stands."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    chunks: AsyncGenerator[bytes, None] | None = None
    error_event: Callable[[GatewayError], bytes] | None = None


class KeyUses(Protocol):
    """Who uses which Idempotency-Key, on every worker."""

    async def take(self, use: KeyUse) -> KeyUse:
        """The use that counts: this one, once it is durable, or the one before it. Raises `StoreUnavailable`. Where it
        raises, or is cut short, this one does not count for long."""

    async def release(self, use: KeyUse) -> None:
        """Lets the Idempotency-Key be used again, soon where it cannot be at once."""


class Assertions(Protocol):
    """Reads what trusted issuers state, see `penstock.identity.assertions`."""

    def issuer_of(self, token: str) -> str: ...

    def read(self, issuer: Issuer, token: str, now_s: float) -> Mapping[str, Any]: ...


class Asked(NamedTuple):
    """What a worker asks the control process for: what an undeclared model can do and cost, Idempotency-Keys, and where
    things of these ids are kept: `find_kept(owner, needed, mentioned)`, which raises `StoreUnavailable`. What is needed
    and not known is waited for, as another box may know it in a moment."""

    resolve: Callable[[str, str], Awaitable[Deployment]]
    key_uses: KeyUses
    find_kept: Callable[[str, Collection[str], Collection[str]], Awaitable[list[Keeper]]]


def uptime_ns() -> int:
    """Nanoseconds since the machine started, the time it was suspended included: nobody can set this clock back."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Gateway:
    """What a worker holds: the world as it stands, and the rooms. `snapshot` is replaced whole, never changed.
    `clock` gives Unix nanoseconds, `uptime` those since some moment, and never goes backwards."""

    def __init__(
        self,
        ledger: Ledger,
        upstream: Upstream,
        asked: Asked,
        clock: Callable[[], int],
        uptime: Callable[[], int] = uptime_ns,
    ) -> None:
        self.snapshot = Snapshot()
        self.pepper = b""
        self.ledger = ledger
        self.upstream = upstream
        self.resolve, self.key_uses, self.find_kept = asked
        self.clock = clock
        self.live: dict[str, Exchange] = {}
        self.assertions: Assertions | None = None
        self.draining = False
        self._principals = Principals()
        self._uptime = uptime
        self._fresh_until = 0

    def confirm_fresh(self) -> None:
        """The control process has said that this snapshot is the newest: it holds for `stop.freshness`."""
        self._fresh_until = self._uptime() + self.snapshot.server.freshness_ms * 1_000_000

    def require_ready(self) -> None:
        """Raises when this box may not admit: it drains, is full, or has not heard from its control process for longer
        than `stop.freshness`, so that a stop might not have reached it."""
        if self.draining:
            raise Overloaded("The gateway is restarting. Try again.", retry_after_s=1)
        if self._uptime() > self._fresh_until and BREAK_GLASS.generation not in self.snapshot.kills:
            raise StoreUnavailable("The gateway's control process cannot be reached. Try again.", retry_after_s=2)
        if len(self.live) >= self.snapshot.server.max_concurrent_calls:
            raise Overloaded("The gateway serves as many calls as it may. Try again.", retry_after_s=1)

    def require_glass(self) -> None:
        """Raises `Killed` while the break-glass file stops this box."""
        if (kill := self.snapshot.kills.get(BREAK_GLASS.generation)) is not None:
            raise killed(kill)

    def identify(self, snapshot: Snapshot, headers: Mapping[str, str], now_s: float) -> Principal:
        """As whom the caller calls. With the key of an API gateway in front, as that one says in its header. Raises
        `InvalidApiKey` and `NotPermitted`."""
        principal = authenticate(snapshot, headers, self.pepper, now_s, self._principals.of)
        front = snapshot.trust.front
        if front is None or not {principal.key, *principal.ancestors} & set(front.keys):
            return principal
        said = headers.get(front.header)
        if said is None or self.assertions is None:
            raise InvalidApiKey(f"Whoever calls with the API key '{principal.key}' says whose call it is, signed.")
        return vouched(principal, front, self.assertions.read(front.issuer, said.removeprefix("Bearer "), now_s))

    def cut_killed(self) -> int:
        """Cuts every live call that a kill in force covers; returns how many there were."""
        kills = self.snapshot.kills.values()
        return self.cut([x for x in self.live.values() if kill_on(kills, x.dims) is not None], "killed")

    def cut(self, exchanges: Iterable[Exchange], cause: Cause) -> int:
        """Cuts these live calls where they stand; each settles with `cause`. Returns how many there were."""
        cut = 0
        for exchange in list(exchanges):
            if exchange.cut is not None and exchange.cut_by is None:
                exchange.cut(cause)
                cut += 1
        return cut
