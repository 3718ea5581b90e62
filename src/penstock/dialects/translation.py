"""From the caller's dialect to the target's, and back.

    passages = Passages(dialect, call, created, id)
    passage = passages.to(surfaces, target)        # of the attempt: untouched where the target speaks the dialect

A passage has the call as the target gets it, in the target's dialect, so that a translated call is priced, bounded,
sent and counted exactly as one that was written in that dialect; and it turns the answer back. What the target cannot
be told is in `dropped`.
"""

from collections.abc import Sequence
from typing import Protocol

from penstock.dialects.base import Address, Call, Dialect, Reading, Tee
from penstock.dialects.chorus import Chorus, alone, together, voices_for
from penstock.dialects.codec import Codec, Heading, StreamDecoder, StreamEncoder, TargetFacts
from penstock.dialects.counting import COUNTS, Recounted, conversation_of
from penstock.dialects.embedded import Embedded
from penstock.dialects.fitting import fitted, forms_lacked
from penstock.dialects.last_words import END_WITH_WORDS, EndingWithWords, ending_with_words
from penstock.dialects.narrowing import AsText, as_text, is_answered_by_tool, narrowed
from penstock.dialects.refusals import refusal_as_told
from penstock.dialects.registry import CODECS, DIALECTS, EMBEDDING_CALLERS, EMBEDDING_TARGETS
from penstock.dialects.tool_names import AsNamed, as_named, plainly_named
from penstock.domain.chat import Answer, Request
from penstock.domain.embeddings import EmbeddingRequest
from penstock.domain.stream import Failed, events_of
from penstock.errors import GatewayError, InvalidRequest, ThreadUnsupported, UnsupportedByTarget


class Passage(Protocol):
    """How one attempt's call goes to its target and the answer comes back. `dialect` and `call` are the target's."""

    dialect: Dialect
    call: Call
    dropped: tuple[str, ...]
    content_type: str | None
    """Of what the caller gets; None: the provider's own."""
    voices: int
    """How many calls are made of the one: a choice each, or a part of what is to be embedded."""

    def said(self, number: int) -> Call:
        """What is sent as the call of this number."""

    def answer(self, body: bytes) -> bytes:
        """A plain answer for the caller. Raises `UpstreamMalformed`."""

    def refusal(self, body: bytes, status: int) -> bytes:
        """The body of a provider's refusal for the caller."""

    def tee(self, asked_usage: bool) -> Tee: ...


class Untouched:
    """Caller and target speak the same dialect: the bytes pass."""

    dropped: tuple[str, ...] = ()
    content_type: str | None = None
    voices = 1

    def __init__(self, dialect: Dialect, call: Call) -> None:
        self.dialect = dialect
        self.call = call

    def said(self, number: int) -> Call:
        return self.call

    def answer(self, body: bytes) -> bytes:
        return body

    def refusal(self, body: bytes, status: int) -> bytes:
        return self.dialect.envelope(body, status)

    def tee(self, asked_usage: bool) -> Tee:
        return self.dialect.tee(self.call, asked_usage)


