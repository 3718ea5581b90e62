"""People sign in to the admin listener, by password or through an OpenID provider, and what they may do there."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from penstock.testing.caller import Answer, Caller
from penstock.testing.control import ControlProcess
from penstock.testing.openid import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from penstock.testing.wire import eventually

CSRF = {"x-penstock-csrf": "1"}
PASSWORD = "correct horse battery"


class Browser:
    """It keeps its cookies and follows no redirect by itself."""

    def __init__(self, control: ControlProcess) -> None:
        self.control = control
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        jar = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        response = httpx2.request(method, self.control.url + path, json=body, headers={**jar, **(headers or {})})
        for cookie in response.headers.get_list("set-cookie"):
            assert "httponly" in cookie.lower() and "samesite=lax" in cookie.lower()
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value.strip('"'):
                self.cookies[name] = value
        return Answer(response.status_code, dict(response.headers), response.content, 0.0)

    def log_in(self, user: str, password: str) -> Answer:
        return self.ask("POST", "/auth/login", {"user": user, "password": password})


class Place:
    def __init__(self, control: ControlProcess, openid: OpenIdProvider) -> None:
        self.control = control
        self.openid = openid

    def user(self, name: str, role: str = "auditor") -> Browser:
        """A browser in which a new user is signed in."""
        assert self.control.admin("POST", "/users", {"name": name}).status == 201
        binding = {"user": name, "role": role, "scope": {"organisation": "default"}}
        assert self.control.admin("POST", "/bindings", binding).status == 201
        assert self.control.admin("PUT", f"/users/{name}/password", {"password": PASSWORD}).status == 204
        browser = Browser(self.control)
        answer = browser.log_in(name, PASSWORD)
        assert answer.status == 200, answer.body
        return browser

    def by_oidc(self, browser: Browser, **claims: Any) -> Answer:
        """The answer to the way back from the provider."""
        self.openid.claims = claims
        where = browser.ask("GET", "/auth/oidc/login?to=/somewhere").headers["location"]
        parts = urlsplit(where)
        back = Caller(f"{parts.scheme}://{parts.netloc}").get(f"{parts.path}?{parts.query}").headers["location"]
        returned = urlsplit(back)
        return browser.ask("GET", f"{returned.path}?{returned.query}")

    def audit(self, action: str) -> list[dict[str, Any]]:
        rows = self.control.admin("GET", "/audit?kind=session").json()["items"]
        return [row for row in rows if row["action"] == action]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with OpenIdProvider() as openid:
        oidc = {"issuer": openid.issuer, "client_id": CLIENT_ID, "client_secret": "env:OIDC_SECRET"}
        config: dict[str, Any] = {
            "providers": [{"name": "lab", "kind": "compatible", "base_url": "http://127.0.0.1:9/v1"}],
            "models": [
                {"name": "m", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 1, "output": 1}}
            ],
            "sign_in": {"url": "http://127.0.0.1:8081", "oidc": oidc},
        }
        with ControlProcess(tmp_path_factory.mktemp("sign-in"), config, {"OIDC_SECRET": CLIENT_SECRET}) as control:
            yield Place(control, openid)
            output = control.output()
            assert PASSWORD not in output and CLIENT_SECRET not in output
            assert '"level":"error"' not in output
            dump = b"".join(path.read_bytes() for path in control.data.glob("penstock.db*"))
            assert PASSWORD.encode() not in dump and CLIENT_SECRET.encode() not in dump


def test_who_signs_in_with_a_password_has_a_session_until_it_is_ended(place: Place) -> None:
    browser = place.user("ada")
    me = browser.ask("GET", "/auth/me").json()
    assert (me["name"], me["kind"], me["roles"]) == (
        "ada",
        "user",
        [{"role": "auditor", "scope": {"organisation": "default"}}],
    )
    assert browser.ask("GET", "/admin/v1/audit").status == 200
    (session,) = browser.ask("GET", "/auth/sessions").json()["items"]
    assert (session["user"], session["how"], session["address"]) == ("ada", "password", "127.0.0.1")
    secret = dict(browser.cookies)
    assert browser.ask("POST", "/auth/logout", headers=CSRF).status == 204
    assert browser.cookies == {}
    browser.cookies = secret
    assert browser.ask("GET", "/auth/me").status == 401, "a cookie that was copied ends with the session"
    assert [row["actor"] for row in place.audit("sign_out")] == ["ada"]


def test_an_administrator_sees_sessions_and_ends_them(place: Place) -> None:
    browser = place.user("bea")
    listed = place.control.admin("GET", "/sessions").json()["items"]
    (session,) = (it for it in listed if it["user"] == "bea")
    assert place.control.admin("DELETE", f"/sessions/{session['name']}").status == 204
    assert browser.ask("GET", "/auth/me").status == 401


def test_a_change_by_cookie_needs_the_header_that_only_our_pages_send(place: Place) -> None:
    browser = place.user("cyd", "admin")
    forged = browser.ask("POST", "/admin/v1/teams", {"name": "forged"})
    assert (forged.status, forged.json()["code"]) == (403, "not_permitted")
    assert browser.ask("POST", "/admin/v1/teams", {"name": "real"}, CSRF).status == 201
    assert place.control.admin("GET", "/teams/forged").status == 404


def test_a_wrong_password_says_no_more_than_that_and_makes_the_next_try_wait(place: Place) -> None:
    place.user("dan")
    browser = Browser(place.control)
    said = {browser.log_in(user, "wrong password").body.replace(b"req_", b"")[:90] for user in ("dan", "nobody")}
    assert len(said) == 1
    answers = [browser.log_in("dan", "wrong password") for _ in range(6)]
    assert [answer.status for answer in answers[:4]] == [401] * 4
    last = answers[-1]
    assert (last.status, last.json()["code"]) == (429, "too_many_attempts")
    assert int(last.headers["retry-after"]) >= 1
    assert browser.log_in("dan", PASSWORD).status == 429, "the right one has to wait as well"
    (told,) = eventually(lambda: place.audit("sign_in_failed")[-1:], 5, "the failures are in the audit log")
    assert told["after"]["attempts"] >= 1
    assert "wrong password" not in str(told)


def test_a_password_obeys_the_rules_and_ends_the_other_sessions(place: Place) -> None:
    browser = place.user("eve")
    for weak in ("short", "aaaaaaaaaaaaaaaa", "eve has her own name", "x" * 300):
        refused = place.control.admin("PUT", "/users/eve/password", {"password": weak})
        assert refused.status == 422
        assert weak not in refused.body.decode()
    other = Browser(place.control)
    assert other.log_in("eve", PASSWORD).status == 200
    change = {"current": PASSWORD, "password": "another long enough one"}
    assert browser.ask("POST", "/auth/password", {**change, "current": "not this one"}, CSRF).status == 401
    assert browser.ask("POST", "/auth/password", change, CSRF).status == 204
    assert browser.ask("GET", "/auth/me").status == 200
    assert other.ask("GET", "/auth/me").status == 401


def test_a_user_who_is_deactivated_is_signed_out_and_stays_out(place: Place) -> None:
    browser = place.user("fay")
    assert place.control.admin("POST", "/users/fay/deactivate").json()["active"] is False
    assert browser.ask("GET", "/auth/me").status == 401
    assert browser.log_in("fay", PASSWORD).status == 401
    assert place.control.admin("POST", "/users/fay/activate").json()["active"] is True
    assert browser.log_in("fay", PASSWORD).status == 200


def test_a_service_never_signs_in(place: Place) -> None:
    assert place.control.admin("POST", "/users", {"name": "bot", "kind": "service"}).status == 201
    assert place.control.admin("PUT", "/users/bot/password", {"password": PASSWORD}).status == 422


def test_an_identity_provider_signs_in_whom_it_knows_with_the_roles_of_their_groups(place: Place) -> None:
    binding = {"group": "readers", "role": "auditor", "scope": {"organisation": "default"}}
    assert place.control.admin("POST", "/bindings", binding).status == 201
    browser = Browser(place.control)
    back = place.by_oidc(browser, email="gil@example.com", email_verified=True, groups=["readers"])
    assert (back.status, back.headers["location"]) == (303, "/somewhere"), back.body
    asked = place.openid.asked[-1]
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    assert browser.ask("GET", "/auth/me").json()["name"] == "gil@example.com"
    assert browser.ask("GET", "/admin/v1/audit").status == 200
    stranger = Browser(place.control)
    assert place.by_oidc(stranger, email="hal@example.com", groups=[]).status == 303
    assert stranger.ask("GET", "/admin/v1/audit").status == 403


@pytest.mark.parametrize(
    ("claims", "spoil"),
    [
        ({"email": "ivy@example.com"}, {"nonce": "another"}),
        ({"email": "ivy@example.com"}, {"aud": "another"}),
        ({"email": "ivy@example.com"}, {"iss": "http://127.0.0.1:1"}),
        ({"email": "ivy@example.com"}, {"exp": 1}),
        ({"email": "ivy@example.com", "email_verified": False}, {}),
        ({"email": "a,b"}, {}),
        ({}, {}),
    ],
)
def test_a_token_that_does_not_hold_signs_nobody_in(
    place: Place, claims: dict[str, Any], spoil: dict[str, Any]
) -> None:
    place.openid.spoil = spoil
    try:
        browser = Browser(place.control)
        answer = place.by_oidc(browser, **claims)
    finally:
        place.openid.spoil = {}
    assert (answer.status, answer.json()["code"]) == (401, "not_signed_in")
    assert browser.ask("GET", "/auth/me").status == 401


def test_a_token_of_another_key_signs_nobody_in(place: Place) -> None:
    place.openid.signs_with_strange_key = True
    try:
        assert place.by_oidc(Browser(place.control), email="jo@example.com").status == 401
    finally:
        place.openid.signs_with_strange_key = False


def test_an_answer_that_belongs_to_another_browser_or_came_before_is_refused(place: Place) -> None:
    place.openid.claims = {"email": "kim@example.com"}
    mine, theirs = Browser(place.control), Browser(place.control)
    where = urlsplit(theirs.ask("GET", "/auth/oidc/login").headers["location"])
    mine.ask("GET", "/auth/oidc/login")
    back = urlsplit(Caller(f"{where.scheme}://{where.netloc}").get(f"{where.path}?{where.query}").headers["location"])
    assert mine.ask("GET", f"{back.path}?{back.query}").status == 401
    assert Browser(place.control).ask("GET", f"{back.path}?{back.query}").status == 401
    pending = dict(theirs.cookies)
    assert theirs.ask("GET", f"{back.path}?{back.query}").status == 303
    theirs.cookies = pending
    assert theirs.ask("GET", f"{back.path}?{back.query}").status == 401


def test_nobody_is_sent_to_another_site_from_here(place: Place) -> None:
    for to in ("https://evil.example", "//evil.example", "/%5Cevil.example", "javascript:alert(1)"):
        browser = Browser(place.control)
        place.openid.claims = {"email": "lee@example.com"}
        where = urlsplit(browser.ask("GET", f"/auth/oidc/login?to={to}").headers["location"])
        back = urlsplit(
            Caller(f"{where.scheme}://{where.netloc}").get(f"{where.path}?{where.query}").headers["location"]
        )
        assert browser.ask("GET", f"{back.path}?{back.query}").headers["location"] == "/"
