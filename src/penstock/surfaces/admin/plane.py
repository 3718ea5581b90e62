"""What the admin surface is handed: the door to the control plane and what only the running process knows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from penstock.control.actor import Actor
from penstock.control.adjustments import Correction
from penstock.control.configuration import Configuration
from penstock.control.door import Door
from penstock.control.exports import Exports
from penstock.control.replays import Answer, Request
from penstock.control.vault import Vault
from penstock.domain.snapshot import Secret
from penstock.surfaces.admin.entrance import Entrance


@dataclass(frozen=True)
class Plane:
    """`drain` brings the journals into the store, so that what is read next is complete.

    `ledger`: the rows of the ledger's balances; `adjust(actor, correction, again)`: the adjustment that was made, for a
    request that may come `again`; `verify`: the ledger's faults. `rewrap(actor)`: what was wrapped again.
    `kill_nodes(generation)`: each node and whether it
    obeys. `status`: the process and its workers. All answer plain values, ready to be encoded.
    """

    door: Door
    configuration: Configuration
    vault: Vault
    admin_key: Secret
    pepper: bytes
    entrance: Entrance
    exports: Exports
    drain: Callable[[], Awaitable[int]]
    ledger: Callable[[], Awaitable[list[dict[str, Any]]]]
    adjust: Callable[[Actor, Correction, Request | None], Awaitable[Answer]]
    verify: Callable[[], Awaitable[list[dict[str, str]]]]
    rewrap: Callable[[Actor], Awaitable[dict[str, Any]]]
    kill_nodes: Callable[[int], Awaitable[list[dict[str, Any]]]]
    status: Callable[[], dict[str, Any]]
