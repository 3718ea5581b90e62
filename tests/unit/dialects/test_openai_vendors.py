"""What vendors of OpenAI's dialect do in their own way: where they report usage and errors, how they name reasons to
finish, and tell reasoning and sources. The shapes are those of their documentation."""

import json
from typing import Any

import pytest
from tests.laws.conversations import decode_in_pieces

from penstock.dialects.base import Reading
from penstock.dialects.codec import TargetFacts
from penstock.dialects.openai_chat import ChatCompletions
from penstock.dialects.openai_responses import Responses
from penstock.dialects.refusals import refusal_as_told
from penstock.domain.chat import Answer, Choice, Citation, Text, Thinking, ToolCall
from penstock.domain.stream import Failed, collect
from penstock.domain.usage import Usage
from penstock.errors import UpstreamMalformed

CHAT = ChatCompletions()
CODEC = CHAT.codec
ASKED = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"a"}]}'
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SOURCES = [{"title": "A", "url": "https://a.example", "snippet": "said"}, {"title": "B", "url": "https://b.example"}]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more.pop("choice", {})}
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return {**head, "choices": [choice], **more}


def stream(*chunks: dict[str, Any], done: bool = True) -> bytes:
    told = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks)
    return told + b"data: [DONE]\n\n" if done else told


def plain(message: dict[str, Any], finish: str = "stop", **more: Any) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": finish,
        **more.pop("choice", {}),
    }
    return json.dumps({"id": "c-1", "model": "m", "created": 5, "choices": [choice], "usage": USAGE, **more}).encode()


def tee_of(sent: bytes) -> Any:
    tee = CHAT.tee(CHAT.parse(ASKED), False)
    assert sent.startswith(tee.feed(sent))
    return tee


def read(sent: bytes) -> Reading:
    reading: Reading = tee_of(sent).reading
    return reading


def told(sent: bytes) -> Answer:
    answer = collect(decode_in_pieces(CODEC.decoder(), sent, 1))
    assert answer == collect(decode_in_pieces(CODEC.decoder(), sent, 2))
    return answer


def used(usage: dict[str, Any]) -> Usage | None:
    return CHAT.read(plain({"content": "a"}, usage=usage)).usage


# -- usage ------------------------------------------------------------------------------------------------------------


def test_usage_in_a_choice_is_read() -> None:
    """Moonshot's, in the last chunk."""
    usage = {**USAGE, "cached_tokens": 4}
    sent = stream(chunk({"content": "Hi"}), chunk({}, "stop", choice={"usage": usage}))
    expected = Usage(input=6, output=5, cache_read=4)
    assert read(sent).usage == told(sent).usage == expected


@pytest.mark.parametrize("malformed", [[], "", "none", 0, True, [{"cached_tokens": 4}]])
def test_details_that_are_no_object_are_none_and_the_rest_of_the_report_stands(malformed: Any) -> None:
    details = {"prompt_tokens_details": malformed, "completion_tokens_details": malformed}
    expected = Usage(input=10, output=5)
    assert used({**USAGE, **details}) == expected
    assert CODEC.decode_answer(plain({"content": "a"}, usage={**USAGE, **details})).usage == expected
    spent = {
        "input_tokens": 10,
        "output_tokens": 5,
        "input_tokens_details": malformed,
        "output_tokens_details": malformed,
    }
    reading = Responses().read(json.dumps({"id": "resp_1", "status": "completed", "usage": spent}).encode())
    assert (reading.usage, reading.hostile) == (expected, False)


def test_details_may_be_written_with_a_fraction_of_zero() -> None:
    assert used({**USAGE, "prompt_tokens_details": {"cached_tokens": 4.0}}) == Usage(6, 5, 4)
    assert used({**USAGE, "prompt_tokens_details": {"audio_tokens": 4.5}}) is None


def test_what_alibaba_writes_to_its_cache_is_a_class_of_its_own() -> None:
    details = {"cached_tokens": 2, "cache_creation_input_tokens": 3}
    assert used({**USAGE, "prompt_tokens_details": details}) == Usage(5, 5, 2, {"5m": 3})
    lifetimes = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    details |= {"cache_creation": lifetimes}
    assert used({**USAGE, "prompt_tokens_details": details}) == Usage(1, 5, 2, {"5m": 3, "1h": 4})


