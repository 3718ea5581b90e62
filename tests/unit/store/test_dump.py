"""Dumps: what is written from a database of one kind fills one of the other, value for value."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    LargeBinary,
    MetaData,
    Table,
    Text,
    cast,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL

from penstock.store import dump as dumps
from penstock.store.dump import DumpFailed, dump, fill, table_names, tables_of
from penstock.store.engine import committer_engine, database_url
from penstock.store.migrate import newest_revision, upgrade_to
from penstock.store.tables import control, ledger
from penstock.store.tables.schema import metadata
from penstock.testing.postgres import Postgres

HIGHEST, LOWEST = 2**63 - 1, -(2**63)
HARD_TEXTS = ["", "\\N", "\\.", 'tab\tand "quotes"\r\n', "%s ? :name", "Zürich \N{SNOWMAN}\N{GRINNING FACE}"]


@contextmanager
def begun(url: URL) -> Iterator[Connection]:
    """A transaction on an empty store of this release."""
    engine = committer_engine(url)
    try:
        with engine.begin() as connection:
            upgrade_to(connection, newest_revision())
            yield connection
    finally:
        engine.dispose()


def no_matter(_table: str, _count: int) -> None:
    """For a test that does not look at the progress."""


def dumped(connection: Connection, folder: Path) -> dict[str, int]:
    """Table -> how many rows it has."""
    folder.mkdir()
    counts = {}
    for table in tables_of(connection):
        with (folder / table.name).open("wb") as file:
            counts[table.name] = dump(connection, table, file, no_matter)
    return counts


def filled(connection: Connection, folder: Path) -> dict[str, int]:
    counts = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            counts[path.name] = fill(connection, file, no_matter)
    return counts


def contents(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, JSON as the text that it is."""
    return {
        table.name: sorted(
            (
                tuple(row)
                for row in connection.execute(
                    select(*(cast(c, Text) if isinstance(c.type, JSON) else c for c in table.columns))
                )
            ),
            key=repr,
        )
        for table in tables_of(connection)
    }


def a_row(table: Table, number: int) -> dict[str, Any]:
    """A value for every column, hard ones for some. JSON objects have an order and numbers of any size."""
    row: dict[str, Any] = {}
    for column in table.columns:
        kind = dumps._kind(column)
        if kind == "int":
            wide = column.type.compile(postgresql.dialect()) == "BIGINT" and not column.primary_key
            row[column.name] = (HIGHEST, LOWEST, 0)[number % 3] if wide else number
        elif kind == "bytes":
            row[column.name] = bytes(range(256)) * number
        elif kind == "json":
            row[column.name] = {"z": 1, "a": [None, 2**70, 0.1, HARD_TEXTS[number % len(HARD_TEXTS)], "\x00"]}
        else:
            room = getattr(column.type, "length", None) or 100
            row[column.name] = f"{number}{HARD_TEXTS[number % len(HARD_TEXTS)]}"[:room]
        if column.nullable and number == 3:
            row[column.name] = None
    return row


def fill_everything(connection: Connection) -> None:
    for table in map(metadata.tables.__getitem__, sorted(table_names())):
        connection.execute(insert(table), [a_row(table, number) for number in range(1, 7)])


@pytest.fixture
def other_url(store_url: URL, postgres: Postgres, tmp_path: Path) -> Iterator[URL]:
    """The URL of an empty database of the kind that `store_url` is not of."""
    if store_url.get_backend_name() == "postgresql":
        yield database_url(str(tmp_path / "other.db"), tmp_path)
        return
    with postgres.database() as name:
        yield database_url(postgres.url(name), tmp_path)


def test_every_table_of_a_store_goes_over_to_the_other_kind_and_back_with_every_value(
    store_url: URL, other_url: URL, tmp_path: Path
) -> None:
    with begun(store_url) as connection:
        fill_everything(connection)
        made = inspect(connection).get_table_names()
        before = contents(connection)
        counts = dumped(connection, tmp_path / "first")
    assert set(counts) == set(made) - {"alembic_version"} == table_names()
    assert set(counts.values()) == {6}
    with begun(other_url) as connection:
        assert filled(connection, tmp_path / "first") == counts
        assert contents(connection) == before
        dumped(connection, tmp_path / "second")
    for path in (tmp_path / "first").iterdir():
        assert sorted_rows(path) == sorted_rows(tmp_path / "second" / path.name)


def sorted_rows(path: Path) -> list[Any]:
    with path.open("rb") as file:
        next(dumps._frames(file))
        return sorted((row for frame in dumps._frames(file) for row in dumps._rows.decode(frame)), key=repr)


