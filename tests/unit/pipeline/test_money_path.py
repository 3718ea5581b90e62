"""The money path under hostile conditions: whatever happens, nothing stays held and the numbers add up."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from penstock.app.break_glass import seen_through
from penstock.domain.journal import Hold
from penstock.domain.policy import Limit
from penstock.domain.snapshot import Alias, Deployment, Kill, Provider
from penstock.errors import UpstreamConnectFailed, UpstreamReset, UpstreamTimeout
from penstock.testing.plane import (
    DONE,
    FINISH,
    JSON,
    LIMITS,
    Answer,
    Plane,
    event,
    full_disk,
    plain,
    streamed,
    usage,
    world,
)

Act = Callable[[Plane, Any], None]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    plane.close()


async def interrupted(plane: Plane, step: int, act: Callable[[Any], None], *answers: Answer, **members: Any) -> Any:
    """One call, to whose caller `act` is done at its `step`-th await."""
    caller = plane.caller(**members)
    plane.scripts.answers = deque(answers)
    plane.steps.at = {plane.steps.count + step: lambda: act(caller)}
    await plane.serve(caller)
    return caller


# -- the disk -------------------------------------------------------------------------------------------------------


async def test_a_hold_that_cannot_be_journaled_is_freed_and_nothing_is_sent(plane: Plane) -> None:
    with full_disk(plane):
        caller = await plane.call(plain())
    assert caller.status == 503
    assert caller.headers["x-penstock-error"] == "store_unavailable"
    assert not plane.scripts.sent
    plane.check()
    assert (await plane.call(plain())).status == 200


async def test_a_hold_that_alone_cannot_be_journaled_is_told_as_what_its_caller_saw(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = plane.journal._write

    def no_room_for_holds(records: Any) -> None:
        if isinstance(records[0], Hold):
            with full_disk(plane):
                write(records)
        write(records)

    monkeypatch.setattr(plane.journal, "_write", no_room_for_holds)
    assert (await plane.call(plain())).status == 503
    plane.check()
    assert (plane.last().status, plane.last().error_code, plane.last().cause) == (503, "store_unavailable", "refused")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_settlement_that_cannot_be_written_shows_no_ending_and_is_written_later(
    plane: Plane, stream: bool
) -> None:
    with full_disk(plane) as restore:
        restore()
        answer = streamed() if stream else plain()
        caller = await interrupted(plane, 4, lambda _: restore(full=True), answer, stream=stream)
    assert b"[DONE]" not in caller.body
    assert not plane.gateway.live
    plane.journal.retry_kept()
    plane.check()


async def test_a_caller_that_leaves_while_the_disk_is_full_leaves_no_call_behind(plane: Plane) -> None:
    with full_disk(plane) as restore:
        restore()

        def leave(caller: Any) -> None:
            restore(full=True)
            caller.leave()

        await interrupted(plane, 5, leave, streamed(), stream=True)
        assert not plane.gateway.live
    plane.journal.retry_kept()
    plane.check()
    assert plane.last().cause == "aborted"


async def test_a_broken_attempt_that_cannot_be_written_keeps_its_event_too(plane: Plane) -> None:
    broken = Answer(unanswered=UpstreamReset("broken"))
    with full_disk(plane) as restore:
        restore()
        caller = await interrupted(plane, 3, lambda _: restore(full=True), broken, plain(), model="pair")
    assert caller.status == 503
    plane.journal.retry_kept()
    plane.check()
    assert plane.last().cost_nanousd > 0


async def test_a_second_attempt_that_cannot_be_journaled_keeps_what_the_first_one_owes(plane: Plane) -> None:
    with full_disk(plane) as restore:
        restore()
        broken = Answer(unanswered=UpstreamReset("broken"))
        await interrupted(plane, 4, lambda _: restore(full=True), broken, plain(), model="pair")
    plane.journal.retry_kept()
    plane.check()
    assert [attempt.cost_nanousd > 0 for attempt in plane.last().attempts] == [True, False]


def test_a_closed_journal_writes_into_no_other_file(tmp_path: Path) -> None:
    plane = Plane(tmp_path)
    plane.close()
    other = (tmp_path / "other").open("wb")
    caller = asyncio.run(plane.call(plain()))
    assert caller.status == 503
    other.close()
    assert (tmp_path / "other").stat().st_size == 0


# -- cuts -----------------------------------------------------------------------------------------------------------


async def test_an_answer_whose_head_cannot_be_written_is_settled(plane: Plane) -> None:
    answer = streamed()
    answer.headers = [("content-type", "text/event-stream"), ("x-bad", "a\nb")]
    caller = await plane.call(answer, stream=True)
    assert caller.status == 500
    plane.check()


async def test_a_key_that_is_revoked_while_its_body_arrives_is_refused(plane: Plane) -> None:
    def revoke(_: Any) -> None:
        plane.gateway.snapshot = world(version=2, keys=())

    caller = await interrupted(plane, 1, revoke, plain())
    assert caller.status == 401
    assert not plane.scripts.sent
    plane.check()


async def test_a_call_whose_body_arrives_when_the_gateway_drains_is_refused(plane: Plane) -> None:
    caller = await interrupted(plane, 1, lambda _: setattr(plane.gateway, "draining", True), plain())
    assert caller.headers["x-penstock-error"] == "overloaded"
    assert not plane.scripts.sent
    plane.check()


async def test_slow_bodies_do_not_pass_the_bound_on_concurrent_calls(plane: Plane) -> None:
    plane.gateway.snapshot = world(server=structs.replace(plane.gateway.snapshot.server, max_concurrent_calls=2))
    plane.scripts.answers = deque([plain()])
    callers = [plane.caller() for _ in range(6)]
    await asyncio.gather(*[plane.serve(caller) for caller in callers])
    assert sorted(caller.status for caller in callers) == [200, 200, 503, 503, 503, 503]
    plane.check()


async def test_a_provider_that_is_removed_under_way_is_passed_over(plane: Plane) -> None:
    def remove(_: Any) -> None:
        known = dict(plane.gateway.snapshot.providers)
        del known["lab2"]
        plane.gateway.snapshot = world(version=2, providers=known, limits={})

    broken = Answer(unanswered=UpstreamReset("broken"))
    caller = await interrupted(plane, 3, remove, broken, plain(), model="pair")
    assert caller.status == 502
    plane.check()
    assert plane.last().error_code == "upstream_unreachable"


async def test_a_declared_model_that_is_removed_while_its_body_arrives_is_not_looked_up_elsewhere(plane: Plane) -> None:
    def remove(_: Any) -> None:
        plane.gateway.snapshot = world(version=2, aliases={})

    caller = await interrupted(plane, 1, remove, plain())
    assert caller.status == 404
    plane.check()


async def test_a_kill_between_two_attempts_ends_the_call(plane: Plane) -> None:
    def kill(_: Any) -> None:
        plane.gateway.snapshot = world(version=2, generation=1, kills={1: Kill(1, {"team": "growth"})})

    caller = await interrupted(plane, 3, kill, Answer(unanswered=UpstreamReset("x")), plain(), model="pair")
    assert caller.headers["x-penstock-error"] == "killed"
    plane.check()
    assert plane.last().cause == "killed"
    assert len(plane.scripts.sent) == 1


async def test_the_break_glass_file_refuses_as_itself_also_when_nobody_vouches_for_the_snapshot(plane: Plane) -> None:
    clear = plane.gateway.snapshot
    plane.gateway.snapshot = seen_through(clear, True)
    plane.up += 46 * 10**9
    caller = await plane.call(plain())
    assert (caller.status, caller.headers["x-penstock-error"]) == (403, "killed")
    assert plane.last().cause == "killed"
    plane.gateway.snapshot = seen_through(plane.gateway.snapshot, False)
    assert (await plane.call(plain())).status == 503
    assert not plane.scripts.sent


async def test_a_clock_that_is_set_back_keeps_no_stale_box_admitting(plane: Plane) -> None:
    plane.now -= 3_600 * 10**9
    plane.up += 46 * 10**9
    assert (await plane.call(plain())).status == 503
    plane.gateway.confirm_fresh()
    assert (await plane.call(plain())).status == 200


# -- what the provider says -----------------------------------------------------------------------------------------


async def test_a_call_that_another_target_answered_is_completed(plane: Plane) -> None:
    caller = await plane.call(Answer(unanswered=UpstreamReset("x")), plain(), model="pair")
    assert caller.status == 200
    plane.check()
    told = plane.last()
    assert (told.cause, told.error_code, told.status) == ("completed", "", 200)
    assert [attempt.error_code for attempt in told.attempts] == ["upstream_reset", ""]
    assert plane.settled()["calls"] == 1


async def test_an_empty_stream_is_a_failure_that_the_next_target_may_cure(plane: Plane) -> None:
    caller = await plane.call(Answer(), streamed(), model="pair", stream=True)
    assert caller.headers["x-penstock-attempts"] == "2"
    plane.check()


@pytest.mark.parametrize(
    "report",
    [
        [],
        "many",
        7,
        {"prompt_tokens": -1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": 10**30, "completion_tokens": 1},
        {"total_tokens": 5, "completion_tokens": 10},
        {"prompt_tokens": "9", "completion_tokens": None},
        {"prompt_tokens": 1, "prompt_tokens_details": []},
        {"prompt_tokens": True},
        {"prompt_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": None, "total_tokens": None},
        {"completion_tokens": 1},
        {"prompt_tokens": None, "completion_tokens": 1},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_report_that_cannot_be_true_is_not_believed_and_the_answer_passes(
    plane: Plane, report: Any, stream: bool
) -> None:
    answer = Answer(event("Hello"), event(usage=report), FINISH, DONE) if stream else plain(usage=report)
    caller = await plane.call(answer, stream=stream, stream_options={"include_usage": True} if stream else None)
    assert caller.status == 200
    assert caller.ended
    plane.check()
    assert plane.last().cost_basis == "estimated"
    assert plane.last().cost_nanousd > 0


async def test_of_the_reports_along_a_stream_the_last_one_counts(plane: Plane) -> None:
    def report(prompt: int, completion: int) -> bytes:
        return event("Hello", usage={"prompt_tokens": prompt, "completion_tokens": completion})

    asked = {"stream": True, "stream_options": {"include_usage": True}}
    await plane.call(Answer(report(-1, 1), report(9, 3), FINISH, DONE), **asked)
    assert (plane.last().cost_basis, plane.last().usage.output) == ("computed", 3)
    await plane.call(Answer(report(9, 1), *[event("Hello")] * 4, report(9, -7), FINISH, DONE), **asked)
    assert (plane.last().cost_basis, plane.last().flags) == ("estimated", ("hostile_usage",))
    assert (plane.last().usage.input, plane.last().usage.output) == (9, 6)
    plane.check()


async def test_half_a_report_is_charged_with_what_was_counted_for_the_other_half(plane: Plane) -> None:
    await plane.call(plain(usage={"prompt_tokens": 9}))
    assert plane.last().usage.input == 9 and plane.last().usage.output > 0
    await plane.call(plain(usage={"prompt_tokens": 10**8}))
    assert plane.last().usage.input < 10**4
    plane.check()


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"usage":null,"choices":[],"deep":' + b"[" * 80 + b"]" * 80 + b"}\n\n",
        b'data: {"choices":[],"usage":null,"text":"\xff\xfe"}\n\n',
        b'data: {"choices":[],"usage":null,"text":"\\ud800","usage":null}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ud800"},"finish_reason":"stop"}]}\n\n',
        b'data: {"error":' + b"[" * 600 + b"]" * 600 + b"}\n\n",
        b"data: {" * 50 + b"\n\n",
        b'data: {"choices":{"a":1},"usage":{"prompt_tokens":1}}\n\n',
        b'data: [1,2,{"usage":{"prompt_tokens":1}}]\n\n',
    ],
)
async def test_a_hostile_chunk_is_the_providers_fault_and_never_the_callers(plane: Plane, chunk: bytes) -> None:
    for answer in (Answer(chunk, event("x"), FINISH, DONE), Answer(event("x"), chunk, FINISH, DONE)):
        caller = await plane.call(answer, stream=True)
        assert caller.status in (200, 502)
        plane.check()
        assert plane.last().cause in ("completed", "failed")
        assert plane.last().error_code in ("", "upstream_malformed", "upstream_error")


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 900 + b"]" * 900,
        b'{"error":' + b"[" * 600 + b"]" * 600 + b"}",
        b"1" * 400,
        b'{"error":1e999}',
    ],
)
async def test_a_hostile_error_body_reaches_the_caller_in_an_envelope(plane: Plane, status: int, body: bytes) -> None:
    caller = await plane.call(Answer(body, status=status, headers=[JSON]))
    assert caller.status == status
    assert json.loads(caller.body)["error"]["message"]
    plane.check()


async def test_what_a_failed_answer_reports_as_used_is_owed(plane: Plane) -> None:
    error = {"message": "Filtered.", "code": 500}
    for answer, stream in ((plain(error=error), False), (Answer(event(error=error, usage=usage())), True)):
        caller = await plane.call(answer, stream=stream)
        assert caller.status == 500
        plane.check()
        assert plane.last().usage.input == 10
        assert plane.last().cost_nanousd == 10 * 2_000 + 5 * 8_000 + 7


async def test_a_whole_answer_that_cannot_be_read_is_charged_for_its_length(plane: Plane) -> None:
    await plane.call(Answer(b"<html>" + b"x" * 40, headers=[JSON]))
    plane.check()
    assert plane.last().usage.output == 12


async def test_a_plain_answer_that_breaks_in_the_middle_is_charged_in_full(plane: Plane) -> None:
    await plane.call(Answer(b'{"choices"', UpstreamReset("broken"), headers=[JSON]))
    plane.check()
    assert plane.last().usage.output == 20


async def test_an_answer_that_is_no_stream_is_counted(plane: Plane) -> None:
    await plane.call(Answer(b'{"choices":[{"message":{"content":"' + b"x" * 60 + b'"}}]}'), stream=True)
    plane.check()
    assert plane.last().usage.output == 20


async def test_a_stream_that_is_cut_after_its_report_is_charged_what_it_reported(plane: Plane) -> None:
    answer = Answer(event("x"), event(usage=usage(90, 19)), UpstreamReset("broken"))
    await plane.call(answer, stream=True)
    plane.check()
    assert (plane.last().usage.input, plane.last().usage.output) == (90, 19)
    assert plane.last().cost_basis == "estimated"


async def test_a_billed_attempt_owes_the_charge_per_request_and_the_call_counts_once(plane: Plane) -> None:
    await plane.call(Answer(unanswered=UpstreamTimeout("late", "first_byte")), plain(), model="pair")
    plane.check()
    meters = [line.meter for line in plane.last().cost_lines]
    assert meters.count("requests") == 2
    assert plane.settled()["calls"] == 1


@pytest.mark.parametrize(
    "ending", [DONE + DONE, DONE + event("more"), b"", b"\n\n: bye\n\n", DONE + event(usage=usage(9, 9))]
)
async def test_streams_end_once_however_they_end(plane: Plane, ending: bytes) -> None:
    answer = Answer(event("Hello"), FINISH, event(usage=usage()) + event(usage=usage(11, 6)), ending)
    await plane.call(answer, stream=True)
    plane.check()
    assert plane.last().cause == "completed"


@pytest.mark.parametrize("cut", [None, UpstreamReset("gone")])
async def test_what_follows_the_ending_of_a_stream_reaches_the_caller_as_it_came(plane: Plane, cut: Any) -> None:
    """OpenRouter sends `[DONE]` behind a response that is complete. The call is settled by then."""
    response = {"id": "resp_1", "status": "completed", "output": [], "usage": {"input_tokens": 10, "output_tokens": 5}}
    completed = b"data: " + json.dumps({"type": "response.completed", "response": response}).encode() + b"\n\n"
    mark = (b"data: [DO", b"NE]\n\n") if cut is None else (b"data: [DONE]\n\n", cut)
    members = {"input": "Hi", "max_output_tokens": 20}
    caller = await plane.call(Answer(completed, *mark), path="/v1/responses", stream=True, **members)
    assert caller.body == completed + b"data: [DONE]\n\n"
    plane.check()
    event = plane.last()
    assert (event.cause, event.usage.input, event.usage.output) == ("completed", 10, 5)


async def test_a_translated_stream_that_fails_behind_comments_is_answered_by_the_next_target(plane: Plane) -> None:
    """OpenRouter's, which come before anything else."""
    waiting, fault = b": OPENROUTER PROCESSING\n\n", b'data: {"error":{"code":502,"message":"gone"},"choices":[]}\n\n'
    answers = (Answer(waiting, waiting, fault, DONE), Answer(waiting, *streamed().parts))
    caller = await plane.call(*answers, model="pair", path="/v1/messages", stream=True)
    assert (caller.status, caller.headers["x-penstock-attempts"]) == (200, "2")
    assert b"message_stop" in caller.body
    assert b"error" not in caller.body
    plane.check()
    assert plane.last().cause == "completed"
    caller = await plane.call(Answer(waiting, fault), path="/v1/messages", stream=True)
    assert (caller.status, json.loads(caller.body)["error"]["message"]) == (502, "gone")
    plane.check()


