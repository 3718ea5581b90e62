"""A small OpenID provider on a real socket: discovery, keys, authorization code with PKCE, RS256 ID tokens.

Whoever comes to its authorization endpoint is signed in as `claims` say. It is strict where a provider is: a code
counts once, for the client, the redirect URI and the code verifier with which it was asked for. `spoil` changes the
claims of the next tokens, so that a test can see them refused.
"""

import base64
import hashlib
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "penstock", "a-client-secret-of-the-lab"


class OpenIdProvider:
    """`issuer`: its address. `claims`: of whoever signs in, besides those that every token has."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.spoil: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._key = RSAKey.generate_key(2048, parameters={"kid": "lab"}, private=True)
        self._strange_key = RSAKey.generate_key(2048, parameters={"kid": "lab"}, private=True)
        self.signs_with_strange_key = False
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def described(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def keys(self) -> dict[str, Any]:
        return {"keys": [self._key.as_dict(private=False)]}

    def authorized(self, asked: dict[str, str]) -> str:
        """Where the browser goes with its code."""
        if asked.get("client_id") != CLIENT_ID or asked.get("code_challenge_method") != "S256":
            raise ValueError("the client is unknown, or brings no code challenge")
        self.asked.append(asked)
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def exchanged(self, form: dict[str, str]) -> dict[str, Any] | None:
        """The tokens for a code; None where anything does not fit."""
        asked = self._codes.pop(form.get("code", ""), None)
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        if (
            asked is None
            or (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET)
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
        ):
            return None
        now = int(time.time())
        fixed = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "1",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
        }
        key = self._strange_key if self.signs_with_strange_key else self._key
        token = jwt.encode({"alg": "RS256", "kid": "lab"}, {**fixed, **self.claims, **self.spoil}, key)
        return {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "id_token": token}


class _Handler(BaseHTTPRequestHandler):
    owner: OpenIdProvider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        match parts.path:
            case "/.well-known/openid-configuration":
                self._answer(200, self.owner.described())
            case "/jwks":
                self._answer(200, self.owner.keys())
            case "/authorize":
                self.send_response(302)
                self.send_header("location", self.owner.authorized(dict(parse_qsl(parts.query))))
                self.end_headers()
            case _:
                self._answer(404, {})

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        tokens = self.owner.exchanged(form) if self.path == "/token" else None
        self._answer(400 if tokens is None else 200, tokens or {"error": "invalid_grant"})

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        content = msgspec.json.encode(value)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
