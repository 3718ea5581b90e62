"""What a Gemini request may cost, what is said of its answers, and how other dialects' requests are written in it."""

import base64
import json
from typing import Any

import pytest
from msgspec import Raw

from penstock.dialects.base import Address, Call, Demand
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.gemini import CountTokens, GeminiCodec, GenerateContent
from penstock.domain.chat import (
    Answer,
    Choice,
    Citation,
    Format,
    Media,
    Message,
    Reasoning,
    Request,
    Sampling,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.domain.stream import Failed, collect, events_of
from penstock.domain.usage import Usage
from penstock.errors import InvalidRequest, Killed, UpstreamMalformed

DIALECT = GenerateContent()
CODEC = GeminiCodec()
ASK = [{"role": "user", "parts": [{"text": "Name a river."}]}]
OTHER = "another_dialect"
OBJECT = Raw(b'{"type": "object"}')


def parse(body: dict[str, Any], model: str = "gemini-3-flash", *, streaming: bool = False, form: str = "") -> Call:
    return DIALECT.parse(json.dumps(body).encode(), Address(model, streaming, form))


def written(request: Request, model: str = "gemini-3-flash") -> dict[str, Any]:
    value: dict[str, Any] = json.loads(CODEC.encode_request(request, TargetFacts(model)).body)
    return value


def dropped(request: Request, model: str = "gemini-3-flash") -> tuple[str, ...]:
    return CODEC.encode_request(request, TargetFacts(model)).dropped


def said(*parts: Any, **more: Any) -> Request:
    return Request(OTHER, "m", (Message("user", (Text("Hi."),)), Message("assistant", parts)), **more)


# -- what a request may cost ------------------------------------------------------------------------------------------


def test_the_cap_and_the_choices_are_read_under_either_name() -> None:
    call = parse({"contents": ASK, "generation_config": {"max_output_tokens": 7, "candidateCount": 2}})
    assert (call.max_output, call.choices, call.cap_name) == (7, 2, "maxOutputTokens")


@pytest.mark.parametrize(
    "body",
    [
        {"contents": ASK, "generationConfig": {"maxOutputTokens": 7, "max_output_tokens": 7000}},
        {"contents": ASK, "generationConfig": {}, "generation_config": {"maxOutputTokens": 7}},
        {"contents": [{"parts": [{"inline_data": {}, "inlineData": {}}]}]},
    ],
)
def test_a_member_that_is_given_twice_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        parse(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "'contents' is required"),
        ({"contents": []}, "'contents' must not be empty"),
        ({"contents": ["hi"]}, "'contents' is not what the API allows"),
        ({"contents": [{"parts": ["hi"]}]}, "'contents.parts'"),
        ({"contents": ASK, "generationConfig": {"maxOutputTokens": "64"}}, "'maxOutputTokens' must be a whole number"),
        ({"contents": ASK, "generationConfig": {"maxOutputTokens": -1}}, "must be between 1 and"),
        ({"contents": ASK, "generationConfig": {"candidateCount": 1000}}, "must be between 1 and 128"),
        ({"contents": ASK, "generationConfig": [1]}, "'generationConfig'"),
        ({"contents": ASK, "tools": [3]}, "'tools'"),
    ],
)
def test_a_wrong_member_is_named(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("(", r"\(")):
        parse(body)


def test_a_medium_is_counted_and_its_encoded_size_is_not() -> None:
    data = base64.b64encode(b"x" * 30_000).decode()
    plain = parse({"contents": ASK})

    def with_blob(mime: str) -> Call:
        return parse({"contents": [*ASK, {"parts": [{"inlineData": {"mimeType": mime, "data": data}}]}]})

    image, sound, paper, film = map(with_blob, ("image/png", "audio/mp3", "application/pdf", "video/mp4"))
    assert image.images == 1
    assert image.input_bound < plain.input_bound + 200
    assert (sound.audio_in, sound.images) == (True, 0)
    assert 1_600 < sound.input_bound - plain.input_bound < 2_000
    assert paper.images == 20
    assert (film.unseen, film.audio_in) == (True, True)


