"""A conversation with a model, in no vendor's words: what a request, an answer and a stream say.

A dialect's codec reads its wire language into these values and writes them again, so that N dialects need N codecs and
not N x M pairs. What only one dialect can say travels as `extras` (members beside the known ones) and as `Opaque`
parts, each under the name of the dialect it came from (`origin`), and is replayed to that dialect alone.

`Raw` values are JSON text, verbatim. A stream tells the same piece by piece: see `stream`.
"""

from typing import Literal

from msgspec import Raw, Struct, field

from penstock.domain.usage import Usage

Role = Literal["system", "developer", "user", "assistant"]
"""A tool's result is a part of a `user` message."""

Finish = Literal[
    "stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause", "context", "error"
]
"""Why a choice ended: by itself, at a stop sequence, at the output cap, to have tools called, cut by a filter of the
vendor's, because the model declined, to be continued by another request, at the context window, by a fault."""

Extras = dict[str, Raw]


# -- parts ------------------------------------------------------------------------------------------------------------


class Cache(Struct, frozen=True):
    """The prompt up to here is worth caching. `lifetime`: `5m`, `1h`, or empty for the vendor's own."""

    lifetime: str = ""


class Citation(Struct, frozen=True):
    """Where a text comes from. `start` and `end`: characters of the text that it bears on, -1 when not told. `raw`: the
    citation as `origin` wrote it."""

    url: str = ""
    title: str = ""
    quote: str = ""
    start: int = -1
    end: int = -1
    origin: str = ""
    raw: Raw = Raw(b"null")

    def span(self, length: int) -> tuple[int, int]:
        """The characters that it bears on of a text of this length: all of them when they are not told."""
        return (0, length) if self.start < 0 or self.end < 0 else (self.start, self.end)


class Text(Struct, frozen=True, tag=True):
    text: str
    citations: tuple[Citation, ...] = ()
    cache: Cache | None = None
    extras: Extras = field(default_factory=dict)


class Refusal(Struct, frozen=True, tag=True):
    """What a model says instead of an answer, where the dialect tells it apart."""

    text: str


class Media(Struct, frozen=True, tag=True):
    """An image, a sound, a film or a document: `data` (base64) or `url` or `file` (an id at the vendor) or, of a
    document, `text`. `mime` may be empty beside a URL. `name`: of the file, or a document's title. `detail`: of an
    image, `low`, `high`, `auto`."""

    kind: Literal["image", "audio", "video", "document"]
    mime: str = ""
    data: str = ""
    url: str = ""
    file: str = ""
    text: str = ""
    name: str = ""
    detail: str = ""
    cache: Cache | None = None
    extras: Extras = field(default_factory=dict)


class Thinking(Struct, frozen=True, tag=True):
    """The model's reasoning. `text` is what may be read of it; `summary`: it is the vendor's summary and not the
    reasoning itself. `signature` proves it to the vendor; `sealed` is reasoning that only the vendor can read
    (Anthropic's redacted thinking, OpenAI's encrypted content). Both go back to the family of models they came from and
    nowhere else: `origin` is the dialect. `id`: OpenAI's item."""

    text: str = ""
    summary: bool = False
    signature: str = ""
    sealed: str = ""
    origin: str = ""
    id: str = ""
    extras: Extras = field(default_factory=dict)


class ToolCall(Struct, frozen=True, tag=True):
    """The model asks for a tool. `arguments` is JSON text as the model wrote it (`custom`: free text). `signature`:
    Gemini's thought signature on the call, of `origin`. `item`: OpenAI's item id beside the call's."""

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    signature: str = ""
    origin: str = ""
    item: str = ""
    cache: Cache | None = None
    extras: Extras = field(default_factory=dict)


class ToolResult(Struct, frozen=True, tag=True):
    """What a tool answered: texts, images, documents. `name` may be empty where the dialect has only the id."""

    call: str
    parts: tuple["Text | Media | Opaque", ...] = ()
    name: str = ""
    is_error: bool = False
    custom: bool = False
    cache: Cache | None = None
    extras: Extras = field(default_factory=dict)


