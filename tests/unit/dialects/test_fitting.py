"""What another vendor would refuse is written so that it takes it; what is lost by that is named."""

import base64
import json
from typing import Any

import pytest

from penstock.dialects.base import Address
from penstock.dialects.codec import TargetFacts
from penstock.dialects.registry import DIALECTS
from penstock.dialects.translation import Passages
from penstock.errors import ThreadUnsupported, UnsupportedByTarget

HELLO = [{"role": "user", "content": "Hello"}]
CALLED = [
    {"role": "user", "content": "How is Oslo?"},
    {
        "role": "assistant",
        "content": "\n\n",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Oslo"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "12.4 m"},
]


def sent(target: str, facts: TargetFacts | None = None, **more: Any) -> tuple[Any, tuple[str, ...]]:
    """What a target at this surface is sent for a chat completion, and what was dropped."""
    caller = DIALECTS["chat.completions"]
    call = caller.parse(json.dumps({"model": "m", "messages": HELLO, **more}).encode())
    passage = Passages(caller, call, 5, "ours").to((target,), facts or TargetFacts("m", 4096))
    return {name: json.loads(bytes(raw)) for name, raw in passage.call.fields.items()}, passage.dropped


def function(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    told = {} if parameters is None else {"parameters": parameters}
    return {"type": "function", "function": {"name": name, **told, **more}}


def schema(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def asked(wanted: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted, "strict": True}}


# -- what is left -----------------------------------------------------------------------------------------------------


SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
KEPT = {"type": "file", "file": {"file_id": "file-1"}}


@pytest.mark.parametrize(
    ("target", "part", "name"), [("messages", SOUND, "input_audio"), ("generateContent", KEPT, "file_id")]
)
def test_a_call_of_which_nothing_is_left_may_still_be_told_to_another_target(
    target: str, part: dict[str, Any], name: str
) -> None:
    with pytest.raises(UnsupportedByTarget, match=f"cannot be told: {name}"):
        sent(target, messages=[{"role": "user", "content": [part]}])


@pytest.mark.parametrize("target", ["chat.completions", "responses", "generateContent", "cohere.chat"])
@pytest.mark.parametrize("caller", ["messages", "converse"])
def test_an_answer_that_was_begun_is_named_where_it_is_not_gone_on_with(caller: str, target: str) -> None:
    def dropped(*roles: str) -> tuple[str, ...]:
        content: Any = "Once" if caller == "messages" else [{"text": "Once"}]
        body: dict[str, Any] = {"messages": [{"role": role, "content": content} for role in roles]}
        body |= {"model": "m", "max_tokens": 99} if caller == "messages" else {}
        call = DIALECTS[caller].parse(json.dumps(body).encode(), Address("m"))
        return Passages(DIALECTS[caller], call, 5, "ours").to((target,), TargetFacts("m", 4096)).dropped

    assert dropped("user", "assistant") == ("prefill",)
    assert dropped("user", "assistant", "user") == ()


def test_a_tool_that_said_nothing_is_told_to_have_said_so_where_something_must_be() -> None:
    messages = [*CALLED[:2], {**CALLED[2], "content": ""}]
    body, _ = sent("converse", messages=messages, tools=[function("look")])
    assert body["messages"][2]["content"][0]["toolResult"] == {
        "toolUseId": "c1",
        "content": [{"text": ""}],
        "status": "success",
    }
    said = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    failed = {"type": "tool_result", "tool_use_id": "t1", "is_error": True}
    turns = [*HELLO, {"role": "assistant", "content": [said]}, {"role": "user", "content": [failed]}]
    call = DIALECTS["messages"].parse(json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode())
    passage = Passages(DIALECTS["messages"], call, 5, "ours").to(("converse",), TargetFacts("m", 4096))
    result = json.loads(bytes(passage.call.fields["messages"]))[2]["content"][0]["toolResult"]
    assert (result["status"], result["content"]) == ("error", [{"text": "error"}])


# -- the conversation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["messages", "converse"])
def test_texts_without_a_letter_are_left_out_where_they_are_refused(target: str) -> None:
    body, _ = sent(target, messages=[{"role": "system", "content": " "}, *CALLED], tools=[function("look")])
    assert "system" not in body
    assert len(body["messages"][1]["content"]) == 1


@pytest.mark.parametrize("target", ["messages", "converse"])
def test_a_conversation_that_its_other_side_begins_begins_with_the_user(target: str) -> None:
    greeting = {"role": "assistant", "content": "How can I help?"}
    body, dropped = sent(target, messages=[{"role": "system", "content": "Be kind."}, greeting, *HELLO])
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert not dropped


@pytest.mark.parametrize(
    ("target", "member"), [("messages", "messages"), ("converse", "messages"), ("generateContent", "contents")]
)
def test_of_instructions_alone_the_last_is_what_the_user_says(target: str, member: str) -> None:
    told = [{"role": "system", "content": "You are a poet."}, {"role": "system", "content": "Write."}]
    body, dropped = sent(target, messages=told)
    assert [message["role"] for message in body[member]] == ["user"]
    assert "Write." in json.dumps(body[member])
    assert "poet" not in json.dumps(body[member])
    assert dropped == ("system.position",)


def test_a_conversation_with_calls_has_tools_where_its_caller_offers_none_any_more() -> None:
    body, _ = sent("messages", messages=CALLED)
    assert [tool["name"] for tool in body["tools"]] == ["look"]
    assert body["tool_choice"] == {"type": "none"}


def test_an_answer_that_said_nothing_is_left_out_where_it_is_refused() -> None:
    body, _ = sent("cohere.chat", messages=[*HELLO, {"role": "assistant", "content": ""}, *HELLO])
    assert [message["role"] for message in body["messages"]] == ["user", "user"]


def test_an_image_is_sent_under_its_registered_type() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}}
    body, dropped = sent("messages", messages=[{"role": "user", "content": [image]}])
    assert body["messages"][0]["content"][0]["source"]["media_type"] == "image/jpeg"
    body, _ = sent("converse", messages=[{"role": "user", "content": [image]}])
    assert body["messages"][0]["content"][0]["image"]["format"] == "jpeg"
    assert not dropped


