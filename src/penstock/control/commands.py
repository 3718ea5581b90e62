"""Commands of the operator's own, which only the configuration file of a box can name: run without a shell, for so
long, and read up to so much."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from penstock.errors import PenstockError

TIMEOUT_S = 60.0


class CommandFailed(PenstockError):
    """A command that did not do what it is there for. What it wrote is not in the sentence: it may be a secret."""


async def output_of(
    command: Sequence[str], environment: Mapping[str, str], limit: int, timeout_s: float = TIMEOUT_S
) -> bytes:
    """What `command` writes to its standard output, up to `limit` bytes. Raises CommandFailed. Whatever it has started
    in its process group ends with it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{command[0]} cannot be run: {error.strerror or error}") from None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            written = bytearray()
            while part := await process.stdout.read(limit + 1 - len(written)):
                written += part
                if len(written) > limit:
                    raise CommandFailed(f"{command[0]} wrote more than {limit} bytes")
            code = await process.wait()
    except TimeoutError:
        raise CommandFailed(f"{command[0]} had not ended after {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if code:
        raise CommandFailed(f"{command[0]} exited with {code}")
    return bytes(written)
