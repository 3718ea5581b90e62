"""Who calls: virtual keys, the teams and projects that they belong to, and the principal that a call is made as.

In a snapshot there can be very many keys, so a key holds only what is its own: what a team or a project adds is looked
up with each call, and what many keys have in common is one object for all of them (`Sharing`).
"""

import sys
from functools import cached_property

import msgspec
from msgspec import Struct, structs

from penstock.domain.policy import UNDER

DEFAULT_ORGANISATION = "default"
"""Whose the teams are that name no other, and the keys without a team."""


SURFACES = (
    *("chat.completions", "responses", "responses.compact", "responses.input_tokens", "responses.stored"),
    "conversations",
    *("completions", "embeddings", "moderations"),
    *("messages", "messages.count_tokens", "converse", "converse.count_tokens", "invoke"),
    *("generateContent", "countTokens", "embedContent", "batchEmbedContents"),
    *("cohere.chat", "cohere.embed", "rerank"),
)
"""The kinds of call that a key can be held to, by the name that usage events have for them."""

DIMENSIONS = ("organisation", "team", "project", "environment", "key", "user")
"""What of a principal its calls are counted and stopped by; each is a field of `Principal`."""

ATTRIBUTES = ("key", "user", "project", "environment", "team")
"""What of a key can stand in for a tag; each is a field of `Principal`."""


class Rights(Struct, frozen=True, gc=False, omit_defaults=True):
    """What its holder may do; what is empty narrows nothing. `models`: alias patterns (`gpt-4.1`, `openai/*`).
    `surfaces`: of `SURFACES`. `cidrs`: the networks from which calls may come. `tags` are pinned: a caller cannot
    override them. `allowed_tags`: the values that a tag may have, if it is sent."""

    models: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    allowed_tags: dict[str, tuple[str, ...]] = {}
    surfaces: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()


ALL = Rights()


class Key(Struct, frozen=True, gc=False, omit_defaults=True):
    """A virtual key. `digest`: hex HMAC-SHA-256 of its secret under the gateway's pepper; `old_digest`: that of the
    secret before, which opens it until `old_until`. `parent`: the name of the key under which it stands, or empty: it
    can do no more than that one, and ends with it. Times are Unix seconds."""

    id: str
    name: str
    digest: str
    team: str = ""
    project: str = ""
    user: str = ""
    rights: Rights = ALL
    expires_at: float | None = None
    revoked_at: float | None = None
    parent: str = ""
    old_digest: str = ""
    old_until: float = 0.0

    def digests(self) -> tuple[str, ...]:
        """Those of the secrets by which it is found; none for a key that tokens alone are made of."""
        return tuple([digest for digest in (self.digest, self.old_digest) if digest])

    def is_opened_by(self, digest: str, now_s: float) -> bool:
        """Whether the secret with a digest that begins so is good at this moment."""
        if digest and self.digest.startswith(digest):
            return True
        return bool(digest) and self.old_digest.startswith(digest) and now_s < self.old_until


class Team(Struct, frozen=True, omit_defaults=True):
    """`required_tags`: tags that each of its calls must carry. `tags_from`: required tag -> the attribute of the key
    (`ATTRIBUTES`) that stands in where a call does not carry it."""

    name: str
    organisation: str = DEFAULT_ORGANISATION
    required_tags: tuple[str, ...] = ()
    tags_from: dict[str, str] = {}


class Project(Struct, frozen=True, omit_defaults=True):
    name: str
    environment: str = ""
    team: str = ""


MAX_ANCESTORS = 8
"""How many keys can stand over one another, above the lowest."""

NO_TEAM = Team("")
NO_PROJECT = Project("")


class Principal(Struct, frozen=True, dict=True):
    """As whom a call is made, composed from its key. `key` is the key's name, `key_id` its id. The call
    must be within every one of `rights`, which are the key's and those of its `ancestors`, the nearest first."""

    key_id: str
    key: str
    organisation: str = DEFAULT_ORGANISATION
    team: str = ""
    project: str = ""
    environment: str = ""
    user: str = ""
    rights: tuple[Rights, ...] = (ALL,)
    required_tags: tuple[str, ...] = ()
    tags_from: dict[str, str] = {}
    ancestors: tuple[str, ...] = ()

    @cached_property
    def dims(self) -> dict[str, str]:
        """What limits and kills match on of its calls; a dimension without a value is absent. A key that stands under
        others has one dimension for each of them, and `root` for the topmost."""
        dims = {name: value for name in DIMENSIONS if (value := getattr(self, name))}
        for name in self.ancestors:
            dims[UNDER + name] = name
        if self.ancestors:
            dims["root"] = self.ancestors[-1]
        return dims

    def pinned(self) -> dict[str, str]:
        """The tags that its calls carry in any case."""
        return {name: value for rights in reversed(self.rights) for name, value in rights.tags.items()}

    def narrowed(self, rights: Rights, **dimensions: str) -> "Principal":
        """The same, within `rights` as well. `dimensions`: fields that the key leaves open, such as `project`."""
        known = {name: value for name, value in dimensions.items() if value}
        return structs.replace(self, rights=(rights, *self.rights), **known)


class Sharing:
    """Makes keys that have something in common have the same object for it. For as long as many keys are taken in."""

    def __init__(self) -> None:
        self._rights: dict[bytes, Rights] = {}

    def shared(self, key: Key) -> Key:
        """An equal key."""
        if key.rights is ALL or key.rights == ALL:
            rights = ALL
        else:
            rights = self._rights.setdefault(msgspec.msgpack.encode(key.rights), key.rights)
        return structs.replace(
            key, team=sys.intern(key.team), project=sys.intern(key.project), user=sys.intern(key.user), rights=rights
        )
