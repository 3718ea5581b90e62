"""AWS KMS: a symmetric key of the account wraps data keys. Who we are AWS's own chain finds out: an instance's role,
a service account's, the environment.

Source: AWS KMS API reference, "Encrypt", "Decrypt", "ReEncrypt" (read 2026-11). The scope is the encryption context, so
that CloudTrail shows whose key was used.
"""

from importlib import import_module
from typing import Any

from penstock.config.settings import KmsSettings
from penstock.errors import ConfigError, SealBroken, VaultUnavailable

TIMEOUT_S = 5
_NOT_OURS = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class KmsWrapper:
    """Nothing is asked before the first use."""

    name = "kms"

    def __init__(self, settings: KmsSettings) -> None:
        try:
            boto3, config, exceptions = map(import_module, ("boto3", "botocore.config", "botocore.exceptions"))
        except ImportError:
            raise ConfigError("vault.kms needs an extra: pip install 'penstock[aws]'") from None
        self._key = settings.key
        self._refusal = exceptions.ClientError
        self._faults = (exceptions.BotoCoreError, exceptions.ClientError)
        self._client: Any = boto3.client(
            "kms",
            region_name=settings.region,
            endpoint_url=settings.endpoint or None,
            config=config.Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 2}),
        )

    @property
    def wrapping_key(self) -> str:
        return self._key

    def wrap(self, key: bytes, scope: str) -> bytes:
        answer = self._ask("encrypt", KeyId=self._key, Plaintext=key, EncryptionContext=_context(scope))
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, scope: str) -> bytes:
        answer = self._ask("decrypt", CiphertextBlob=wrapped, EncryptionContext=_context(scope))
        return bytes(answer["Plaintext"])

    def rewrap(self, wrapped: bytes, scope: str) -> bytes:
        context = {"SourceEncryptionContext": _context(scope), "DestinationEncryptionContext": _context(scope)}
        answer = self._ask("re_encrypt", CiphertextBlob=wrapped, DestinationKeyId=self._key, **context)
        return bytes(answer["CiphertextBlob"])

    def _ask(self, verb: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, verb)(**arguments)
        except self._faults as error:
            code = error.response["Error"]["Code"] if isinstance(error, self._refusal) else type(error).__name__
            if code in _NOT_OURS:
                raise SealBroken(f"KMS key {self._key!r} does not open what is wrapped") from None
            raise VaultUnavailable(f"AWS KMS cannot be used: {code}") from None


def _context(scope: str) -> dict[str, str]:
    return {"penstock:scope": scope}
