"""Engines: the settings that durability and fairness between writers depend on."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import InternalError

from penstock.errors import ConfigError
from penstock.store import engine as engine_module
from penstock.store.engine import committer_engine, control_engine, database_url, durably, postgresql_url, reading
from penstock.testing.postgres import Postgres

FULL, NORMAL = 2, 1


def test_a_store_is_sqlite_in_the_data_directory_a_path_or_a_url(tmp_path: Path) -> None:
    assert database_url("sqlite", tmp_path).database == str(tmp_path / "penstock.db")
    assert database_url("/var/ledger.db", tmp_path).database == "/var/ledger.db"
    assert database_url("postgresql://u@h/db", tmp_path).get_backend_name() == "postgresql"
    with pytest.raises(ConfigError, match="mysql is not supported"):
        database_url("mysql://u@h/db", tmp_path)


async def test_control_commits_are_durable_and_foreign_keys_hold(tmp_path: Path) -> None:
    engine = control_engine(database_url("sqlite", tmp_path))
    async with engine.begin() as connection:
        values = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in ("synchronous", "journal_mode")
        ]
        assert values == [FULL, "wal"]
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
    await engine.dispose()


def test_the_committer_syncs_where_it_is_told_to(tmp_path: Path) -> None:
    engine = committer_engine(database_url("sqlite", tmp_path))

    def synchronous() -> object:
        with engine.begin() as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar()

    assert synchronous() == NORMAL
    with durably(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == FULL
    assert synchronous() == NORMAL
    with pytest.raises(ZeroDivisionError), durably(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        raise ZeroDivisionError
    assert synchronous() == NORMAL
    with engine.begin() as connection, pytest.raises(Exception, match="no such table"):
        connection.exec_driver_sql("SELECT * FROM t")
    engine.dispose()


def test_two_writers_wait_for_each_other_instead_of_failing(tmp_path: Path) -> None:
    engine = committer_engine(database_url("sqlite", tmp_path))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counter (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES (0)")

    def count() -> None:
        for _ in range(50):
            with engine.begin() as connection:
                n = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
                connection.exec_driver_sql("UPDATE counter SET n = ?", (n + 1,))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT n FROM counter").scalar() == 200
    engine.dispose()


def test_a_connection_waits_for_who_writes_to_a_new_database_before_it_switches_its_mode(tmp_path: Path) -> None:
    url = database_url("sqlite", tmp_path)
    writer = sqlite3.connect(str(url.database), isolation_level=None)
    writer.execute("CREATE TABLE t (n INTEGER)")
    writer.execute("BEGIN IMMEDIATE")
    statements: list[str] = []

    def watch(statement: str) -> None:
        statements.append(statement)
        if statement.startswith("BEGIN") and writer.in_transaction:
            writer.execute("COMMIT")

    engine = committer_engine(url)
    listen = event.listens_for(engine, "connect", insert=True)
    listen(lambda connection, _record: connection.set_trace_callback(watch))
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert statements.count("PRAGMA journal_mode=WAL") == 2
    engine.dispose()
    writer.close()


def test_many_that_open_a_new_database_at_once_all_get_in(tmp_path: Path) -> None:
    for file in range(40):
        engines = [committer_engine(database_url(str(tmp_path / f"{file}.db"), tmp_path)) for _ in range(8)]
        ready = threading.Barrier(len(engines))

        def mode(engine: Engine, ready: threading.Barrier = ready) -> object:
            ready.wait()
            with engine.begin() as connection:
                return connection.exec_driver_sql("PRAGMA journal_mode").scalar()

        with ThreadPoolExecutor(len(engines)) as threads:
            assert list(threads.map(mode, engines)) == ["wal"] * len(engines)
        for engine in engines:
            engine.dispose()


async def test_a_reader_does_not_wait_for_a_writer_and_sees_one_moment(store_url: URL) -> None:
    engine = control_engine(store_url)
    count = text("SELECT count(*) FROM t")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
    async with asyncio.timeout(5), reading(engine).begin() as reader:
        assert (await reader.execute(count)).scalar() == 0
        async with engine.begin() as writer:
            await writer.execute(text("INSERT INTO t VALUES (1)"))
            assert (await reader.execute(count)).scalar() == 0
        assert (await reader.execute(count)).scalar() == 0
    async with reading(engine).begin() as reader:
        assert (await reader.execute(count)).scalar() == 1
    await engine.dispose()


async def test_a_reader_cannot_write_to_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    engine = control_engine(database_url(postgres.url("postgres"), tmp_path))
    with pytest.raises(InternalError, match="read-only"):
        async with reading(engine).begin() as connection:
            await connection.execute(text("CREATE TABLE refused (n INTEGER)"))
    await engine.dispose()


def test_a_connection_that_broke_is_replaced_when_it_is_next_asked_for(postgres: Postgres, tmp_path: Path) -> None:
    engine = committer_engine(database_url(postgres.url("postgres"), tmp_path))
    with engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    assert postgres.run(f"SELECT pg_terminate_backend({pid}, 5000)") == "t"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid
    engine.dispose()


def test_what_the_url_says_goes_before_the_settings_of_the_house(tmp_path: Path) -> None:
    url = postgresql_url(database_url("postgresql://u@h/db?connect_timeout=60", tmp_path))
    assert url.query["connect_timeout"] == "60" and url.query["keepalives_idle"] == "10"


def test_without_the_driver_the_extra_is_named_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda _: None)
    for make in (control_engine, committer_engine):
        with pytest.raises(ConfigError, match=r"pip install 'penstock\[postgres\]'$"):
            make(database_url("postgresql://u@h/db", tmp_path))


def test_the_file_is_an_ordinary_database(tmp_path: Path) -> None:
    engine = committer_engine(database_url("sqlite", tmp_path))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    engine.dispose()
    with sqlite3.connect(tmp_path / "penstock.db") as plain:
        assert plain.execute("SELECT count(*) FROM t").fetchone() == (0,)
    plain.close()