@pytest.mark.parametrize(
    "body",
    [
        {"contents": ASK, "cachedContent": "cachedContents/1"},
        {"contents": ASK, "tools": [{"google_search": {}}]},
        {"contents": ASK, "tools": [{"codeExecution": {}}]},
        {"contents": [{"parts": [{"file_data": {"fileUri": "https://example.com/film"}}]}]},
    ],
)
def test_what_only_the_context_window_bounds_is_unseen(body: dict[str, Any]) -> None:
    assert parse(body).unseen


def test_a_schema_and_what_is_not_known_count_as_text() -> None:
    plain = parse({"contents": ASK}).input_bound
    schema = {"type": "object", "description": "x" * 500}
    assert parse({"contents": ASK, "generationConfig": {"responseSchema": schema}}).input_bound > plain + 500
    assert parse({"contents": ASK, "novel": "x" * 500}).input_bound > plain + 500
    assert parse({"contents": ASK, "safetySettings": [{"category": "x" * 500}]}).input_bound == plain


def test_the_injected_cap_goes_where_the_caller_has_it_and_the_model_stays_in_the_address() -> None:
    call = parse({"model": "models/other", "contents": ASK, "generation_config": {"top_k": 3}})
    body = json.loads(DIALECT.rebuild(call, Demand("gemini-x", ("maxOutputTokens", 99))))
    assert body == {"contents": ASK, "generationConfig": {"topK": 3, "maxOutputTokens": 99}}


def test_counting_is_free_and_names_the_model_inside_again() -> None:
    dialect = CountTokens()
    call = dialect.parse(json.dumps({"generateContentRequest": {"model": "models/alias"}}).encode(), Address("alias"))
    assert json.loads(dialect.rebuild(call, Demand("real"))) == {"generateContentRequest": {"model": "models/real"}}
    assert (call.max_output, call.input_bound) == (0, 0)
    assert dialect.read(b'{"totalTokens": 4}').usage == Usage()


# -- what is said of an answer ----------------------------------------------------------------------------------------


def reported(**counts: Any) -> Usage | None:
    return DIALECT.read(json.dumps({"usageMetadata": counts}).encode()).usage


def test_every_token_is_in_one_class() -> None:
    usage = reported(
        promptTokenCount=100,
        cachedContentTokenCount=40,
        candidatesTokenCount=30,
        thoughtsTokenCount=20,
        toolUsePromptTokenCount=5,
        totalTokenCount=155,
        promptTokensDetails=[{"modality": "TEXT", "tokenCount": 70}, {"modality": "AUDIO", "tokenCount": 30}],
        cacheTokensDetails=[{"modality": "AUDIO", "tokenCount": 10}],
        candidatesTokensDetails=[{"modality": 4, "tokenCount": 12}],
    )
    assert usage == Usage(input=45, output=38, cache_read=40, reasoning=20, audio_in=20, audio_out=12)


def test_tokens_of_pictures_and_films_are_told_as_parts() -> None:
    usage = reported(
        promptTokenCount=100,
        cachedContentTokenCount=40,
        candidatesTokenCount=30,
        totalTokenCount=130,
        promptTokensDetails=[{"modality": "IMAGE", "tokenCount": 60}, {"modality": "VIDEO", "tokenCount": 30}],
        cacheTokensDetails=[{"modality": "IMAGE", "tokenCount": 40}],
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 20}, {"modality": "VIDEO", "tokenCount": 99}],
    )
    assert usage == Usage(input=60, output=30, cache_read=40, image_in=20, video_in=30, image_out=20, video_out=10), (
        "never more than the whole"
    )


@pytest.mark.parametrize("malformed", [{}, "", 0, [7, "TEXT"], {"modality": "AUDIO", "tokenCount": 3}])
def test_details_that_are_no_list_of_objects_are_none_and_the_rest_of_the_report_stands(malformed: Any) -> None:
    usage = reported(promptTokenCount=9, candidatesTokenCount=2, promptTokensDetails=malformed)
    assert usage == Usage(input=9, output=2)


def test_what_only_the_total_shows_is_output() -> None:
    assert reported(promptTokenCount=10, candidatesTokenCount=2, totalTokenCount=20) == Usage(input=10, output=10)


@pytest.mark.parametrize("count", [-1, 10**18, 1.5, "7"])
def test_a_hostile_count_is_not_believed(count: Any) -> None:
    reading = DIALECT.read(json.dumps({"usageMetadata": {"promptTokenCount": count}}).encode())
    assert (reading.usage, reading.hostile) == (None, True)


