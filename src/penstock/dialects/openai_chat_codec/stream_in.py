"""A target's stream of chat completion chunks, read into events.

Reasoning, text and refusal follow each other: one ends where another begins. Tool calls come side by side and end with
the choice, which ends with the stream: vendors send a finish reason before the last proof, or with every chunk.
"""

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects import sse
from penstock.dialects.members import Members, reply_members
from penstock.dialects.openai_chat_codec.answer import (
    End,
    decode_answer,
    end_of,
    images_of,
    logprobs_of,
    seen_whole,
    usage_of,
)
from penstock.dialects.openai_chat_codec.parts import (
    NAME,
    bare,
    calls_of,
    citation_of,
    content_of,
    is_another,
    numbered_thinking,
    sources_of,
    sources_within,
    tool_call_of,
)
from penstock.dialects.openai_errors import Fault, fault_of
from penstock.domain.chat import Citation, Media, Part, Refusal, Text, Thinking, ToolCall
from penstock.domain.stream import (
    Begin,
    Ended,
    Event,
    Failed,
    Finished,
    Logprobs,
    PartBegin,
    PartDelta,
    PartEnd,
    PartMore,
    Reported,
    events_of,
)
from penstock.errors import UpstreamMalformed, UpstreamReset

MAX_CHOICES = 128
_MAX_CALLS = 4_096
_MAX_AUDIO_CHARACTERS = 64 * 1024 * 1024


class _Plain(Struct, forbid_unknown_fields=True):
    """A delta of text and nothing else, which nearly all are."""

    content: str | None = None
    role: str | None = None
    refusal: None = None


class _PlainChoice(Struct):
    delta: _Plain
    index: int = 0
    finish_reason: None = None
    logprobs: None = None


