"""The simulated provider: deterministic answers in OpenAI's dialect, without a network, for demos and load tests.

The same request always gives the same answer. It echoes the last user message word by word, up to the caller's
`max_tokens` (16 without one); a word is a token. `options` script the rest:

    latency_ms        before the first byte (0)
    chunk_delay_ms    between the chunks of a stream (0)
    tokens            output tokens of every answer, up to the caller's cap (the echoed words)
    fail_status       answer with this HTTP status (none)
    fail_every        fail only every n-th request by its content's digest (1: all)
    cut_after_chunks  break the connection after so many chunks of a stream (none)
"""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from penstock.dialects.base import encode_object
from penstock.domain.http import Headers, HttpRequest
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import NONE_MARKED, Outgoing, StopsBilling
from penstock.providers.openai import target

DEFAULT_TOKENS = 16
CREATED = 1_700_000_000


class Simulated:
    kind = "simulated"
    cancel_stops_billing: StopsBilling = "yes"
    asks_usage = True
    marks_end = NONE_MARKED
    forwards: frozenset[str] = frozenset()

    def surfaces(self, model: str) -> tuple[str, ...]:
        return ("chat.completions", "embeddings")

    def output_cap_field(self, surface: str) -> str:
        return "max_tokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, path = target("http://simulated/v1", outgoing.surface)
        return HttpRequest("POST", origin, path, [], outgoing.body, provider.timeouts)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    latency_ms: int = 0
    chunk_delay_ms: int = 0
    tokens: int | None = None
    fail_status: int | None = None
    fail_every: int = 1
    cut_after_chunks: int | None = None


class Script(Struct, frozen=True):
    """What to play: after `latency_ms` the head, then the chunks with `chunk_delay_ms` between them; `cut`: break the
    connection after the last one instead of ending it."""

    status: int
    headers: Headers
    chunks: tuple[bytes, ...]
    latency_ms: int = 0
    chunk_delay_ms: int = 0
    cut: bool = False


class _Ask(Struct):
    model: str = ""
    messages: list[dict[str, Any]] = []
    input: Any = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None


_ask_decoder = msgspec.json.Decoder(_Ask)


def play(options: Options, path: str, body: bytes) -> Script:
    """The script of the answer to one request."""
    digest = crc32(body)
    ask = _ask_decoder.decode(body)
    if options.fail_status is not None and digest % options.fail_every == 0:
        told = f"The simulated provider was told to answer {options.fail_status}."
        error = {"error": {"message": told, "type": "simulated_error", "param": None, "code": None}}
        return _plain(options, options.fail_status, error)
    if path.endswith("/embeddings"):
        return _plain(options, 200, _embedding(ask))
    words = _words(ask, options)
    finish = "length" if len(words) == _cap(ask) else "stop"
    usage = _usage(ask, len(words) * (ask.n or 1))
    head = {"id": f"chatcmpl-sim-{digest:08x}", "created": CREATED, "model": ask.model}
    if not ask.stream:
        message = {"role": "assistant", "content": " ".join(words)}
        choices = [{"index": i, "message": message, "finish_reason": finish} for i in range(ask.n or 1)]
        return _plain(options, 200, {**head, "object": "chat.completion", "choices": choices, "usage": usage})
    asked = bool((ask.stream_options or {}).get("include_usage"))
    chunks = tuple(_chunks(ask, head, words, finish, usage if asked else None))
    cut = options.cut_after_chunks is not None and options.cut_after_chunks < len(chunks)
    return Script(
        200,
        [("content-type", "text/event-stream")],
        chunks[: options.cut_after_chunks] if cut else chunks,
        options.latency_ms,
        options.chunk_delay_ms,
        cut,
    )


def _plain(options: Options, status: int, answer: dict[str, Any]) -> Script:
    return Script(status, [("content-type", "application/json")], (encode_object(answer),), options.latency_ms)


def _cap(ask: _Ask) -> int:
    return ask.max_completion_tokens or ask.max_tokens or DEFAULT_TOKENS


def _text(ask: _Ask) -> list[str]:
    contents = [m.get("content") for m in ask.messages]
    return [word for content in contents if isinstance(content, str) for word in content.split()]


def _words(ask: _Ask, options: Options) -> list[str]:
    echoed = _text(ask)[-DEFAULT_TOKENS:] or ["hello"]
    wanted = options.tokens if options.tokens is not None else len(echoed)
    return [echoed[i % len(echoed)] for i in range(min(wanted, _cap(ask)))]


def _usage(ask: _Ask, output: int) -> dict[str, int]:
    prompt = len(_text(ask)) + 4 * len(ask.messages)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _chunks(
    ask: _Ask, head: dict[str, Any], words: list[str], finish: str, usage: dict[str, int] | None
) -> Iterator[bytes]:
    report = {} if usage is None else {"usage": None}

    def event(choices: list[dict[str, Any]], extra: dict[str, Any]) -> bytes:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **extra}
        return b"data: " + encode_object(chunk) + b"\n\n"

    for index in range(ask.n or 1):
        yield event([{"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], report)
    for position, word in enumerate(words):
        text = word if position == 0 else f" {word}"
        for index in range(ask.n or 1):
            yield event([{"index": index, "delta": {"content": text}, "finish_reason": None}], report)
    for index in range(ask.n or 1):
        yield event([{"index": index, "delta": {}, "finish_reason": finish}], report)
    if usage is not None:
        yield event([], {"usage": usage})
    yield b"data: [DONE]\n\n"


def _embedding(ask: _Ask) -> dict[str, Any]:
    inputs = (
        ask.input if isinstance(ask.input, list) and not all(isinstance(i, int) for i in ask.input) else [ask.input]
    )
    data = [
        {
            "object": "embedding",
            "index": i,
            "embedding": [(crc32(f"{i}:{j}:{text}".encode()) % 2001 - 1000) / 1000 for j in range(8)],
        }
        for i, text in enumerate(inputs)
    ]
    tokens = sum(map(_tokens, inputs))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": ask.model, "usage": usage}


def _tokens(piece: Any) -> int:
    """Of one piece of an embedding's input: its words or numbers; anything else is one."""
    return len(piece.split()) if isinstance(piece, str) else len(piece) if isinstance(piece, list) else 1