class Translated:
    """Everything is read in one dialect and written in the other."""

    def __init__(self, caller: Dialect, heading: Heading, target: Dialect, facts: TargetFacts) -> None:
        self._from: Codec = CODECS[target.surface]
        self._into: Codec = CODECS[caller.surface]
        self.voices = voices_for(heading.request, self._from, facts.lacks)
        request = heading.request if self.voices == 1 else alone(heading.request)
        is_foreign = request.origin != target.name
        lacks = facts.lacks
        if is_foreign and request.format is not None:
            lacks = lacks | forms_lacked(request, target.surface, facts.model)
        request, left_out = narrowed(request, lacks)
        if is_foreign and heading.request.format is not None:
            left_out += tuple([f"response_format.{name}" for name in heading.request.format.extras])
        self._is_answered_by_tool = is_answered_by_tool(request)
        self._names: dict[str, str] = {}
        if is_foreign:
            request, unfit = fitted(request, target.surface, facts)
            left_out += unfit
            request, self._names = plainly_named(request, target.surface)
        encoded = self._from.encode_request(request, facts)
        streaming = heading.request.streaming
        self.dialect = target
        self.dropped = tuple(dict.fromkeys((*left_out, *encoded.dropped)))
        self.call = self._as_said(encoded.body, Address(facts.model, streaming, "sse"))
        is_events = streaming and heading.form != "list"
        self.content_type: str | None = self._into.stream_type if is_events else self._into.content_type
        self._ends_with_words = caller.surface in END_WITH_WORDS and target.surface == "generateContent"
        self._caller, self._heading = caller, heading

    def _as_said(self, body: bytes, address: Address) -> Call:
        """What the target gets, which another may be told more of where nothing is left of it here."""
        try:
            return self.dialect.parse(body, address)
        except InvalidRequest as refused:
            if not self.dropped:
                raise
            names = ", ".join(self.dropped)
            raise UnsupportedByTarget(
                f"The model's provider cannot be told: {names}. Without it: {refused.message}"
            ) from None

    def said(self, number: int) -> Call:
        return self.call

    def answer(self, body: bytes) -> bytes:
        answer = self._read(body)
        if not self._heading.request.streaming:
            return self._into.encode_answer(answer, self._heading)
        encoder = self._into.encoder(self._heading)  # the target was asked for a stream and gave a plain answer
        return b"".join(encoder.encode(event) for event in events_of(answer))

    def _read(self, body: bytes) -> Answer:
        answer = self._from.decode_answer(body)
        answer = ending_with_words(answer) if self._ends_with_words else answer
        answer = as_named(answer, self._names) if self._names else answer
        return as_text(answer) if self._is_answered_by_tool else answer

    def _decoder(self) -> StreamDecoder:
        decoder: StreamDecoder = self._from.decoder()
        if self._ends_with_words:
            decoder = EndingWithWords(decoder)
        if self._names:
            decoder = AsNamed(decoder, self._names)
        return AsText(decoder) if self._is_answered_by_tool else decoder

    def answer_of_all(self, bodies: Sequence[bytes]) -> bytes:
        """The answer to a plain call that was sent several times. Raises `UpstreamMalformed`."""
        return self._into.encode_answer(together([self._read(body) for body in bodies]), self._heading)

    def chorus(self) -> Chorus:
        """How the streams of a call that is sent several times become the caller's one."""
        return Chorus(self._into.encoder(self._heading), self.voices)

    def voice(self, chorus: Chorus, number: int) -> Tee:
        """The tee of one of these streams."""
        return TranslatingTee(self.dialect.tee(self.call, False), self._decoder(), chorus.voice(number))

    def refusal(self, body: bytes, status: int) -> bytes:
        return self._caller.error_body(refusal_as_told(body, status))

    def tee(self, asked_usage: bool) -> Tee:
        own = self.dialect.tee(self.call, False)
        return TranslatingTee(own, self._decoder(), self._into.encoder(self._heading))


class TranslatingTee:
    """The target's own tee reads what money needs; what passes on is the caller's dialect, which begins with its first
    bytes: what a vendor sends to keep the line open says nothing in it, and until then another target can answer."""

    def __init__(self, own: Tee, decoder: StreamDecoder, encoder: StreamEncoder) -> None:
        self._own = own
        self._decoder = decoder
        self._encoder = encoder
        self._has_told = False

    @property
    def begun(self) -> bool:
        return self._has_told or self._own.ended

    @property
    def ended(self) -> bool:
        return self._own.ended

    @property
    def reading(self) -> Reading:
        return self._own.reading

    def feed(self, data: bytes) -> bytes:
        self._own.feed(data)
        told = b"".join([self._encoder.encode(event) for event in self._decoder.feed(data)])
        self._has_told = self._has_told or bool(told)
        return told

    def close(self) -> tuple[bytes, bool]:
        _, seen = self._own.close()
        if not seen and self.reading.error is None:
            return b"", False
        return b"".join([self._encoder.encode(event) for event in self._decoder.close()]), seen

    def counted_output(self) -> int:
        return self._own.counted_output()

    def error_event(self, error: GatewayError) -> bytes:
        return self._encoder.encode(Failed(error.message, error.status, error.code))