def test_documents_have_names_that_bedrock_takes_each_its_own() -> None:
    data = "data:application/pdf;base64,AAAA"
    file = {"type": "file", "file": {"filename": "a  gauge_of.pdf", "file_data": data}}
    body, _ = sent("converse", messages=[{"role": "user", "content": [file, file]}])
    names = [block["document"]["name"] for block in body["messages"][0]["content"]]
    assert names == ["a gauge-of", "a gauge-of (2)"]


def test_media_of_googles_clients_are_read_in_their_alphabet() -> None:
    pixels = bytes(range(240, 256)) * 3 + b"\xff"
    inline = {"mimeType": "image/png", "data": base64.urlsafe_b64encode(pixels).decode().rstrip("=")}
    caller = DIALECTS["generateContent"]
    body = json.dumps({"contents": [{"role": "user", "parts": [{"inlineData": inline}]}]}).encode()
    passage = Passages(caller, caller.parse(body, Address("m")), 5).to(("messages",), TargetFacts("m", 4096))
    (message,) = json.loads(bytes(passage.call.fields["messages"]))
    assert base64.b64decode(message["content"][0]["source"]["data"], validate=True) == pixels


def test_a_call_that_bears_the_sign_for_no_signature_bears_none() -> None:
    sign = base64.b64encode(b"skip_thought_signature_validator").decode()
    call = {"functionCall": {"name": "look", "args": {}, "id": "c1"}, "thoughtSignature": sign}
    result = {"functionResponse": {"name": "look", "id": "c1", "response": {"output": "12.4 m"}}}
    turns = [
        {"role": "user", "parts": [{"text": "Look."}]},
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [result]},
    ]
    caller = DIALECTS["generateContent"]
    asked_of = caller.parse(json.dumps({"contents": turns}).encode(), Address("m"))
    assert Passages(caller, asked_of, 5).to(("messages",), TargetFacts("m", 4096)).dropped == ()


