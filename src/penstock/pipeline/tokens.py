"""The exchange of a virtual key, or of a workload's identity, for a token of some minutes.

Source: RFC 8693 (OAuth 2.0 Token Exchange), sections 2.1 and 2.2. `audience` is the project that the token is for;
`scope` narrows it: `model:NAME` and `surface:NAME`, separated by spaces. Whoever could not call may not exchange
either: a stopped, revoked or expired key, and one from a network that it may not be used from. Nor may a token.
"""

from collections.abc import Mapping

from msgspec import Struct

from penstock.admission.address import client_address, refuse_address
from penstock.admission.admit import dimensions, may_use, refuse_killed
from penstock.domain.snapshot import Snapshot
from penstock.domain.tenancy import SURFACES, Key, Principal
from penstock.domain.trust import Exchanged, Trust
from penstock.errors import InvalidApiKey, InvalidTokenRequest
from penstock.identity import tokens
from penstock.identity.authenticate import authenticate, principal_of
from penstock.identity.tokens import Grant
from penstock.identity.virtual_keys import digest
from penstock.identity.workloads import rule_for, user_in
from penstock.pipeline.gateway import Gateway

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - names of kinds, RFC 8693 section 3
JWT = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105
PARAMETERS = frozenset(
    {
        *("grant_type", "subject_token", "subject_token_type", "audience", "scope"),
        *("requested_token_type", "client_id", "client_secret"),
    }
)
"""What a request may say. Clients that name themselves are not asked for it: the subject token says enough."""
MAX_SCOPES = 64


class Caller(Struct, frozen=True):
    """From where the request comes: the peer of its connection, and the header that proxies write."""

    peer: str
    forwarded_for: str | None


class Subject(Struct, frozen=True):
    """Whom the token is for. `made_with`: the fingerprint of the secret; `act`: the workload."""

    principal: Principal
    project: str = ""
    user: str = ""
    made_with: str = ""
    act: str = ""


def exchange(gateway: Gateway, form: Mapping[str, str], caller: Caller) -> tuple[dict[str, object], Exchanged]:
    """The members of the answer, which must not leave before it is recorded, and what is to be. Raises
    `InvalidTokenRequest` where the request is at fault, else what refuses the subject."""
    gateway.require_ready()
    snapshot, now_s = gateway.snapshot, gateway.clock() / 1e9
    _check_form(form)
    subject = _subject(gateway, snapshot, form, now_s)
    principal = subject.principal
    refuse_address(principal, caller.peer, caller.forwarded_for, snapshot.server.trusted_proxies)
    refuse_killed(snapshot, dimensions(principal, principal.pinned(), ""))
    key = snapshot.keys[principal.key]
    models, surfaces = _scopes(principal, form.get("scope", ""))
    grant = Grant(
        sub=key.id,
        key=key.name,
        iat=int(now_s),
        exp=_end(snapshot.trust, key, now_s),
        project=_project(snapshot, subject, form.get("audience", "")),
        user=subject.user,
        models=models,
        surfaces=surfaces,
        made_with=subject.made_with,
        act=subject.act,
        jti=tokens.new_id(),
    )
    address = client_address(caller.peer, caller.forwarded_for, snapshot.server.trusted_proxies)
    made = Exchanged(
        token=grant.jti,
        key=key.name,
        team=key.team,
        key_project=key.project,
        project=grant.project,
        expires_at=grant.exp,
        user=grant.user,
        models=models,
        surfaces=surfaces,
        act=grant.act,
        address="" if address is None else str(address),
    )
    answer: dict[str, object] = {
        "access_token": tokens.mint(gateway.pepper, grant),
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": grant.exp - grant.iat,
    }
    return (answer if "scope" not in form else {**answer, "scope": form["scope"]}), made