def test_what_perplexity_read_and_thought_for_its_research_is_billed_beside_the_total() -> None:
    apart = {"citation_tokens": 20, "reasoning_tokens": 3, "num_search_queries": 2}
    assert used({**USAGE, **apart}) == Usage(input=30, output=8, reasoning=3, web_searches=2)


def test_reasoning_beside_the_details_is_a_part_of_the_completion() -> None:
    """SGLang's."""
    assert used({**USAGE, "reasoning_tokens": 3}) == Usage(input=10, output=5, reasoning=3)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"audio_tokens": 375}, Usage(input=10, output=5, audio_in=375)),
        ({"audio_tokens": 375, "cached_tokens": 9}, Usage(input=1, output=5, cache_read=9, audio_in=375)),
        ({}, Usage(input=10, output=5, audio_in=375)),
    ],
)
def test_a_sound_that_mistral_heard_is_in_its_total_alone(details: dict[str, Any], expected: Usage) -> None:
    usage = {**USAGE, "total_tokens": 390, "prompt_audio_seconds": 3, "prompt_tokens_details": details}
    assert used(usage) == expected
    assert used({**USAGE, "prompt_audio_seconds": {}}) == Usage(input=10, output=5)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"cache_read_input_tokens": 900, "total_tokens": 915}, Usage(input=10, output=5, cache_read=900)),
        ({"cache_write_input_tokens": 9, "total_tokens": 24}, Usage(input=10, output=5, cache_write={"5m": 9})),
        ({"cache_read_input_tokens": 900}, Usage(input=10, output=5, cache_read=900)),
        ({"cache_read_input_tokens": 6}, Usage(input=4, output=5, cache_read=6)),
        (
            {"cache_read_input_tokens": 6, "cache_creation_input_tokens": 3},
            Usage(input=1, output=5, cache_read=6, cache_write={"5m": 3}),
        ),
        (
            {"cache_read_input_tokens": 6, "prompt_tokens_details": {"cached_tokens": 6}},
            Usage(input=4, output=5, cache_read=6),
        ),
        ({"cache_read_input_tokens": 0, "total_tokens": 20}, Usage(input=10, output=10)),
    ],
)
def test_what_is_told_of_a_cache_beside_the_prompt_is_in_it_unless_the_total_says_otherwise(
    told: dict[str, Any], expected: Usage
) -> None:
    assert used({**USAGE, **told}) == expected
    assert used({**USAGE, "cache_read_input_tokens": -1}) is None


def test_pictures_and_films_are_told_apart_within_what_went_in_and_came_out() -> None:
    into = {"cached_tokens": 2, "image_tokens": 5, "video_tokens": 9}
    usage = {**USAGE, "prompt_tokens_details": into, "completion_tokens_details": {"image_tokens": 4}}
    assert used(usage) == Usage(input=8, output=5, cache_read=2, image_in=5, video_in=3, image_out=4)
    assert used({**USAGE, "completion_tokens_details": {"image_tokens": "4"}}) is None


def test_searches_that_openrouter_ran_are_counted() -> None:
    usage = {**USAGE, "server_tool_use_details": {"web_search_requests": 2, "tool_calls_executed": 3}}
    assert used(usage) == Usage(input=10, output=5, web_searches=2)
    assert used({**USAGE, "server_tool_use_details": {"tool_calls_executed": 3}}) == Usage(input=10, output=5)
    assert used({**USAGE, "server_tool_use_details": {"web_search_requests": -1}}) is None


@pytest.mark.parametrize(
    ("calls", "searches"), [({"search_web": {"invocation": 2}}, 2), ({"fetch_url": {"invocation": 2}}, 0), ([], 0)]
)
def test_a_response_of_perplexity_tells_its_cache_and_its_searches(calls: Any, searches: int) -> None:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cache_creation_input_tokens": 3, "cache_read_input_tokens": 6},
        "output_tokens": 5,
        "tool_calls_details": calls,
    }
    told = Responses().read(json.dumps({"status": "completed", "output": [], "usage": usage}).encode()).usage
    assert told == Usage(input=1, output=5, cache_read=6, cache_write={"5m": 3}, web_searches=searches)


