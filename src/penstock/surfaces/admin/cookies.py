"""The cookies of signing in: a session's, and that of a sign-in under way.

Over TLS they are `Secure` and have the prefix `__Host-`, so that no other host and no unencrypted page can set them
(RFC 6265bis, section 4.1.3); without TLS browsers refuse that prefix. Either way no script can read them, and they do
not come along with what other sites post.
"""

from http.cookies import CookieError, SimpleCookie

from starlette.responses import Response
from starlette.types import Scope

SESSION, PENDING = "penstock-session", "penstock-sign-in"
_SECURE = "__Host-"
MAX_HEADER_BYTES = 16 * 1024


def of(scope: Scope, name: str) -> str:
    """The value of a cookie; empty where there is none. The secure one goes first."""
    values = [value for header, value in scope["headers"] if header == b"cookie"]
    content = b"; ".join(values)
    if not content or len(content) > MAX_HEADER_BYTES:
        return ""
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(content.decode("latin-1"))
    except CookieError:
        return ""
    found = jar.get(_SECURE + name) or jar.get(name)
    return "" if found is None else found.value


def put(response: Response, name: str, value: str, max_age_s: int, *, secure: bool) -> None:
    whole = _SECURE + name if secure else name
    response.set_cookie(whole, value, max_age=max_age_s, path="/", secure=secure, httponly=True, samesite="lax")


def drop(response: Response, name: str, *, secure: bool) -> None:
    put(response, name, "", 0, secure=secure)
