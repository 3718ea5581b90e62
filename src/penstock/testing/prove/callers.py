"""Callers: each call has a name of its own, by which it is found on the bank's statement and in the ledger."""

import asyncio
import http.client
import io
import re
import threading
import time
from typing import Any, Self

import msgspec

from penstock.testing.gateway import Gateway
from penstock.testing.oracles import Told
from penstock.testing.prove.stage import CONTENT_CANARY, Stage, draws

PATH = "/v1/chat/completions"
PATIENCE_S = 60.0
EVERY_S = 0.04
"""How often each of those who keep calling does so, unless an answer takes longer."""
CALLERS = 10
"""How many they are."""
LAST_WORDS_BYTES = 1_000
"""How much is kept of a stream that was cut: its error event is shorter."""
_OUTPUT = re.compile(rb'"completion_tokens":(\d+)[,}]')


def body_of(model: str, told: Told, stream: bool) -> dict[str, Any]:
    """The body of one call. The bank reads its name from `user`."""
    body = {
        "model": model,
        "user": told.call,
        "max_tokens": told.max_tokens,
        "messages": [{"role": "user", "content": CONTENT_CANARY}],
        "stream": stream,
    }
    return {**body, "stream_options": {"include_usage": True}} if stream else body


def tags_of(told: Told, **more: str) -> dict[str, str]:
    """The header by which the ledger knows the call."""
    return {"x-penstock-tags": ",".join(f"{name}={value}" for name, value in {"call": told.call, **more}.items())}


def saw(told: Told, response: http.client.HTTPResponse, content: bytes, stream: bool) -> None:
    """Writes down an answer that has ended. A stream is complete with its `[DONE]`, a plain one with its last byte."""
    told.status = response.status
    told.request_id = response.headers.get("x-request-id", "")
    if told.status != 200:
        told.refusal = content
        return
    whole_bytes = int(response.headers.get("content-length", len(content)))
    told.complete = content.endswith(b"data: [DONE]\n\n") if stream else len(content) == whole_bytes
    if not told.complete:
        told.refusal = content[-LAST_WORDS_BYTES:]
    reports = _OUTPUT.findall(content)
    if told.complete and reports:
        told.output = int(reports[-1])


def call(stage: Stage, model: str, told: Told, stream: bool) -> None:
    """One call from its beginning to its end. Raises OSError or HTTPException when there is none."""
    caller = stage.next_box().caller(stage.keys[model])
    with caller.open(PATH, body_of(model, told, stream), tags_of(told), timeout_s=PATIENCE_S) as opened:
        told.status, told.request_id = opened.status, opened.headers.get("x-request-id", "")
        content = opened.read_all()
        saw(told, opened.response, content, stream)


class _Whole:
    """An answer that has come in whole, as `http.client` wants to read it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


async def call_at_once(gateway: Gateway, key: str, request: tuple[dict[str, Any], dict[str, str]], told: Told) -> None:
    """One call on a connection of its own; thousands can be under way. `request`: body and headers. Raises OSError or
    HTTPException when there is no whole answer."""
    body, headers = request
    data = gateway.caller(key).request_bytes(
        "POST", PATH, msgspec.json.encode(body), {**headers, "connection": "close"}
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        writer.write(data)
        answer = await reader.read(-1)
    finally:
        writer.close()
    response = http.client.HTTPResponse(_Whole(answer))  # type: ignore[arg-type]
    response.begin()
    saw(told, response, response.read(), bool(body["stream"]))


class Load:
    """Callers who keep calling for as long as the block lasts, plain and streamed, whatever happens: ten make 200 calls
    a second, where they are answered as fast as that."""

    def __init__(self, stage: Stage, model: str, seed: int, callers: int = CALLERS) -> None:
        self.told: list[Told] = []
        self._stage = stage
        self._model = model
        self._under_way: dict[int, Told] = {}
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n, seed), daemon=True) for n in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def under_way(self) -> list[Told]:
        """The calls that have begun and not ended."""
        return list(self._under_way.copy().values())

    def _run(self, number: int, seed: int) -> None:
        chance = draws(seed * 1_000 + number)
        count = 0
        while not self._stopping.is_set():
            count += 1
            told = Told(f"call-{number}-{count}", chance.randint(1, 30), began_s=time.monotonic())
            self.told.append(told)
            self._under_way[number] = told
            try:
                call(self._stage, self._model, told, stream=chance.random() < 0.5)
            except (OSError, http.client.HTTPException):
                told.complete = False
            del self._under_way[number]
            self._stopping.wait(told.began_s + EVERY_S - time.monotonic())
