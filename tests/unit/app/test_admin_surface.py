"""The admin listener is there before what answers on it."""

import asyncio
from typing import Any

import pytest

from penstock.app.control.listener import Surface


async def test_a_request_that_comes_early_waits_for_the_application_and_is_answered_by_it() -> None:
    surface, served = Surface(), []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope)

    early = asyncio.ensure_future(surface("early", None, None))
    await asyncio.sleep(0)
    assert not early.done()
    surface.serve(application)
    await early
    await surface("late", None, None)
    assert served == ["early", "late"]


async def test_an_asker_who_leaves_takes_nothing_from_those_who_wait() -> None:
    surface, served = Surface(), []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope)

    waiting = [asyncio.ensure_future(surface(name, None, None)) for name in ("leaves", "stays")]
    await asyncio.sleep(0)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    surface.serve(application)
    await waiting[1]
    assert served == ["stays"]