def test_half_a_report_is_not_believed_as_a_whole_unless_more_comes() -> None:
    half = '{"usageMetadata": {"promptTokenCount": 5}}'
    assert DIALECT.read(half.encode()).hostile
    assert not DIALECT.read(b'{"usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}').hostile
    whole = '{"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}}'
    reading = DIALECT.read(f"[{half}, {whole}]".encode())
    assert (reading.usage, reading.hostile) == (Usage(input=5, output=2), False)
    assert DIALECT.read(f"[{whole}, {half}]".encode()).hostile


def test_a_report_without_a_count_is_none() -> None:
    reading = DIALECT.read(b'{"usageMetadata": {"trafficType": "ON_DEMAND"}}')
    assert (reading.usage, reading.hostile) == (None, False)


SNAKED = {
    "prompt_token_count": 100,
    "cached_content_token_count": 40,
    "candidates_token_count": 30,
    "thoughts_token_count": 20,
    "total_token_count": 150,
    "prompt_tokens_details": [{"modality": "AUDIO", "token_count": 30}],
    "service_tier": "priority",
}
SNAKED_PIECES = [
    {"candidates": [{"content": {"parts": [{"text": "Sp"}]}}], "usage_metadata": {"prompt_token_count": 100}},
    {"candidates": [{"grounding_metadata": {"web_search_queries": ["cup final"]}}], "model_version": "gemini-3"},
    {
        "candidates": [{"content": {"parts": [{"text": "ain"}]}, "finish_reason": "MAX_TOKENS"}],
        "usage_metadata": SNAKED,
    },
]
CALLS = ("functionCall", "function_call")
COUNTED = Usage(input=30, output=50, cache_read=40, reasoning=20, audio_in=30, web_searches=1)


@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("form", ["sse", ""])
def test_an_answer_in_snake_case_is_counted_as_one_in_camel_case(form: str, choices: int) -> None:
    """ProtoJSON allows either."""
    listed = json.dumps(SNAKED_PIECES).encode()
    sent = b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in SNAKED_PIECES) if form else listed
    asked = {"contents": ASK, "generationConfig": {"candidateCount": choices}}
    tee = DIALECT.tee(parse(asked, streaming=True, form=form), False)
    assert tee.feed(sent) + tee.close()[0] == sent
    for reading in (tee.reading, DIALECT.read(listed)):
        assert (reading.usage, reading.finish_reason, reading.hostile) == (COUNTED, "MAX_TOKENS", False)
        assert reading.service_tier == "priority"
    assert tee.close()[1]
    told = CODEC.decode_answer(json.dumps(SNAKED_PIECES[-1]).encode())
    assert told.usage == Usage(input=30, output=50, cache_read=40, reasoning=20, audio_in=30)


def test_a_block_and_a_call_in_snake_case_are_seen() -> None:
    body = {"prompt_feedback": {"block_reason": "SAFETY"}, "usage_metadata": {"prompt_token_count": 4}}
    assert DIALECT.read(json.dumps(body).encode()).finish_reason == "SAFETY"
    call = {"name": "f", "args": {"some_place": "a" * 200}}
    cut = [{"candidates": [{"content": {"parts": [{name: call}]}}], "usage_metadata": {}} for name in CALLS]
    tees = [DIALECT.tee(parse({"contents": ASK}), False) for _ in cut]
    for tee, one in zip(tees, cut, strict=True):
        tee.feed(b"data: " + json.dumps(one).encode() + b"\r\n\r\n")
    assert abs(tees[0].counted_output() - tees[1].counted_output()) <= 1
    assert tees[1].counted_output() > 50


def test_a_blocked_prompt_is_a_choice_that_a_filter_ended() -> None:
    body = (
        b'{"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}'
    )
    (choice,) = CODEC.decode_answer(body).choices
    assert (choice.finish, choice.native, choice.parts) == ("content_filter", "SAFETY", ())
    tee = DIALECT.tee(parse({"contents": ASK}), False)
    tee.feed(b"data: " + body + b"\r\n\r\n")
    assert tee.close()[1]
    assert tee.reading.finish_reason == "SAFETY"