def test_whole_counts_may_be_written_with_a_fraction_of_zero() -> None:
    assert used({name: float(count) for name, count in USAGE.items()}) == Usage(input=10, output=5)
    assert used({**USAGE, "completion_tokens": 5.5}) is None


@pytest.mark.parametrize("name", ["citation_tokens", "reasoning_tokens", "num_search_queries"])
@pytest.mark.parametrize("count", [-1, 10**18, "7", 1.5])
def test_counts_of_a_vendors_own_are_not_believed_when_they_cannot_be_true(name: str, count: Any) -> None:
    assert used({**USAGE, name: count}) is None


# -- reasons to finish ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("sensitive", "content_filter"),
        ("content_filter: RECITATION", "content_filter"),
        ("model_context_window_exceeded", "context"),
        ("network_error", "error"),
        ("abort", "error"),
        ("eos", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("content-filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "refusal"),
    ],
)
def test_a_vendors_own_reason_to_finish_is_understood(word: str, finish: str) -> None:
    for answer in (CODEC.decode_answer(plain({"content": "a"}, word)), told(stream(chunk({"content": "a"}, word)))):
        (choice,) = answer.choices
        assert (choice.finish, choice.native) == (finish, word)


def test_calls_that_end_with_stop_are_to_be_made() -> None:
    """As at OpenAI, when the call was forced, and at servers that know no other reason."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = stream(chunk({"tool_calls": [{"index": 0, **call}]}, "stop"))
    for answer in (CODEC.decode_answer(plain({"content": None, "tool_calls": [call]})), told(sent)):
        assert answer.choices == (Choice((ToolCall("call_1", "f", "{}", origin="openai_chat"),), "tool_calls", "stop"),)


# -- errors -----------------------------------------------------------------------------------------------------------

FAULTS = [
    ({"error": {"message": "x", "type": "t", "status_code": 400}}, 400, "t"),  # Groq
    ({"error": {"message": "x", "type": "t"}, "status_code": 503}, 503, "t"),  # Cerebras
    ({"error": {"message": "x", "type": None, "code": "content_filter", "status": 400}}, 400, ""),  # Azure
    ({"error": {"message": "x", "code": "429", "status": "RESOURCE_EXHAUSTED"}}, 429, ""),
    ({"error": "x", "error_type": "generation"}, 0, ""),  # Text Generation Inference
    ({"object": "error", "message": "x", "type": "t", "param": None, "code": 500}, 500, "t"),  # vLLM, Mistral
    ({"x_groq": {"id": "req_1", "error": "x"}}, 0, ""),  # Groq
    ({"base_resp": {"status_code": 1002, "status_msg": "x"}, "choices": None}, 429, ""),  # MiniMax
    ({"base_resp": {"status_code": 2013, "status_msg": "x"}, "choices": []}, 400, ""),
    ({"base_resp": {"status_code": 1008, "status_msg": "x"}}, 0, ""),
]


@pytest.mark.parametrize(("fault", "status", "kind"), FAULTS)
def test_an_error_in_a_vendors_own_form_is_one(fault: dict[str, Any], status: int, kind: str) -> None:
    body = json.dumps(fault).encode()
    reading = CHAT.read(body)
    assert (reading.error, reading.error_status) == ("x", status)
    with pytest.raises(UpstreamMalformed, match="x"):
        CODEC.decode_answer(body)
    sent = stream(chunk({"content": "a"}), fault, done=False)
    assert (read(sent).error, read(sent).error_status) == ("x", status)
    assert decode_in_pieces(CODEC.decoder(), sent, 1)[-1] == Failed("x", status, kind)
    assert refusal_as_told(body, 502).message == "x"


BARE_FAULTS = [
    ({"message": "x", "request_id": "r-1"}, 0, ""),  # Mistral
    ({"message": "x", "type": "t", "param": None, "code": "429"}, 429, "t"),
    ({"detail": "x"}, 0, ""),  # FastAPI
    ({"detail": [{"loc": ["body"], "msg": "x"}], "status": 503}, 503, ""),
    ({"message": ["x"], "type": "rate_limit_error", "usage": None}, 429, "rate_limit_error"),
]


@pytest.mark.parametrize(("fault", "status", "kind"), BARE_FAULTS)
def test_an_error_that_is_nothing_but_its_words_is_one(fault: dict[str, Any], status: int, kind: str) -> None:
    body = json.dumps(fault).encode()
    reading = CHAT.read(body)
    assert (reading.error, reading.error_status) == ("x", status)
    with pytest.raises(UpstreamMalformed, match="x"):
        CODEC.decode_answer(body)
    sent = stream(chunk({"content": "a"}), fault, done=False)
    assert decode_in_pieces(CODEC.decoder(), sent, 1)[-1] == Failed("x", status, kind)


@pytest.mark.parametrize("fault", [fault for fault, _, _ in BARE_FAULTS])
@pytest.mark.parametrize("ending", ["data: [DONE]\n\n", "", None])
def test_a_caller_is_told_of_it_as_an_error_of_its_own_dialect(fault: dict[str, Any], ending: str | None) -> None:
    """Clients look for `error`, and take anything else for one more chunk."""
    before = stream(chunk({"content": "a"}), done=False)
    event = stream(fault, done=False)
    tee = CHAT.tee(CHAT.parse(ASKED), False)
    passed = tee.feed(before + (event[:-2] if ending is None else event + ending.encode()))
    told, is_whole = (passed + tee.close()[0], tee.close()[1])
    assert (tee.reading.error, is_whole) == ("x", bool(ending))
    assert told.startswith(before)
    first, *rest = told.removeprefix(before).split(b"\n\n", 1)
    error = json.loads(first.removeprefix(b"data: "))["error"]
    assert (error["upstream"], rest) == (fault, [(ending or "").encode()])
    assert "x" in error["message"]


def test_an_error_that_clients_see_passes_as_it_came() -> None:
    for sent in (stream({"error": {"message": "x"}}), stream({"error": "x"}, done=False), b'data: {"error":"x"}'):
        tee = tee_of(sent)
        passed = CHAT.tee(CHAT.parse(ASKED), False).feed(sent)
        assert (passed + tee.close()[0], tee.reading.error) == (sent, "x")


def test_so_is_one_that_comes_as_plain_json_where_a_stream_was_asked_for() -> None:
    tee = CHAT.tee(CHAT.parse(ASKED), False)
    assert tee.feed(b'{"detail":"x"}') == b""
    told, is_whole = tee.close()
    assert json.loads(told.removeprefix(b"data: "))["error"]["message"] == "x"
    assert (tee.reading.error, is_whole) == ("x", False)


@pytest.mark.parametrize(
    "more",
    [
        {"choices": []},
        {"usage": USAGE},
        {"id": "c-1"},
        {"object": "chat.completion.chunk"},
        {"message": {"role": "assistant", "content": "a"}},
        {"message": ""},
        {"message": None},
        {"message": [5]},
    ],
)
def test_what_may_be_a_chunk_is_no_error_whatever_it_says(more: dict[str, Any]) -> None:
    sent = stream(chunk({"content": "a"}, "stop"), {"message": "x", **more})
    tee = tee_of(sent)
    assert (tee.reading.error, tee.reading.finish_reason, tee.ended) == (None, "stop", True)


def test_no_error_of_minimax_is_none() -> None:
    base = {"base_resp": {"status_code": 0, "status_msg": ""}}
    assert CHAT.read(plain({"content": "a"}, **base)).error is None
    assert read(stream(chunk({"content": "a"}, "stop", **base))).error is None


def test_a_choice_that_is_nothing_but_an_error_is_one() -> None:
    """OpenRouter's."""
    error = {"code": 502, "message": "The provider went away."}
    with pytest.raises(UpstreamMalformed, match="went away"):
        CODEC.decode_answer(plain({"content": ""}, "error", choice={"error": error}))
    (choice,) = CODEC.decode_answer(plain({"content": "Ha"}, "error", choice={"error": error})).choices
    assert (choice.parts, choice.finish) == ((Text("Ha"),), "error")


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"message": "x", "code": 5007}], "success": False},  # Cloudflare
        {"detail": [{"loc": ["body"], "msg": "x"}]},  # FastAPI
        {"error": {"message": "x"}},
        [{"error": {"message": "x"}}],
    ],
)
def test_a_refusal_in_a_vendors_own_form_is_told_in_its_words(body: Any) -> None:
    sent = json.dumps(body).encode()
    assert refusal_as_told(sent, 400).message == "x"
    assert "x" in json.loads(CHAT.envelope(sent, 400))["error"]["message"]


