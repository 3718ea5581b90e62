"""Passwords of local users: kept as argon2id hashes (RFC 9106), with rules that a person can follow.

Hashing takes tens of milliseconds and 64 MiB, so it runs in a thread, two at a time.
"""

import asyncio
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.control import audit, nouns, sessions, users
from penstock.control.bindings import grants_of
from penstock.control.write import Write
from penstock.domain.access import EVERYTHING
from penstock.errors import InvalidNoun
from penstock.store.tables.access import passwords

MIN_CHARACTERS, MAX_CHARACTERS = 12, 256
MIN_DIFFERENT = 5
AT_ONCE = 2


class Hasher:
    """`check` takes as long for a user who has no password as for one who has."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, kept: str | None, password: str) -> bool:
        if kept is None and not self._nobodys:
            self._nobodys = await self.hash("nobody has this password")
        async with self._turns:
            agrees = await asyncio.to_thread(self._verify, self._nobodys if kept is None else kept, password)
        return agrees and kept is not None

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False


def checked(user: str, password: Any) -> str:
    """A password that obeys the rules. Raises InvalidNoun, which does not repeat it."""
    if not isinstance(password, str) or not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidNoun(f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters", "password")
    if len(set(password)) < MIN_DIFFERENT or user.casefold() in password.casefold():
        raise InvalidNoun(
            f"a password has {MIN_DIFFERENT} different characters or more, and not the user's name in it", "password"
        )
    return password


async def put(write: Write, user: str, hashed: str, session: str = "") -> None:
    """Gives a user a password and ends the user's sessions, but for `session`. Raises NotAllowed where the user has
    rights that the asker lacks, InvalidNoun for a service."""
    is_own = (write.by.kind, write.by.name) == ("user", user)
    row = await nouns.fetch(write.conn, users.USER, user, EVERYTHING if is_own else write.by.reach)
    if row["kind"] != "person":
        raise InvalidNoun("a service does not sign in: make a token for it", "user")
    for grant in () if is_own else await grants_of(write.conn, user):
        write.by.require_cover(*grant)
    found = await kept(write.conn, user)
    values = {"user": user, "hash": hashed, "changed_at": write.at}
    if found is None:
        await write.conn.execute(passwords.insert().values(values))
    else:
        await write.conn.execute(passwords.update().where(passwords.c.user == user).values(values))
    await audit.record(write, "set_password", ("user", user), None, None)
    await sessions.end_all_of(write, user, session)


async def kept(conn: AsyncConnection, user: str) -> str | None:
    """The hash of a user's password."""
    return (await conn.execute(select(passwords.c.hash).where(passwords.c.user == user))).scalar()