FELL = {"message": {"content": "Ra"}, "finish_reason": "network_error"}


async def test_an_answer_that_cannot_be_told_is_an_error_and_owes_what_it_reports(plane: Plane) -> None:
    caller = await plane.call(plain(id="1", choices=[FELL]), path="/v1/messages")
    assert (caller.status, json.loads(caller.body)["error"]["type"]) == (502, "api_error")
    assert b"network_error" in caller.body
    assert caller.headers["retry-after"] == "1"
    plane.check()
    event = plane.last()
    assert (event.cause, event.error_code, event.cost_basis) == ("failed", "upstream_error", "computed")
    assert (event.usage.input, event.usage.output) == (10, 5)


def of_kind(kind: str) -> dict[str, Provider]:
    return {name: Provider(name, kind, f"http://{name}.test/v1") for name in ("lab", "lab2")}


@pytest.mark.parametrize(
    ("kind", "is_held"), [("openai", True), ("mistral", True), ("cerebras", False), ("compatible", False)]
)
@pytest.mark.parametrize("surface", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_without_its_mark_was_cut_where_the_vendor_marks_each_ending(
    plane: Plane, kind: str, is_held: bool, surface: str
) -> None:
    plane.gateway.snapshot = world(providers=of_kind(kind))
    caller = await plane.call(Answer(event("Hello", id="1"), FINISH), path=surface, stream=True)
    assert caller.status == 200
    assert (b"error" in caller.body) == is_held
    plane.check()
    told = ("failed", "upstream_reset") if is_held else ("completed", "")
    assert (plane.last().cause, plane.last().error_code) == told
    assert plane.last().cost_basis == "estimated"
    whole = await plane.call(Answer(event("Hello", id="1"), FINISH, b"data: [DONE]"), path=surface, stream=True)
    assert b"error" not in whole.body


async def test_a_stream_that_is_cut_between_its_choices_is_held_to_its_mark_as_well(plane: Plane) -> None:
    plane.gateway.snapshot = world(providers=of_kind("azure"))
    each = [event(choices=[{"index": at, "delta": {"content": "x"}, "finish_reason": "stop"}]) for at in (0, 1)]
    await plane.call(Answer(*each), stream=True, n=2)
    plane.check()
    assert plane.last().error_code == "upstream_reset"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_target_that_a_limit_of_its_own_refuses_leaves_one_event(plane: Plane, stream: bool) -> None:
    none = Limit("none", "none", "requests", 0, "day", match=(("provider", "lab2"),))
    plane.gateway.snapshot = world(limits={**LIMITS, "none": none})
    caller = await plane.call(Answer(status=500, headers=[JSON]), model="pair", stream=stream)
    assert caller.status in (429, 500)
    plane.check()
    assert len(plane.events()) == 1


# -- the worst case -------------------------------------------------------------------------------------------------


def held_for(plane: Plane, **members: Any) -> dict[str, int]:
    """What the hold of one call was, per limit."""
    asyncio.run(plane.call(Answer(unanswered=UpstreamConnectFailed("gone")), **members))
    hold = next(record for record in plane.records() if isinstance(record, Hold))
    return {charge.limit: charge.amount for charge in hold.charges}


@pytest.mark.parametrize("members", [{"documents": ["x" * 500]}, {"system": "x" * 500}, {"a": {"b": "x" * 500}}])
def test_members_that_nobody_knows_are_held_as_text(plane: Plane, members: Any) -> None:
    assert held_for(plane, **members)["tokens"] > 500


def test_a_prediction_counts_on_top_of_a_cap_that_the_caller_did_not_give(plane: Plane) -> None:
    prediction = {"type": "content", "content": "x" * 900}
    held = held_for(plane, prediction=prediction, max_tokens=None)
    assert held["tokens"] >= 900 + 100 + 900


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://films.test/long.mp4"}},
        {"type": "input_audio", "input_audio": {"data": "https://sounds.test/long.mp3", "format": "mp3"}},
    ],
)
def test_content_that_is_elsewhere_is_held_at_the_whole_context_window(plane: Plane, part: Any) -> None:
    assert held_for(plane, messages=[{"role": "user", "content": [part]}])["tokens"] == 4_000 + 20