# -- endings ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_ends_within_an_event_is_cut_whatever_came_before() -> None:
    whole = stream(chunk({"content": "a"}, "stop"), {"choices": [], "usage": USAGE}, done=False)
    last = whole.rindex(b"data: ")
    for at in range(last + 1, len(whole) - len(b"\n\n")):
        tee = tee_of(whole[:at])
        assert not tee.close()[1], whole[last:at]
    assert tee_of(whole[:-1]).close()[1]
    assert tee_of(whole[:last] + b": ping").close()[1]


def test_a_stream_without_the_usage_that_it_said_was_to_come_is_cut() -> None:
    """OpenAI's chunks say `usage: null` where a report was asked for, which comes after the last choice."""
    said = stream(chunk({"content": "a"}, usage=None), chunk({}, "stop", usage=None), done=False)
    assert not tee_of(said).close()[1]
    assert tee_of(said + stream({"choices": [], "usage": USAGE}, done=False)).close()[1]
    assert tee_of(said + stream()).close()[1]
    assert tee_of(stream(chunk({"content": "a"}), chunk({}, "stop"), done=False)).close()[1]


def test_an_answer_that_is_no_stream_at_all_is_read_where_a_stream_was_asked_for() -> None:
    whole = plain({"content": "a"})
    tee = tee_of(whole)
    assert tee.close()[1]
    assert tee.reading.usage == Usage(input=10, output=5)
    tee = tee_of(b'{"error":{"message":"x","code":429}}')
    assert not tee.close()[1]
    assert (tee.reading.error, tee.reading.error_status) == ("x", 429)


