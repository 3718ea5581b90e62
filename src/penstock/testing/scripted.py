"""The scripted provider: an OpenAI-style vendor whose every answer is a script.

A script is an async callable that gets the `Reply` of one request. `ScriptedProvider.on(model, *scripts)` queues
scripts for a model; the last one repeats. A model without scripts answers well: plain or streamed, as asked.
"""

import asyncio
import gzip
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from penstock.testing.wire import Received, Reply, WireServer

Script = Callable[[Reply], Awaitable[None]]

JSON_TYPE = ("content-type", "application/json")
SSE_TYPE = ("content-type", "text/event-stream; charset=utf-8")
VENDOR_HEADERS = (
    ("x-request-id", "req_scripted"),
    ("openai-processing-ms", "12"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
)
DONE = b"data: [DONE]\n\n"


def usage(prompt: int = 10, completion: int = 5, **more: Any) -> dict[str, Any]:
    """The usage member of an answer. `more` is added as it stands."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def completion(model: str, content: str = "Hello there.", **more: Any) -> dict[str, Any]:
    """A chat completion; `more` replaces or adds top-level members."""
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage(),
        **more,
    }


def chunk(model: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a streamed completion."""
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def event(value: Any) -> bytes:
    """One server-sent event that carries `value` as JSON."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def stream_events(
    model: str, words: Iterable[str], include_usage: bool, counted: dict[str, Any] | None = None
) -> list[bytes]:
    """The events of a stream as OpenAI writes them: with `include_usage` every chunk has a `usage` member, null until
    the last chunk, which has no choices; without it there is no trace of usage."""
    nothing: dict[str, Any] = {"usage": None} if include_usage else {}
    events = [event(chunk(model, {"role": "assistant", "content": ""}, **nothing))]
    events += [event(chunk(model, {"content": word}, **nothing)) for word in words]
    events.append(event(chunk(model, {}, "stop", **nothing)))
    if include_usage:
        events.append(event(chunk(model, {}) | {"choices": [], "usage": counted or usage()}))
    return [*events, DONE]


def wants_usage(received: Received) -> bool:
    options = received.json().get("stream_options") or {}
    return bool(options.get("include_usage"))


def plain(body: dict[str, Any] | bytes | None = None, headers: Sequence[tuple[str, str]] = VENDOR_HEADERS) -> Script:
    """A whole answer: `body` as it stands, or a completion of the model that was asked."""

    async def answer(reply: Reply) -> None:
        content = completion(reply.received.model) if body is None else body
        data = content if isinstance(content, bytes) else msgspec.json.encode(content)
        await reply.whole(200, [JSON_TYPE, *headers], data)

    return answer


def streamed(
    words: Sequence[str] = ("Hello", " there", "."), delay_ms: float = 0, counted: dict[str, Any] | None = None
) -> Script:
    """A well-formed stream, `delay_ms` before each event after the first."""

    async def answer(reply: Reply) -> None:
        events = stream_events(reply.received.model, words, wants_usage(reply.received), counted)
        await reply.head(200, [SSE_TYPE, *VENDOR_HEADERS])
        for position, data in enumerate(events):
            if position and delay_ms:
                await asyncio.sleep(delay_ms / 1000)
            await reply.body(data)
        await reply.end()

    return answer


def pieces(*parts: bytes, headers: Sequence[tuple[str, str]] = (SSE_TYPE,), delay_ms: float = 1) -> Script:
    """A 200 whose body is `parts`, each written on its own, and a proper end."""

    async def answer(reply: Reply) -> None:
        await reply.head(200, headers)
        for part in parts:
            await reply.body(part)
            await asyncio.sleep(delay_ms / 1000)
        await reply.end()

    return answer


def fails(
    status: int, body: dict[str, Any] | bytes | None = None, headers: Sequence[tuple[str, str]] = (JSON_TYPE,)
) -> Script:
    """An error of the vendor."""

    async def answer(reply: Reply) -> None:
        told = {"error": {"message": "scripted", "type": "scripted_error", "param": None, "code": "scripted"}}
        content = told if body is None else body
        data = content if isinstance(content, bytes) else msgspec.json.encode(content)
        await reply.whole(status, headers, data)

    return answer


def resets(after: Sequence[bytes] | None = None) -> Script:
    """A TCP reset before the first byte, or after a head and the chunks `after`."""

    async def answer(reply: Reply) -> None:
        await _say_part(reply, after)
        reply.reset()

    return answer


def closes(after: Sequence[bytes] | None = None) -> Script:
    """An orderly close before the first byte, or in the middle of a chunked body."""

    async def answer(reply: Reply) -> None:
        await _say_part(reply, after)
        reply.close()

    return answer


def half_closes(after: Sequence[bytes] | None = None) -> Script:
    """No more bytes from the vendor, who keeps the socket open."""

    async def answer(reply: Reply) -> None:
        await _say_part(reply, after)
        reply.half_close()
        await asyncio.Event().wait()

    return answer


def stalls(after: Sequence[bytes] | None = None) -> Script:
    """Silence: before the first byte, or after a head and the chunks `after`."""

    async def answer(reply: Reply) -> None:
        await _say_part(reply, after)
        await asyncio.Event().wait()

    return answer


async def _say_part(reply: Reply, chunks: Sequence[bytes] | None) -> None:
    if chunks is None:
        return
    await reply.head(200, [SSE_TYPE, *VENDOR_HEADERS])
    for data in chunks:
        await reply.body(data)
        await asyncio.sleep(0.005)


def garbage(data: bytes = b"\x16\x03\x01 not HTTP at all\r\n\r\n") -> Script:
    """Bytes that are not HTTP."""

    async def answer(reply: Reply) -> None:
        await reply.raw(data)
        await asyncio.sleep(0.05)
        reply.close()

    return answer


def endless(delay_ms: float = 5) -> Script:
    """A stream that never ends by itself."""

    async def answer(reply: Reply) -> None:
        model, usage_member = reply.received.model, {"usage": None} if wants_usage(reply.received) else {}
        await reply.head(200, [SSE_TYPE, *VENDOR_HEADERS])
        for number in itertools.count():
            await reply.body(event(chunk(model, {"content": f"word{number} "}, **usage_member)))
            await asyncio.sleep(delay_ms / 1000)

    return answer


def gzipped(body: dict[str, Any]) -> Script:
    """A whole answer under `content-encoding: gzip`, asked for or not."""

    async def answer(reply: Reply) -> None:
        data = gzip.compress(msgspec.json.encode(body))
        await reply.whole(200, [JSON_TYPE, ("content-encoding", "gzip")], data)

    return answer


def embeddings(received: Received) -> dict[str, Any]:
    """An embedding of two numbers for each input."""
    body = received.json()
    inputs = body.get("input", "")
    count = len(inputs) if isinstance(inputs, list) else 1
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": [0.25, -0.5]} for index in range(count)],
        "model": body.get("model"),
        "usage": {"prompt_tokens": 4 * count, "total_tokens": 4 * count},
    }


async def well(reply: Reply) -> None:
    """What a model without a script says: what was asked for, plain or streamed."""
    path = reply.received.path.partition("?")[0]
    if path.endswith("/embeddings"):
        await plain(embeddings(reply.received))(reply)
    elif path.endswith("/chat/completions"):
        await (streamed() if reply.received.json().get("stream") else plain())(reply)
    else:
        await fails(404)(reply)


class ScriptedProvider(WireServer):
    """An OpenAI-style vendor; `base_url` is what goes into a provider's configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._scripts: dict[str, list[Script]] = defaultdict(list)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def on(self, model: str, *scripts: Script) -> None:
        """Sets the scripts of `model`, to be used in order; the last one repeats."""
        self._scripts[model] = list(scripts)

    def forget(self) -> None:
        """Drops every script and every request seen so far."""
        self._scripts.clear()
        self.received.clear()

    def calls(self, model: str) -> list[Received]:
        """The requests for `model`, in order of arrival."""
        return [received for received in list(self.received) if received.model == model]

    async def answer(self, reply: Reply) -> None:
        scripts = self._scripts[reply.received.model]
        script = well if not scripts else scripts[0] if len(scripts) == 1 else scripts.pop(0)
        await script(reply)
