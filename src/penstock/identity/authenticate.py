"""AUTHENTICATE: from request headers to the principal that calls."""

import re
from collections.abc import Callable, Mapping
from math import inf

from penstock.domain.snapshot import Snapshot
from penstock.domain.tenancy import MAX_ANCESTORS, NO_PROJECT, NO_TEAM, Key, Principal, Rights
from penstock.errors import InvalidApiKey
from penstock.identity import tokens
from penstock.identity.virtual_keys import digest, well_formed

KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
MAX_KNOWN = 4_096
"""Principals that are kept ready, of some 500 bytes each."""


Composing = Callable[[Snapshot, Key, float], Principal]


class Principals:
    """The principals of the keys that called lately, as one snapshot has them: another one is another world. None
    outlives an end of its key or of one above it."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._known: dict[str, tuple[Principal, float]] = {}

    def of(self, snapshot: Snapshot, key: Key, now_s: float) -> Principal:
        """`principal_of`, which is asked at most once for a snapshot as long as not many keys call."""
        if self._snapshot is not snapshot or len(self._known) == MAX_KNOWN:
            self._snapshot, self._known = snapshot, {}
        principal, until_s = self._known.get(key.id, (None, 0.0))
        if principal is None or now_s >= until_s:
            principal = principal_of(snapshot, key, now_s)
            chain = (key, *_ancestors(snapshot, key))
            ends = [end for each in chain for end in (each.revoked_at, each.expires_at) if end is not None]
            self._known[key.id] = principal, min(ends, default=inf)
        return principal


def authenticate(
    snapshot: Snapshot, headers: Mapping[str, str], pepper: bytes, now_s: float, compose: Composing | None = None
) -> Principal:
    """As whom the call is made. `compose`: another way to `principal_of`. Raises `InvalidApiKey`; what it says never
    tells whether a key that is not the caller's exists."""
    compose = compose or principal_of
    secret = presented_secret(headers)
    if secret is None:
        raise InvalidApiKey("No API key was given. Send 'Authorization: Bearer pk-...'.")
    if tokens.is_token(secret):
        return _of_token(snapshot, pepper, secret, now_s, compose)
    presented = digest(pepper, secret) if well_formed(secret) else ""
    key = snapshot.keys.get(snapshot.digests.get(presented, ""))
    if key is None:
        raise InvalidApiKey("The API key is not known to this gateway.")
    if not key.is_opened_by(presented, now_s):
        raise InvalidApiKey(f"The API key '{key.name}' has another secret since it was rotated.")
    return compose(snapshot, key, now_s)


def _of_token(snapshot: Snapshot, pepper: bytes, token: str, now_s: float, compose: Composing) -> Principal:
    """As whom a short-lived token is used: as its key, within what the token says."""
    grant = tokens.read(pepper, token, now_s)
    if grant is None:
        raise InvalidApiKey("The token is not one of this gateway, or has expired.")
    key = snapshot.keys.get(grant.key)
    if key is None or key.id != grant.sub:
        raise InvalidApiKey("The API key of this token does not exist any more.")
    if grant.made_with and not key.is_opened_by(grant.made_with, now_s):
        raise InvalidApiKey(f"The API key '{key.name}' has another secret since this token was made.")
    project = snapshot.projects.get(grant.project, NO_PROJECT)
    if (
        project.team != key.team
        or key.project not in {"", grant.project}
        or key.user not in {"", grant.user or key.user}
    ):
        raise InvalidApiKey(f"The API key '{key.name}' is of another project or user since this token was made.")
    rights = Rights(models=grant.models, tags=grant.tags, surfaces=grant.surfaces)
    principal = compose(snapshot, key, now_s)
    return principal.narrowed(rights, project=project.name, environment=project.environment, user=grant.user)


def principal_of(snapshot: Snapshot, key: Key, now_s: float) -> Principal:
    """The key with what its team, its project and the keys above it add. Raises `InvalidApiKey` when it has come to an
    end, or one above it has."""
    ancestors = _ancestors(snapshot, key)
    for each in (key, *ancestors):
        whose = f"The API key '{key.name}'" if each is key else f"The API key '{each.name}', above '{key.name}',"
        if each.revoked_at is not None and each.revoked_at <= now_s:
            raise InvalidApiKey(f"{whose} was revoked.")
        if each.expires_at is not None and each.expires_at <= now_s:
            raise InvalidApiKey(f"{whose} has expired.")
    team = snapshot.teams.get(key.team, NO_TEAM)
    project = snapshot.projects.get(key.project, NO_PROJECT)
    return Principal(
        key.id,
        key.name,
        team.organisation,
        key.team,
        key.project,
        project.environment,
        key.user,
        (key.rights, *[above.rights for above in ancestors]),
        team.required_tags,
        team.tags_from,
        tuple([above.name for above in ancestors]),
    )


def _ancestors(snapshot: Snapshot, key: Key) -> tuple[Key, ...]:
    """The keys above this one, the nearest first."""
    found: list[Key] = []
    while key.parent:
        above = snapshot.keys.get(key.parent)
        if above is None or len(found) == MAX_ANCESTORS:
            raise InvalidApiKey(f"The API key '{key.name}' stands under one that is not there.")
        found.append(above)
        key = above
    return tuple(found)


_AWS_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
"""How a request begins that an AWS SDK signed (AWS IAM User Guide, "Elements of an AWS API request signature")."""


def presented_secret(headers: Mapping[str, str]) -> str | None:
    """The secret from `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`; the first that is there.
    AWS SDKs send a bearer over TLS alone; what they sign has the secret as the id of its access key, and the signature,
    which proves no more than that, is not looked at."""
    authorization = headers.get("authorization")
    if authorization:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() == "bearer" and secret.strip():
            return secret.strip()
        if (signed := _AWS_CREDENTIAL.match(authorization)) is not None and signed[1].startswith("pk-"):
            return signed[1]
    return next((value.strip() for name in KEY_HEADERS if (value := headers.get(name))), None)