def test_spaces_before_the_json_of_an_event_change_nothing() -> None:
    sent = stream(chunk({"content": "a"}, "stop", usage=USAGE)).replace(b"data: ", b"data:  ")
    tee = tee_of(sent)
    assert (tee.reading.usage, tee.ended, tee.counted_output()) == (Usage(input=10, output=5), True, 1)
    apart = stream({"choices": [], "usage": USAGE}, done=False).replace(b"data: ", b"data:  ")
    assert CHAT.tee(CHAT.parse(ASKED), True).feed(apart) == b""


# -- what is told -----------------------------------------------------------------------------------------------------


def test_log_probabilities_that_are_of_no_token_do_not_end_a_stream() -> None:
    """Together's."""
    sent = stream(chunk({"content": "a"}, choice={"logprobs": -0.25}), chunk({"content": "b"}, "stop"))
    assert told(sent).choices[0].parts == (Text("ab"),)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"tokens": ["Ra", "in"], "token_logprobs": [-0.5, -2], "top_logprobs": [{"Ra": -0.5, "Sn": -1}, None]},
            [("Ra", -0.5, ["Ra", "Sn"]), ("in", -2, [])],
        ),
        ({"tokens": ["Ra", "in"], "token_logprobs": [-0.5], "token_ids": [1, 2]}, [("Ra", -0.5, [])]),
        ({"tokens": [1], "token_logprobs": "x"}, []),
    ],
)
def test_log_probabilities_in_columns_are_told_by_the_token(columns: dict[str, Any], expected: list[Any]) -> None:
    """Together's."""
    whole = CODEC.decode_answer(plain({"content": "Rain"}, choice={"logprobs": columns}))
    streamed = told(stream(chunk({"content": "Rain"}, choice={"logprobs": columns}), chunk({}, "stop")))
    for answer in (whole, streamed):
        rows = [json.loads(bytes(row)) for row in answer.choices[0].logprobs]
        assert [
            (row["token"], row["logprob"], [top["token"] for top in row["top_logprobs"]]) for row in rows
        ] == expected
        assert all(row["bytes"] == list(row["token"].encode()) for row in rows)