def test_an_answer_that_the_vendor_keeps_is_held_at_the_whole_context_window(plane: Plane) -> None:
    messages = [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "Again."}]
    assert held_for(plane, messages=messages)["tokens"] == 4_000 + 20


def test_no_window_at_all_is_held_at_the_largest_that_is_sold(plane: Plane) -> None:
    target = Deployment("lab", "first", None)
    plane.gateway.snapshot = world(aliases={"one": Alias("one", (target,))}, limits={"tokens": LIMITS["tokens"]})
    part = {"type": "file", "file": {"file_id": "file-1"}}
    assert held_for(plane, messages=[{"role": "user", "content": [part]}])["tokens"] == 2_000_000 + 20


@pytest.mark.parametrize(
    "content",
    [
        '[{"type":"image\\u005furl","image_url":{"url":"https://pictures.test/1"}}]',
        '[{"typ\\u0065":"image_url","image\\u005furl":{"url":"https://pictures.test/1"}}]',
        '[{"image_url":{"url":"https://pictures.test/1"}}]',
        '[{"type":"text","text":"x","image_url":"https://pictures.test/1"}]',
    ],
)
def test_an_image_is_held_by_whatever_name_it_comes(plane: Plane, content: str) -> None:
    caller = plane.caller()
    caller.sent = f'{{"model":"one","max_tokens":20,"messages":[{{"role":"user","content":{content}}}]}}'.encode()
    plane.scripts.answers = deque([plain()])
    asyncio.run(plane.serve(caller))
    hold = next(record for record in plane.records() if isinstance(record, Hold))
    assert next(charge.amount for charge in hold.charges if charge.limit == "tokens") > 2_000


