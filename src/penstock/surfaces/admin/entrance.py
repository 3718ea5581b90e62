"""What signing in is done with, and how its cookies are set."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastapi import Request, Response

from penstock.config.environment import resolve_secret
from penstock.config.settings import SignIn as Settings
from penstock.control import sessions
from penstock.control.sign_in import SignIn
from penstock.errors import ConfigError
from penstock.surfaces.admin import cookies

CALLBACK = "/auth/oidc/callback"
LIFE_S = sessions.LIFE_NS // 10**9


@dataclass(frozen=True)
class Entrance:
    """`oidc`: a `control.oidc.Oidc`; None where no provider is declared."""

    sign_in: SignIn
    settings: Settings
    oidc: Any = None

    def is_secure(self, request: Request) -> bool:
        """Whether the browser speaks TLS, to us or to what stands before us."""
        return request.url.scheme == "https" or (self.settings.url or "").startswith("https:")

    def let_in(self, request: Request, response: Response, secret: str) -> Response:
        cookies.put(response, cookies.SESSION, secret, LIFE_S, secure=self.is_secure(request))
        return response


def provider(settings: Settings, pepper: bytes) -> Any:
    """The declared identity provider; None without one. Raises ConfigError where the extra is missing or the secret
    does not resolve."""
    if settings.oidc is None:
        return None
    if find_spec("authlib") is None:
        raise ConfigError("OIDC needs an extra that is not installed: pip install 'penstock[sso]'", "sign_in.oidc")
    made = import_module("penstock.control.oidc").Oidc
    return made(settings.oidc, resolve_secret(settings.oidc.client_secret), f"{settings.url}{CALLBACK}", pepper)