class Passages:
    """The ways of one caller's call. `created` (Unix seconds) and `id` are for answers that tell when they were made
    and are called something, where the vendor's does not."""

    def __init__(self, dialect: Dialect, call: Call, created: int, id: str = "") -> None:
        self._dialect = DIALECTS[call.spoken] if call.spoken else dialect
        self._call = call
        self._created = created
        self._id = id
        self._request: Request | None = None
        self._embeddings: EmbeddingRequest | None = None
        self._lacking: set[str] = set()

    def translate_for(self, provider: str) -> None:
        """This provider was found to have no such endpoint."""
        self._lacking.add(provider)

    def served(self, provider: str, surfaces: Sequence[str]) -> Sequence[str]:
        """What of a vendor's surfaces this provider has, as far as is known."""
        own = self._dialect.surface
        return [name for name in surfaces if name != own] if provider in self._lacking else surfaces

    def to(self, surfaces: Sequence[str], facts: TargetFacts) -> Passage:
        """The passage to a target that is served at `surfaces`. Raises `UnsupportedByTarget` when there is none."""
        is_fanned = self._call.choices > 1 and "n" in facts.lacks and self._dialect.surface in CODECS
        is_served = self._dialect.surface in surfaces
        if self._call.threaded and ("threads" in facts.lacks or not is_served):
            raise ThreadUnsupported("The model's provider keeps no threads: send the whole conversation.")
        if is_served and not is_fanned:
            return Untouched(self._dialect, self._call)
        if self._dialect.surface in COUNTS:
            return self._counted(surfaces, facts)
        if self._dialect.surface in EMBEDDING_CALLERS:
            return self._embedded(surfaces, facts)
        codec, target = CODECS.get(self._dialect.surface), next((name for name in surfaces if name in CODECS), None)
        if codec is None or target is None:
            raise UnsupportedByTarget(
                f"The model's provider has nothing like '{self._dialect.surface}', and it cannot be translated."
            )
        if self._request is None:
            self._request = codec.decode_request(self._call)
        call = self._call
        heading = Heading(call.model, call.wants_usage, self._request, self._created, self._id, call.form)
        return Translated(self._dialect, heading, DIALECTS[target], facts)

    def _counted(self, surfaces: Sequence[str], facts: TargetFacts) -> Passage:
        """The passage of a count of tokens to a vendor that counts in its own way."""
        target = next((name for name in surfaces if name in COUNTS), None)
        if target is None:
            raise UnsupportedByTarget("The model's provider does not count tokens.")
        if self._request is None:
            self._request = conversation_of(self._dialect.surface, self._call)
        return Recounted(self._dialect, self._request, target, facts)

    def _embedded(self, surfaces: Sequence[str], facts: TargetFacts) -> Passage:
        """The passage of a request for embeddings to a vendor that makes them when it is asked in its own way."""
        target = next((name for name in surfaces if name in EMBEDDING_TARGETS), None)
        if target is None:
            raise UnsupportedByTarget("The model's provider makes no embeddings.")
        if self._embeddings is None:
            self._embeddings = EMBEDDING_CALLERS[self._dialect.surface].decode_request(self._call)
        return Embedded(self._dialect, self._embeddings, target, facts, self._id)


def may_be_missing(surface: str, surfaces: Sequence[str]) -> bool:
    """Whether a server of a vendor with these surfaces may lack this one: it stands behind another conversation."""
    return surface in [name for name in surfaces if name in CODECS][1:]
