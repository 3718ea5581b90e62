"""A server that speaks the transit engine of HashiCorp Vault and OpenBao, with real keys: for tests without either.

What it does is what their API documentation says ("Transit secrets engine", read 2026-11): `POST /v1/<mount>/encrypt/`,
`decrypt/` and `rewrap/<key>`, `POST /v1/<mount>/keys/<key>/rotate`; ciphertexts are `vault:v<version>:<base64>`, keys
are aes256-gcm96. A token that is not the server's is a 403, and what does not decrypt a 400.
"""

import json
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from cryptography.exceptions import InvalidTag

from penstock.errors import SealBroken
from penstock.vault import envelope


class TransitServer:
    """`url` is its address, `token` the one that it obeys; `is_down`: it answers 503, as a sealed Vault does. `asked`:
    the paths of the requests so far."""

    def __init__(self, key: str = "penstock", token: str = "hvs.transit-test-token") -> None:  # noqa: S107
        self.token = token
        self.is_down = False
        self.asked: list[str] = []
        self._key = key
        self._versions = [envelope.new_key()]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rotate(self) -> None:
        """From now on a newer version of the key encrypts; the older ones still decrypt."""
        self._versions.append(envelope.new_key())

    def answer(self, path: str, token: str | None, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to one POST."""
        self.asked.append(path)
        if self.is_down:
            return 503, {"errors": ["Vault is sealed"]}
        if token != self.token:
            return 403, {"errors": ["permission denied"]}
        verb, _, key = path.removeprefix("/v1/transit/").partition("/")
        if key != self._key:
            return 400, {"errors": ["encryption key not found"]}
        try:
            if verb == "encrypt":
                return 200, {"data": {"ciphertext": self._encrypt(asked["plaintext"])}}
            if verb == "decrypt":
                return 200, {"data": {"plaintext": self._decrypt(asked["ciphertext"])}}
            if verb == "rewrap":
                return 200, {"data": {"ciphertext": self._encrypt(self._decrypt(asked["ciphertext"]))}}
        except (SealBroken, InvalidTag, ValueError, IndexError):
            return 400, {"errors": ["invalid ciphertext"]}
        return 404, {"errors": []}

    def _encrypt(self, plaintext: str) -> str:
        sealed = envelope.seal(self._versions[-1], b64decode(plaintext), (self._key,))
        return f"vault:v{len(self._versions)}:{b64encode(sealed).decode()}"

    def _decrypt(self, ciphertext: str) -> str:
        _, version, content = ciphertext.split(":")
        key = self._versions[int(version.removeprefix("v")) - 1]
        return b64encode(envelope.unseal(key, b64decode(content), (self._key,))).decode()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, content = server.answer(self.path, self.headers.get("x-vault-token"), json.loads(body or b"{}"))
                encoded = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            do_PUT = do_POST  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is logged: what is asked is a secret."""

        return Handler