@pytest.mark.parametrize("head", [{"created": "1700000000"}, {"created": None}, {"id": 7}, {"id": None, "model": None}])
def test_a_head_that_is_written_in_another_way_costs_nobody_the_answer(head: dict[str, Any]) -> None:
    whole = CODEC.decode_answer(plain({"content": "a"}, **head))
    streamed = told(stream({**chunk({"content": "a"}), **head}, {**chunk({}, "stop"), **head}))
    for answer in (whole, streamed):
        assert answer.choices[0].parts == (Text("a"),)
        assert answer.id == ("7" if head.get("id") else "" if "id" in head else "c-1")
        assert answer.created == (0 if "created" in head else 5)


def test_reasoning_in_parts_of_the_content_is_reasoning() -> None:
    """Databricks's."""

    def thought(text: str, **more: str) -> dict[str, Any]:
        return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text, **more}]}

    expected = (Thinking("They ask.", signature="c2ln", origin="openai_chat"), Text("Rain."))
    whole = plain({"content": [thought("They ask.", signature="c2ln"), {"type": "text", "text": "Rain."}]})
    assert CODEC.decode_answer(whole).choices[0].parts == expected
    pieces = [thought("They "), thought("ask."), thought("", signature="c2ln")]
    sent = stream(*[chunk({"content": [piece]}) for piece in pieces], chunk({"content": "Rain."}, "stop"))
    assert told(sent).choices[0].parts == expected
    assert tee_of(sent).counted_output() == 3


def test_a_seal_keeps_the_id_of_what_it_is_of_plain_and_streamed() -> None:
    """OpenRouter's, of Gemini's and of OpenAI's reasoning: at the index of the text, which has no id."""
    text = {"type": "reasoning.text", "format": "google-gemini-v1", "index": 0}
    seal = {"type": "reasoning.encrypted", "data": "c2Vh", "id": "call_1", "format": "google-gemini-v1", "index": 0}
    whole = CODEC.decode_answer(plain({"content": "a", "reasoning_details": [{**text, "text": "They ask."}, seal]}))
    pieces = [{**text, "text": "They "}, {**text, "text": "ask."}, seal]
    sent = stream(*[chunk({"reasoning_details": [piece]}) for piece in pieces], chunk({"content": "a"}, "stop"))
    assert whole.choices == told(sent).choices
    thought, sealed, _ = whole.choices[0].parts
    assert isinstance(thought, Thinking)
    assert isinstance(sealed, Thinking)
    assert (thought.text, thought.id, thought.sealed) == ("They ask.", "", "")
    assert (sealed.text, sealed.id, sealed.sealed) == ("", "call_1", "c2Vh")


@pytest.mark.parametrize(
    "members",
    [
        {"search_results": SOURCES, "citations": ["https://a.example", "https://b.example"]},  # Perplexity
        {"citations": ["https://a.example", "https://b.example"]},  # xAI
        {"web_search": [{"link": one["url"], "title": one["title"]} for one in SOURCES]},  # Zhipu
    ],
)
def test_the_sources_of_an_answer_are_citations_of_its_text(members: dict[str, Any]) -> None:
    whole = CODEC.decode_answer(plain({"content": "Rain."}, **members))
    streamed = told(
        stream(chunk({"content": "Ra"}, **members), chunk({"content": "in."}), chunk({}, "stop", **members))
    )
    late = told(stream(chunk({"content": "Ra"}), chunk({"content": "in."}, **members), chunk({}, "stop")))
    assert late.choices == streamed.choices
    for answer in (whole, streamed):
        (text,) = answer.choices[0].parts
        assert isinstance(text, Text)
        assert [citation.url for citation in text.citations] == ["https://a.example", "https://b.example"]
        assert all(answer.extras[name] for name in members)
    assert whole.choices == streamed.choices