def _check_form(form: Mapping[str, str]) -> None:
    if form.get("grant_type") != GRANT_TYPE:
        raise InvalidTokenRequest(f"'grant_type' must be {GRANT_TYPE}.", "unsupported_grant_type")
    for name in form:
        if name not in PARAMETERS:
            raise InvalidTokenRequest(f"There is no parameter '{name[:64]}' here.")
    if form.get("requested_token_type", ACCESS_TOKEN) not in {ACCESS_TOKEN, JWT}:
        raise InvalidTokenRequest(f"'requested_token_type' can be {ACCESS_TOKEN}.")
    if not form.get("subject_token"):
        raise InvalidTokenRequest("'subject_token' is missing: a virtual key, or the JWT of a workload.")


def _subject(gateway: Gateway, snapshot: Snapshot, form: Mapping[str, str], now_s: float) -> Subject:
    secret, kind = form["subject_token"], form.get("subject_token_type")
    if kind == ACCESS_TOKEN:
        if tokens.is_token(secret):
            raise InvalidApiKey("A token is not exchanged for another: exchange the key again.")
        principal = authenticate(snapshot, {"authorization": f"Bearer {secret}"}, gateway.pepper, now_s)
        return Subject(principal, made_with=tokens.fingerprint(digest(gateway.pepper, secret)))
    if kind in {JWT, ID_TOKEN}:
        return _workload(gateway, snapshot, secret, now_s)
    raise InvalidTokenRequest(
        f"'subject_token_type' must be {ACCESS_TOKEN} for a virtual key, or {JWT} for a workload."
    )


def _workload(gateway: Gateway, snapshot: Snapshot, token: str, now_s: float) -> Subject:
    if gateway.assertions is None:
        raise InvalidApiKey("No issuer is trusted here.")
    issuer = snapshot.trust.issuers.get(gateway.assertions.issuer_of(token))
    if issuer is None:
        raise InvalidApiKey("The token's issuer is not trusted here.")
    claims = gateway.assertions.read(issuer, token, now_s)
    rule = rule_for(issuer, claims)
    if rule is None:
        raise InvalidApiKey(f"No rule of the issuer '{issuer.name}' is about a token with these claims.")
    key = snapshot.keys.get(rule.key)
    if key is None:
        raise InvalidApiKey(f"The key '{rule.key}', of which the token would be, does not exist.")
    principal = principal_of(snapshot, key, now_s)
    user = user_in(claims, rule.user)
    if user and principal.user not in {"", user}:
        raise InvalidApiKey(f"The key '{rule.key}' is of another user.")
    return Subject(principal, rule.project, user, act=f"{issuer.name}|{str(claims.get('sub', ''))[:256]}")


def _project(snapshot: Snapshot, subject: Subject, audience: str) -> str:
    """The project that the token is for: what the key or the rule says, or what is asked for where neither does."""
    principal = subject.principal
    bounds = {name for name in (principal.project, subject.project) if name}
    name = audience or next(iter(bounds), "")
    if not name:
        raise InvalidTokenRequest("The key is of no project: name one in 'audience'.", "invalid_target")
    project = snapshot.projects.get(name)
    if project is None or project.team != principal.team or not bounds <= {name}:
        raise InvalidTokenRequest(f"There is no project '{name[:128]}' for this subject.", "invalid_target")
    return name


def _scopes(principal: Principal, scope: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The models and the surfaces that it names."""
    models, surfaces = [], []
    for word in scope.split(" ", MAX_SCOPES)[:MAX_SCOPES] if scope else []:
        kind, _, name = word.partition(":")
        if kind == "model" and name and may_use(principal, name):
            models.append(name)
        elif kind == "surface" and name in SURFACES:
            surfaces.append(name)
        else:
            sentence = f"'{word[:128]}' is no scope of this subject: write model:NAME or surface:NAME."
            raise InvalidTokenRequest(sentence, "invalid_scope")
    return tuple(models), tuple(surfaces)


def _end(trust: Trust, key: Key, now_s: float) -> int:
    end = int(now_s) + trust.token_ttl_s
    if key.expires_at is not None:
        end = min(end, int(key.expires_at))
    if end <= int(now_s):
        raise InvalidApiKey(f"The API key '{key.name}' has expired.")
    return end
