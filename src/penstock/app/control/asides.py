"""Credentials that are set aside: what workers have heard of them, told to the other workers, those of other boxes
too, and to whoever watches.

A credential leaves the list when a worker reports that it is taken again, or when it has another value.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import structlog

from penstock.app.link import CredentialHeard
from penstock.control.changes import Aside
from penstock.domain.snapshot import Change, Credential, Provider
from penstock.records.metrics import Metrics
from penstock.records.receipts import rfc3339
from penstock.upstream.credentials import AGAIN_S, Heard, mark_of

log = structlog.get_logger()


class _Aside(NamedTuple):
    heard: Heard
    node: str
    since: int


class Asides:
    """Those of this box. `broadcast` sends a message to every worker; `tell_others` is told what is news here."""

    def __init__(
        self,
        metrics: Metrics,
        broadcast: Callable[[CredentialHeard], None],
        tell_others: Callable[[Heard], None] = lambda _: None,
    ) -> None:
        self._metrics = metrics
        self._broadcast = broadcast
        self._tell_others = tell_others
        self._asides: dict[tuple[str, str], _Aside] = {}
        self._elsewhere: dict[tuple[str, str], tuple[Aside, float]] = {}

    def hear(self, node: str, heard: Heard) -> None:
        """Takes in what a worker says, and tells all of them, and the other boxes, when it is news."""
        if self._take_in(node, heard):
            self._tell_others(heard)

    def hear_elsewhere(self, told: Aside, providers: Mapping[str, Provider], keyed: Callable[[str], str]) -> None:
        """Takes in what another box says, which has told everybody: what its provider rejects is rejected here, where
        it is the same value. This box may yet have to open that. `keyed`: what a mark is between boxes."""
        self._elsewhere[told.provider, told.credential] = (told, time.monotonic() + AGAIN_S)
        self.look_again(providers, keyed)

    def look_again(self, providers: Mapping[str, Provider], keyed: Callable[[str], str]) -> None:
        """What other boxes have said of values that are known here by now."""
        for place, (told, until_s) in list(self._elsewhere.items()):
            provider = providers.get(told.provider)
            credential = None if provider is None else _named(provider, told.credential)
            if credential is not None and keyed(mark_of(credential)) == told.mark:
                self._take_in(f"box {told.box}", Heard(*place, mark_of(credential), told.verdict))
            elif until_s > time.monotonic():
                continue
            del self._elsewhere[place]

    def _take_in(self, node: str, heard: Heard) -> bool:
        """Whether it was news."""
        place, before = (heard.provider, heard.credential), self._asides.get((heard.provider, heard.credential))
        if heard.verdict:
            self._metrics.credential_refused(*place, heard.verdict)
        if heard.verdict == (before.heard.verdict if before and before.heard.mark == heard.mark else ""):
            return False
        if heard.verdict:
            self._asides[place] = _Aside(heard, node, time.time_ns())
            log.warning(
                "a provider refuses a credential, which is set aside: rotate it, or look at its account",
                provider=heard.provider,
                credential=heard.credential,
                verdict=heard.verdict,
                node=node,
            )
        else:
            self._forget(place, "it is taken again")
        self._broadcast(CredentialHeard(heard))
        self._metrics.credentials_aside = frozenset(self._asides)
        return True

    def publish(self, change: Change) -> None:
        """Forgets those that have another value now, or are gone."""
        for provider, name in list(self._asides):
            if provider in change.put_providers:
                found = _named(change.put_providers[provider], name)
                if found is None or mark_of(found) != self._asides[provider, name].heard.mark:
                    self._forget((provider, name), "it has another value")
            elif provider in change.drop_providers:
                self._forget((provider, name), "its provider is gone")
        self._metrics.credentials_aside = frozenset(self._asides)

    def messages(self) -> Iterator[CredentialHeard]:
        """What a worker that has just come has to know."""
        for aside in self._asides.values():
            yield CredentialHeard(aside.heard)

    def shown(self) -> list[dict[str, Any]]:
        return [
            {
                "provider": aside.heard.provider,
                "credential": aside.heard.credential,
                "verdict": aside.heard.verdict,
                "node": aside.node,
                "since": rfc3339(aside.since),
            }
            for aside in self._asides.values()
        ]

    def _forget(self, place: tuple[str, str], reason: str) -> None:
        if self._asides.pop(place, None) is not None:
            log.info("a credential is not set aside any more", provider=place[0], credential=place[1], reason=reason)


def _named(provider: Provider, name: str) -> Credential | None:
    return next((credential for credential in provider.credentials if credential.name == name), None)