@pytest.mark.parametrize(
    "members",
    [
        {"context": {"citations": [{**SOURCES[0], "content": "said"}], "intent": "[]"}},  # Azure
        {
            "executed_tools": [{"type": "search", "search_results": {"results": SOURCES[:1]}}, {"type": "python"}]
        },  # Groq
    ],
)
def test_the_sources_of_a_message_are_citations_of_its_text(members: dict[str, Any]) -> None:
    whole = CODEC.decode_answer(plain({"content": "Rain.", **members}))
    streamed = told(stream(chunk(members), chunk({"content": "Rain."}), chunk({}, "stop")))
    assert whole.choices == streamed.choices
    (text,) = whole.choices[0].parts
    assert isinstance(text, Text)
    assert [(citation.url, citation.title) for citation in text.citations] == [("https://a.example", "A")]


@pytest.mark.parametrize("name", ["citations", "search_results", "web_search"])
@pytest.mark.parametrize("value", [5, "x", {"a": 1}, [5, None, {"url": 7}], [[[]]]])
def test_sources_of_another_form_are_let_be(name: str, value: Any) -> None:
    (choice,) = CODEC.decode_answer(plain({"content": "a", "context": value}, **{name: value})).choices
    assert choice.parts in ((Text("a"),), (Text("a", (Citation("x"),)),))


def test_a_text_that_is_cited_already_is_not_cited_with_the_sources_as_well() -> None:
    annotation = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    members = {"citations": ["https://a.example"]}
    whole = CODEC.decode_answer(plain({"content": "Rain.", "annotations": [annotation]}, **members))
    streamed = told(stream(chunk({"content": "Rain.", "annotations": [annotation]}, "stop", **members)))
    for answer in (whole, streamed):
        (text,) = answer.choices[0].parts
        assert isinstance(text, Text)
        assert len(text.citations) == 1


def test_a_call_in_the_older_form_is_streamed_as_it_is_told_plain() -> None:
    whole = plain({"content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}, "function_call")
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ":1}"}]
    sent = stream(*[chunk({"function_call": piece}) for piece in pieces], chunk({}, "function_call"))
    for answer in (CODEC.decode_answer(whole), told(sent)):
        call = ToolCall("call_c-1_0_0", "f", '{"a":1}', origin="openai_chat")
        assert answer.choices == (Choice((call,), "tool_calls", "function_call"),)


def test_a_sound_that_is_cut_is_counted_by_its_words_and_its_length() -> None:
    sound = {"data": "A" * 64_000}
    sent = stream(chunk({"audio": {"id": "a", "transcript": "Rain."}}), chunk({"audio": sound}), done=False)
    assert tee_of(sent).counted_output() == 1 + 20


def test_parallel_calls_at_one_index_and_without_ids_are_told_apart() -> None:
    """Google's. Servers that repeat the name with every piece of one call are not mistaken for it."""

    def call(name: str, arguments: str) -> dict[str, Any]:
        return {"index": 0, "id": "", "type": "function", "function": {"name": name, "arguments": arguments}}

    google = stream(chunk({"tool_calls": [call("f", '{"a":1}'), call("g", "{}")]}), chunk({}, "stop"))
    others = stream(*[chunk({"tool_calls": [call("f", piece)]}) for piece in ("", '{"a"', ":1}")], chunk({}, "stop"))
    for sent, expected in ((google, [("f", '{"a":1}'), ("g", "{}")]), (others, [("f", '{"a":1}')])):
        calls = [part for part in told(sent).choices[0].parts if isinstance(part, ToolCall)]
        assert [(one.name, one.arguments) for one in calls] == expected
        assert len({one.id for one in calls}) == len(calls)


def test_a_plain_answer_that_is_told_as_an_event_is_one() -> None:
    """MiniMax repeats its answer in this form behind the pieces of it, which is not another answer."""
    whole = {"index": 0, "message": {"role": "assistant", "content": "Rain."}, "finish_reason": "stop"}
    last = {"id": "c-1", "object": "chat.completion", "created": 5, "model": "m", "choices": [whole], "usage": USAGE}
    for sent in (stream(last), stream(chunk({"content": "Ra"}), chunk({"content": "in."}, "stop"), last, done=False)):
        answer = told(sent)
        assert answer.choices[0].parts == (Text("Rain."),)
        assert answer.usage == read(sent).usage == Usage(input=10, output=5)