class Opaque(Struct, frozen=True, tag=True):
    """A part that only `origin` can carry (a server tool's call or result, ...). `kind`: its type there."""

    origin: str
    kind: str
    raw: Raw


Part = Text | Refusal | Media | Thinking | ToolCall | ToolResult | Opaque


class Message(Struct, frozen=True):
    """`name`: of the speaker, where the dialect has one. `id`: OpenAI's item."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""
    id: str = ""
    extras: Extras = field(default_factory=dict)


# -- the request ------------------------------------------------------------------------------------------------------


class Tool(Struct, frozen=True):
    """A function of the caller's. `schema`: JSON Schema of its arguments. `custom`: its input is free text, and
    `schema` the grammar, if there is one."""

    name: str
    description: str = ""
    schema: Raw = Raw(b"null")
    strict: bool | None = None
    custom: bool = False
    cache: Cache | None = None
    extras: Extras = field(default_factory=dict)


class ServerTool(Struct, frozen=True):
    """A tool that the vendor runs itself (web search, code execution, ...), as `origin` writes it."""

    origin: str
    kind: str
    raw: Raw


class ToolChoice(Struct, frozen=True):
    """`tool`: the one in `names`; `allowed`: one of those in `names`, or none of them where `required` is False."""

    mode: Literal["auto", "none", "required", "tool", "allowed"]
    names: tuple[str, ...] = ()
    required: bool = False


class Format(Struct, frozen=True):
    """The form of the answer: text, any JSON object, or what fits a JSON Schema."""

    kind: Literal["text", "json", "json_schema"]
    name: str = ""
    description: str = ""
    schema: Raw = Raw(b"null")
    strict: bool | None = None
    extras: Extras = field(default_factory=dict)


class Reasoning(Struct, frozen=True):
    """How much to think. `effort`: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`; `budget`: in tokens, -1
    leaves it to the model; `show`: whether reasoning is to be told; `summary`: in which form."""

    effort: str = ""
    budget: int | None = None
    show: bool | None = None
    summary: str = ""


class Sampling(Struct, frozen=True):
    """None or empty: the vendor's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Raw | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    choices: int = 1


class Request(Struct, frozen=True):
    """What a caller asks of a model. `max_output`: tokens of one choice. `user`: an end user's id at the vendor.
    `service_tier`: in OpenAI's words."""

    origin: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool | ServerTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_output: int | None = None
    sampling: Sampling = Sampling()
    format: Format | None = None
    reasoning: Reasoning | None = None
    streaming: bool = False
    user: str = ""
    metadata: Raw | None = None
    service_tier: str = ""
    verbosity: str = ""
    cache_key: str = ""
    store: bool | None = None
    modalities: tuple[str, ...] = ()
    extras: Extras = field(default_factory=dict)


# -- the answer -------------------------------------------------------------------------------------------------------


class Choice(Struct, frozen=True):
    """`native`: the reason in the vendor's own word; `stop_sequence`: the one that was met. `logprobs`: of the text and
    of a refusal, each a token's object in OpenAI's chat form. `explanation`: what the vendor says of a refusal, a
    filter or a fault, and not the model."""

    parts: tuple[Part, ...]
    finish: Finish = "stop"
    native: str = ""
    stop_sequence: str = ""
    logprobs: tuple[Raw, ...] = ()
    refusal_logprobs: tuple[Raw, ...] = ()
    extras: Extras = field(default_factory=dict)
    explanation: str = ""


class Answer(Struct, frozen=True):
    """`created`: Unix seconds, 0 when not told. `usage` None: none was reported that can be believed. `service_tier`:
    in OpenAI's words."""

    origin: str
    id: str
    model: str
    choices: tuple[Choice, ...]
    created: int = 0
    usage: Usage | None = None
    service_tier: str = ""
    extras: Extras = field(default_factory=dict)
