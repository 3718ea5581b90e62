"""Several choices of a model that gives one at a time: as many calls at once, on one hold, settled one by one."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import Reply, WireServer, eventually

KEY = new_secret()
INPUT, OUTPUT = 11, 7
ONE_CALL_NANOUSD = INPUT * 1_000 + OUTPUT * 10_000
HEADERS = [("content-type", "application/json")]


class Poet(WireServer):
    """Speaks Messages, and numbers its answers. `faults`: what becomes of the call of that number."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[int, str] = {}
        self.seen = 0

    def begin(self, **faults: str) -> None:
        self.received.clear()
        self.seen, self.faults = 0, {int(name[1:]): fault for name, fault in faults.items()}

    async def answer(self, reply: Reply) -> None:
        self.seen += 1
        number, fault = self.seen, self.faults.get(self.seen, "")
        if fault in ("refused", "busy"):
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "not so"}}
            await reply.whole(400 if fault == "refused" else 529, HEADERS, json.dumps(error).encode())
        elif fault == "silent":
            return
        elif reply.received.json().get("stream"):
            await self._stream(reply, f"verse {number}", fault)
        else:
            told = {"type": "message", "id": f"msg_{number}", "role": "assistant", "model": "poet"}
            told |= {"content": [{"type": "text", "text": f"verse {number}"}], "stop_reason": "end_turn"}
            usage = {"input_tokens": INPUT, "output_tokens": OUTPUT}
            await reply.whole(200, HEADERS, json.dumps({**told, "usage": usage}).encode())

    async def _stream(self, reply: Reply, text: str, fault: str) -> None:
        message = {"type": "message", "id": "m", "role": "assistant", "model": "poet", "content": []}
        message["usage"] = {"input_tokens": INPUT, "output_tokens": 1}  # type: ignore[assignment]
        block = {"type": "text", "text": ""}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": c}} for c in text),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": OUTPUT}},
            {"type": "message_stop"},
        ]
        await reply.head(200, [("content-type", "text/event-stream")])
        for place, event in enumerate(events):
            if fault == "broken" and place == 4:
                reply.reset()
                return
            if fault == "endless" and place == 4:
                return
            await reply.body(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await reply.end()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Poet, Gateway]]:
    with Poet() as poet:
        credentials = [{"name": "main", "value": "env:LAB_KEY"}]
        config = {
            "providers": [
                {"name": "poet", "kind": "anthropic", "base_url": poet.origin, "credentials": credentials},
                {"name": "spare", "kind": "simulated"},
            ],
            "models": [
                {"name": "verse", "targets": [{"provider": "poet", "model": "poet"}], "price": usd_price(1, 10)},
                {
                    "name": "twice",
                    "targets": [{"provider": "poet", "model": "poet"}, {"provider": "spare", "model": "simulated-1"}],
                    "price": usd_price(1, 10),
                },
            ],
            "teams": [{"name": "growth"}, {"name": "thrifty"}],
            "keys": [
                {"name": "ci", "team": "growth", "secret": "env:CI_KEY"},
                {"name": "poor", "team": "thrifty", "secret": "env:POOR_KEY"},
            ],
            "limits": [
                {"name": "purse", "match": {"team": "growth"}, "unit": "usd", "amount": 10, "per": "day"},
                {"name": "pace", "match": {"team": "growth"}, "unit": "requests", "amount": 1000, "per": "day"},
                {"match": {"team": "growth"}, "unit": "tokens", "amount": 10**6, "per": "day", "mode": "metered"},
                {"name": "crumbs", "match": {"team": "thrifty"}, "unit": "output_tokens", "amount": 50, "per": "day"},
            ],
        }
        environment = {"LAB_KEY": "sk-lab", "CI_KEY": KEY, "POOR_KEY": POOR}
        with Gateway(tmp_path_factory.mktemp("choices"), config, environment) as gateway:
            yield poet, gateway


POOR = new_secret()


def ask(model: str = "verse", n: int = 3, **more: Any) -> dict[str, Any]:
    return {"model": model, "n": n, "max_tokens": 20, "messages": [{"role": "user", "content": "Rhyme."}], **more}


def check_settled(gateway: Gateway, receipt: dict[str, Any]) -> None:
    """The rows add up to the whole, and nothing is held any more."""
    assert sum(row["cost_nanousd"] for row in receipt["attempts"]) == receipt["cost_nanousd"]
    eventually(lambda: gateway.held() == 0, 5, "nothing is held")
    assert receipt["usage"]["requests"] == 1


def test_a_plain_call_gets_a_choice_of_each_answer_and_pays_for_each(stage: tuple[Poet, Gateway]) -> None:
    poet, gateway = stage
    poet.begin()
    answer = gateway.caller(KEY).post("/v1/chat/completions", ask())
    assert answer.status == 200
    told = answer.json()
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in told["choices"]} == {"verse 1", "verse 2", "verse 3"}
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (3 * INPUT, 3 * OUTPUT)
    assert all("n" not in call.json() and call.json()["max_tokens"] == 20 for call in poet.received)
    assert "x-penstock-dropped" not in answer.headers
    receipt = gateway.receipt(answer.request_id)
    assert [row["cost_nanousd"] for row in receipt["attempts"]] == [ONE_CALL_NANOUSD] * 3
    assert [row["n"] for row in receipt["attempts"]] == [1, 2, 3]
    assert (receipt["cost_basis"], receipt["cause"]) == ("computed", "completed")
    assert answer.headers["x-penstock-attempts"] == "3"
    check_settled(gateway, receipt)