def test_a_document_without_a_name_is_called_something_where_it_must_be() -> None:
    inline = {"mimeType": "application/pdf", "data": "AAAA"}
    caller = DIALECTS["generateContent"]
    body = json.dumps({"contents": [{"role": "user", "parts": [{"inlineData": inline}]}]}).encode()
    passage = Passages(caller, caller.parse(body, Address("m")), 5).to(("chat.completions",), TargetFacts("m"))
    (message,) = json.loads(bytes(passage.call.fields["messages"]))
    assert message["content"][0]["file"]["filename"] == "document.pdf"


def test_calls_of_one_turn_that_were_told_in_several_messages_stand_together() -> None:
    def called(id: str) -> dict[str, Any]:
        call = {"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}}
        return {"role": "assistant", "content": "So.", "tool_calls": [call]}

    results = [{"role": "tool", "tool_call_id": id, "content": "12.4 m"} for id in ("c1", "c2")]
    body, _ = sent("generateContent", messages=[*HELLO, called("c1"), called("c2"), *results])
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert len(body["contents"][1]["parts"]) == 4


# -- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["messages", "converse", "responses", "generateContent", "cohere.chat"])
def test_parameters_are_what_every_vendor_takes(target: str) -> None:
    tools = [function("a", {}), function("b", {"type": "object", "properties": {"rows": {"type": "array"}}})]
    text = json.dumps(sent(target, tools=tools)[0])
    assert text.count('"type": "object", "properties"') == 2
    assert '"items": {}' in text


def test_a_long_name_is_shortened_where_it_is_too_long() -> None:
    long = "mcp__" + "gauge_" * 13
    named = {
        "responses": lambda body: body["tools"][0]["name"],
        "converse": lambda body: body["toolConfig"]["tools"][0]["toolSpec"]["name"],
        "messages": lambda body: body["tools"][0]["name"],
    }
    names = {target: read(sent(target, tools=[function(long)])[0]) for target, read in named.items()}
    assert len(long) > 64
    assert names["messages"] == long
    assert names["responses"] == names["converse"] != long
    assert len(names["responses"]) == 64


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("messages", ("output_config", "format", "schema")),
        ("generateContent", ("generationConfig", "responseJsonSchema")),
        ("cohere.chat", ("response_format", "json_schema")),
    ],
)
def test_what_an_answer_is_for_is_told_in_its_schema_where_there_is_no_other_place(
    target: str, place: tuple[str, ...]
) -> None:
    def described(**own: str) -> Any:
        wanted = asked({**schema(city={"type": "string"}), **own})
        wanted["json_schema"]["description"] = "Where it is."
        found, _ = sent(target, response_format=wanted)
        for name in place:
            found = found[name]
        return found["description"]

    assert described() == "Where it is."
    assert described(description="A place.") == "A place."


def test_strict_tools_are_told_as_anthropic_takes_them() -> None:
    bounded = function("a", schema(score={"type": "integer", "minimum": 0}), strict=True)
    plain = function("b", schema(city={"type": "string"}), strict=True)
    body, dropped = sent("messages", tools=[bounded, plain])
    assert [tool["strict"] for tool in body["tools"]] == [True, True]
    assert "minimum" not in body["tools"][0]["input_schema"]["properties"]["score"]
    assert dropped == ("tools.strict",)
    assert sent("messages", tools=[plain])[1] == ()


def test_more_strict_tools_than_anthropic_takes_are_not_strict() -> None:
    many = [function(f"t{number}", schema(city={"type": "string"}), strict=True) for number in range(25)]
    body, dropped = sent("messages", tools=many)
    assert sum(bool(tool.get("strict")) for tool in body["tools"]) == 20
    assert dropped == ("tools.strict",)


