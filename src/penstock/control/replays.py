"""Replays: a creation that is asked for twice, with the same Idempotency-Key, happens once and is answered twice.

The answer is kept in the transaction that creates, so that there is never one without the other, over all boxes and
crashes; a refusal changes nothing and is not kept. What an answer shows once (a key's secret) is not kept either: a
replay has null in its place, and whoever has lost a secret rotates it.

Source: IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.control.write import Write
from penstock.errors import KeyOfAnother
from penstock.store.chunks import delete_in_chunks
from penstock.store.tables.control import replays

P = ParamSpec("P")

KEPT_NS = 24 * 3600 * 1_000_000_000
_SHOWN_ONCE = frozenset({"secret"})


class Request(NamedTuple):
    """A request that may come again. `name`: a digest of its Idempotency-Key; `content`: one of its path and body, from
    which nobody can guess what they held."""

    name: str
    content: str


class Answer(NamedTuple):
    """`replayed`: it is an earlier request's."""

    value: dict[str, Any]
    replayed: bool


async def once(
    write: Write,
    request: Request | None,
    verb: Callable[Concatenate[Write, P], Awaitable[dict[str, Any]]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Answer:
    """What `verb(write, ...)` answers, or what it answered to the same request of the same actor within a day. Raises
    KeyOfAnother where that request was another. None: a request that has no Idempotency-Key."""
    if request is None:
        return Answer(await verb(write, *args, **kwargs), replayed=False)
    # A person may be called what the gateway calls the administrator's key, and is still somebody else.
    asker = f"{write.by.kind}:{write.actor}"[:128]
    own = (replays.c.actor == asker) & (replays.c.name == request.name)
    row = (await write.conn.execute(select(replays).where(own))).mappings().first()
    if row is not None and row["at"] > write.at - KEPT_NS:
        if row["content"] != request.content:
            raise KeyOfAnother(
                "this Idempotency-Key came with another request before: send a new one with a new request"
            )
        return Answer(row["answer"], replayed=True)
    value = await verb(write, *args, **kwargs)
    kept = {name: None if name in _SHOWN_ONCE else member for name, member in value.items()}
    await write.conn.execute(delete(replays).where(own))
    values = {"actor": asker, "name": request.name, "content": request.content, "answer": kept, "at": write.at}
    await write.conn.execute(insert(replays).values(values))
    return Answer(value, replayed=False)


async def prune(engine: AsyncEngine, now_ns: int) -> int:
    """Deletes what is over a day old; how many there were."""
    return await delete_in_chunks(engine, replays, replays.c.at <= now_ns - KEPT_NS)