def test_a_server_that_may_know_the_older_name_of_the_cap_alone_is_sent_that_one(plane: Plane) -> None:
    asyncio.run(plane.call(plain(), max_tokens=None, max_completion_tokens=3))
    sent = json.loads(plane.scripts.sent[0].body)
    assert sent["max_tokens"] == 3
    assert "max_completion_tokens" not in sent


def test_the_one_report_that_was_asked_for_is_the_one_that_is_sent(plane: Plane) -> None:
    caller = plane.caller()
    twice = '{"include_usage":false,"include_usage":true}'
    caller.sent = (
        '{"model":"one","max_tokens":20,"stream":true,"stream_options":'
        f'{twice},"messages":[{{"role":"user","content":"hi"}}]}}'
    ).encode()
    plane.scripts.answers = deque([streamed()])
    asyncio.run(plane.serve(caller))
    assert plane.scripts.sent[0].body.count(b"include_usage") == 1


async def test_a_kill_after_the_ending_says_nothing_more(plane: Plane) -> None:
    def kill(_: Any) -> None:
        plane.gateway.snapshot = world(version=2, generation=1, kills={1: Kill(1, {"team": "growth"})})
        assert plane.gateway.cut_killed() == 0

    answer = streamed()
    answer.parts = (b"".join(part for part in answer.parts if isinstance(part, bytes)), b"\n", b"\n")
    caller = await interrupted(plane, 6, kill, answer, stream=True)
    assert caller.ended
    assert caller.body.endswith(DONE + b"\n\n")
    plane.check()
    assert plane.last().cause == "completed"
