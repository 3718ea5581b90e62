"""An Idempotency-Key on its way through the pipeline: taken before anything is held, kept once something was used."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from penstock.domain.policy import Limit
from penstock.domain.snapshot import Kill
from penstock.errors import UpstreamConnectFailed, UpstreamTimeout
from penstock.testing.plane import JSON, Answer, Caller, Plane, body, plain, streamed, world

REFUSED = Answer(b'{"error": {"message": "no"}}', status=500, headers=[JSON])


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    plane.close()


async def call(plane: Plane, *answers: Answer, key: str = "once", **members: Any) -> Caller:
    plane.scripts.answers = deque(answers)
    caller = Caller(plane.steps, body(**members), {"idempotency-key": key})
    await plane.serve(caller)
    return caller


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_request_is_refused_with_the_id_of_the_first(plane: Plane, stream: bool) -> None:
    answer = streamed() if stream else plain()
    first = await call(plane, answer, stream=stream)
    second = await call(plane, answer, stream=stream)
    assert (first.status, second.status) == (200, 409)
    assert second.headers["x-penstock-error"] == "idempotency_conflict"
    assert second.headers["x-should-retry"] == "false"
    assert second.headers["x-penstock-first-request-id"] == first.headers["x-request-id"]
    assert first.headers["x-request-id"] in second.body.decode()
    assert len(plane.scripts.sent) == 1
    plane.check()
    assert (plane.last().cause, plane.last().error_code) == ("refused", "idempotency_conflict")


async def test_another_request_under_the_same_key_is_another_error(plane: Plane) -> None:
    first = await call(plane, plain())
    second = await call(plane, plain(), max_tokens=21)
    assert second.status == 422
    assert second.headers["x-penstock-error"] == "idempotency_mismatch"
    assert second.headers["x-should-retry"] == "false"
    assert second.headers["x-penstock-first-request-id"] == first.headers["x-request-id"]
    assert len(plane.scripts.sent) == 1


async def test_the_same_body_on_another_path_is_another_request(plane: Plane) -> None:
    assert (await call(plane, plain())).status == 200
    caller = Caller(plane.steps, body(input="x"), {"idempotency-key": "both"})
    await plane.serve(caller)
    assert caller.status == 200
    other = Caller(plane.steps, body(input="x"), {"idempotency-key": "both"})
    other.request.path = "/v1/embeddings"
    await plane.serve(other)
    assert other.status == 422


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "a, b", "\x7f", "schl\xfcssel", "k" * 256])
async def test_a_key_that_is_none_is_refused(plane: Plane, key: str) -> None:
    refused = await call(plane, plain(), key=key)
    assert refused.status == 400
    assert b"Idempotency-Key" in refused.body
    assert not plane.scripts.sent and not plane.key_uses.taken


async def test_the_longest_key_is_taken(plane: Plane) -> None:
    assert (await call(plane, plain(), key="~" * 255)).status == 200


async def test_a_call_without_a_key_asks_nothing(plane: Plane) -> None:
    plane.key_uses.away = True
    assert (await plane.call(plain())).status == 200
    assert (await plane.call(plain())).status == 200


async def test_nothing_is_sent_while_it_cannot_be_known_whether_it_was_sent_before(plane: Plane) -> None:
    plane.key_uses.away = True
    refused = await call(plane, plain())
    assert (refused.status, refused.headers["x-penstock-error"]) == (503, "store_unavailable")
    assert refused.headers["retry-after"] == "2"
    assert not plane.scripts.sent
    plane.check()
    plane.key_uses.away = False
    assert (await call(plane, plain())).status == 200


async def test_a_key_is_free_again_after_a_limit_refused_the_call(plane: Plane) -> None:
    full = Limit("full", "full", "requests", 0, "minute")
    plane.gateway.snapshot = world(limits={"full": full})
    assert (await call(plane, plain())).status == 429
    plane.gateway.snapshot = world(limits={"full": structs.replace(full, amount=1)})
    assert (await call(plane, plain())).status == 200
    assert (await call(plane, plain())).status == 409


@pytest.mark.parametrize(
    "answer", [Answer(before=UpstreamConnectFailed("gone")), REFUSED, Answer(b"{}", status=401, headers=[JSON])]
)
async def test_a_key_is_free_again_after_a_provider_refused_the_call(plane: Plane, answer: Answer) -> None:
    assert (await call(plane, answer)).status >= 500
    assert (await call(plane, plain())).status == 200


async def test_a_key_stays_taken_when_the_call_may_have_cost_money(plane: Plane) -> None:
    assert (await call(plane, Answer(unanswered=UpstreamTimeout("late", "first_byte")))).status == 504
    assert (await call(plane, plain())).status == 409


async def test_a_key_stays_taken_when_one_target_of_several_may_have_cost_money(plane: Plane) -> None:
    late = Answer(unanswered=UpstreamTimeout("late", "first_byte"))
    assert (await call(plane, late, REFUSED, model="pair")).status == 500
    assert (await call(plane, plain(), model="pair")).status == 409


async def test_a_caller_that_leaves_at_any_moment_leaves_the_key_taken_just_when_something_was_sent(
    plane: Plane,
) -> None:
    kept = freed = 0
    for step in range(1, 12):
        sent = len(plane.scripts.sent)
        plane.scripts.answers = deque([streamed()])
        caller = Caller(plane.steps, body(stream=True), {"idempotency-key": f"key-{step}"})
        plane.steps.at = {plane.steps.count + step: caller.leave}
        await plane.serve(caller)
        plane.check()
        was_sent = len(plane.scripts.sent) > sent
        assert len(plane.key_uses.taken) == kept + was_sent, step
        kept, freed = kept + was_sent, freed + (not was_sent)
    assert kept and freed


async def test_a_stop_that_comes_while_the_key_is_looked_up_is_obeyed(plane: Plane) -> None:
    def stop() -> None:
        plane.gateway.snapshot = world(version=2, generation=1, kills={1: Kill(1, {"key": "ci"})})
        plane.gateway.cut_killed()

    plane.steps.at = {plane.steps.count + 2: stop}
    assert (await call(plane, plain())).status == 403
    assert not plane.scripts.sent and not plane.key_uses.taken
    plane.check()


async def test_a_virtual_key_that_was_revoked_while_the_key_was_looked_up_sends_nothing(plane: Plane) -> None:
    def revoke() -> None:
        plane.gateway.snapshot = world(version=2, keys=())

    plane.steps.at = {plane.steps.count + 2: revoke}
    assert (await call(plane, plain())).status == 401
    assert not plane.scripts.sent and not plane.key_uses.taken