def test_an_error_labelled_as_an_event_stream_is_an_error() -> None:
    body = b'{\n "error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}\n}\n'
    tee, decoder = DIALECT.tee(parse({"contents": ASK}), False), CODEC.decoder()
    tee.feed(body)
    assert (tee.reading.error, tee.reading.error_status) == ("The model is overloaded.", 503)
    assert decoder.feed(body) == [Failed("The model is overloaded.", 503)]
    assert decoder.close() == []
    with pytest.raises(UpstreamMalformed):
        CODEC.decode_answer(body)


@pytest.mark.parametrize(
    ("form", "begun", "ending"),
    [
        ("sse", False, b"data: {"),
        ("sse", True, b"data: {"),
        ("", False, b"[{"),
        ("", True, b",\n{"),
    ],
)
def test_a_cut_stream_ends_with_an_error_in_its_own_form(form: str, begun: bool, ending: bytes) -> None:
    tee = DIALECT.tee(parse({"contents": ASK}, streaming=True, form=form), False)
    if begun:
        tee.feed(b"data: {}\r\n\r\n" if form else b"[{}")
    told = tee.error_event(Killed("Stopped."))
    assert told.startswith(ending)
    assert b'"status":"PERMISSION_DENIED"' in told
    assert b'"reason":"KILLED"' in told
    assert told.rstrip().endswith(b"]") is (form == "")


def test_citations_are_places_in_characters() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 7, "endIndex": 12, "text": "river"}, "groundingChunkIndices": [0, 9]}
        ],
    }
    text = "Rhône river"
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP", "groundingMetadata": grounding}
    (choice,) = CODEC.decode_answer(json.dumps({"candidates": [candidate]}).encode()).choices
    assert isinstance(choice.parts[0], Text)
    first, unknown = choice.parts[0].citations
    assert (first.url, first.title, text[first.start : first.end]) == ("https://a.example", "A", "river")
    assert unknown.url == ""


# -- what another dialect says, written in this one -------------------------------------------------------------------


def test_a_conversation_of_another_dialect_is_written_turn_by_turn() -> None:
    request = Request(
        OTHER,
        "m",
        (
            Message("developer", (Text("Be brief."),)),
            Message("user", (Text("How deep?"), Media("image", "image/png", data="AAAA"))),
            Message("assistant", (ToolCall("a", "depth", '{"r":1}'), ToolCall("b", "depth", '{"r":2}'))),
            Message("user", (ToolResult("a", (Text("5 m"),)),)),
            Message("user", (ToolResult("b", (Text('{"depth":7}'),), is_error=False),)),
            Message("user", (Text("And now?"),)),
        ),
    )
    assert dropped(request) == ()
    body = written(request)
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    user, model, results, last = body["contents"]
    assert user["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert model["role"] == "model"
    assert [part["functionCall"]["args"] for part in model["parts"]] == [{"r": 1}, {"r": 2}]
    assert [part["functionResponse"] for part in results["parts"]] == [
        {"name": "depth", "response": {"output": "5 m"}, "id": "a"},
        {"name": "depth", "response": {"depth": 7}, "id": "b"},
    ]
    assert last == {"role": "user", "parts": [{"text": "And now?"}]}


def test_the_first_call_of_another_model_says_that_it_has_no_signature_where_one_is_demanded() -> None:
    request = said(ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))
    first, second = written(request)["contents"][1]["parts"]
    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second
    assert "thoughtSignature" not in written(request, "gemini-2.5-pro")["contents"][1]["parts"][0]


