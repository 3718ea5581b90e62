"""The replaying upstream says what was recorded; the bank writes down what it billed."""

from pathlib import Path
from typing import Any

from penstock.testing.bank import Bank
from penstock.testing.caller import Caller
from penstock.testing.replay import RecordedRequest, RecordedResponse, Recording, ReplayProvider, cut, load_recordings
from penstock.testing.wire import eventually

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "traffic"
PATH = "/v1/chat/completions"


def _chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], "user": "call-1", **more}


def test_recordings_are_found_by_surface() -> None:
    surfaces = {recording.surface for recording in load_recordings(GOLDENS, ["embeddings"])}
    assert surfaces == {"embeddings"}


def test_a_recording_is_answered_as_it_stands_however_it_is_cut() -> None:
    text = "data: caf\u00e9 \U0001f30a\n\ndata: [DONE]\n\n"
    response = RecordedResponse(200, {"X-Vendor": "1", "Transfer-Encoding": "chunked"}, text)
    recording = Recording("one", "own", "chat.completions", RecordedRequest(), response, response_kind="sse")
    with ReplayProvider([recording]) as replay:
        for cuts in ("recorded", "random", "bytes", "whole"):
            replay.cuts = cuts
            answer = Caller(replay.origin).post("/replay/one/chat/completions", _chat())
            assert answer.body == text.encode()
            assert answer.headers["x-vendor"] == "1"
        assert len(replay.calls("one")) == 4
        assert Caller(replay.origin).post("/replay/two/chat/completions", _chat()).status == 404


def test_pieces_are_cut_where_they_were_recorded() -> None:
    assert cut(b"abcdef", [1, 2]) == [b"a", b"bc", b"def"]
    assert cut(b"abc", [3]) == [b"abc"]


def test_the_bank_bills_the_callers_cap() -> None:
    with Bank() as bank:
        answer = Caller(bank.origin).post(PATH, _chat(max_tokens=33))
        assert answer.json()["usage"]["completion_tokens"] == 33
        options = {"stream": True, "stream_options": {"include_usage": True}}
        assert b'"completion_tokens":4' in Caller(bank.origin).post(PATH, _chat(max_tokens=4, **options)).body
        assert [(line.call, line.billed_output, line.closed) for line in bank.statement] == [
            ("call-1", 33, True),
            ("call-1", 4, True),
        ]


def test_the_bank_bills_what_it_streamed_to_a_caller_who_hangs_up() -> None:
    with Bank(billing="streamed", delay_ms=5) as bank:
        with Caller(bank.origin).open(PATH, _chat(max_tokens=10_000, stream=True)) as call:
            assert call.read_some()
        line = bank.statement[0]
        eventually(lambda: line.cut, 1, "the bank saw it")
        assert 0 < line.billed_output < 10_000
        assert not line.closed
