"""Signing in: by password or through an identity provider, with what keeps strangers from trying for ever.

Failed attempts make the next one wait, longer each time, for the pair of user and address first, then for the address
and for the user. They are remembered in memory, so many and for an hour; what they were goes to the audit log at most
once a minute, counted, so that nobody can fill the disk with them.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from penstock.control import audit, passwords, sessions, users
from penstock.control.actor import Actor
from penstock.control.door import Door
from penstock.control.nouns import find
from penstock.control.passwords import Hasher
from penstock.control.tokens import actor_of
from penstock.control.write import Write
from penstock.errors import NotSignedIn, TooManyAttempts

MAX_REMEMBERED = 10_000
FORGOTTEN_AFTER_S = 3_600.0
TOLD_EVERY_S = 60.0
MAX_TOLD = 20
REFUSED = "user or password is wrong"


class Rule(NamedTuple):
    """After `free` failures each one doubles the wait, from a second to `longest_s`."""

    free: int
    longest_s: float


PAIR, ADDRESS, USER = Rule(5, 900.0), Rule(50, 900.0), Rule(100, 60.0)


class Identity(NamedTuple):
    """Who an identity provider says it is. `may_create`: whether a user who is not known is made."""

    user: str
    groups: list[str]
    may_create: bool


class From(NamedTuple):
    """Where a request comes from."""

    address: str
    request_id: str


class Attempts:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def wait_s(self, user: str, address: str) -> float:
        """How long this user at this address has to wait; 0 when now is fine."""
        now = self._clock()
        waits = [0.0]
        for key, rule in _keys(user, address):
            count, last = self._failures.get(key, (0, 0.0))
            if count >= rule.free and now - last < FORGOTTEN_AFTER_S:
                waits.append(last + min(2.0 ** min(count - rule.free, 20), rule.longest_s) - now)
        return max(waits)

    def failed(self, user: str, address: str) -> None:
        now = self._clock()
        for key, _ in _keys(user, address):
            count, last = self._failures.pop(key, (0, now))
            self._failures[key] = ((count if now - last < FORGOTTEN_AFTER_S else 0) + 1, now)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, user: str, address: str) -> None:
        for key, rule in _keys(user, address):
            if rule is PAIR:
                self._failures.pop(key, None)


def _keys(user: str, address: str) -> Iterator[tuple[tuple[str, str], Rule]]:
    user = user.casefold()[:256]
    yield (user, address), PAIR
    yield ("", address), ADDRESS
    yield (user, ""), USER


class SignIn:
    def __init__(self, door: Door, pepper: bytes, attempts: Attempts | None = None) -> None:
        self._door = door
        self._pepper = pepper
        self._hasher = Hasher()
        self._attempts = attempts or Attempts()
        self._untold: Counter[tuple[str, str]] = Counter()
        self._told_at = 0.0

    async def by_password(self, user: str, password: str, origin: From) -> str:
        """The secret of a new session. Raises TooManyAttempts, and NotSignedIn without a word on what was wrong."""
        if (wait_s := self._attempts.wait_s(user, origin.address)) > 0:
            raise TooManyAttempts(wait_s)
        # Counted before it is known, so that many at once are no way around the wait.
        self._attempts.failed(user, origin.address)
        async with self._door.read() as conn:
            kept, actor = await passwords.kept(conn, user), await actor_of(conn, user)
        agrees = await self._hasher.check(kept, password)
        if not agrees or actor is None or actor.kind != "user":
            await self._note_failure(user, origin)
            raise NotSignedIn(REFUSED)
        self._attempts.succeeded(user, origin.address)
        return await self._begin(actor, "password", [], origin)

    async def by_identity(self, identity: Identity, origin: From) -> str:
        """The secret of a new session for whom an identity provider vouches. Raises NotSignedIn."""
        told = Actor(identity.user, "user", address=origin.address, request_id=origin.request_id)
        async with self._door.read() as conn:
            known = await find(conn, users.USER, identity.user)
        if known is None and identity.may_create:
            await self._door.change(replace(Actor.system("sign-in"), address=origin.address), _make, identity.user)
        async with self._door.read() as conn:
            actor = await actor_of(conn, identity.user)
        if actor is None or actor.kind != "user":
            await self._note_failure(identity.user, origin)
            raise NotSignedIn(f"{told.name!r} is no user of this gateway, or was deactivated")
        return await self._begin(actor, "oidc", identity.groups, origin)

    async def set_password(self, asker: Actor, user: str, password: object, session: str = "") -> None:
        hashed = await self._hasher.hash(passwords.checked(user, password))
        await self._door.change(asker, passwords.put, user, hashed, session)

    async def change_password(self, asker: Actor, current: str, password: object, session: str) -> None:
        """The asker's own. Raises NotSignedIn where the current one is wrong."""
        origin = From(asker.address, asker.request_id)
        if (wait_s := self._attempts.wait_s(asker.name, origin.address)) > 0:
            raise TooManyAttempts(wait_s)
        self._attempts.failed(asker.name, origin.address)
        async with self._door.read() as conn:
            kept = await passwords.kept(conn, asker.name)
        if not await self._hasher.check(kept, current):
            await self._note_failure(asker.name, origin)
            raise NotSignedIn("the current password is wrong")
        self._attempts.succeeded(asker.name, origin.address)
        await self.set_password(asker, asker.name, password, session)

    async def tell(self) -> None:
        """Brings failed attempts that were not told yet into the audit log."""
        if not self._untold:
            return
        untold, self._untold, self._told_at = self._untold, Counter(), time.monotonic()
        most = untold.most_common(MAX_TOLD)
        after = {
            "attempts": untold.total(),
            "who": [{"user": user, "address": address, "attempts": count} for (user, address), count in most],
        }

        async def record(write: Write) -> None:
            await audit.record(write, "sign_in_failed", ("session", ""), None, after)

        await self._door.change("sign-in", record)

    async def _begin(self, actor: Actor, how: str, groups: list[str], origin: From) -> str:
        asker = replace(actor, address=origin.address, request_id=origin.request_id)
        return await self._door.change(asker, sessions.begin, self._pepper, actor.name, how, groups)

    async def _note_failure(self, user: str, origin: From) -> None:
        if len(self._untold) < MAX_REMEMBERED:
            self._untold[(user[:128], origin.address)] += 1
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            await self.tell()


async def _make(write: Write, name: str) -> None:
    await users.add(write, users.User(name=name))