def test_media_in_a_result_are_inside_it_or_behind_it_where_the_model_takes_none_inside() -> None:
    result = ToolResult("a", (Text("see"), Media("image", "image/png", data="AAAA")), name="look")
    request = Request(OTHER, "m", (Message("user", (result,)),))
    (inside,) = written(request)["contents"][0]["parts"]
    assert inside["functionResponse"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    behind = written(request, "gemini-2.5-flash")["contents"][0]["parts"]
    assert [list(part) for part in behind] == [["functionResponse"], ["inlineData"]]


def test_reasoning_of_another_family_is_left_out_and_named_and_ours_goes_back() -> None:
    own = said(
        Thinking("hm", True, "EgQB", origin="gemini"), Text("Yes."), Thinking("", False, "EgQC", origin="gemini")
    )
    assert written(own)["contents"][1]["parts"] == [
        {"text": "hm", "thought": True, "thoughtSignature": "EgQB"},
        {"text": "Yes.", "thoughtSignature": "EgQC"},
    ]
    assert dropped(said(Thinking("hm", False, "sig", origin=OTHER))) == ("thinking",)


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        ("gemini-3-flash", Reasoning("low"), {"thinkingLevel": "low"}),
        ("gemini-3-flash", Reasoning("none"), {"thinkingLevel": "minimal"}),
        ("gemini-3.1-pro-preview", Reasoning("minimal"), {"thinkingLevel": "low"}),
        ("gemini-3-flash", Reasoning("xhigh", summary="auto"), {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning("medium"), {"thinkingBudget": 8192}),
        ("gemini-2.5-flash", Reasoning("none"), {"thinkingBudget": 0}),
        ("gemini-2.5-flash", Reasoning(budget=2000, show=True), {"thinkingBudget": 2000, "includeThoughts": True}),
    ],
)
def test_an_effort_is_a_level_or_a_budget(model: str, reasoning: Reasoning, config: dict[str, Any]) -> None:
    request = said(Text("x"), reasoning=reasoning)
    assert written(request, model)["generationConfig"]["thinkingConfig"] == config
    assert dropped(request, model) == ()


def test_what_a_model_cannot_think_is_named() -> None:
    assert dropped(said(Text("x"), reasoning=Reasoning("none")), "gemini-2.5-pro") == ("reasoning",)
    assert dropped(said(Text("x"), reasoning=Reasoning("high")), "gemini-2.0-flash") == ("reasoning",)


def test_schemas_tools_and_choices_are_written() -> None:
    schema = Raw(b'{"type":"object","$defs":{"a":{"type":"string"}}}')
    request = said(
        Text("x"),
        tools=(Tool("f", "F.", schema), Tool("patch", custom=True), ServerTool(OTHER, "web_search", Raw(b"{}"))),
        tool_choice=ToolChoice("allowed", ("f",), required=True),
        format=Format("json_schema", "name", "", schema, True),
        sampling=Sampling(stop=tuple("abcdefg"), logit_bias=Raw(b"{}"), logprobs=True, top_logprobs=3),
        parallel_tools=False,
    )
    body = written(request)
    functions = body["tools"][0]["functionDeclarations"]
    assert functions[0]["parametersJsonSchema"] == json.loads(bytes(schema))
    assert functions[1]["parametersJsonSchema"]["required"] == ["input"]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["f"]}
    config = body["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", json.loads(bytes(schema)))
    assert (config["responseLogprobs"], config["logprobs"], config["stopSequences"]) == (True, 3, list("abcde"))
    assert dropped(request) == ("tools.web_search", "stop", "logit_bias", "parallel_tool_calls")


def test_an_openapi_schema_is_read_as_json_schema() -> None:
    parameters = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING", "nullable": True, "enum": ["x"]}, "type": {"type": 3, "minItems": "2"}},
        "propertyOrdering": ["a"],
    }
    declared = {"functionDeclarations": {"name": "f", "parameters": parameters}}
    (tool,) = CODEC.decode_request(parse({"contents": ASK, "tools": [declared]})).tools
    assert isinstance(tool, Tool)
    assert json.loads(bytes(tool.schema)) == {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None]},
            "type": {"type": "integer", "minItems": 2},
        },
    }


