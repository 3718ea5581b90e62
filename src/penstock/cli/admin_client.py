"""The admin API as commands ask it: HTTP or HTTPS, one request at a time, every failure a sentence."""

import json
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from penstock.cli.output import CommandFailed
from penstock.config.environment import DEFAULT_ADMIN_URL, DEFAULT_DATA, Environment, resolve_secret
from penstock.domain.snapshot import Secret
from penstock.errors import ConfigError

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
PAGE = 500
ROOT = "/admin/v1"


class AdminClient:
    """`url`: scheme, host and port of the admin listener. `ca`: a PEM file of those whose certificate it may have, in
    place of the system's. `answered_date`: the `Date` of the last answer, if any."""

    def __init__(self, url: str, key: Secret | None, ca: Path | None = None) -> None:
        parts = urlsplit(url)
        try:
            self._address = (parts.hostname or "", parts.port)
        except ValueError:
            self._address = ("", None)
        if parts.scheme not in {"http", "https"} or not self._address[0] or "@" in parts.netloc or parts.query:
            raise CommandFailed("PENSTOCK_ADMIN_URL must look like http://127.0.0.1:8081", 2)
        self.url = url.rstrip("/")
        self.answered_date: str | None = None
        self._parts = parts
        self._key = key
        self._ca = ca

    @classmethod
    def from_environment(cls) -> "AdminClient":
        """The gateway that the environment points to, with the administrator's key."""
        environment = Environment.read()
        return cls(environment.admin_url or DEFAULT_ADMIN_URL, administrator_key(environment), environment.admin_ca)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.call("POST", path, body)

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """Every item of a listing, page by page."""
        after: str | None = None
        while True:
            query = {"limit": str(PAGE)} | ({"after": after} if after else {})
            page = self.get(path, query)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON, None when it has none. `path` is below `/admin/v1`, quoted. Raises CommandFailed with the
        gateway's own sentence, or with what to do when no gateway answers."""
        status, content = self.exchange(method, ROOT + path, body, query)
        if 200 <= status < 300:
            return self._decoded(content) if content else None
        raise CommandFailed(self._problem(status, content), 2 if status in {400, 422} else 1)

    def exchange(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One request to any path of the listener: status and body of the answer. `body`: bytes are a file."""
        headers = {"accept": "application/json"}
        content: bytes | None = None
        if isinstance(body, bytes):
            headers["content-type"], content = "application/yaml", body
        elif body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body).encode()
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key.reveal()}"
        target = self._parts.path.rstrip("/") + target + (f"?{urlencode(query)}" if query else "")
        connection = self._connection()
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
            self.answered_date = response.getheader("date")
            status = response.status
        except (OSError, HTTPException) as error:
            raise CommandFailed(self._unreachable(error)) from None
        finally:
            connection.close()
        if len(answer) > MAX_ANSWER_BYTES:
            raise CommandFailed(f"the answer of {self.url} is larger than {MAX_ANSWER_BYTES // 2**20} MiB")
        return status, answer

    def _connection(self) -> HTTPConnection:
        host, port = self._address
        if self._parts.scheme == "https":
            return HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self.trust())
        return HTTPConnection(host, port, timeout=TIMEOUT_S)

    def trust(self) -> ssl.SSLContext:
        """Whose certificates the gateway's listeners may have."""
        try:
            return ssl.create_default_context(cafile=None if self._ca is None else str(self._ca))
        except OSError as error:
            raise CommandFailed(f"PENSTOCK_ADMIN_CA: {self._ca} cannot be used: {error.strerror}", 2) from None

    def _decoded(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise CommandFailed(f"what answers at {self.url} is not a Penstock admin API") from None

    def _problem(self, status: int, content: bytes) -> str:
        if status == 401:
            return (
                f"the admin API at {self.url} does not accept the key; set PENSTOCK_ADMIN_KEY, "
                "or PENSTOCK_DATA to the data directory whose admin_key it is"
            )
        try:
            problem = json.loads(content)
            detail = str(problem["detail"])
            errors = problem.get("errors", [])
            if len(errors) > 1:
                return "\n".join(str(error["message"]) for error in errors)
            places = [str(error["place"]) for error in errors if error.get("place")]
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"what answers at {self.url} is not a Penstock admin API (it answered {status})"
        return f"{places[0]}: {detail}" if places and places[0] not in detail else detail

    def _unreachable(self, error: OSError | HTTPException) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {self.url} cannot be trusted ({error.verify_message}); "
                "PENSTOCK_ADMIN_CA names a file of those whose certificates are"
            )
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        return (
            f"no admin API answers at {self.url} ({reason.lower()}); is `penstock serve` running? "
            "PENSTOCK_ADMIN_URL sets another address"
        )


def administrator_key(environment: Environment) -> Secret:
    """PENSTOCK_ADMIN_KEY, else the key that the gateway keeps in its data directory."""
    if environment.admin_key is not None:
        return environment.admin_key
    path = (environment.data or DEFAULT_DATA) / "admin_key"
    try:
        return resolve_secret(f"file:{path}")
    except ConfigError:
        raise CommandFailed(
            f"there is no administrator's key: PENSTOCK_ADMIN_KEY is not set and {path} cannot be read "
            "(PENSTOCK_DATA sets the data directory)"
        ) from None


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")
