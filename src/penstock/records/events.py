"""Usage events in the store: written in the transaction that settles their money, so that neither is there alone."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from penstock.domain.events import UsageEvent
from penstock.records import kept
from penstock.records.rollups import add_to_rollups

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UsageEvent)

_INSERT = (
    "INSERT INTO usage_events (request_id, started_at, body) VALUES ({0}, {0}, {0}) "
    "ON CONFLICT (request_id) DO UPDATE SET body = excluded.body"
)


def write_events(conn: Connection, events: Sequence[UsageEvent]) -> None:
    """Stores the events, with what they leave at providers, and adds them to the roll-ups, inside the caller's
    transaction.

    Whoever calls guarantees that an event is handed over once. Should a request id come twice with different events,
    the later one is shown, and the money of both is in the roll-ups: spend is never lost.
    """
    if not events:
        return
    encode = _encoder.encode
    rows = [(event.request_id, event.started_at, encode(event)) for event in events]
    conn.exec_driver_sql(_INSERT.format("?" if conn.dialect.name == "sqlite" else "%s"), rows)
    add_to_rollups(conn, events)
    kept.write(conn, events)


def decode(body: bytes) -> UsageEvent:
    return _decoder.decode(body)