def test_a_strict_tool_with_optional_members_is_not_strict_at_openai() -> None:
    caller = DIALECTS["messages"]
    optional = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    tools = [{"name": "save", "input_schema": optional, "strict": True}]
    body = json.dumps({"model": "m", "max_tokens": 99, "messages": HELLO, "tools": tools}).encode()
    passage = Passages(caller, caller.parse(body), 5).to(("responses",), TargetFacts("m"))
    (tool,) = json.loads(bytes(passage.call.fields["tools"]))
    assert tool["strict"] is False
    assert passage.dropped == ("tools.strict",)


# -- the form of the answer -------------------------------------------------------------------------------------------


def test_an_answers_schema_is_told_as_anthropic_takes_it() -> None:
    bounded = schema(score={"type": "integer", "maximum": 10})
    body, dropped = sent("messages", response_format=asked(bounded))
    form = body["output_config"]["format"]["schema"]
    assert form["properties"]["score"] == {"type": "integer", "description": "{maximum: 10}"}
    assert dropped == ("response_format.bounds",)
    assert sent("messages", response_format=asked(schema(city={"type": "string"})))[1] == ()


@pytest.mark.parametrize("target", ["messages", "converse"])
def test_an_answer_in_any_json_is_asked_for_in_words_where_nothing_holds_a_model_to_it(target: str) -> None:
    told = [{"role": "system", "content": "Be brief."}, *HELLO]
    body, dropped = sent(target, messages=told, response_format={"type": "json_object"})
    assert body["system"][0]["text"] == "Be brief."
    assert "JSON object" in body["system"][-1]["text"]
    assert dropped == ("response_format",)


def test_cohere_is_held_to_schemas_alone_whose_objects_ask_for_something() -> None:
    assert "response_format" in sent("cohere.chat", response_format=asked(schema(city={"type": "string"})))[0]
    optional = {"type": "object", "properties": {"city": {"type": "string"}}}
    body, _ = sent("cohere.chat", response_format=asked(schema(place=optional)))
    assert "response_format" not in body
    assert body["tool_choice"] == "REQUIRED"


@pytest.mark.parametrize("target", ["messages", "converse"])
def test_an_answer_whose_schema_cannot_be_held_to_is_had_from_a_tool(target: str) -> None:
    body, dropped = sent(target, response_format=asked({"type": "object", "additionalProperties": {"type": "number"}}))
    assert "output_config" not in body
    assert "outputConfig" not in body
    assert "answer_in_json" in json.dumps(body)
    assert dropped == ("tools.strict",)


WEATHER = function("look", schema(city={"type": "string"}))


@pytest.mark.parametrize(
    ("target", "model"), [("generateContent", "gemini-2.5-pro"), ("cohere.chat", "m"), ("converse", "m")]
)
def test_an_answer_in_a_form_beside_tools_is_had_from_one_more_tool(target: str, model: str) -> None:
    lacks = frozenset({"json_schema"}) if target == "converse" else frozenset()
    wanted = asked(schema(depth={"type": "number"}))
    body, dropped = sent(target, TargetFacts(model, lacks=lacks), response_format=wanted, tools=[WEATHER])
    text = json.dumps(body)
    assert '"look"' in text
    assert '"answer_in_json"' in text
    assert not {"response_format", "outputConfig"} & body.keys()
    assert "responseMimeType" not in text
    assert any(word in text for word in ('"REQUIRED"', '"mode": "ANY"', '"any": {}'))
    assert set(dropped) <= {"tools.strict"}


def test_newer_models_of_google_answer_in_a_form_beside_tools() -> None:
    wanted = asked(schema(depth={"type": "number"}))
    body, _ = sent("generateContent", TargetFacts("gemini-3-pro"), response_format=wanted, tools=[WEATHER])
    assert "responseJsonSchema" in body["generationConfig"]
    assert "answer_in_json" not in json.dumps(body)