@pytest.mark.parametrize("usage", [True, False])
def test_streams_come_as_one_with_every_choice_whole(stage: tuple[Poet, Gateway], usage: bool) -> None:
    poet, gateway = stage
    poet.begin()
    more = {"stream_options": {"include_usage": True}} if usage else {}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(**ask(n=4, stream=True, **more))
        texts: dict[int, str] = {}
        chunks = list(raw.parse())
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert sorted(texts) == [0, 1, 2, 3]
    assert set(texts.values()) == {f"verse {number}" for number in (1, 2, 3, 4)}
    told = [chunk.usage for chunk in chunks if chunk.usage]
    assert [one.completion_tokens for one in told] == ([4 * OUTPUT] if usage else [])
    receipt = gateway.receipt(raw.headers["x-request-id"])
    assert receipt["cost_nanousd"] == 4 * ONE_CALL_NANOUSD
    check_settled(gateway, receipt)


def test_gemini_callers_get_candidates(stage: tuple[Poet, Gateway]) -> None:
    poet, gateway = stage
    poet.begin()
    config = {"candidateCount": 2, "maxOutputTokens": 20}
    body = {"contents": [{"role": "user", "parts": [{"text": "Rhyme."}]}], "generationConfig": config}
    told = gateway.caller(KEY).post("/v1beta/models/verse:generateContent", body).json()
    assert {one["content"]["parts"][0]["text"] for one in told["candidates"]} == {"verse 1", "verse 2"}
    assert [one.get("index", 0) for one in told["candidates"]] == [0, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_one_refusal_is_the_answer_and_what_the_others_used_is_paid(stage: tuple[Poet, Gateway], stream: bool) -> None:
    poet, gateway = stage
    poet.begin(_2="refused")
    answer = gateway.caller(KEY).post("/v1/chat/completions", ask(stream=stream))
    assert (answer.status, answer.error["message"]) == (400, "not so")
    receipt = gateway.receipt(answer.request_id)
    assert (receipt["cause"], len(receipt["attempts"])) == ("failed", 3)
    assert receipt["cost_nanousd"] <= 3 * (20 * 10_000 + 400 * 1_000)
    assert 0 in [row["cost_nanousd"] for row in receipt["attempts"]]
    check_settled(gateway, receipt)


def test_where_all_are_refused_nothing_is_owed(stage: tuple[Poet, Gateway]) -> None:
    poet, gateway = stage
    poet.begin(_1="refused", _2="refused")
    answer = gateway.caller(KEY).post("/v1/chat/completions", ask(n=2))
    assert answer.status == 400
    receipt = gateway.receipt(answer.request_id)
    assert receipt["cause"] == "failed"
    check_settled(gateway, receipt)


def test_a_stream_that_breaks_ends_all_with_an_error_and_settles_them(stage: tuple[Poet, Gateway]) -> None:
    poet, gateway = stage
    poet.begin(_3="broken", _1="endless")
    answer = gateway.caller(KEY).post("/v1/chat/completions", ask(stream=True))
    assert b'"error"' in answer.body
    assert b"[DONE]" not in answer.body
    receipt = gateway.receipt(answer.request_id)
    assert (receipt["cause"], receipt["cost_basis"], len(receipt["attempts"])) == ("failed", "estimated", 3)
    check_settled(gateway, receipt)
    eventually(lambda: all(call.gone_at or call.answered for call in poet.received), 5, "the others were hung up on")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_ends_all_of_them(stage: tuple[Poet, Gateway], stream: bool) -> None:
    poet, gateway = stage
    fault = "endless" if stream else "silent"
    poet.begin(_1=fault, _2=fault, _3=fault)
    call = gateway.caller(KEY).open("/v1/chat/completions", ask(stream=stream))
    eventually(lambda: poet.seen == 3, 5, "all have come")
    call.hang_up()
    eventually(lambda: all(one.gone_at for one in poet.received), 5, "all were hung up on")
    eventually(lambda: gateway.held() == 0, 5, "nothing is held")


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_goes_on_to_the_next_target_and_both_are_in_the_receipt(
    stage: tuple[Poet, Gateway], stream: bool
) -> None:
    poet, gateway = stage
    poet.begin(_2="busy")
    answer = gateway.caller(KEY).post("/v1/chat/completions", ask("twice", n=2, stream=stream))
    assert answer.status == 200
    receipt = gateway.receipt(answer.request_id)
    assert [row["provider"] for row in receipt["attempts"]] == ["poet", "poet", "spare"]
    assert [row["n"] for row in receipt["attempts"]] == [1, 2, 3]
    assert (receipt["provider"], receipt["cause"]) == ("spare", "completed")
    check_settled(gateway, receipt)


def test_what_is_held_is_the_worst_of_all_calls(stage: tuple[Poet, Gateway]) -> None:
    poet, gateway = stage
    poet.begin()
    refused = gateway.caller(POOR).post("/v1/chat/completions", ask(n=3))
    assert (refused.status, refused.headers["x-penstock-error"]) == (429, "rate_limit_exceeded")
    assert poet.seen == 0
    assert gateway.caller(POOR).post("/v1/chat/completions", ask(n=2)).status == 200


def test_there_is_a_bound_on_how_many(stage: tuple[Poet, Gateway]) -> None:
    poet, gateway = stage
    poet.begin()
    answer = gateway.caller(KEY).post("/v1/chat/completions", ask(n=9))
    assert (answer.status, answer.headers["x-penstock-error"]) == (400, "unsupported_by_target")
    assert "at most 8" in answer.error["message"]
    assert poet.seen == 0
