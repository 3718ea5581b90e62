"""HashiCorp Vault and OpenBao: the transit secrets engine keeps the wrapping key and never gives it away.

Source: Vault API documentation, "Transit secrets engine": "Encrypt data", "Decrypt data", "Rewrap data", "Read key"
(read 2026-11). The scope is not bound: "Rewrap data" takes no associated data, and a data key that was put in another's
place opens nothing there.
"""

from base64 import b64decode, b64encode
from importlib import import_module
from typing import Any

from penstock.config.environment import resolve_secret
from penstock.config.settings import TransitSettings
from penstock.errors import ConfigError, SealBroken, VaultUnavailable

TIMEOUT_S = 5


class TransitWrapper:
    """The token is read again for each use, so that an agent may renew it. Nothing is asked before the first use."""

    name = "transit"

    def __init__(self, settings: TransitSettings) -> None:
        try:
            self._hvac, self._requests = import_module("hvac"), import_module("requests")
        except ImportError:
            raise ConfigError("vault.transit needs an extra: pip install 'penstock[vault]'") from None
        self._settings = settings

    @property
    def wrapping_key(self) -> str:
        return f"{self._settings.mount}/keys/{self._settings.key}"

    def wrap(self, key: bytes, scope: str) -> bytes:
        answer = self._ask("encrypt_data", plaintext=b64encode(key).decode())
        return str(answer["ciphertext"]).encode()

    def unwrap(self, wrapped: bytes, scope: str) -> bytes:
        answer = self._ask("decrypt_data", ciphertext=wrapped.decode())
        return b64decode(answer["plaintext"])

    def rewrap(self, wrapped: bytes, scope: str) -> bytes:
        answer = self._ask("rewrap_data", ciphertext=wrapped.decode())
        return str(answer["ciphertext"]).encode()

    def _ask(self, verb: str, **arguments: str) -> Any:
        """The `data` of the answer. What the server says of a refusal stays out of the message but for its status."""
        settings = self._settings
        try:
            client = self._hvac.Client(
                url=settings.address,
                token=resolve_secret(settings.token).reveal(),
                namespace=settings.namespace or None,
                verify=settings.ca or True,
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            ask = getattr(client.secrets.transit, verb)
            return ask(name=settings.key, mount_point=settings.mount, **arguments)["data"]
        except ConfigError as error:
            raise VaultUnavailable(f"vault.transit.token: {error}") from None
        except self._hvac.exceptions.InvalidRequest:
            raise SealBroken(f"transit key {settings.key!r} does not open what is wrapped") from None
        except self._hvac.exceptions.VaultError as error:
            reason = f"it refuses ({type(error).__name__})"
            raise VaultUnavailable(f"transit at {settings.address} cannot be used: {reason}") from None
        except (self._requests.RequestException, KeyError, TypeError, ValueError) as error:
            reason = f"no answer ({type(error).__name__})"
            raise VaultUnavailable(f"transit at {settings.address} cannot be used: {reason}") from None
