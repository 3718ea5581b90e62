"""Signing in through an OpenID provider: authorization code with PKCE, state and nonce.

What must come back with the answer (state, nonce, code verifier) goes to the browser in a sealed cookie, so that any
box can finish what another began. The provider's keys are kept for an hour, and fetched again, once a minute at most,
when a token names another.

Sources: OpenID Connect Core 1.0, section 3.1; RFC 7636 (PKCE); RFC 9207 (the issuer in the answer).
"""

import asyncio
import base64
import hmac
import json
import secrets
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from penstock.config.settings import OidcSettings
from penstock.control.sign_in import Identity
from penstock.domain.snapshot import Secret
from penstock.domain.tags import is_tag_value
from penstock.errors import NotSignedIn, ProviderDown

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
PENDING_S = 600.0
KEYS_S = 3_600.0
KEYS_AGAIN_S = 60.0
LEEWAY_S = 60
MAX_USER = 128
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with public keys alone: neither `none` nor a shared secret."""
_SEAL = b"penstock/v1/sign-in"


class Pending(Struct, frozen=True):
    """A sign-in under way, as the browser keeps it, sealed. `until`: Unix seconds."""

    state: str
    nonce: str
    verifier: str
    target: str
    until: float


class Oidc:
    """`redirect_uri`: where the provider sends the browser back to, as it knows it."""

    def __init__(self, settings: OidcSettings, client_secret: Secret, redirect_uri: str, pepper: bytes) -> None:
        self._settings = settings
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._seal = hmac.digest(pepper, _SEAL, "sha256")
        self._metadata: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._fetched_at = 0.0

    async def begin(self, target: str) -> tuple[str, str]:
        """Where to send the browser, and the sealed cookie for it. `target`: where it goes once it is signed in.
        Raises ProviderDown."""
        metadata = await self._discovered()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        pending = Pending(state, nonce, verifier, target, time.time() + PENDING_S)
        parameters = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": create_s256_code_challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        where: str = add_params_to_uri(str(metadata["authorization_endpoint"]), parameters.items())
        return where, self._sealed(pending)

    async def finish(self, answer: dict[str, str], cookie: str) -> tuple[Identity, str]:
        """Whom the provider vouches for, and where they wanted to go. `answer`: the parameters of the redirect. Raises
        NotSignedIn for whatever does not fit together, ProviderDown."""
        pending = self._opened(cookie)
        if not hmac.compare_digest(answer.get("state", "").encode(), pending.state.encode()):
            raise NotSignedIn("this answer belongs to no sign-in of this browser: begin again")
        if answer.get("iss", self._settings.issuer).rstrip("/") != self._settings.issuer:
            raise NotSignedIn("this answer is another provider's")
        if "code" not in answer:
            raise NotSignedIn("the identity provider did not sign you in")
        metadata = await self._discovered()
        tokens = await self._exchanged(str(metadata["token_endpoint"]), answer["code"], pending.verifier)
        return self._identity(await self._claims(tokens, pending.nonce)), pending.target

    def _identity(self, claims: dict[str, Any]) -> Identity:
        user = claims.get(self._settings.user_claim)
        if self._settings.user_claim == "email" and claims.get("email_verified") is False:
            raise NotSignedIn("the identity provider has not verified the address")
        if not isinstance(user, str) or len(user) > MAX_USER or not is_tag_value(user):
            raise NotSignedIn(f"the identity provider sends no usable {self._settings.user_claim!r}")
        groups = claims.get(self._settings.groups_claim, [])
        named = [name for name in groups if isinstance(name, str)] if isinstance(groups, list) else []
        return Identity(user, named, self._settings.create_users)

    async def _exchanged(self, endpoint: str, code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "client_id": self._settings.client_id,
            "client_secret": self._client_secret.reveal(),
            "code_verifier": verifier,
        }
        status, tokens = await asyncio.to_thread(_fetch, endpoint, urlencode(form))
        if status != 200 or not isinstance(tokens.get("id_token"), str):
            raise NotSignedIn("the identity provider did not accept the sign-in: begin again")
        return tokens

    async def _claims(self, tokens: dict[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of an ID token whose signature and claims hold."""
        try:
            decoded = await self._verified(tokens["id_token"])
            options = {
                "iss": {"values": [self._settings.issuer, self._settings.issuer + "/"]},
                "aud": {"values": [self._settings.client_id]},
            }
            parameters = {
                "nonce": nonce,
                "client_id": self._settings.client_id,
                "access_token": tokens.get("access_token"),
            }
            claims = CodeIDToken(decoded.claims, decoded.header, options, parameters)
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, KeyError) as error:
            raise NotSignedIn("the identity provider's token does not hold: begin again") from error
        return dict(claims)

    async def _verified(self, token: str) -> Any:
        if self._keys is None or time.monotonic() - self._fetched_at > KEYS_S:
            await self._fetch_keys()
        assert self._keys is not None
        try:
            return jwt.decode(token, self._keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if time.monotonic() - self._fetched_at < KEYS_AGAIN_S:
                raise
        await self._fetch_keys()
        return jwt.decode(token, self._keys, algorithms=ALGORITHMS)

    async def _fetch_keys(self) -> None:
        metadata = await self._discovered()
        status, keys = await asyncio.to_thread(_fetch, str(metadata["jwks_uri"]))
        if status != 200:
            raise ProviderDown("the identity provider does not give its keys")
        self._keys, self._fetched_at = KeySet.import_key_set(keys), time.monotonic()  # type: ignore[arg-type]

    async def _discovered(self) -> dict[str, Any]:
        """What the provider says of itself, which stays as it is for as long as the process runs."""
        if not self._metadata:
            place = self._settings.issuer + "/.well-known/openid-configuration"
            status, metadata = await asyncio.to_thread(_fetch, place)
            if status != 200 or str(metadata.get("issuer")).rstrip("/") != self._settings.issuer:
                raise ProviderDown(f"{place} is not what the issuer {self._settings.issuer} says of itself")
            self._metadata = metadata
        return self._metadata

    def _sealed(self, pending: Pending) -> str:
        content = base64.urlsafe_b64encode(msgspec.json.encode(pending)).decode()
        return f"{content}.{hmac.new(self._seal, content.encode(), 'sha256').hexdigest()}"

    def _opened(self, cookie: str) -> Pending:
        content, _, seal = cookie.rpartition(".")
        expected = hmac.new(self._seal, content.encode(), "sha256").hexdigest()
        if not hmac.compare_digest(expected.encode(), seal.encode()):
            raise NotSignedIn("no sign-in was begun in this browser: begin again")
        pending = msgspec.json.decode(base64.urlsafe_b64decode(content), type=Pending)
        if pending.until < time.time():
            raise NotSignedIn("this sign-in took too long: begin again")
        return pending


def _fetch(url: str, form: str | None = None) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of the answer; redirects are not followed. Raises ProviderDown."""
    parts = urlsplit(url)
    is_local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ProviderDown("the identity provider must be reached by https")
    host, port = parts.hostname or "", parts.port
    connection = (
        HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        if parts.scheme == "https"
        else HTTPConnection(host, port, timeout=TIMEOUT_S)
    )
    headers = {"accept": "application/json"}
    if form is not None:
        headers["content-type"] = "application/x-www-form-urlencoded"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET" if form is None else "POST", target, form, headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES)
        value = json.loads(content) if content else {}
    except (OSError, HTTPException, ValueError) as error:
        raise ProviderDown("the identity provider does not answer as one") from error
    finally:
        connection.close()
    return response.status, value if isinstance(value, dict) else {}
