"""The calls of the benchmark: what the load generator asks and what the upstream answers, as prebuilt bytes.

Callers name the alias `bench-plain`, `bench-stream`, `bench-paced` or `bench-translated`, which is also the model's
name upstream. So the same bytes can be sent to the upstream directly, through a bare proxy and through a gateway, and
the upstream can tell from path and body alone how it has to answer. The shapes are those of OpenAI's chat completions
page; where a gateway translates, the upstream is asked, and answers, in Anthropic's Messages.
"""

import json

from msgspec import Struct

ALIASES = ("bench-plain", "bench-stream", "bench-paced")
TRANSLATED = "bench-translated"
"""The alias whose provider speaks Anthropic's dialect."""
CHUNKS = 100
"""Content chunks per stream; the usage chunk and `[DONE]` come on top."""
PACE_S = 0.010

_COMPLETION_TOKENS = 180
_USAGE = {"prompt_tokens": 130, "completion_tokens": _COMPLETION_TOKENS, "total_tokens": 130 + _COMPLETION_TOKENS}
_ANSWER = (
    "A penstock is the gate that regulates the flow from the reservoir to the turbines. It opens as far as the plant "
    "asks for and no further; it closes when it is told to, and it stays closed. "
)
_PROMPT = "Explain in a few sentences how a hydroelectric plant regulates the flow of water to its turbines. " * 4


class Workload(Struct, frozen=True):
    """One kind of call and how much of it.

    `busy_calls` over `connections`, each sending as soon as it has its answer, are the load at saturation.
    `steady_calls` at `steady_rate` per second are the load that is the same for all. A rate of 0 makes the first of
    these the second: so many paced streams at a time are a steady load already. `events`: SSE events of a complete
    answer, 0 for a plain one.
    """

    name: str
    title: str
    alias: str
    connections: int
    busy_calls: int
    steady_rate: int
    steady_calls: int
    stream: bool = False
    asks_usage: bool = False

    @property
    def events(self) -> int:
        return CHUNKS + 1 + self.asks_usage if self.stream else 0


WORKLOADS = (
    Workload("plain", "plain, 1 KiB answer", "bench-plain", 16, 4_000, 1_000, 2_000),
    Workload("stream", "stream, 100 chunks", "bench-stream", 32, 400, 100, 200, stream=True, asks_usage=True),
    Workload("stripped", "stream, usage added and stripped", "bench-stream", 32, 400, 100, 200, stream=True),
    Workload("translated", "plain, translated from Anthropic's dialect", TRANSLATED, 16, 4_000, 1_000, 2_000),
    Workload(
        "translated-stream", "stream, translated likewise", TRANSLATED, 32, 400, 100, 200, stream=True, asks_usage=True
    ),
    Workload("paced", "stream, 100 chunks, 10 ms apart", "bench-paced", 100, 200, 0, 0, stream=True, asks_usage=True),
)


def request(workload: Workload, host: str, key: str, tags: str = "") -> bytes:
    """The whole HTTP request of one call, as the stock OpenAI client would shape it. `tags`: `name=value`, if any."""
    body: dict[str, object] = {
        "model": workload.alias,
        "messages": [
            {"role": "system", "content": "You are a patient teacher of engineering."},
            {"role": "user", "content": _PROMPT},
        ],
        "max_tokens": 256,
        "temperature": 0.7,
    }
    if workload.stream:
        body["stream"] = True
    if workload.asks_usage:
        body["stream_options"] = {"include_usage": True}
    payload = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
        "user-agent: OpenAI/Python\r\naccept: application/json\r\naccept-encoding: identity\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n"
    )
    head += f"x-penstock-tags: {tags}\r\n" if tags else ""
    return head.encode() + b"\r\n" + payload


def plain_answer() -> bytes:
    """A whole response with a body of about 1 KiB."""
    message: dict[str, object] = {"role": "assistant", "content": _ANSWER * 4, "refusal": None, "annotations": []}
    body = {
        "id": "chatcmpl-bench0000000000000000000000",
        "object": "chat.completion",
        "created": 1750000000,
        "model": "bench-plain",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
        "system_fingerprint": "fp_bench",
    }
    payload = json.dumps(body, separators=(",", ":")).encode()
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(payload), payload)
    )


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def stream_chunks(with_usage: bool) -> list[bytes]:
    """The stream, one HTTP chunk per event, the closing chunk joined to the last. `with_usage` adds what a vendor
    adds for `include_usage`: a `usage` of null in every chunk and a last chunk that has only the usage."""
    words = _ANSWER.split(" ")
    deltas = [{"content": words[n % len(words)] + " "} for n in range(CHUNKS)]
    events = [_event([{"index": 0, "delta": delta, "finish_reason": None}], None, with_usage) for delta in deltas]
    events[-1] = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}], None, with_usage)
    if with_usage:
        events.append(_event([], _USAGE, True))
    events.append(b"data: [DONE]\n\n")
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    chunks[-1] += b"0\r\n\r\n"
    return chunks


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None, with_usage: bool) -> bytes:
    chunk: dict[str, object] = {
        "id": "chatcmpl-bench0000000000000000000000",
        "object": "chat.completion.chunk",
        "created": 1750000000,
        "model": "bench-stream",
        "system_fingerprint": "fp_bench",
        "choices": choices,
    }
    if with_usage:
        chunk["usage"] = usage
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


_MESSAGE: dict[str, object] = {
    "id": "msg_bench0000000000000000000000",
    "type": "message",
    "role": "assistant",
    "model": TRANSLATED,
    "stop_sequence": None,
}
_MESSAGE_USAGE = {"input_tokens": 130, "output_tokens": _COMPLETION_TOKENS}


def plain_message() -> bytes:
    """The same answer in Anthropic's dialect."""
    content = [{"type": "text", "text": _ANSWER * 4}]
    body = {**_MESSAGE, "content": content, "stop_reason": "end_turn", "usage": _MESSAGE_USAGE}
    payload = json.dumps(body, separators=(",", ":")).encode()
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_bench\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(payload), payload)
    )


def message_chunks() -> list[bytes]:
    """A stream in Anthropic's dialect that is as many events as chat completions in OpenAI's."""
    words = _ANSWER.split(" ")
    texts = [words[n % len(words)] + " " for n in range(CHUNKS - 2)]
    started = {**_MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 130, "output_tokens": 1}}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": _MESSAGE_USAGE},
        {"type": "message_stop"},
    ]
    named = [
        b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), json.dumps(event, separators=(",", ":")).encode())
        for event in events
    ]
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in named]
    chunks[-1] += b"0\r\n\r\n"
    return chunks
