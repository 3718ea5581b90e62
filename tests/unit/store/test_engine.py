"""Engines: the settings that durability and fairness between writers depend on."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from penstock.errors import ConfigError
from penstock.store.engine import committer_engine, control_engine, database_url, durably, reading

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


async def test_a_reader_does_not_wait_for_a_writer_and_sees_one_moment(tmp_path: Path) -> None:
    engine = control_engine(database_url("sqlite", tmp_path))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
    async with engine.begin() as writer, asyncio.timeout(2):
        await writer.execute(text("INSERT INTO t VALUES (1)"))
        async with reading(engine).begin() as reader:
            assert (await reader.execute(text("SELECT count(*) FROM t"))).scalar() == 0
    await engine.dispose()


def test_the_file_is_an_ordinary_database(tmp_path: Path) -> None:
    engine = committer_engine(database_url("sqlite", tmp_path))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    engine.dispose()
    with sqlite3.connect(tmp_path / "penstock.db") as plain:
        assert plain.execute("SELECT count(*) FROM t").fetchone() == (0,)
    plain.close()
