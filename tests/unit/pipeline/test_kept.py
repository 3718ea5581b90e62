"""What a provider keeps, on its way through the pipeline: remembered with the settlement, asked for before the hold."""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from penstock.domain.kept import Kept, owner_of
from penstock.domain.tenancy import Principal
from penstock.errors import StoreUnavailable
from penstock.testing.plane import JSON, SSE, Answer, Caller, Plane

MINE = owner_of(Principal("k1", "ci", team="growth"))
RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "output": [{"type": "message", "id": "msg_1"}, {"type": "code_interpreter_call", "container_id": "cntr_1"}, 5],
    "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    plane.close()


async def call(plane: Plane, *answers: Answer, **members: Any) -> Caller:
    plane.scripts.answers = deque(answers)
    caller = Caller(
        plane.steps, json.dumps({"model": "one", "input": "Hi", "max_output_tokens": 20} | members).encode()
    )
    caller.request.path = caller.request.target = "/v1/responses"
    await plane.serve(caller)
    plane.check()
    return caller


def whole(**members: Any) -> Answer:
    response = {**RESPONSE, "output": RESPONSE["output"][:2], **members}  # type: ignore[index]
    return Answer(json.dumps(response).encode(), headers=[JSON])


def told(kind: str, **members: Any) -> bytes:
    return b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


async def test_an_answer_that_is_kept_is_remembered_in_the_record_that_settles_it(plane: Plane) -> None:
    assert (await call(plane, whole())).status == 200
    assert plane.last().kept == Kept(MINE, ("resp_1", "msg_1", "cntr_1"))


@pytest.mark.parametrize("members", [{"store": False}, {"id": None}, {"id": ""}, {"id": 5}, {"id": "x" * 257}])
async def test_what_the_provider_does_not_keep_is_not_remembered(plane: Plane, members: dict[str, Any]) -> None:
    assert (await call(plane, whole(**members))).status == 200
    assert plane.last().kept is None


async def test_what_the_caller_does_not_want_kept_is_not_remembered(plane: Plane) -> None:
    await call(plane, whole(), store=False)
    assert plane.last().kept is None


async def test_an_output_that_cannot_be_read_still_has_a_response(plane: Plane) -> None:
    assert (await call(plane, whole(output=RESPONSE["output"]))).status == 200
    assert plane.last().kept == Kept(MINE, ("resp_1",))


async def test_a_stream_is_remembered_before_its_ending_is_handed_out_and_not_where_it_is_cut(plane: Plane) -> None:
    begun = (told("response.created", response={"id": "resp_1"}), told("response.output_text.delta", delta="Hi"))
    caller = await call(plane, Answer(*begun, headers=[SSE]), stream=True)
    assert b'"error"' in caller.body
    assert plane.last().kept is None
    ending = told("response.completed", response=RESPONSE)
    caller = await call(plane, Answer(*begun, ending, headers=[SSE]), stream=True)
    assert b"response.completed" in caller.body
    assert plane.last().kept == Kept(MINE, ("resp_1",))


async def test_nothing_is_sent_while_it_cannot_be_known_whose_it_is(plane: Plane) -> None:
    async def away(*_: Any) -> NoReturn:
        raise StoreUnavailable("The gateway's store cannot be reached. Try again.", retry_after_s=2)

    plane.gateway.find_kept = away
    caller = await call(plane, whole(), previous_response_id="resp_1")
    assert (caller.status, caller.headers["x-penstock-error"]) == (503, "store_unavailable")
    assert not plane.scripts.sent
    assert (await call(plane, whole())).status == 200, "a call that goes on with nothing asks nobody"


async def test_a_caller_that_leaves_while_it_is_looked_up_holds_nothing(plane: Plane) -> None:
    await call(plane, whole())
    sent = len(plane.scripts.sent)
    body = {"model": "one", "input": "Hi", "previous_response_id": "resp_1", "max_output_tokens": 20}
    caller = Caller(plane.steps, json.dumps(body).encode())
    caller.request.path = caller.request.target = "/v1/responses"
    plane.steps.at = {plane.steps.count + 2: caller.leave}
    await plane.serve(caller)
    plane.check()
    assert len(plane.scripts.sent) == sent
    assert plane.last().cause == "aborted"
