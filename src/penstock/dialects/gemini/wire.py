"""Gemini on the wire: what a request may cost, what an answer or a stream says of itself.

Source: Google "Gemini API reference": `models.generateContent`, `models.streamGenerateContent`, `models.countTokens`;
guides "Token counting", "Image understanding", "Audio understanding" (32 tokens a second), "Document processing",
"Thinking". `maxOutputTokens` is one ceiling for thoughts and answer of a candidate, as measured by its users
(googleapis/python-genai issue 2062).

What cannot be bounded or priced from the request, and is not: what grounding on maps costs, and the hours that a cached
content is kept. Searches of the web are taken to be `MAX_SEARCHES` at most.
"""

from functools import reduce
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from penstock.dialects.base import (
    MAX_OUTPUT_TOKENS,
    NO_ADDRESS,
    Address,
    Call,
    Demand,
    Reading,
    checked_model,
    decode_reply,
    encode_object,
    estimate_tokens,
    field,
    members_of,
    read_object,
    stays_hostile,
)
from penstock.dialects.gemini import errors
from penstock.dialects.gemini.codec import GeminiCodec
from penstock.dialects.gemini.frames import Frames
from penstock.dialects.gemini.names import (
    FINISH_REASONS,
    NAME,
    answer_in_camel,
    camel_members,
    elements,
    in_camel,
    word,
)
from penstock.dialects.gemini.searches import MAX_SEARCHES, Searches, charged
from penstock.dialects.gemini.usage import Metadata, normalise
from penstock.dialects.passed import Passed, whole
from penstock.domain.usage import Usage
from penstock.errors import GatewayError, InvalidRequest, UpstreamMalformed

OVERHEAD_PER_REQUEST = 64
"""Tokens allowed for what the vendor adds around a request."""

OVERHEAD_WITH_TOOLS = 1024
"""Tokens allowed for the instructions before tools."""

AUDIO_BYTES_PER_TOKEN = 24
"""Of base64: 32 tokens a second, and speech at its densest (6 kbit/s) is 1,000 base64 bytes a second."""

MAX_CANDIDATES = 128

_CONFIG = "generationConfig"
_NO_TEXT = frozenset(
    ("model", _CONFIG, "safetySettings", "cachedContent", "labels", "serviceTier", "store", "modelArmorConfig")
)
"""Members that never become a part of the prompt. Whatever else is sent is counted as text, known or not; of the
configuration, what it may hold beside numbers: schemas and instructions for speech."""

_OWN_TOOLS = frozenset(
    (
        *("googleSearch", "googleSearchRetrieval", "urlContext", "codeExecution", "fileSearch", "googleMaps"),
        *("mcpServers", "retrieval", "enterpriseWebSearch", "parallelAiSearch"),
    )
)
"""Tools that the vendor runs itself; what they find goes into the prompt."""

_SEARCHES = frozenset({"googleSearch", "googleSearchRetrieval", "enterpriseWebSearch"})
"""Those of them that search the web, which is charged apiece."""


# -- the request ------------------------------------------------------------------------------------------------------


