"""What a provider keeps of an answer, so that a later call can go on with it: whose it is, and where it lies."""

from typing import NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Struct

from penstock.domain.tenancy import Principal

KEPT_DAYS = 30
"""For so long OpenAI keeps responses (guide "Conversation state", read 2026-11), and for so long it is known whose."""

MAX_ID = 256
MAX_KEPT = 256
"""How many things of one answer are remembered."""


class Kept(Struct, frozen=True, array_like=True):
    """What one call left at its provider. `owner`: see `owner_of`. `ids`: of the response, of the items of its output
    and of the containers that its code ran in. `credential`: the name of the one that the provider keeps them under."""

    owner: str
    ids: tuple[str, ...]
    credential: str = ""


class Keeper(Struct, frozen=True):
    """Where one of these lies. `model`: the provider's; `alias`: the caller's, of the call that made it. `is_own`:
    whether it is the asker's."""

    id: str
    provider: str
    credential: str
    model: str
    alias: str
    is_own: bool


class Errand(NamedTuple):
    """What is asked of one thing that is kept: an HTTP method, its id, what of it is meant (`input_items`) or is to be
    done (`cancel`), empty for itself; and the query. Without an id, a new one is asked for."""

    method: str
    id: str
    verb: str = ""
    query: str = ""

    @property
    def path(self) -> str:
        """Below the address of all such things, without the query."""
        return "".join(f"/{part}" for part in (quote(self.id, safe=""), self.verb) if part)


def owner_of(principal: Principal) -> str:
    """To whom belongs what a call leaves at a provider: to all keys of its project. A key of no project has its own."""
    key = "" if principal.project else principal.key_id
    return msgspec.json.encode((principal.organisation, principal.team, principal.project, key)).decode()


def is_id(said: object) -> bool:
    """Whether this can be the id of something that is kept."""
    return isinstance(said, str) and 0 < len(said) <= MAX_ID and said.isprintable()
