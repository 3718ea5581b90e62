"""Laws of several choices by parallel calls, and of a request that is narrowed to what a model has."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.laws.conversations import CALLS, TEXTS, TOOLS, answers, usages

from penstock.dialects.chorus import MAX_VOICES, Chorus, alone, together, voices_for
from penstock.dialects.codec import Heading
from penstock.dialects.narrowing import IN_JSON, as_text, is_answered_by_tool, narrowed
from penstock.dialects.openai_chat_codec import ChatCodec
from penstock.dialects.registry import CODECS
from penstock.domain.capabilities import CAPABILITIES
from penstock.domain.chat import (
    Answer,
    Format,
    Media,
    Message,
    Reasoning,
    Request,
    Sampling,
    Text,
    ToolChoice,
    ToolResult,
)
from penstock.domain.stream import collect, events_of
from penstock.domain.usage import Usage
from penstock.errors import UnsupportedByTarget

NAME = "openai_chat"
PARTS = TEXTS | CALLS.map(lambda call: structs.replace(call, origin=NAME))
ANSWERS = st.lists(answers(NAME, PARTS, [("stop", "stop"), ("length", "length")]), min_size=1, max_size=MAX_VOICES)


def summed(told: list[Answer]) -> Usage | None:
    """What all have used, by hand."""
    if any(answer.usage is None for answer in told):
        return None
    total = Usage(requests=0)
    for answer in told:
        assert answer.usage is not None
        total = total.plus(answer.usage)
    return total


@settings(max_examples=60, deadline=None)
@given(ANSWERS)
def test_answers_together_have_the_choice_of_each_once_and_the_usage_of_all(told: list[Answer]) -> None:
    whole = together(told)
    assert whole.choices == tuple(answer.choices[0] for answer in told)
    assert whole.usage == summed(told)
    if whole.usage is not None:
        used = [answer.usage for answer in told if answer.usage]
        assert whole.usage.requests == sum(usage.requests for usage in used)
        assert whole.usage.input == sum(usage.input for usage in used)  # each has read the prompt
        assert whole.usage.output == sum(usage.output for usage in used)


def _read(stream: bytes) -> Answer:
    decoder = ChatCodec().decoder()
    return collect([*decoder.feed(stream), *decoder.close()])


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.randoms(use_true_random=False))
def test_streams_together_tell_what_the_plain_answers_do_however_they_mingle(
    told: list[Answer], dice: random.Random
) -> None:
    heading = Heading("alias", wants_usage=True, request=Request(NAME, "alias", ()), created=7, id="chatcmpl-ours")
    codec = ChatCodec()
    chorus = Chorus(codec.encoder(heading), len(told))
    left = {number: list(events_of(answer)) for number, answer in enumerate(told)}
    voices = {number: chorus.voice(number) for number in left}
    stream = b""
    while left:
        number = dice.choice(sorted(left))
        stream += voices[number].encode(left[number].pop(0))
        if not left[number]:
            del left[number]
    assert b"[DONE]" not in stream, "it ends when all are settled"
    stream += chorus.ending()
    read = _read(stream)
    each = [_read(b"".join(map(codec.encoder(heading).encode, events_of(answer)))) for answer in told]
    assert read.choices == tuple(answer.choices[0] for answer in each)
    assert (read.usage is None) == (summed(told) is None)
    if read.usage is not None:
        whole = summed(told)
        assert whole is not None
        assert (read.usage.output, read.usage.reasoning) == (whole.output, whole.reasoning)


@given(st.integers(0, 40), st.sampled_from(sorted(CODECS)), st.booleans())
def test_a_call_is_sent_once_or_as_often_as_there_are_choices_or_is_refused(
    wanted: int, target: str, lacks_n: bool
) -> None:
    request = Request(NAME, "model-1", (), sampling=Sampling(choices=wanted))
    lacks = frozenset({"n"}) if lacks_n else frozenset[str]()
    serves = CODECS[target].several and not lacks_n
    if wanted > MAX_VOICES and not serves:
        with pytest.raises(UnsupportedByTarget, match=f"'n' is {wanted}"):
            voices_for(request, CODECS[target], lacks)
        return
    assert voices_for(request, CODECS[target], lacks) == (1 if serves or wanted <= 1 else wanted)
    assert alone(request) == structs.replace(request, sampling=Sampling(choices=1))


# -- narrowing --------------------------------------------------------------------------------------------------------

MEDIA = st.builds(lambda kind: Media(kind, "x/y", "QUJD"), st.sampled_from(["image", "audio", "video", "document"]))
USER = TEXTS | MEDIA | st.builds(lambda parts: ToolResult("call_1", tuple(parts)), st.lists(TEXTS | MEDIA, max_size=3))
REQUESTS = st.builds(
    Request,
    origin=st.just(NAME),
    model=st.just("model-1"),
    messages=st.lists(
        st.builds(lambda parts: Message("user", tuple(parts)), st.lists(USER, min_size=1, max_size=4)), max_size=3
    ).map(tuple),
    tools=st.lists(TOOLS, max_size=2).map(tuple),
    tool_choice=st.none() | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"])),
    parallel_tools=st.none() | st.booleans(),
    format=st.none() | st.builds(Format, st.sampled_from(["json", "json_schema"])),
    reasoning=st.none() | st.just(Reasoning(effort="high")),
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.just(0.5),
        top_p=st.none() | st.just(0.5),
        top_k=st.none() | st.just(4),
        stop=st.sampled_from([(), ("END",)]),
        seed=st.none() | st.just(7),
        presence_penalty=st.none() | st.just(0.5),
        frequency_penalty=st.none() | st.just(0.5),
        logprobs=st.booleans(),
        top_logprobs=st.none() | st.just(2),
    ),
)
LACKS = st.frozensets(st.sampled_from(CAPABILITIES))
SAME = {
    "tools": lambda it: it.tools,
    "tool_choice": lambda it: it.tool_choice,
    "temperature": lambda it: it.sampling.temperature,
    "top_p": lambda it: it.sampling.top_p,
    "response_format": lambda it: it.format,
    "reasoning": lambda it: it.reasoning,
    "parallel_tool_calls": lambda it: it.parallel_tools,
    "seed": lambda it: it.sampling.seed,
    "stop": lambda it: it.sampling.stop,
    "top_k": lambda it: it.sampling.top_k,
    "presence_penalty": lambda it: it.sampling.presence_penalty,
    "frequency_penalty": lambda it: it.sampling.frequency_penalty,
    "logprobs": lambda it: (it.sampling.logprobs, it.sampling.top_logprobs),
    **{kind: lambda it, kind=kind: media(it, kind) for kind in ("image", "audio", "video", "document")},
}
"""Name under which something is dropped -> what of a request that is."""


def media(request: Request, kind: str) -> int:
    """How many parts of the kind there are, those in the results of tools too."""
    parts = [part for message in request.messages for part in message.parts]
    parts += [inner for part in parts if isinstance(part, ToolResult) for inner in part.parts]
    return sum(isinstance(part, Media) and part.kind == kind for part in parts)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, LACKS)
def test_what_is_not_named_is_there_as_it_was_and_what_is_named_is_not(request: Request, lacks: frozenset[str]) -> None:
    left, dropped = narrowed(request, lacks)
    by_tool = is_answered_by_tool(left)
    choice = request.tool_choice
    is_forced = choice is not None and choice.mode == "required" and "forced_tools" not in lacks
    assert set(dropped) <= set(SAME)
    for name, of in SAME.items():
        if by_tool and name in ("tools", "tool_choice", "response_format", "parallel_tool_calls"):
            continue
        if name == "response_format" and is_forced and left.format is None:  # what comes is a call, and no answer yet
            continue
        if name in dropped:
            assert of(left) != of(request), name
        elif name in ("parallel_tool_calls", "tool_choice") and "tools" in dropped:
            assert left.parallel_tools is left.tool_choice is None
        else:
            assert of(left) == of(request), name
    texts = [part for message in request.messages for part in message.parts if isinstance(part, Text)]
    told = [part for message in left.messages for part in message.parts if isinstance(part, Text)]
    is_json = request.format is not None and request.format.kind == "json"
    if is_json and "response_format" in dropped:
        told.remove(Text(IN_JSON))
    assert told == texts


@settings(max_examples=100, deadline=None)
@given(REQUESTS, LACKS)
def test_what_was_narrowed_is_narrowed_no_more_and_no_lack_changes_nothing(
    request: Request, lacks: frozenset[str]
) -> None:
    left, _ = narrowed(request, lacks)
    assert narrowed(left, lacks) == (left, ())
    assert narrowed(request, frozenset()) == (request, ())


@given(answers(NAME, TEXTS | CALLS, [("stop", "stop"), ("tool_calls", "tool_calls")]), usages())
def test_an_answer_without_the_answering_tool_is_told_as_it_is(answer: Answer, usage: Usage) -> None:
    answer = structs.replace(answer, usage=usage)
    assert as_text(answer) == answer
