"""The clients that people use: aiohttp, the openai SDK, curl, and nginx in front."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from penstock.app.box import bind
from penstock.surfaces.http1.protocol import ServerLimits
from penstock.surfaces.http1.request import Request
from penstock.surfaces.http1.server import HttpServer
from penstock.testing.ports import free_ports

JSON = [(b"content-type", b"application/json"), (b"x-request-id", b"req_1")]
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


async def _complete(request: Request) -> None:
    """A little of the chat completions API."""
    asked = msgspec.json.decode(await request.body(1_000_000))
    text = asked["messages"][0]["content"]
    if not asked.get("stream"):
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {**CHUNK, "object": "chat.completion", "choices": choices}
        request.respond(200, JSON, msgspec.json.encode(answer))
        return
    request.start(200, [(b"content-type", b"text/event-stream")])
    for word in text.split(" "):
        choices = [{"index": 0, "delta": {"content": word}, "finish_reason": None}]
        await request.write(b"data: " + msgspec.json.encode({**CHUNK, "choices": choices}) + b"\n\n")
        await asyncio.sleep(0)
    await request.write(b"data: [DONE]\n\n")
    request.end()


async def test_the_openai_sdk_completes_and_streams_over_one_connection(serve: Any) -> None:
    served = await serve(_complete)
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="pk-x", max_retries=0) as client:
        for _ in range(3):
            messages: Any = [{"role": "user", "content": "one two three"}]
            plain = await client.chat.completions.create(model="m", messages=messages)
            assert plain.choices[0].message.content == "one two three"
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            assert [chunk.choices[0].delta.content async for chunk in stream] == ["one", "two", "three"]
        assert served.server.connections == 1


async def test_aiohttp_sends_bodies_of_both_kinds_and_reuses_its_connection(echo: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 10_000
            await asyncio.sleep(0)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(3):
            for body in (b"x" * 50_000, pieces()):
                async with session.post(echo.url + "/a%20b", data=body) as answer:
                    assert await answer.text() == "POST /a b {50000}"
            async with session.post(echo.url, data=b"ok", expect100=True) as answer:
                assert await answer.text() == "POST / {ok}"
        assert echo.server.connections == 1


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize(
    "options", [[], ["--http2"], ["--http1.0"], ["-H", "transfer-encoding: chunked"], ["-H", "expect: 100-continue"]]
)
async def test_curl_posts_in_every_way_it_knows(echo: Any, options: list[str], tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    body = tmp_path / "body"
    body.write_bytes(b"x" * 300_000)
    address = [echo.url + "/1", echo.url + "/2"]
    said = await _run(curl, "-sS", "-m", "20", *options, "--data-binary", f"@{body}", *address)
    assert said == "POST /1 {300000}POST /2 {300000}"


NGINX = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1; events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 20m; client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .;
  uwsgi_temp_path .; scgi_temp_path .;
  upstream behind {{ server 127.0.0.1:{behind}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location /old/ {{ proxy_http_version 1.0; proxy_pass http://behind; }}
    location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
                 proxy_buffering off; }}
  }}
}}
"""


@pytest.mark.parametrize("prefix", ["", "/old"])
async def test_nginx_in_front_passes_calls_and_streams_on(serve: Any, tmp_path: Path, prefix: str) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    served = await serve(_complete)
    (port,) = free_ports(1)
    (tmp_path / "nginx.conf").write_text(NGINX.format(behind=served.port, port=port))
    process = await asyncio.create_subprocess_exec(
        nginx, "-p", str(tmp_path), "-c", "nginx.conf", stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        url = f"http://127.0.0.1:{port}{prefix}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="pk-x", max_retries=0) as client:
            for _ in range(3):
                messages: Any = [{"role": "user", "content": "one two three"}]
                plain = await client.chat.completions.create(model="m", messages=messages)
                assert plain.choices[0].message.content == "one two three"
                stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
                assert [chunk.choices[0].delta.content async for chunk in stream] == ["one", "two", "three"]
    finally:
        process.terminate()
        await process.wait()


async def test_an_address_that_is_taken_is_not_shared(serve: Any) -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"")

    first = await serve(handle)
    with pytest.raises(OSError):
        bind("127.0.0.1", first.port, 1)
    caller = await first.call()
    caller.get()
    assert (await caller.answer())[0] == 200


async def test_it_listens_on_ipv6_where_there_is_any() -> None:
    async def handle(request: Request) -> None:
        request.respond(200, [], b"six")

    server = HttpServer(handle, ServerLimits())
    try:
        sockets = bind("::1", 0, 1)
    except OSError:
        pytest.skip("this machine has no IPv6")
    await server.listen(sockets)
    port = sockets[0][0].getsockname()[1]
    async with aiohttp.ClientSession() as session, session.get(f"http://[::1]:{port}/") as answer:
        assert await answer.read() == b"six"
    await server.close(within_s=1)
