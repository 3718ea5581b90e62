"""Which credential a call goes with: by weight, around those that are set aside, and never another team's."""

from collections import Counter

import pytest

from penstock.domain.snapshot import Credential, Provider, Secret
from penstock.providers.registry import provider_for
from penstock.providers.rejections import judge
from penstock.upstream.credentials import AGAIN_S, Credentials, Heard, mark_of


def credential(name: str, weight: int = 1, team: str = "", value: str = "") -> Credential:
    return Credential(name, Secret(value or f"sk-{name}"), team, weight)


def provider(*credentials: Credential) -> Provider:
    return Provider("lab", "compatible", "http://127.0.0.1:9001/v1", credentials, needs_credential=True)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Worker:
    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[Heard] = []
        self.credentials = Credentials(self.told.append, self.clock)

    def chosen(self, of: Provider, count: int = 1, team: str = "") -> Counter[str]:
        names: Counter[str] = Counter()
        for _ in range(count):
            found = self.credentials.choose(of, team)
            assert found is not None
            names[found.name] += 1
        return names


@pytest.fixture
def worker() -> Worker:
    return Worker()


A, B, C = credential("a", 3), credential("b", 2), credential("c", 1)


def test_calls_are_shared_by_weight_exactly_and_in_turns(worker: Worker) -> None:
    assert worker.chosen(provider(A, B, C), 600) == {"a": 300, "b": 200, "c": 100}
    in_turn = [next(iter(worker.chosen(provider(A, B, C)))) for _ in range(6)]
    assert in_turn == ["a", "b", "a", "c", "b", "a"]


def test_a_provider_without_credentials_has_none(worker: Worker) -> None:
    assert worker.credentials.choose(provider(), "") is None


def test_a_rejected_one_is_set_aside_at_once_and_tried_again_after_a_while(worker: Worker) -> None:
    of = provider(A, B)
    worker.credentials.heard(of, A, "rejected", None)
    assert worker.told == [Heard("lab", "a", mark_of(A), "rejected")]
    assert worker.chosen(of, 20) == {"b": 20}
    assert worker.credentials.has_another(of, "", [A])
    assert not worker.credentials.has_another(of, "", [A, B])
    worker.clock.now += AGAIN_S + 1
    assert worker.chosen(of, 5)["a"] == 3
    worker.credentials.heard(of, A, "", None)
    assert worker.told[1:] == [Heard("lab", "a", mark_of(A), "")]
    worker.credentials.heard(of, A, "", None)
    assert len(worker.told) == 2


def test_a_new_value_is_not_set_aside_with_the_old_one(worker: Worker) -> None:
    worker.credentials.heard(provider(A, B), A, "rejected", None)
    rotated = provider(credential("a", 3, value="sk-new"), B)
    assert worker.chosen(rotated, 5) == {"a": 3, "b": 2}
    assert worker.credentials.has_another(rotated, "", [A, B])


def test_when_all_are_set_aside_the_one_that_is_longest_is_tried(worker: Worker) -> None:
    of = provider(A, B)
    worker.credentials.heard(of, A, "rejected", None)
    worker.clock.now += 1
    worker.credentials.heard(of, B, "exhausted", None)
    assert worker.chosen(of, 3) == {"a": 3}
    assert worker.chosen(provider(A), 3) == {"a": 3}


def test_one_at_its_rate_is_spared_for_as_long_as_the_provider_says_and_nobody_is_told(worker: Worker) -> None:
    of = provider(A, B)
    worker.credentials.heard(of, A, "limited", 20)
    assert worker.chosen(of, 5) == {"b": 5}
    worker.clock.now += 21
    assert worker.chosen(of, 5)["a"] == 3
    worker.credentials.heard(of, A, "limited", None)
    worker.clock.now += 6
    assert worker.chosen(of, 5)["a"] == 3
    assert worker.told == []


def test_a_denied_call_says_nothing_of_the_others(worker: Worker) -> None:
    worker.credentials.heard(provider(A, B), A, "denied", None)
    assert worker.chosen(provider(A, B), 5)["a"] == 3


def test_weight_nothing_is_for_when_no_other_can_serve(worker: Worker) -> None:
    of = provider(A, credential("spare", 0))
    assert worker.chosen(of, 20) == {"a": 20}
    worker.credentials.heard(of, A, "rejected", None)
    assert worker.chosen(of, 20) == {"spare": 20}


def test_a_teams_own_serve_that_team_and_nobody_else(worker: Worker) -> None:
    of = provider(A, credential("own", team="growth"))
    assert worker.chosen(of, 4, "growth") == {"own": 4}
    assert worker.chosen(of, 4, "other") == {"a": 4}
    assert worker.chosen(of, 4) == {"a": 4}
    assert worker.credentials.choose(provider(credential("own", team="growth")), "other") is None


def test_what_a_call_has_tried_it_does_not_try_again(worker: Worker) -> None:
    first = worker.credentials.choose(provider(A, B), "")
    assert first is not None
    second = worker.credentials.choose(provider(A, B), "", [first])
    assert {first, second} == {A, B}
    assert worker.credentials.choose(provider(A, B), "", [A, B]) is None


def test_a_worker_learns_from_the_others(worker: Worker) -> None:
    worker.credentials.learn(Heard("lab", "a", mark_of(A), "rejected"))
    assert worker.chosen(provider(A, B), 4) == {"b": 4}
    worker.credentials.learn(Heard("lab", "a", mark_of(A), ""))
    assert worker.chosen(provider(A, B), 5)["a"] == 3
    assert worker.told == []


@pytest.mark.parametrize(
    ("kind", "status", "body", "verdict"),
    [
        ("openai", 401, b"", "rejected"),
        ("compatible", 407, b"", "rejected"),
        ("openai", 403, b"unsupported_country_region_territory", "denied"),
        ("openai", 429, b'{"error": {"code": "insufficient_quota"}}', "exhausted"),
        ("openai", 429, b'{"error": {"code": "rate_limit_exceeded"}}', "limited"),
        ("anthropic", 400, b"Your credit balance is too low to access the API.", "exhausted"),
        ("google", 400, b'{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}', "rejected"),
        ("compatible", 402, b"", "exhausted"),
        ("openai", 400, b"API_KEY_INVALID", ""),
        ("openai", 404, b"", ""),
        ("openai", 500, b"insufficient_quota", ""),
    ],
)
def test_what_a_refusal_says_of_the_credential(kind: str, status: int, body: bytes, verdict: str) -> None:
    assert judge(provider_for(kind), status, body) == verdict
