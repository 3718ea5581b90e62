"""The credentials of declared providers: resolved on this box, kept in memory, bound to the address beside them."""

from collections.abc import Sequence

from penstock.config.environment import resolve_secret
from penstock.config.settings import DeclaredProvider
from penstock.domain.snapshot import Credential
from penstock.errors import ConfigError


class DeclaredCredentials:
    """A provider's name and base URL -> its credentials; none for any other address, whoever names it."""

    def __init__(self, providers: Sequence[DeclaredProvider]) -> None:
        """Raises ConfigError when a reference does not resolve."""
        self._providers = providers
        self._known = {
            (provider.name, provider.base_url): _resolved(provider) for provider in providers if provider.credentials
        }

    def __call__(self, name: str, base_url: str) -> tuple[Credential, ...]:
        return self._known.get((name, base_url), ())

    def refresh(self) -> list[str]:
        """Resolves every reference again. One that does not resolve now keeps what it held, because a secret file that
        is being replaced must not stop the traffic; the sentences say which."""
        faults = []
        for provider in self._providers:
            try:
                if provider.credentials:
                    self._known[provider.name, provider.base_url] = _resolved(provider)
            except ConfigError as error:
                faults.append(f"provider {provider.name!r}: {error}")
        return faults


def _resolved(provider: DeclaredProvider) -> tuple[Credential, ...]:
    return tuple(Credential(it.name, resolve_secret(it.value)) for it in provider.credentials)
