"""Key wrappers: who keeps the data keys. Each of them blocks, so that an event loop calls it from a thread."""

from collections.abc import Mapping
from typing import Protocol

from penstock.config.settings import VaultSettings
from penstock.errors import SealBroken
from penstock.vault import envelope
from penstock.vault.kms import KmsWrapper
from penstock.vault.transit import TransitWrapper

ROOT = "root"


class KeyWrapper(Protocol):
    """Wraps data keys under a key that this process does not keep in the store.

    `scope`: the tenant whose key it is; a wrapper that can, binds it. `wrapping_key` says which key wraps now, for
    people and for telling whether something has to be wrapped again; it is no secret. All raise VaultUnavailable when
    whoever keeps that key does not answer or refuses, SealBroken for what it did not wrap.
    """

    name: str

    @property
    def wrapping_key(self) -> str: ...

    def wrap(self, key: bytes, scope: str) -> bytes: ...

    def unwrap(self, wrapped: bytes, scope: str) -> bytes: ...

    def rewrap(self, wrapped: bytes, scope: str) -> bytes:
        """The same data key under the newest version of the wrapping key."""


class RootWrapper:
    """Under the root secret. `key`: derived from it; `fingerprint`: what tells it from another. `previous`: the same of
    the root secret before, which unwraps and never wraps."""

    name = ROOT

    def __init__(self, key: bytes, fingerprint: str, previous: bytes | None = None) -> None:
        self._key = key
        self._fingerprint = fingerprint
        self._previous = previous

    @property
    def wrapping_key(self) -> str:
        return self._fingerprint

    def wrap(self, key: bytes, scope: str) -> bytes:
        return envelope.seal(self._key, key, ("data key", scope))

    def unwrap(self, wrapped: bytes, scope: str) -> bytes:
        try:
            return envelope.unseal(self._key, wrapped, ("data key", scope))
        except SealBroken:
            if self._previous is None:
                raise SealBroken(
                    f"the data key of {scope} is wrapped under another root secret: "
                    "give that one as PENSTOCK_SECRET_PREVIOUS, or this box the secret of the others"
                ) from None
        return envelope.unseal(self._previous, wrapped, ("data key", scope))

    def rewrap(self, wrapped: bytes, scope: str) -> bytes:
        return self.wrap(self.unwrap(wrapped, scope), scope)


def wrappers_of(settings: VaultSettings, root: RootWrapper) -> Mapping[str, KeyWrapper]:
    """Every wrapper that is configured, by name, the root secret's among them. Raises ConfigError where the extra of
    one is not installed."""
    found: dict[str, KeyWrapper] = {root.name: root}
    if settings.transit is not None:
        found[TransitWrapper.name] = TransitWrapper(settings.transit)
    if settings.kms is not None:
        found[KmsWrapper.name] = KmsWrapper(settings.kms)
    return found