class _PlainChunk(Struct):
    choices: list[_PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None
    base_resp: None = None
    citations: None = None
    search_results: None = None
    web_search: None = None


_plain_decoder = msgspec.json.Decoder(_PlainChunk)


class _Call:
    """A call while it comes: its part, its id and what there is of its arguments."""

    def __init__(self, part: int, id: str) -> None:
        self.part = part
        self.id = id
        self.pieces: list[str] = []

    def is_another(self, told: ToolCall) -> bool:
        """Whether this is of another call at the same index. Google gives parallel calls the same one, and other ids
        or none at all; then it is the name that begins one, for some repeat the name with every piece. Older servers of
        vLLM make up a new id for every piece, so what a call has of its arguments must be whole before another."""
        if not (told.id or told.name) or told.id == self.id:
            return False
        if not self.pieces:
            return bool(told.id)
        try:
            msgspec.json.decode("".join(self.pieces))
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class _Choice:
    """One choice while it comes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts = 0
        self.open: Part | None = None
        self.open_at = 0
        self.thought: int | None = None
        self.text: int | None = None
        self.calls: dict[int, _Call] = {}
        self.call_parts: list[int] = []
        self.audio: dict[str, str] = {}
        self.audio_extras: dict[str, Raw] = {}
        self.end: End | None = None
        self.extras: dict[str, Raw] = {}
        self.is_cited = False
        self.sources: list[Citation] = []

    def begin(self, part: Part, out: list[Event]) -> int:
        at, self.parts = self.parts, self.parts + 1
        out.append(PartBegin(self.number, at, part))
        return at

    def close_open(self, out: list[Event]) -> None:
        if self.open is not None:
            out.append(PartEnd(self.number, self.open_at))
            self.open = None

    def go_on(self, part: Part, text: str, out: list[Event], *, anew: bool = False) -> None:
        """More of the part that is open, or of a new one of this kind."""
        if anew or type(self.open) is not type(part):
            self.close_open(out)
            self.open, self.open_at = part, self.begin(part, out)
            if isinstance(part, Text):
                self.text = self.open_at
        if text:
            out.append(PartDelta(self.number, self.open_at, text))


class ChatDecoder:
    """Sans-I/O. Raises `UpstreamMalformed` for what is no chunk."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._choices: dict[int, _Choice] = {}
        self._begun = False
        self._over = False
        self._id = ""
        self._tier = ""
        self._sources: list[Citation] = []

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        for event in sse.events(self._splitter.feed(data)):
            self._read(sse.data_of(event), out)
        return out

    def close(self) -> list[Event]:
        out: list[Event] = []
        rest = self._splitter.rest()
        if not self._over and not self._begun and rest.lstrip().startswith(b"{"):
            return self._whole(rest)
        if rest.strip() and not self._over:
            self._read(sse.data_of(rest + b"\n\n"), out)
        if not self._over:
            if not self._choices or any(choice.end is None for choice in self._choices.values()):
                raise UpstreamReset("The provider's stream broke off before its end.")
            self._end(out)
        return out

    def _whole(self, body: bytes) -> list[Event]:
        """A plain answer where a stream was asked for."""
        fault = fault_of(body)
        self._over = True
        if fault.message is not None:
            return [Failed(fault.message, fault.status, fault.kind)]
        return list(events_of(decode_answer(body)))

    def _read(self, data: bytes, out: list[Event]) -> None:
        if self._over or not data:
            return
        if data.strip() == b"[DONE]":
            self._end(out)
            return
        if self._begun:
            try:
                plain = _plain_decoder.decode(data)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                pass
            else:
                self._read_plain(plain, out)
                return
        self._read_chunk(reply_members(data), fault_of(data), out)

    def _read_plain(self, chunk: _PlainChunk, out: list[Event]) -> None:
        for told in chunk.choices:
            if told.delta.content:
                self._choice(told.index).go_on(Text(""), told.delta.content, out)

    def _choice(self, number: int) -> _Choice:
        if number not in self._choices:
            if not 0 <= number < MAX_CHOICES:
                raise UpstreamMalformed("The provider's answer has a choice that nobody asked for.")
            self._choices[number] = _Choice(number)
        return self._choices[number]

    def _read_chunk(self, chunk: Members, fault: Fault, out: list[Event]) -> None:
        chunk.drop("error")
        choices = chunk.objects("choices")
        usage = usage_of(chunk, choices)
        self._sources = sources_of(chunk) or self._sources
        if not self._begun and (choices or chunk.peek("id")):  # Azure opens with a chunk that has neither
            self._begin(chunk, out)
        self._tier = chunk.word("service_tier") or self._tier
        for position, one in enumerate(choices):
            index = one.take("index", int)
            self._read_choice(one, self._choice(position if index is None else index), out)
        if usage is not None:
            out.append(Reported(usage, self._tier))
        if fault.message is not None:
            out.append(Failed(fault.message, fault.status, fault.kind))
            self._over = True

    def _begin(self, chunk: Members, out: list[Event]) -> None:
        self._begun = True
        self._id, model, created = chunk.json_text("id"), chunk.json_text("model"), chunk.moment("created")
        tier = chunk.raw("service_tier")
        chunk.drop("object", "obfuscation", "p")
        out.append(Begin(NAME, self._id, model, created, extras=chunk.rest()))
        if tier is not None:
            chunk.put("service_tier", tier)

    def _read_choice(self, one: Members, choice: _Choice, out: list[Event]) -> None:
        is_whole = choice.parts == 0 and not one.has("delta")  # a plain answer, told as an event
        delta = one.object("message" if is_whole else "delta")
        for number, thinking in numbered_thinking(delta, bare):
            self._think(number, thinking, choice, out)
        for part in content_of(delta):
            self._say(part, choice, out)
        if refusal := delta.text("refusal"):
            choice.go_on(Refusal(""), refusal, out)
        for annotation in delta.objects("annotations"):
            if (citation := citation_of(annotation)) is not None:
                self._cite(citation, choice, out)
        choice.sources = sources_within(delta) or choice.sources
        for position, call in enumerate(calls_of(delta)):
            self._call(call, position, choice, out)
        older = delta.object("function_call")
        if not older.is_empty():
            self._call(Members({"function": older.whole()}, delta.fault), 0, choice, out)
        for image in images_of(delta):
            out.append(PartEnd(choice.number, choice.begin(image, out)))
        self._hear(delta.object("audio"), choice)
        content, refused = logprobs_of(one)
        if content or refused:
            out.append(Logprobs(choice.number, content, refused))
        if (end := end_of(one)) is not None:
            one.drop("message")
            choice.end, choice.extras = end, one.rest()

    @staticmethod
    def _cite(citation: Citation, choice: _Choice, out: list[Event]) -> None:
        """An annotation is of the last text, which calls may have followed."""
        if choice.text is None:
            choice.go_on(Text(""), "", out)
        choice.is_cited = True
        out.append(PartMore(choice.number, choice.text or 0, citation=citation))

    @staticmethod
    def _think(number: int | None, told: Thinking, choice: _Choice, out: list[Event]) -> None:
        """More reasoning, or a block of its own: another number says so, or another id."""
        before = choice.thought if isinstance(choice.open, Thinking) else None
        differs = before is not None and number is not None and before != number
        differs = differs or (isinstance(choice.open, Thinking) and is_another(choice.open, told.id))
        start = structs.replace(told, text="", signature="", sealed="")
        choice.go_on(start, told.text, out, anew=differs)
        choice.thought = number if before is None or differs else before
        if told.signature or told.sealed:
            out.append(PartMore(choice.number, choice.open_at, told.signature, told.sealed))

    def _say(self, part: Part, choice: _Choice, out: list[Event]) -> None:
        if isinstance(part, Text) and part.citations:
            if part.text:
                choice.go_on(Text(""), part.text, out, anew=True)
            for citation in part.citations:
                self._cite(citation, choice, out)
            choice.close_open(out)
        elif isinstance(part, Text):
            if part.text:
                choice.go_on(Text(""), part.text, out)
        elif isinstance(part, Thinking):
            self._think(None, part, choice, out)
        else:
            choice.close_open(out)
            out.append(PartEnd(choice.number, choice.begin(part, out)))

    def _call(self, told: Members, position: int, choice: _Choice, out: list[Event]) -> None:
        """A new call, or more of one."""
        index = told.take("index", int)
        at = position if index is None else index
        call = tool_call_of(told, bare, "")
        known = choice.calls.get(at)
        if known is None or known.is_another(call):
            choice.close_open(out)
            id = call.id or f"call_{self._id[-12:]}_{choice.number}_{len(choice.call_parts)}"
            part = structs.replace(call, id=id, arguments="", signature="")
            known = choice.calls[at] = _Call(choice.begin(part, out), id)
            choice.call_parts.append(known.part)
            if len(choice.call_parts) > _MAX_CALLS:
                raise UpstreamMalformed("The provider's answer calls more tools than any answer.")
        if call.arguments:
            known.pieces.append(call.arguments)
            out.append(PartDelta(choice.number, known.part, call.arguments))
        if call.signature:
            out.append(PartMore(choice.number, known.part, call.signature))

    @staticmethod
    def _hear(audio: Members, choice: _Choice) -> None:
        """A sound is a part when it is whole."""
        if audio.is_empty():
            return
        for name in ("id", "data", "transcript"):
            choice.audio[name] = choice.audio.get(name, "") + audio.text(name)
        choice.audio_extras |= audio.rest()
        if len(choice.audio["data"]) > _MAX_AUDIO_CHARACTERS or len(choice.audio_extras) > _MAX_CALLS:
            raise UpstreamMalformed("The provider's answer has more sound than any answer.")

    def _end(self, out: list[Event]) -> None:
        self._over = True
        if not self._begun:
            raise UpstreamReset("The provider's stream ended before it began.")
        for number in sorted(self._choices):
            choice = self._choices[number]
            if choice.text is not None and not choice.is_cited:
                sources = choice.sources or self._sources
                out.extend(PartMore(number, choice.text, citation=source) for source in sources)
            choice.close_open(out)
            if choice.audio:
                told = choice.audio
                sound = Media(
                    "audio", data=told["data"], file=told["id"], text=told["transcript"], extras=choice.audio_extras
                )
                out.append(PartEnd(number, choice.begin(sound, out)))
            out.extend(PartEnd(number, at) for at in choice.call_parts)
            end = seen_whole(choice.end or End("error"), bool(choice.call_parts))
            out.append(Finished(number, end.finish, end.native, end.stop_sequence, choice.extras))
        out.append(Ended())
