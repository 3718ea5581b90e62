"""Which of a provider's credentials a call goes with.

By weight, in turns that are as even as can be (the smooth weighted round robin of nginx). One that the provider rejects
is set aside at once, and so is one whose account is empty or, for a moment, at its rate; the others take its calls.
After a while it is tried again, and with a new value at once. When all are set aside, the one that has been for longest
is tried: a refused call costs nothing, and nothing else would show that the trouble is over.

Each worker decides for itself, and tells the control process what it has heard, which tells the others.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from penstock.domain.snapshot import Credential, Provider
from penstock.providers.rejections import Verdict

AGAIN_S = 60.0
"""When a credential that was rejected is tried again."""
LIMITED_S = 5.0
MAX_LIMITED_S = 60.0
"""How long one that is at its rate is spared: what the provider says within this, else `LIMITED_S`."""
TOLD = ("rejected", "exhausted")
"""What others are told of; a rate is over before they would hear of it."""


class Heard(NamedTuple):
    """A verdict on a provider's credential; empty: it is taken again. `mark` tells one value from the next."""

    provider: str
    credential: str
    mark: str
    verdict: Verdict


@dataclass(frozen=True)
class _Aside:
    mark: str
    verdict: Verdict
    until_s: float


class Credentials:
    """Those of one worker. `tell` is called with what others should know; it must not wait. `clock`: seconds since
    some moment."""

    def __init__(
        self, tell: Callable[[Heard], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._aside: dict[tuple[str, str], _Aside] = {}
        self._turns: dict[str, dict[str, int]] = {}

    def choose(self, provider: Provider, team: str, tried: Collection[Credential] = ()) -> Credential | None:
        """The credential for a call of `team`, not one that this call has tried; None where there is none."""
        fit = [credential for credential in _fit(provider, team) if credential not in tried]
        if len(fit) <= 1:
            return fit[0] if fit else None
        free = [credential for credential in fit if not self._is_aside(provider, credential)]
        if not free:
            return min(fit, key=lambda it: self._aside[provider.name, it.name].until_s)
        return self._in_turn(provider.name, [it for it in free if it.weight] or free)

    def named(self, provider: Provider, team: str, name: str) -> Credential | None:
        """The credential of this name, where it is one that calls of `team` may go with."""
        return next((credential for credential in _fit(provider, team) if credential.name == name), None)

    def has_another(self, provider: Provider, team: str, tried: Collection[Credential]) -> bool:
        """Whether one that nothing speaks against has not been tried."""
        fit = _fit(provider, team)
        return any(it not in tried and not self._is_aside(provider, it) for it in fit)

    def heard(self, provider: Provider, credential: Credential | None, verdict: Verdict, again_s: float | None) -> None:
        """What an answer said of the credential that it came to. `again_s`: when the provider says to try again."""
        if credential is None or verdict == "denied":
            return
        place = (provider.name, credential.name)
        if not verdict:
            if self._aside and (aside := self._aside.pop(place, None)) is not None and aside.verdict in TOLD:
                self._tell(Heard(*place, mark_of(credential), ""))
            return
        wait_s = AGAIN_S
        if verdict == "limited":
            wait_s = LIMITED_S if again_s is None else min(max(again_s, 1.0), MAX_LIMITED_S)
        self._aside[place] = _Aside(mark_of(credential), verdict, self._clock() + wait_s)
        if verdict in TOLD:
            self._tell(Heard(*place, mark_of(credential), verdict))

    def learn(self, heard: Heard) -> None:
        """What another worker has heard."""
        place = (heard.provider, heard.credential)
        if heard.verdict:
            self._aside[place] = _Aside(heard.mark, heard.verdict, self._clock() + AGAIN_S)
        else:
            self._aside.pop(place, None)

    def _is_aside(self, provider: Provider, credential: Credential) -> bool:
        """Not any more when its time is over; and not with another value than the one that was refused."""
        aside = self._aside.get((provider.name, credential.name)) if self._aside else None
        return aside is not None and aside.until_s > self._clock() and aside.mark == mark_of(credential)

    def _in_turn(self, provider: str, free: Sequence[Credential]) -> Credential:
        """Each gets its weight; the one that is owed most goes, and pays what all got."""
        turns = self._turns.setdefault(provider, {})
        for credential in free:
            turns[credential.name] = turns.get(credential.name, 0) + (credential.weight or 1)
        chosen = max(free, key=lambda it: turns[it.name])
        turns[chosen.name] -= sum(credential.weight or 1 for credential in free)
        return chosen


def mark_of(credential: Credential) -> str:
    """Tells this value from the next, between processes of this box. It is shown nowhere and kept nowhere."""
    return sha256(credential.value.reveal().encode()).hexdigest()[:16]


def _fit(provider: Provider, team: str) -> list[Credential]:
    """A team's own, where it has any, else those that are everybody's."""
    own = [it for it in provider.credentials if it.team and it.team == team]
    return own or [it for it in provider.credentials if not it.team]