def test_calls_without_an_id_get_one_and_their_results_find_them() -> None:
    contents = [
        *ASK,
        {"role": "model", "parts": [{"functionCall": {"name": name, "args": {}}} for name in ("f", "g", "f")]},
        {"role": "user", "parts": [{"functionResponse": {"name": name, "response": {}}} for name in ("f", "f", "g")]},
    ]
    _, model, results = CODEC.decode_request(parse({"contents": contents})).messages
    ids = [part.id for part in model.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 3
    assert [part.call for part in results.parts if isinstance(part, ToolResult)] == [ids[0], ids[2], ids[1]]


def test_the_pieces_that_a_client_kept_are_one_turn_again() -> None:
    pieces = [{"text": "I th", "thought": True}, {"text": "ink.", "thought": True}, {"text": "Y"}, {"text": "es."}]
    contents = [*ASK, *({"role": "model", "parts": [piece]} for piece in pieces)]
    _, model = CODEC.decode_request(parse({"contents": contents})).messages
    assert model.parts == (Thinking("I think.", True, origin="gemini"), Text("Yes."))


# -- what a caller is told of another dialect's answer ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "list"])
def test_sealed_reasoning_of_another_family_comes_back_as_it_was(form: str) -> None:
    thinking = Thinking("Hm.", False, "proof", "sealed", OTHER, "rs_1")
    call = ToolCall("call_1", "f", '{"a": 1}', signature="p", origin=OTHER)
    answer = Answer(OTHER, "id", "m", (Choice((thinking, call), "tool_calls", "tool_use"),), usage=Usage(3, 4))
    heading = Heading("alias", True, said(Text("x")), form=form)
    encoder = CODEC.encoder(heading)
    stream = b"".join(encoder.encode(event) for event in events_of(answer))
    pieces = json.loads(stream) if form else [json.loads(line[6:]) for line in stream.split(b"\r\n\r\n") if line]
    streamed = [part for one in pieces for part in one["candidates"][0]["content"]["parts"] if part != {"text": ""}]
    plain = json.loads(CODEC.encode_answer(answer, heading))["candidates"][0]["content"]["parts"]
    for parts in (streamed, plain):
        for part in parts:
            base64.b64decode(part.get("thoughtSignature", ""), validate=True)
        contents = [*ASK, {"role": "model", "parts": parts}]
        _, model = CODEC.decode_request(parse({"contents": contents})).messages
        assert model.parts == (thinking, call)


def test_citations_of_another_dialect_are_sources_and_supports() -> None:
    cited = Text("Rhône river", (Citation("https://a.example", "A", start=6, end=11, origin=OTHER),))
    answer = Answer(OTHER, "id", "m", (Choice((cited,)),))
    heading = Heading("alias", True, said(Text("x")))
    grounding = json.loads(CODEC.encode_answer(answer, heading))["candidates"][0]["groundingMetadata"]
    assert grounding["groundingChunks"] == [{"web": {"uri": "https://a.example", "title": "A"}}]
    assert grounding["groundingSupports"][0]["segment"] == {"startIndex": 7, "endIndex": 12, "text": "river"}
    encoder, decoder = CODEC.encoder(heading), CODEC.decoder()
    stream = b"".join(encoder.encode(event) for event in events_of(answer))
    told = collect([*decoder.feed(stream), *decoder.close()]).choices[0]
    assert json.loads(bytes(told.extras["groundingMetadata"])) == grounding


def test_a_failure_is_told_in_googles_envelope_and_no_ending_follows() -> None:
    encoder = CODEC.encoder(Heading("alias", True, said(Text("x"))))
    told = json.loads(encoder.encode(Failed("Broke.", 503))[6:])
    assert told == {"error": {"code": 503, "message": "Broke.", "status": "UNAVAILABLE"}}


# -- streams ----------------------------------------------------------------------------------------------------------


def streamed(*contents: Any, last: dict[str, Any] | None = None) -> bytes:
    """A stream of pieces with these parts, and the last piece's own members."""
    pieces = [{"candidates": [{"content": {"parts": [part]}, "index": 0}]} for part in contents]
    ending = {"candidates": [{"finishReason": "STOP", "index": 0, **(last or {})}], "usageMetadata": {}}
    return b"".join([b"data: " + json.dumps(piece).encode() + b"\r\n\r\n" for piece in (*pieces, ending)])


def parts_of(stream: bytes) -> tuple[Any, ...]:
    decoder = CODEC.decoder()
    events = [event for at in range(0, len(stream), 7) for event in decoder.feed(stream[at : at + 7])]
    return collect([*events, *decoder.close()]).choices[0].parts


def piece(*told: dict[str, Any], goes_on: bool = True, **members: Any) -> dict[str, Any]:
    call = {**members, "partialArgs": list(told), **({"willContinue": True} if goes_on else {})}
    return {"functionCall": call, **({"thoughtSignature": "c2ln"} if members else {})}


def test_a_call_whose_arguments_come_in_pieces_is_told_when_it_is_whole() -> None:
    parts = parts_of(
        streamed(
            piece(name="get_weather", id="c1"),
            piece({"jsonPath": "$.city", "stringValue": "a", "willContinue": True}),
            piece({"jsonPath": "$.city", "stringValue": "a"}, {"jsonPath": "$.days[0].n", "numberValue": 3}),
            piece(
                {"jsonPath": "$.days[1]['x.y']", "boolValue": True}, {"jsonPath": "$.none", "nullValue": "NULL_VALUE"}
            ),
            {"functionCall": {}},
            {"functionCall": {"name": "g", "args": {"whole": 1}}},
        )
    )
    given = {"city": "aa", "days": [{"n": 3}, {"x.y": True}], "none": None}
    assert [(part.name, json.loads(part.arguments)) for part in parts] == [("get_weather", given), ("g", {"whole": 1})]
    assert (parts[0].id, parts[0].signature, parts[0].extras) == ("c1", "c2ln", {})


def test_a_call_that_is_cut_at_the_end_of_the_answer_has_what_came() -> None:
    (call,) = parts_of(streamed(piece({"jsonPath": "$.city", "stringValue": "Os"}, name="f")))
    assert call.arguments == '{"city":"Os"}'


@pytest.mark.parametrize("path", ["", "$", "$.a[5]", "$.a.b.c", "$[0]"])
def test_an_argument_at_a_place_that_there_cannot_be_is_malformed(path: str) -> None:
    first = {"jsonPath": "$.a", "stringValue": "x"}
    with pytest.raises(UpstreamMalformed):
        parts_of(streamed(piece(first, {"jsonPath": path, "stringValue": "x"}, name="f", goes_on=False)))


def test_a_sketch_is_a_thought_and_no_image_of_the_answer() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    sketch, shown = parts_of(streamed({**image, "thought": True}, image))
    assert (sketch.kind, shown.kind) == ("inlineData", "image")
    assert isinstance(shown, Media)
    assert json.loads(bytes(sketch.raw))["thought"] is True


def test_sources_that_come_behind_the_proof_of_a_text_are_the_texts() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [{"segment": {"startIndex": 4, "endIndex": 8}, "groundingChunkIndices": [0]}],
    }
    last = {"groundingMetadata": grounding}
    text, proof = parts_of(
        streamed({"text": "The "}, {"text": "end."}, {"text": "", "thoughtSignature": "cQ=="}, last=last)
    )
    assert [(one.url, one.start, one.end) for one in text.citations] == [("https://a.example", 4, 8)]
    assert (text.text, proof.signature) == ("The end.", "cQ==")
    text, _ = parts_of(streamed({"text": "The end."}, {"functionCall": {"name": "f"}}, last=last))
    assert [(one.url, one.start, one.end) for one in text.citations] == [("https://a.example", 4, 8)]