def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
    """A caller's request; `InvalidRequest` names the member at fault."""
    fields = in_camel(read_object(body))
    fields.pop("model", None)
    if "contents" not in fields:
        raise InvalidRequest("'contents' is required.", param="contents")
    call = Call(fields=fields, model=checked_model(address.model), cap_name="maxOutputTokens")
    call.streaming, call.form = address.streaming, "list" if address.streaming and address.form != "sse" else ""
    media = _read_contents(call, fields)
    config = fields.get(_CONFIG)
    if config is not None:
        _read_config(call, config)
    _read_tools(call, fields.get("tools"))
    call.unseen = call.unseen or "cachedContent" in fields
    tier = _text(fields, "serviceTier")
    call.service_tier = "" if tier in ("unspecified", "standard") else tier
    text_bytes = sum([len(bytes(value)) for name, value in fields.items() if name not in _NO_TEXT]) - media
    call.input_bound += text_bytes + OVERHEAD_PER_REQUEST
    call.input_estimate = -(-text_bytes // 3)
    return call


def _text(fields: dict[str, Raw], name: str) -> str:
    try:
        return msgspec.json.decode(fields[name], type=str) if name in fields else ""
    except msgspec.DecodeError:
        raise InvalidRequest(f"'{name}' must be a string.", param=name) from None


def _bad(param: str) -> InvalidRequest:
    return InvalidRequest(f"'{param}' is not what the API allows there.", param=param)


class _Blob(Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""


def _read_contents(call: Call, fields: dict[str, Raw]) -> int:
    """Counts the parts of all contents; returns the bytes of them that are encoded media and not text."""
    contents = _listed(fields["contents"], "contents")
    if not contents:
        raise InvalidRequest("'contents' must not be empty.", param="contents")
    if "systemInstruction" in fields:
        contents = [*contents, fields["systemInstruction"]]
    return sum([read_content(call, content, "contents") for content in contents])


def read_content(call: Call, content: Raw, param: str) -> int:
    """Counts the parts of one content; returns the bytes of them that are encoded media and not text."""
    media = 0
    for part in _listed(_object(content, param).get("parts", Raw(b"[]")), f"{param}.parts"):
        media += _read_part(call, _object(part, f"{param}.parts"))
    return media


def _listed(raw: Raw, param: str) -> list[Raw]:
    try:
        return elements(bytes(raw))
    except (msgspec.DecodeError, RecursionError):
        raise _bad(param) from None


def _object(raw: Raw, param: str) -> dict[str, Raw]:
    try:
        return camel_members(bytes(raw))
    except (msgspec.DecodeError, RecursionError):
        raise _bad(param) from None


def _read_part(call: Call, part: dict[str, Raw]) -> int:
    """Counts one part; returns the bytes of it that are encoded media. What it holds decides."""
    media = 0
    if "inlineData" in part:
        media += _read_blob(call, _object(part["inlineData"], "inlineData"))
    if "fileData" in part:
        call.unseen = call.audio_in = True
    if "functionResponse" in part:
        response = _object(part["functionResponse"], "functionResponse")
        for inner in _listed(response.get("parts", Raw(b"[]")), "functionResponse.parts"):
            media += _read_part(call, _object(inner, "functionResponse.parts"))
    return media


def _read_blob(call: Call, blob: dict[str, Raw]) -> int:
    mime, size = _text(blob, "mimeType"), len(_text(blob, "data"))
    kind = mime.partition("/")[0]
    if kind == "image":
        call.images += 1
    elif kind == "audio":
        call.audio_in = True
        call.input_bound += -(-size // AUDIO_BYTES_PER_TOKEN)
    elif mime == "application/pdf":
        call.images += max(1, -(-size // 2048))  # a page is at least 2 KiB of base64
    elif kind == "text":
        return 0
    else:
        call.unseen = call.audio_in = True
    return size


class _Config(Struct, rename="camel"):
    max_output_tokens: int | None = None
    candidate_count: int | None = None
    response_modalities: list[str | int] | str | int | None = None


_config_decoder = msgspec.json.Decoder(_Config)
_MODALITY_NUMBERS = {3: "AUDIO"}


def _read_config(call: Call, raw: Raw) -> None:
    """The configuration is rebuilt from its members, so that each is there once."""
    members = _object(raw, _CONFIG)
    call.fields[_CONFIG] = Raw(encode_object(members))
    try:
        config = _config_decoder.decode(call.fields[_CONFIG])
    except msgspec.DecodeError:
        for name in ("maxOutputTokens", "candidateCount"):
            field(members, name, int, "a whole number")
        raise _bad(_CONFIG) from None
    call.max_output = _bounded(config.max_output_tokens, "maxOutputTokens", MAX_OUTPUT_TOKENS)
    call.choices = _bounded(config.candidate_count, "candidateCount", MAX_CANDIDATES) or 1
    modalities = config.response_modalities
    told = modalities if isinstance(modalities, list) else [modalities]
    call.audio_out = any(word(one, _MODALITY_NUMBERS).upper() == "AUDIO" for one in told)
    numbers = ("maxOutputTokens", "candidateCount", "temperature", "topP", "topK", "seed", "stopSequences")
    call.input_bound += sum(len(bytes(value)) for name, value in members.items() if name not in numbers)


def _bounded(value: int | None, name: str, most: int) -> int | None:
    """Zero is no cap: ProtoJSON does not tell it from an absent number."""
    if not value:
        return None
    if not 1 <= value <= most:
        raise InvalidRequest(f"'{_CONFIG}.{name}' must be between 1 and {most}.", param=name)
    return value


def _read_tools(call: Call, tools: Raw | None) -> None:
    if tools is None:
        return
    call.input_bound += OVERHEAD_WITH_TOOLS
    for tool in _listed(tools, "tools"):
        kinds = _object(tool, "tools").keys()
        if not _OWN_TOOLS.isdisjoint(kinds):
            call.unseen = True
        if not _SEARCHES.isdisjoint(kinds):
            call.web_searches = charged(call.model, MAX_SEARCHES)


def rebuild(call: Call, demand: Demand) -> bytes:
    """The body for one target: the caller's members, with the injected cap. The model is in the address."""
    if demand.cap is None:
        return encode_object(call.fields)
    config = camel_members(bytes(call.fields.get(_CONFIG, b"{}")))
    return encode_object({**call.fields, _CONFIG: {**config, demand.cap[0]: demand.cap[1]}})


# -- the answer -------------------------------------------------------------------------------------------------------


class _Candidate(Struct, rename="camel"):
    index: Any = None
    finish_reason: Any = None
    grounding_metadata: Any = None


class _Feedback(Struct, rename="camel"):
    block_reason: Any = None


class _Reply(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Metadata | None = None
    model_version: Any = None
    error: Any = None

    def tell(self, searches: Searches) -> None:
        """What this piece says of the searches of its answer."""
        if isinstance(self.model_version, str):
            searches.model = self.model_version
        for one in self.candidates or ():
            searches.take(one.grounding_metadata)


class _BareReply(Struct, rename="camel"):
    candidates: Any = None
    error: Any = None


_reply_decoder = msgspec.json.Decoder(_Reply)
_bare_decoder = msgspec.json.Decoder(_BareReply)
_list_decoder = msgspec.json.Decoder(list[Raw])


def read(body: bytes) -> Reading:
    """What a plain answer says about itself. An error may come in a list of one."""
    searches, body = Searches(), answer_in_camel(body)
    pieces: list[Raw] = decode_reply(_list_decoder, body) if body.lstrip()[:1] == b"[" else [Raw(body)]
    return _searched(reduce(after, [_read_one(piece, searches) for piece in pieces], Reading()), searches)


def _searched(reading: Reading, searches: Searches) -> Reading:
    """The reading with the searches that are charged, which the vendor does not report as used."""
    usage = None if reading.usage is None else searches.within(reading.usage)
    if usage is reading.usage and not searches.on_maps:
        return reading
    return structs.replace(reading, usage=usage, is_more_owed=searches.on_maps)


def after(known: Reading, new: Reading) -> Reading:
    """What is known after one more answer of a stream: the last usage counts."""
    return Reading(
        new.usage or known.usage,
        new.finish_reason or known.finish_reason,
        new.error or known.error,
        new.error_status or known.error_status,
        stays_hostile(known, new),
        new.service_tier or known.service_tier,
    )


def _read_one(body: bytes, searches: Searches) -> Reading:
    try:
        reply = decode_reply(_reply_decoder, body)
    except UpstreamMalformed:
        bare = decode_reply(_bare_decoder, body)
        return Reading(None, "", *errors.read_error(bare.error), True)
    reply.tell(searches)
    reported = reply.usage_metadata
    is_told = reported is not None and reported.is_told()
    usage = normalise(reported) if reported is not None and is_told else None
    finish = next((word(one.finish_reason, FINISH_REASONS) for one in reply.candidates or () if one.finish_reason), "")
    if not finish and reply.prompt_feedback is not None:
        finish = word(reply.prompt_feedback.block_reason, {})
    message, status = errors.read_error(reply.error)
    return Reading(
        usage,
        finish,
        message,
        status,
        reported is not None and is_told and (usage is None or reported.tells_half()),
        reported.tier() if reported is not None else "",
    )


# -- the stream -------------------------------------------------------------------------------------------------------

_TELLING = (b"inishReason", b"inish_reason", b"lockReason", b"lock_reason", b'"grounding', b'"error"')


class _Part(Struct, rename="camel"):
    text: Any = None
    function_call: Raw = Raw(b"")
    executable_code: Raw = Raw(b"")
    inline_data: Raw = Raw(b"")
    code_execution_result: Raw = Raw(b"")
    tool_call: Raw = Raw(b"")
    tool_response: Raw = Raw(b"")

    @property
    def is_empty(self) -> bool:
        results = (self.code_execution_result, self.tool_call, self.tool_response)
        return not any(self.sizes()) and not any(bytes(one) for one in results)

    def sizes(self) -> list[int]:
        said = [len(self.text.encode())] if isinstance(self.text, str) else []
        return [
            *said,
            len(bytes(self.function_call)),
            len(bytes(self.executable_code)),
            len(bytes(self.inline_data)) // 8,
        ]


class _Content(Struct):
    parts: list[_Part] | _Part | None = None


class _Counted(Struct, rename="camel"):
    content: _Content | None = None
    index: Any = None
    finish_reason: Any = None

    @property
    def parts(self) -> list[_Part]:
        parts = self.content.parts if self.content else None
        return parts if isinstance(parts, list) else [parts] if parts else []

    @property
    def goes_on(self) -> bool:
        """Whether more comes: something is said without a reason to have finished, or the vendor is to run code."""
        parts = [part for part in self.parts if not part.is_empty]
        reason = word(self.finish_reason, FINISH_REASONS)
        return bool(parts) and (not reason or (reason == "STOP" and bool(bytes(parts[-1].executable_code))))


class _Chunk(Struct):
    candidates: list[_Counted] | None = None


_chunk_decoder = msgspec.json.Decoder(_Chunk)


def _index(candidate: _Candidate | _Counted) -> int:
    return candidate.index if isinstance(candidate.index, int) else 0


class _Passed(Passed):
    def count(self, piece: bytes) -> int:
        sizes = _text_sizes(piece)
        return estimate_tokens(sizes if any(sizes) else _text_sizes(answer_in_camel(piece)))


class GeminiTee:
    """Reads a stream of answers while it passes, untouched, in either form.

    Server-sent events have no ending of their own: the stream is whole when every candidate has a reason to have
    finished, or the prompt was blocked; more may follow, such as the sources of an answer. One that goes on to say
    something, as is seen where the vendor runs code, has not finished. `ended` is the end of the JSON list. Each piece
    reports the usage anew, so only the last report is parsed.
    """

    def __init__(self, choices: int = 1, form: str = "") -> None:
        self.begun = False
        self._reading = Reading()
        self._searches = Searches()
        self._unread = b""
        self._frames = Frames()
        self._held = b""
        self._form = form
        self._choices = choices
        self._begun_candidates: set[Any] = set()
        self._finished: set[Any] = set()
        self._passed = _Passed()

    @property
    def ended(self) -> bool:
        return self._frames.closed

    @property
    def reading(self) -> Reading:
        if self._unread:
            unread, self._unread = self._unread, b""
            self._reading = after(self._reading, _read_one(answer_in_camel(unread), self._searches))
        return _searched(self._reading, self._searches)

    def feed(self, data: bytes) -> bytes:
        for found in self._frames.feed(data):
            self._take(found)
        pending = self._frames.pending
        run = whole(self._held, data, pending)
        self._held = (self._held + data)[-pending:] if pending else b""
        return run

    def close(self) -> tuple[bytes, bool]:
        try:
            for found in self._frames.close():
                members_of(found)  # one that is cut off is no answer
                self._take(found)
        except UpstreamMalformed:
            return b"", False
        if self._frames.is_list and not self._frames.closed:
            return self._held, False
        is_blocked = bool(self.reading.finish_reason) and not self._begun_candidates
        return self._held, is_blocked or (bool(self._finished) and self._finished >= self._begun_candidates)

    def counted_output(self) -> int:
        return self._passed.tokens()

    def error_event(self, error: GatewayError) -> bytes:
        body = errors.error_body(error)
        if self._frames.is_list or (self._frames.is_list is None and self._form == "list"):
            return (b",\n" if self.begun else b"[") + body + b"\n]"
        return b"data: " + body + b"\r\n\r\n"

    def _take(self, found: bytes) -> None:
        self.begun = True
        self._passed.keep(found)
        if self._choices > 1 or self._finished or any(name in found for name in _TELLING):
            known, found = self.reading, answer_in_camel(found)
            self._reading = after(known, _read_one(found, self._searches))
            self._look_for_the_end(found)
        elif b"sage" in found:
            self._unread = found

    def _look_for_the_end(self, found: bytes) -> None:
        try:
            reply = _reply_decoder.decode(found)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        self._begun_candidates |= {_index(one) for one in reply.candidates or ()}
        self._finished |= {_index(one) for one in reply.candidates or () if one.finish_reason}
        if self._finished:
            self._finished -= {_index(one) for one in _said(found) or () if one.goes_on}


def _text_sizes(found: bytes) -> list[int]:
    said = _said(found)
    if said is None:
        return [len(found)]  # what cannot be read is counted whole: an estimate must not lose spend
    return [size for candidate in said for part in candidate.parts for size in part.sizes()]


def _said(found: bytes) -> list[_Counted] | None:
    """What the candidates of a piece say; None where it cannot be read."""
    try:
        return _chunk_decoder.decode(found).candidates or []
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


# -- the dialects -----------------------------------------------------------------------------------------------------


class GenerateContent:
    """The dialect as the pipeline uses it."""

    name = NAME
    surface = "generateContent"
    codec = GeminiCodec()

    parse = staticmethod(parse)
    rebuild = staticmethod(rebuild)
    read = staticmethod(read)
    error_body = staticmethod(errors.error_body)
    error_event = staticmethod(errors.error_event)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> GeminiTee:
        return GeminiTee(call.choices, call.form)

    @staticmethod
    def is_stream(call: Call, content_type: str) -> bool:
        """A stream may be JSON here."""
        return True


class CountTokens:
    """`countTokens`: it is free, and what it counted was not used."""

    name = NAME
    surface = "countTokens"

    error_body = staticmethod(errors.error_body)
    error_event = staticmethod(errors.error_event)
    envelope = staticmethod(errors.envelope)

    @staticmethod
    def parse(body: bytes, address: Address = NO_ADDRESS) -> Call:
        fields = in_camel(read_object(body))
        asked = fields.get("generateContentRequest")
        if asked is not None:
            _object(asked, "generateContentRequest")
        return Call(fields=fields, model=checked_model(address.model), max_output=0)

    @staticmethod
    def rebuild(call: Call, demand: Demand) -> bytes:
        """A request inside names its model again."""
        fields: dict[str, Any] = dict(call.fields)
        if "generateContentRequest" in fields:
            asked = camel_members(bytes(fields["generateContentRequest"]))
            fields["generateContentRequest"] = {**asked, "model": f"models/{demand.model}"}
        return encode_object(fields)

    @staticmethod
    def read(body: bytes) -> Reading:
        reading = read(body)
        return structs.replace(reading, usage=Usage())

    @staticmethod
    def tee(call: Call, asked_usage: bool) -> GeminiTee:
        raise InvalidRequest("Counting is not streamed.", param="alt")

    @staticmethod
    def is_stream(call: Call, content_type: str) -> bool:
        return False
