"""The credentials of declared providers: resolved on this box, kept in memory, bound to the address beside them.

A reference is resolved only where the file that `serve` reads on this box has it, at the same place: whoever may change
the configuration from elsewhere could else read any file and variable of the box by sending it to an address of theirs.
"""

from collections.abc import Sequence

from penstock.config.environment import resolve_secret, vault_name
from penstock.config.settings import Config, DeclaredCredential, DeclaredKey, DeclaredProvider
from penstock.domain.snapshot import Credential
from penstock.errors import ConfigError

_Place = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""A provider's name, kind and address, and its credentials' names and references, but for those to the vault, which
says itself where they may go."""


class DeclaredCredentials:
    """A provider's name and base URL -> its credentials; none for any other address, whoever names it."""

    def __init__(self, providers: Sequence[DeclaredProvider]) -> None:
        """Raises ConfigError when a reference does not resolve."""
        self._providers = providers
        self._known = {
            (provider.name, provider.base_url): _resolved(provider) for provider in providers if provider.credentials
        }

    def adopt(self, providers: Sequence[DeclaredProvider]) -> None:
        """Resolves the references of `providers` as well, which this box may resolve; what it has for the same place
        goes. Raises ConfigError when one does not resolve; nothing is adopted then."""
        found = {(it.name, it.base_url): _resolved(it) for it in providers if it.credentials}
        taken = set(found)
        self._providers = [*providers, *(it for it in self._providers if (it.name, it.base_url) not in taken)]
        self._known |= found

    def adopt_new(self, providers: Sequence[DeclaredProvider]) -> list[str]:
        """As `adopt`, of places for which there is nothing yet: the sentences say what did not resolve."""
        faults = []
        for provider in providers:
            try:
                if provider.credentials and (provider.name, provider.base_url) not in self._known:
                    self.adopt([provider])
            except ConfigError as error:
                faults.append(f"provider {provider.name!r}: {error}")
        return faults

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


class BoxReferences:
    """The references of the file that `serve` reads on this box: as it was at the start, and as it was since."""

    def __init__(self, config: Config) -> None:
        self._providers: set[_Place] = set()
        self._keys: set[tuple[str, str]] = set()
        self.add(config)

    def add(self, config: Config) -> None:
        self._providers |= {_place(provider) for provider in config.providers}
        self._keys |= {(key.name, key.secret) for key in config.keys}

    def have_key(self, key: DeclaredKey) -> bool:
        return (key.name, key.secret) in self._keys

    def have_files(self) -> bool:
        """Whether any key's secret stands in a file, which can change while the process runs."""
        return any(reference.startswith("file:") for _, reference in self._keys)

    def faults_of(self, config: Config) -> list[str]:
        """A sentence for each provider and key of `config` whose references this box must not resolve."""
        advice = (
            "is resolved only from the file that `serve` reads on the box: declare it there in the same words, and "
            "apply again; no restart is needed"
        )
        faults = [
            f"providers.{provider.name}: the credential {credential.value} for {provider.base_url or 'its address'} "
            + advice
            for provider in config.providers
            for credential in _own(provider)
            if _place(provider) not in self._providers
        ]
        return faults + [
            f"keys.{key.name}: the secret {key.secret} {advice}; or make the key with `penstock key create`"
            for key in config.keys
            if not self.have_key(key)
        ]


def _own(provider: DeclaredProvider) -> list[DeclaredCredential]:
    """Its credentials that a box resolves."""
    return [credential for credential in provider.credentials if vault_name(credential.value) is None]


def _place(provider: DeclaredProvider) -> _Place:
    return provider.name, provider.kind, provider.base_url, tuple((it.name, it.value) for it in _own(provider))


def _resolved(provider: DeclaredProvider) -> tuple[Credential, ...]:
    return tuple(Credential(it.name, resolve_secret(it.value)) for it in _own(provider))
