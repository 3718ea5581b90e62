"""Dumps: the rows of a store in files from which a database of either kind is filled.

There is one file per table: a frame that says what the table is like, then frames of rows. A frame is the length of
what follows, four bytes, and that in msgpack. Values are whole numbers of 64 bits, text, bytes, JSON as it was written,
and null. Which tables there are the code says, what columns they have the database says: so one of an earlier revision
can be dumped, too, and is filled at that revision.

Rows pass in batches in both directions, so that a store of any size takes the same memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from pkgutil import iter_modules
from typing import Any, BinaryIO, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    cast,
    inspect,
    select,
)

from penstock.errors import PenstockError
from penstock.store import tables as rooms
from penstock.store.tables.schema import metadata

BATCH_ROWS = 1_000
_LENGTH_BYTES = 4
_SEQUENCE = "SELECT pg_get_serial_sequence(%s, %s)"
_LAST = "SELECT pg_sequence_last_value(CAST(%s AS regclass))"
_GO_ON_AFTER = "SELECT setval(CAST(%s AS regclass), %s)"
_LAST_ON_SQLITE = "SELECT seq FROM sqlite_sequence WHERE name = ?"
_FORGET_ON_SQLITE = "DELETE FROM sqlite_sequence WHERE name = ?"
_GO_ON_AFTER_ON_SQLITE = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"

Kind = Literal["int", "text", "bytes", "json"]
OnRows = Callable[[str, int], None]
"""Called after each batch with the table and how many of its rows have passed."""


class DumpFailed(PenstockError):
    """A table that cannot be dumped, or rows that a database does not take."""


class Shape(Struct, frozen=True):
    """A table. `columns`: their names and kinds, in the order of each row's values. `last`: the highest number that the
    table has given out, of whose rows some may be gone; 0 where it gives out none."""

    table: str
    columns: tuple[tuple[str, Kind], ...]
    last: int = 0


_shapes = msgspec.msgpack.Decoder(Shape)
_rows = msgspec.msgpack.Decoder(list[tuple[Any, ...]])


def table_names() -> frozenset[str]:
    """Of all tables that a store of this release has."""
    for module in iter_modules(rooms.__path__):
        import_module(f"{rooms.__name__}.{module.name}")
    return frozenset(metadata.tables)


def tables_of(connection: Connection) -> list[Table]:
    """The store's tables as they are in this database."""
    present = table_names().intersection(inspect(connection).get_table_names())
    found = MetaData()
    found.reflect(connection, only=sorted(present))
    return found.sorted_tables


def dump(connection: Connection, table: Table, file: BinaryIO, on_rows: OnRows) -> int:
    """Writes a table of `tables_of` to `file`; how many rows it has. Raises DumpFailed for a column of a kind that not
    every database has."""
    columns = list(table.columns)
    kinds: list[Kind] = [_kind(column) for column in columns]
    named = tuple((str(column.name), kind) for column, kind in zip(columns, kinds, strict=True))
    shape = Shape(str(table.name), named, _last(connection, table))
    _write_frame(file, shape)
    picked = [cast(column, Text) if kind == "json" else column for column, kind in zip(columns, kinds, strict=True)]
    count = 0
    with connection.execute(select(*picked), execution_options={"yield_per": BATCH_ROWS}) as result:
        for batch in result.partitions():
            _write_frame(file, [tuple(row) for row in batch])
            count += len(batch)
            on_rows(table.name, count)
    return count


def fill(connection: Connection, file: BinaryIO, on_rows: OnRows) -> int:
    """Adds the rows that `dump` wrote to the empty table that they are of; how many there were. Raises DumpFailed."""
    try:
        shape = _shapes.decode(next(_frames(file)))
        if shape.table not in table_names():
            raise DumpFailed(f"{shape.table!r} is no table of a store")
        return _fill(connection, shape, map(_rows.decode, _frames(file)), on_rows)
    except (msgspec.MsgspecError, StopIteration):
        raise DumpFailed("a file of the dump is not what a dump writes") from None


def _fill(connection: Connection, shape: Shape, batches: Iterator[list[tuple[Any, ...]]], on_rows: OnRows) -> int:
    count = 0

    def counted() -> Iterator[list[tuple[Any, ...]]]:
        nonlocal count
        for batch in batches:
            yield batch
            count += len(batch)
            on_rows(shape.table, count)

    quote = connection.dialect.identifier_preparer.quote_identifier
    names = [quote(name) for name, _ in shape.columns]
    into = f"{quote(shape.table)} ({', '.join(names)})"
    if connection.dialect.name == "postgresql":
        _copy_in(connection, shape.table, into, chain.from_iterable(counted()))
    else:
        places = ", ".join("?" * len(names))
        for batch in counted():
            connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({places})", batch)  # noqa: S608 - quoted names
    if shape.last:
        _go_on_after(connection, shape)
    return count


def _copy_in(connection: Connection, table: str, into: str, rows: Iterable[Sequence[Any]]) -> None:
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        said = str(error).partition("\n")[0]
        raise DumpFailed(f"the database does not take the rows of {table}: {said}") from error


def _kind(column: Column[Any]) -> Kind:
    # In this order: what one of these types is made of may be another of them.
    kinds: tuple[tuple[type, Kind], ...] = ((JSON, "json"), (LargeBinary, "bytes"), (Integer, "int"), (String, "text"))
    for type_, kind in kinds:
        if isinstance(column.type, type_):
            return kind
    raise DumpFailed(f"{column} is a {column.type}, which not every database has")


# -- the numbers that a table gives out -------------------------------------------------------------------------------


def _last(connection: Connection, table: Table) -> int:
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(_LAST_ON_SQLITE, (table.name,)).scalar() or 0
    sequence = _sequence(connection, table.name, [column.name for column in table.primary_key])
    return connection.exec_driver_sql(_LAST, (sequence,)).scalar() or 0


def _go_on_after(connection: Connection, shape: Shape) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_FORGET_ON_SQLITE, (shape.table,))
        connection.exec_driver_sql(_GO_ON_AFTER_ON_SQLITE, (shape.table, shape.last))
        return
    key = inspect(connection).get_pk_constraint(shape.table)["constrained_columns"]
    connection.exec_driver_sql(_GO_ON_AFTER, (_sequence(connection, shape.table, key), shape.last))


def _sequence(connection: Connection, table: str, key: list[str]) -> str | None:
    """The sequence behind a key of one column; None where there is none."""
    if len(key) != 1:
        return None
    quoted = connection.dialect.identifier_preparer.quote_identifier(table)
    found: str | None = connection.exec_driver_sql(_SEQUENCE, (quoted, key[0])).scalar()
    return found


# -- frames -----------------------------------------------------------------------------------------------------------


def _write_frame(file: BinaryIO, content: Shape | list[tuple[Any, ...]]) -> None:
    encoded = msgspec.msgpack.encode(content)
    file.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)


def _frames(file: BinaryIO) -> Iterator[bytes]:
    while prefix := file.read(_LENGTH_BYTES):
        content = file.read(int.from_bytes(prefix, "big"))
        yield content
