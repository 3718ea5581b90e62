"""The features of a conversation that a translation can lose: each a request or an answer with it, and where to look.

The values are made up. `of` picks the part of a request (or of an answer) that the feature is; it is compared before
and after.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Raw, structs

from penstock.domain.chat import (
    Answer,
    Cache,
    Choice,
    Citation,
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.domain.usage import Usage

MODEL = "model-1"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
PAPER = "JVBERi0xLjQKJSVFT0YK"
SOUND = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
SCHEMA = Raw(
    b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
)


class Feature(NamedTuple):
    """`dropped_as`: the names by which an encoder may say that it left the feature out. `instead`: where to look for
    what does the same, where that is elsewhere."""

    name: str
    request: Request
    of: Callable[[Request], Any]
    dropped_as: tuple[str, ...]
    instead: Callable[[Request], Any] | None = None


class Told(NamedTuple):
    """A feature of an answer."""

    name: str
    answer: Answer
    of: Callable[[Answer], Any]


def asked(**members: Any) -> Request:
    """A plain question with these members."""
    plain: dict[str, Any] = {"max_output": 256, "messages": (Message("user", (Text("What is the weather in Oslo?"),)),)}
    return Request(**{"origin": "", "model": MODEL, **plain, **members})


def _said(*parts: Part) -> Request:
    return asked(messages=(Message("user", parts),))


def _sampled(**members: Any) -> Request:
    return asked(sampling=Sampling(**members))


def _sampling(name: str) -> Callable[[Request], Any]:
    return lambda request: getattr(request.sampling, name)


def _member(name: str) -> Callable[[Request], Any]:
    return lambda request: getattr(request, name)


def _parts(kind: type[Part], *members: str) -> Callable[[Request], Any]:
    """These members of every part of the kind, wherever it stands."""

    def pick(request: Request) -> Any:
        found: list[Part] = []
        for message in request.messages:
            for part in message.parts:
                found += [part, *(part.parts if isinstance(part, ToolResult) else ())]
        return [tuple(getattr(part, name) for name in members) for part in found if isinstance(part, kind)]

    return pick


WEATHER = Tool("get_weather", "The weather of a city.", SCHEMA)
CLOCK = Tool("get_time", "The time in a city.", SCHEMA)
CALLED = ToolCall("call_1", "get_weather", '{"city":"Oslo"}')
ALSO = ToolCall("call_2", "get_time", '{"city":"Oslo"}')


def _tools(**members: Any) -> Request:
    return asked(**{"tools": (WEATHER, CLOCK), **members})


def _answered(*results: ToolResult, called: tuple[Part, ...] = (CALLED,)) -> Request:
    question = Message("user", (Text("What is the weather in Oslo?"),))
    return _tools(messages=(question, Message("assistant", called), Message("user", results)))


def _result(*parts: Text | Media, **members: Any) -> ToolResult:
    return ToolResult("call_1", parts, "get_weather", **members)


IMAGE = Media("image", "image/png", PIXEL)
DOCUMENT = Media("document", "application/pdf", PAPER, name="paper.pdf")


def _with_thinking() -> Request:
    thought = Thinking("They want the weather.", signature="c2lnbmVk")
    return _answered(_result(Text("Rain.")), called=(thought, CALLED))


def _thinking_between() -> Request:
    """A model that thinks again between its words and its call."""
    first, then = Thinking("They ask.", signature="Zmlyc3Q="), Thinking("I must look.", signature="c2Vjb25k")
    return _answered(_result(Text("Rain.")), called=(first, Text("Let me see."), then, CALLED))


def _turn(request: Request) -> Any:
    """The order of what the model said and did, and its proofs."""
    turns = [message for message in request.messages if message.role == "assistant"]
    return [
        part.signature or part.sealed if isinstance(part, Thinking) else type(part).__name__
        for message in turns
        for part in message.parts
    ]


def _proofs(request: Request) -> Any:
    """What proves the reasoning that is sent back."""
    thoughts = [part for message in request.messages for part in message.parts if isinstance(part, Thinking)]
    return [part.signature or part.sealed for part in thoughts]


def _reasoning(name: str) -> Callable[[Request], Any]:
    return lambda request: getattr(request.reasoning, name, None)


FEATURES: tuple[Feature, ...] = (
    Feature(
        "a system prompt",
        asked(messages=(Message("system", (Text("Be brief."),)), *asked().messages)),
        lambda r: [part.text for m in r.messages if m.role == "system" for part in m.parts if isinstance(part, Text)],
        (),
    ),
    Feature(
        "a conversation of several turns",
        asked(
            messages=(
                Message("user", (Text("One."),)),
                Message("assistant", (Text("Two."),)),
                Message("user", (Text("Three."),)),
            )
        ),
        lambda r: [(m.role, _texts(m)) for m in r.messages],
        (),
    ),
    Feature("a cap on the output", asked(max_output=77), _member("max_output"), ("max_output",)),
    Feature("temperature", _sampled(temperature=0.5), _sampling("temperature"), ("temperature",)),
    Feature("top_p", _sampled(top_p=0.5), _sampling("top_p"), ("top_p",)),
    Feature("top_k", _sampled(top_k=40), _sampling("top_k"), ("top_k",)),
    Feature("stop sequences", _sampled(stop=("END",)), _sampling("stop"), ("stop",)),
    Feature("seed", _sampled(seed=7), _sampling("seed"), ("seed",)),
    Feature("presence penalty", _sampled(presence_penalty=0.5), _sampling("presence_penalty"), ("presence_penalty",)),
    Feature(
        "frequency penalty", _sampled(frequency_penalty=0.5), _sampling("frequency_penalty"), ("frequency_penalty",)
    ),
    Feature("logit bias", _sampled(logit_bias=Raw(b'{"50256":-100}')), _sampling("logit_bias"), ("logit_bias",)),
    Feature(
        "log-probabilities",
        _sampled(logprobs=True, top_logprobs=2),
        _sampling("top_logprobs"),
        ("logprobs", "top_logprobs"),
    ),
    Feature("several choices", _sampled(choices=2), _sampling("choices"), ("n",)),
    Feature("tools", _tools(), lambda r: [(t.name, t.description) for t in r.tools if isinstance(t, Tool)], ("tools",)),
    Feature(
        "strict tools",
        _tools(tools=(structs.replace(WEATHER, strict=True),)),
        lambda r: [t.strict for t in r.tools if isinstance(t, Tool)],
        ("tools.strict",),
    ),
    Feature(
        "tool choice: none",
        _tools(tool_choice=ToolChoice("none")),
        _member("tool_choice"),
        ("tool_choice",),
        lambda r: "with tools" if r.tools else "without any",
    ),
    Feature("tool choice: any", _tools(tool_choice=ToolChoice("required")), _member("tool_choice"), ("tool_choice",)),
    Feature(
        "tool choice: one",
        _tools(tool_choice=ToolChoice("tool", ("get_time",))),
        _member("tool_choice"),
        ("tool_choice",),
    ),
    Feature(
        "no parallel tool calls", _tools(parallel_tools=False), _member("parallel_tools"), ("parallel_tool_calls",)
    ),
    Feature(
        "tool calls and results",
        _answered(_result(Text("Rain."))),
        lambda r: (_parts(ToolCall, "name", "arguments")(r), _parts(Text, "text")(r)),
        (),
    ),
    Feature(
        "parallel tool calls and results",
        _answered(_result(Text("Rain.")), ToolResult("call_2", (Text("Noon."),), "get_time"), called=(CALLED, ALSO)),
        lambda r: (_parts(ToolCall, "name", "arguments")(r), _parts(Text, "text")(r)),
        (),
    ),
    Feature(
        "a tool's failure",
        _answered(_result(Text("No such city."), is_error=True)),
        _parts(ToolResult, "is_error"),
        ("tool_result.is_error",),
    ),
    Feature(
        "an image in a tool's result",
        _answered(_result(Text("A map:"), IMAGE)),
        _parts(Media, "kind", "data"),
        ("tool_result.image",),
    ),
    Feature("an image", _said(Text("What is this?"), IMAGE), _parts(Media, "kind", "mime", "data"), ("image",)),
    Feature(
        "an image by its address",
        _said(Text("What is this?"), Media("image", url="https://example.com/a.png")),
        _parts(Media, "kind", "url"),
        ("image.url",),
    ),
    Feature(
        "an image's detail",
        _said(Text("What is this?"), structs.replace(IMAGE, detail="low")),
        _parts(Media, "detail"),
        ("image.detail",),
    ),
    Feature("a PDF", _said(Text("Sum it up."), DOCUMENT), _parts(Media, "kind", "mime", "data"), ("document",)),
    Feature(
        "a sound",
        _said(Text("What is said?"), Media("audio", "audio/wav", SOUND)),
        _parts(Media, "kind", "data"),
        ("audio", "input_audio"),
    ),
    Feature(
        "an answer in JSON", asked(format=Format("json")), lambda r: r.format and r.format.kind, ("response_format",)
    ),
    Feature(
        "an answer by a JSON Schema",
        asked(format=Format("json_schema", "weather", "", SCHEMA, True)),
        lambda r: r.format and (r.format.kind, r.format.schema),
        ("response_format",),
    ),
    Feature(
        "reasoning effort",
        asked(reasoning=Reasoning(effort="low"), max_output=8_192),
        _reasoning("effort"),
        ("reasoning",),
        _member("reasoning"),
    ),
    Feature(
        "a budget for reasoning",
        asked(reasoning=Reasoning(budget=2_048), max_output=8_192),
        _reasoning("budget"),
        ("reasoning", "reasoning.budget"),
        _member("reasoning"),
    ),
    Feature("reasoning sent back", _with_thinking(), _proofs, ("thinking",)),
    Feature("reasoning between words and calls", _thinking_between(), _turn, ("thinking",)),
    Feature(
        "marks for the cache",
        _said(Text("A long text.", cache=Cache()), Text("Sum it up.")),
        _parts(Text, "cache"),
        ("cache_control",),
    ),
    Feature("the end user", asked(user="user-1"), _member("user"), ("user",)),
    Feature("metadata", asked(metadata=Raw(b'{"order":"7"}')), _member("metadata"), ("metadata",)),
    Feature("service tier", asked(service_tier="flex"), _member("service_tier"), ("service_tier",)),
    Feature("verbosity", asked(verbosity="low"), _member("verbosity"), ("verbosity",)),
)


def _texts(message: Message) -> list[str]:
    return [part.text for part in message.parts if isinstance(part, Text)]


def _answer(*parts: Part, **members: Any) -> Answer:
    return Answer("", "id_1", MODEL, (Choice(parts, **members),), usage=Usage(input=12, output=5))


def _used(**members: Any) -> Answer:
    return structs.replace(_answer(Text("Rain.")), usage=Usage(**{"input": 12, "output": 5, **members}))


def _usage(name: str) -> Callable[[Answer], Any]:
    return lambda answer: answer.usage and getattr(answer.usage, name)


def _first(kind: type[Part], *members: str) -> Callable[[Answer], Any]:
    return lambda answer: [
        tuple(getattr(part, name) for name in members)
        for choice in answer.choices
        for part in choice.parts
        if isinstance(part, kind)
    ]


def _proved(answer: Answer) -> Any:
    """Whether a caller has something to send back; what it is, only the dialect that it came from can tell."""
    parts = [part for choice in answer.choices for part in choice.parts if isinstance(part, Thinking)]
    return [bool(part.signature or part.sealed) for part in parts]


def _finish(answer: Answer) -> Any:
    return [choice.finish for choice in answer.choices]


SEARCHED = Opaque(
    "openai_responses",
    "web_search_call",
    Raw(b'{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"Oslo"}}'),
)

TOLD: tuple[Told, ...] = (
    Told("text", _answer(Text("Rain.")), _first(Text, "text")),
    Told(
        "a tool call",
        _answer(CALLED, finish="tool_calls"),
        lambda a: (_first(ToolCall, "name", "arguments")(a), _finish(a)),
    ),
    Told(
        "text and parallel tool calls",
        _answer(Text("Let me see."), CALLED, ALSO, finish="tool_calls"),
        lambda a: (_first(Text, "text")(a), _first(ToolCall, "id", "name", "arguments")(a)),
    ),
    Told(
        "reasoning",
        _answer(Thinking("They ask.", origin="anthropic_messages"), Text("Rain.")),
        _first(Thinking, "text"),
    ),
    Told(
        "the proof of reasoning",
        _answer(Thinking("They ask.", signature="c2ln", origin="anthropic_messages"), Text("Rain.")),
        _proved,
    ),
    Told(
        "sealed reasoning",
        _answer(Thinking(sealed="c2VhbGVk", origin="anthropic_messages"), Text("Rain.")),
        _proved,
    ),
    Told(
        "a refusal",
        _answer(Refusal("I cannot help with that."), finish="refusal"),
        lambda a: _first(Refusal, "text")(a) or _first(Text, "text")(a),
    ),
    Told(
        "why an answer was refused",
        _answer(finish="refusal", explanation="This was declined by policy."),
        lambda a: (
            [choice.explanation for choice in a.choices if choice.explanation]
            or [text for ((text),) in _first(Refusal, "text")(a) or _first(Text, "text")(a)]
        ),
    ),
    Told(
        "citations",
        _answer(Text("Rain.", (Citation("https://example.com", "Weather", "rain", 0, 5),))),
        lambda a: [
            citation.url
            for choice in a.choices
            for part in choice.parts
            if isinstance(part, Text)
            for citation in part.citations
        ],
    ),
    Told("an image that the model made", _answer(IMAGE), _first(Media, "kind", "data")),
    Told("a sound that the model made", _answer(Media("audio", "audio/wav", SOUND)), _first(Media, "kind", "data")),
    Told("the call of a tool that the provider ran", _answer(SEARCHED, Text("Rain.")), _first(Opaque, "kind")),
    Told("stopped at the cap", _answer(Text("Ra"), finish="length"), _finish),
    Told("stopped by a filter", _answer(Text("Ra"), finish="content_filter"), _finish),
    Told(
        "the stop sequence that was met",
        _answer(Text("Ra"), finish="stop_sequence", stop_sequence="END"),
        lambda a: [choice.stop_sequence for choice in a.choices],
    ),
    Told(
        "log-probabilities",
        _answer(Text("Rain."), logprobs=(Raw(b'{"token":"Rain.","logprob":-0.1,"bytes":null,"top_logprobs":[]}'),)),
        lambda a: [len(choice.logprobs) for choice in a.choices],
    ),
    Told(
        "several choices",
        Answer("", "id_1", MODEL, (Choice((Text("Rain."),)), Choice((Text("Sun."),))), usage=Usage(input=12, output=9)),
        _first(Text, "text"),
    ),
    Told(
        "the service tier that served it",
        structs.replace(_answer(Text("Rain.")), service_tier="priority"),
        lambda a: a.service_tier,
    ),
    Told("tokens in and out", _used(), lambda a: a.usage and (a.usage.total_input, a.usage.total_output)),
    Told("tokens read from the cache", _used(cache_read=7), _usage("cache_read")),
    Told(
        "tokens written to the cache",
        _used(cache_write={"5m": 7}),
        lambda a: a.usage and sum(a.usage.cache_write.values()),
    ),
    Told("lifetimes of what was written", _used(cache_write={"5m": 7, "1h": 3}), _usage("cache_write")),
    Told("tokens of reasoning", _used(reasoning=3), _usage("reasoning")),
)