def test_a_call_that_gets_a_new_id_with_every_piece_is_one() -> None:
    """Older servers of vLLM, where the caller names the tool. Google's parallel calls have ids of their own, too, and
    each of them is whole."""

    def call(id: str, name: str, arguments: str) -> dict[str, Any]:
        return {"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

    pieces = [call(f"call_{at}", "f", piece) for at, piece in enumerate(('{"a"', ":", "1}"))]
    older = stream(*[chunk({"tool_calls": [piece]}) for piece in pieces], chunk({}, "stop"))
    google = stream(chunk({"tool_calls": [call("call_0", "f", "{}"), call("call_1", "f", "{}")]}), chunk({}, "stop"))
    empty = stream(chunk({"tool_calls": [call("call_0", "f", ""), call("call_1", "g", "")]}), chunk({}, "stop"))
    for sent, expected in (
        (older, [("call_0", '{"a":1}')]),
        (google, [("call_0", "{}"), ("call_1", "{}")]),
        (empty, [("call_0", ""), ("call_1", "")]),
    ):
        calls = [part for part in told(sent).choices[0].parts if isinstance(part, ToolCall)]
        assert [(one.id, one.arguments) for one in calls] == expected


def test_a_call_that_stands_in_no_list_is_one() -> None:
    """Text Generation Inference's, streamed."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    more = {"index": 0, "id": "", "type": "function", "function": {"name": None, "arguments": ":1}"}}
    sent = stream(chunk({"tool_calls": call}), chunk({"tool_calls": more}), chunk({}, "tool_calls"))
    assert told(sent).choices[0].parts == (ToolCall("call_1", "f", '{"a":1}', origin="openai_chat"),)


# -- Mistral's references ---------------------------------------------------------------------------------------------

REFERRING = [
    {"type": "text", "text": "It is "},
    {"type": "reference", "reference_ids": [0, "lake"], "text": "42 m"},
    {"type": "text", "text": " deep"},
    {"type": "reference", "reference_ids": [1]},
    {"type": "text", "text": "."},
]


def test_what_mistral_refers_to_is_cited_and_the_words_in_a_reference_are_the_answers() -> None:
    answer = CODEC.decode_answer(plain({"content": REFERRING}))
    sent = stream(*(chunk({"content": [part]}) for part in REFERRING), chunk({}, "stop"))
    assert told(sent).choices[0].parts == answer.choices[0].parts
    texts = [part for part in answer.choices[0].parts if isinstance(part, Text)]
    assert [(text.text, [cited.title for cited in text.citations]) for text in texts] == [
        ("It is ", []),
        ("42 m", ["0, lake"]),
        (" deep", ["1"]),
        (".", []),
    ]


@pytest.mark.parametrize("listed", [None, 7, {}, [None], "x"])
def test_a_reference_to_nothing_known_costs_nobody_the_answer(listed: Any) -> None:
    content = [{"type": "reference", "reference_ids": listed, "text": "42 m"}]
    (text,) = CODEC.decode_answer(plain({"content": content})).choices[0].parts
    assert isinstance(text, Text)
    assert text.text == "42 m"


def test_references_that_are_sent_back_are_what_they_were() -> None:
    said = {"role": "assistant", "content": REFERRING}
    body = {"model": "m", "messages": [{"role": "user", "content": "How deep?"}, said]}
    asked = CODEC.decode_request(CHAT.parse(json.dumps(body).encode()))
    written = json.loads(CODEC.encode_request(asked, TargetFacts("m")).body)
    assert written["messages"][1]["content"] == REFERRING
    body["messages"] = [said := {"role": "assistant", "content": REFERRING[1:2]}]  # type: ignore[list-item]
    asked = CODEC.decode_request(CHAT.parse(json.dumps(body).encode()))
    assert json.loads(CODEC.encode_request(asked, TargetFacts("m")).body)["messages"] == [said]