def test_numbers_that_a_table_gave_out_are_not_given_out_again_even_where_their_rows_are_gone(
    store_url: URL, other_url: URL, tmp_path: Path
) -> None:
    kill = {"scope": {}, "reason": "r", "by": "b", "at": 1}
    with begun(store_url) as connection:
        for _ in range(3):
            connection.execute(insert(control.kills).values(**kill))
        connection.execute(text("DELETE FROM kills WHERE generation > 1"))
        dumped(connection, tmp_path / "dump")
    with begun(other_url) as connection:
        filled(connection, tmp_path / "dump")
        connection.execute(insert(control.kills).values(**kill))
        version = {"digest": "d", "node": "n", "applied_at": 1, "changes": []}
        connection.execute(insert(control.config_versions).values(**version))
        assert connection.execute(select(control.kills.c.generation)).scalars().all() == [1, 4]
        assert connection.execute(select(control.config_versions.c.version)).scalars().all() == [1]


def test_json_that_is_null_and_json_that_is_missing_stay_two_things(
    store_url: URL, other_url: URL, tmp_path: Path
) -> None:
    with begun(store_url) as connection:
        for before in ("NULL", "'null'"):
            connection.execute(
                text(
                    "INSERT INTO audit (at, actor, action, kind, name, before) "
                    f"VALUES (1, 'a', 'b', 'c', 'd', {before})"
                )
            )
        dumped(connection, tmp_path / "dump")
    with begun(other_url) as connection:
        filled(connection, tmp_path / "dump")
        found = connection.execute(text("SELECT before IS NULL FROM audit ORDER BY seq")).scalars().all()
        assert [bool(each) for each in found] == [True, False]


def test_rows_pass_in_batches_and_say_how_far_they_are(
    store_url: URL, other_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "BATCH_ROWS", 10)
    holds = [{"attempt_id": str(number), "epoch": 1, "record": b"r"} for number in range(25)]
    told: list[tuple[str, int]] = []
    path = tmp_path / "open_holds"
    with begun(store_url) as connection:
        connection.execute(insert(ledger.open_holds), holds)
        (table,) = (each for each in tables_of(connection) if each.name == "open_holds")
        with path.open("wb") as file:
            assert dump(connection, table, file, lambda *at: told.append(at)) == 25
    with begun(other_url) as connection, path.open("rb") as file:
        assert fill(connection, file, lambda *at: told.append(at)) == 25
    assert told == [("open_holds", count) for count in (10, 20, 25)] * 2


def test_a_text_that_postgresql_does_not_take_is_refused_with_its_table(postgres: Postgres, tmp_path: Path) -> None:
    with begun(database_url("sqlite", tmp_path)) as connection:
        connection.execute(insert(ledger.open_holds).values(attempt_id="with \x00", epoch=1, record=b""))
        dumped(connection, tmp_path / "dump")
    with (
        postgres.database() as name,
        pytest.raises(DumpFailed, match="does not take the rows of open_holds"),
        begun(database_url(postgres.url(name), tmp_path)) as connection,
    ):
        filled(connection, tmp_path / "dump")


def test_a_file_that_is_no_dump_is_refused(store_url: URL, tmp_path: Path) -> None:
    with begun(store_url) as connection:
        fill_everything(connection)
        dumped(connection, tmp_path / "dump")
        whole = (tmp_path / "dump" / "teams").read_bytes()
    stranger = tmp_path / "stranger"
    with stranger.open("wb") as file:
        dumps._write_frame(file, dumps.Shape("pg_class", (("relname", "text"),)))
    for content in (b"", whole[:20], whole[:-1], b"\x00\x00\x00\x03abc", stranger.read_bytes()):
        stranger.write_bytes(content)
        engine = committer_engine(store_url)
        with pytest.raises(DumpFailed), engine.begin() as connection, stranger.open("rb") as file:
            connection.execute(text("DELETE FROM teams"))
            fill(connection, file, no_matter)
        assert _teams(engine) == 6
        engine.dispose()


def _teams(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM teams")).scalar() or 0)


def test_a_column_of_a_kind_that_not_every_database_has_is_refused(tmp_path: Path) -> None:
    table = Table("t", MetaData(), Column("id", LargeBinary, primary_key=True), Column("share", Float))
    with begun(database_url("sqlite", tmp_path)) as connection:
        table.create(connection)
        with pytest.raises(DumpFailed, match="FLOAT"), (tmp_path / "t").open("wb") as file:
            dump(connection, table, file, no_matter)