def test_a_call_that_is_forced_is_no_answer_yet() -> None:
    wanted = asked(schema(depth={"type": "number"}))
    more = {"response_format": wanted, "tools": [WEATHER], "tool_choice": "required"}
    body, dropped = sent("cohere.chat", **more)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["look"]
    assert not dropped


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_a_model_without_a_temperature_is_not_told_of_one() -> None:
    lacking = TargetFacts("claude-opus-4-7", 4096, None, frozenset({"temperature", "top_p"}))
    body, dropped = sent("messages", lacking, temperature=0.2, top_p=1)
    assert not body.keys() & {"temperature", "top_p"}
    assert dropped == ("temperature",)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("required", {"type": "auto"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "auto"}),
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
    ],
)
def test_a_model_that_cannot_be_forced_to_call_a_tool_may_call_it(choice: Any, told: dict[str, str]) -> None:
    lacking = TargetFacts("claude-opus-5-5", 4096, None, frozenset({"forced_tools"}))
    body, dropped = sent("messages", lacking, tools=[WEATHER, function("other")], tool_choice=choice)
    assert body["tool_choice"] == told
    assert [tool["name"] for tool in body["tools"]] == (["look"] if isinstance(choice, dict) else ["look", "other"])
    assert dropped == (("tool_choice",) if choice not in ("auto", "none") else ())


@pytest.mark.parametrize(
    ("model", "thinking", "effort"),
    [
        ("claude-opus-4-6", {"type": "disabled"}, None),
        ("claude-opus-5-5", None, "low"),
        ("claude-fable-5-1", None, "low"),
        ("claude-sonnet-5-5", {"type": "between_tools"}, None),
    ],
)
def test_a_model_thinks_as_little_as_it_can_where_none_is_asked_for(
    model: str, thinking: dict[str, str] | None, effort: str | None
) -> None:
    body, dropped = sent("messages", TargetFacts(model, 4096), reasoning_effort="none")
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert dropped == (("reasoning",) if effort else ())


def test_a_reasoning_model_that_reasons_is_not_told_of_a_temperature() -> None:
    body, dropped = sent("responses", TargetFacts("gpt-5.2"), temperature=0.2, reasoning_effort="high")
    assert "temperature" not in body
    assert dropped == ("temperature",)
    body, dropped = sent("responses", TargetFacts("gpt-5.2"), temperature=0.2, reasoning_effort="none")
    assert body["temperature"] == 0.2
    assert not dropped


def test_nothing_is_asked_for_beyond_all_that_a_model_can_put_out() -> None:
    body, dropped = sent("messages", TargetFacts("m", most_output=8192), max_completion_tokens=64_000)
    assert body["max_tokens"] == 8192
    assert not dropped
    assert sent("messages", TargetFacts("m", most_output=8192), max_completion_tokens=100)[0]["max_tokens"] == 100


def _in_a_thread(thread: dict[str, str]) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": HELLO, "thread": thread}).encode()


def test_what_the_vendor_has_of_a_thread_is_bounded_by_the_context_window() -> None:
    parse = DIALECTS["messages"].parse
    assert parse(_in_a_thread({"type": "continue", "previous_message_id": "msg_1"})).unseen
    assert not parse(_in_a_thread({"type": "create"})).unseen


@pytest.mark.parametrize("target", ["chat.completions", "messages"])
def test_a_thread_is_refused_by_who_keeps_none(target: str) -> None:
    caller = DIALECTS["messages"]
    call = caller.parse(_in_a_thread({"type": "create"}))
    with pytest.raises(ThreadUnsupported) as refused:
        Passages(caller, call, 5).to((target,), TargetFacts("m", lacks=frozenset({"threads"})))
    told = json.loads(caller.error_body(refused.value))
    assert told["error"]["details"] == {"error_code": "thread_unsupported_request"}
    assert Passages(caller, call, 5).to(("messages",), TargetFacts("m")).call is call


def test_a_compaction_is_no_question_to_another_vendor() -> None:
    caller = DIALECTS["messages"]
    asked_of = {"model": "m", "max_tokens": 9, "messages": HELLO, "compaction": {"type": "summarize"}}
    passages = Passages(caller, caller.parse(json.dumps(asked_of).encode()), 5)
    with pytest.raises(UnsupportedByTarget):
        passages.to(("chat.completions",), TargetFacts("m"))