def test_an_answer_that_is_cut_behind_the_reason_is_no_end() -> None:
    whole = streamed({"text": "The end."})
    for rest in (b'data: {"usageMetadata":{"promptTokenCount":5', b"data: ", b"dat"):
        tee = DIALECT.tee(parse({"contents": ASK}), asked_usage=False)
        assert tee.feed(whole + rest) == whole
        assert not tee.close()[1]
    tee = DIALECT.tee(parse({"contents": ASK}), asked_usage=False)
    passed = tee.feed(whole.rstrip())
    held, seen = tee.close()
    assert (passed + held, seen) == (whole.rstrip(), True)


# -- the form of an answer, as the newer members tell it -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ({"mimeType": "APPLICATION_JSON", "schema": {"type": "object"}}, Format("json_schema", schema=OBJECT)),
        ({"mime_type": "APPLICATION_JSON"}, Format("json")),
        ({"mimeType": 2}, Format("text")),
    ],
)
def test_the_form_of_an_answer_is_read_from_its_newer_members_too(text: dict[str, Any], form: Format) -> None:
    image = {"aspectRatio": "ASPECT_RATIO_ONE_BY_ONE"}
    for more, left in (({}, {}), ({"image": image}, {"responseFormat": {"image": image}})):
        config = {"responseFormat": {"text": text, **more}}
        request = CODEC.decode_request(parse({"contents": ASK, "generationConfig": config}))
        assert request.format == form
        assert json.loads(bytes(request.extras.get("generationConfig", b"{}"))) == left
