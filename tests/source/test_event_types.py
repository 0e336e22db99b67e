"""Every kind of event that a server can be made to write, read from the server: what comes is what was committed.

Each case sets the options that bring an event, and looks in the binlog whether it is really there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace
from typing import NamedTuple

import pymysql
import pytest

from ha_canal.binlog.rows import decode_rows
from ha_canal.binlog.transactions import MOST_HELD_BYTES
from ha_canal.errors import DecodeError, SourceLostError
from ha_canal.model.change import ChangeKind, Item, Rows, Statement
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from tests.binlog.streams import describe
from tests.mysql.sources import source_of
from tests.source.reading import Reading, binlog_ends, end_of_reading, reading
from tests.source.test_reader import check_transactions

RUNNERS: dict[str, Callable[..., AbstractAsyncContextManager[DatabaseServer]]] = {
    "mariadb": mariadb_server,
    "mysql": mysql_server,
}
_LARGE_BYTES = MOST_HELD_BYTES + 1024 * 1024


class Case(NamedTuple):
    """Options of a server, and what ``SHOW BINLOG EVENTS`` calls the events that they bring."""

    flavor: str
    options: Sequence[str]
    events: Sequence[str]
    restarts: bool = False


CASES = {
    "mysql": Case(
        "mysql", [], ["Gtid", "Previous_gtids", "Stop", "Rotate", "Update_rows", "XA_prepare"], restarts=True
    ),
    "mysql, anonymous, bare": Case(
        "mysql",
        ["--gtid-mode=OFF", "--binlog-checksum=NONE", "--binlog-rows-query-log-events=ON"],
        ["Anonymous_Gtid", "Rows_query", "Delete_rows", "XA_prepare"],
    ),
    "mysql, compressed, partial": Case(
        "mysql",
        ["--binlog-transaction-compression=ON", "--binlog-row-value-options=PARTIAL_JSON"],
        ["Transaction_payload", "Update_rows_partial"],
    ),
    "mariadb": Case(
        "mariadb",
        [],
        ["Gtid_list", "Binlog_checkpoint", "Annotate_rows", "Stop", "Rotate", "XA_prepare"],
        restarts=True,
    ),
    "mariadb, compressed": Case(
        "mariadb",
        ["--log-bin-compress=ON", "--log-bin-compress-min-len=10"],
        ["Query_compressed", "Write_rows_compressed_v1", "Update_rows_compressed_v1"],
    ),
    "mariadb, bare": Case(
        "mariadb", ["--binlog-checksum=NONE", "--binlog-annotate-row-events=OFF"], ["Write_rows_v1", "Delete_rows_v1"]
    ),
}


def run(server: DatabaseServer, name: str, *statements: str) -> None:
    with closing(server.connect(name)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def write_some(server: DatabaseServer, name: str, base: int) -> None:
    """Insert the rows ``base`` + 1 to 7, change some, and try what ends a transaction."""
    filler = "JSON_OBJECT('a', 1, 'b', REPEAT('long ', 50))"
    run(
        server,
        name,
        f"INSERT INTO goods VALUES ({base + 1}, {filler}), ({base + 2}, {filler})",
        f"UPDATE goods SET extra = JSON_SET(extra, '$.a', {base}, '$.b', 'other') WHERE id = {base + 1}",
        "BEGIN",
        f"INSERT INTO goods VALUES ({base + 3}, NULL)",
        "SAVEPOINT s",
        f"INSERT INTO goods VALUES ({base + 1000}, NULL)",
        "ROLLBACK TO s",
        f"INSERT INTO goods VALUES ({base + 4}, '{{}}')",
        "COMMIT",
        f"INSERT INTO notes VALUES ({base + 5})",
        f"CREATE TABLE made{base} AS SELECT id, extra FROM goods WHERE id = {base + 2}",
        f"DROP TABLE made{base} /* {'a long comment ' * 10} */",
        f"XA START 'x{base}'",
        f"INSERT INTO goods VALUES ({base + 6}, NULL)",
        f"XA END 'x{base}'",
        f"XA PREPARE 'x{base}'",
        f"XA COMMIT 'x{base}'",
        f"DELETE FROM goods WHERE id = {base + 3}",
        f"INSERT INTO goods VALUES ({base + 7}, NULL)",
    )


WRITTEN = [1, 2, 1, 3, 4, 5, 2, 6, 3, 7]
"""The ids that `write_some` changes, in order."""


def write_large(server: DatabaseServer, name: str) -> None:
    """Insert rows from 5001 on, more than is held back, in one transaction."""
    piece = _LARGE_BYTES // 10
    rows = (f"INSERT INTO goods VALUES ({5001 + n}, JSON_QUOTE(REPEAT('{n}', {piece})))" for n in range(10))
    run(server, name, "BEGIN", *rows, "COMMIT")


def logged(server: DatabaseServer) -> set[str]:
    """Return the names of all events in the server's binlog."""
    names = [str(row[0]) for row in server.run_sql("SHOW BINARY LOGS")]
    return {str(event[2]) for name in names for event in server.run_sql(f"SHOW BINLOG EVENTS IN '{name}'")}


async def create_tables(server: DatabaseServer) -> str:
    name = server.create_database()
    await server.execute("CREATE TABLE goods (id INT PRIMARY KEY, extra JSON)", database=name)
    await server.execute("CREATE TABLE notes (id INT) ENGINE = MyISAM", database=name)
    return name


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_a_server_writes_over_restarts_and_a_crash_is_read(case: Case) -> None:
    async def check() -> None:
        async with RUNNERS[case.flavor](options=case.options) as server:
            source = source_of(server)
            name = await create_tables(server)
            _, start = await binlog_ends(source)
            async with reading(source, start, rf"{name}\..*") as got:
                await asyncio.to_thread(write_some, server, name, 0)
                await got.until_ids(len(WRITTEN))
                if case.restarts:
                    await server.stop()
                    await server.start()
                await asyncio.to_thread(write_some, server, name, 100)
                await got.until_ids(2 * len(WRITTEN))
                if case.restarts:
                    server.kill()
                    await server.start()
                await server.execute("FLUSH BINARY LOGS")
                await asyncio.to_thread(write_large, server, name)
                await asyncio.to_thread(write_some, server, name, 200)
                await got.until_ids(3 * len(WRITTEN) + 10)
            check_all(got, case)
            assert {type(error) for error in got.errors} <= {SourceLostError}
            assert set(case.events) <= logged(server)
            async with reading(source, replace(start, gtid_set=""), rf"{name}\..*") as again:
                await again.until_ids(3 * len(WRITTEN) + 10)
            assert again.errors == []
            assert [describe(item) for item in again.items] == [describe(item) for item in got.items]

    asyncio.run(check())


def check_all(got: Reading, case: Case) -> None:
    expected = [base + number for base in (0, 100) for number in WRITTEN]
    assert got.ids == [*expected, *range(5001, 5011), *(200 + number for number in WRITTEN)]
    check_transactions(got.items)
    assert [kind(item) for item in got.items if isinstance(item, Statement)] == ["CREATE", "ERASE"] * 3
    changed = [row for item in got.items if isinstance(item, Rows) for row in decode_rows(item)]
    documents = [row[1][1] for row in changed if row[0] and row[1]]
    assert [str(document).replace(" ", "") for document in documents] == [
        f'{{"a":{base},"b":"other"}}' for base in (0, 100, 200)
    ]
    assert any(item.partial_json for item in got.items if isinstance(item, Rows)) is (
        "Update_rows_partial" in case.events
    )


def kind(item: Item) -> str:
    assert isinstance(item, Statement)
    return ChangeKind(item.kind).name


@pytest.mark.parametrize("flavor", RUNNERS)
def test_what_a_server_logs_without_the_rows_stops_the_reading(flavor: str) -> None:
    async def check() -> None:
        async with RUNNERS[flavor](options=["--secure-file-priv="]) as server:
            source, name = source_of(server), await create_tables(server)
            data = server.directory / "data.txt"
            data.write_text("1\n2\n")
            data.chmod(0o644)
            for statement, words in (
                ("INSERT INTO notes VALUES (RAND() * 100), (@user_variable)", "a INSERT was logged as a statement"),
                (f"LOAD DATA INFILE '{data}' INTO TABLE notes (id)", "a LOAD DATA was logged as a statement"),
                (f"INSERT INTO notes VALUES {', '.join(['(1)'] * 3000)}", "its binlog lacks changes"),
            ):
                _, start = await binlog_ends(source)
                if "lacks" in words:
                    await asyncio.to_thread(fail_to_log, server, name, statement)
                else:
                    await asyncio.to_thread(run, server, name, "SET SESSION binlog_format = STATEMENT", statement)
                error = await end_of_reading(source, start, rf"{name}\..*")
                assert isinstance(error, DecodeError)
                assert words in str(error)
                assert error.file == start.file
                assert error.offset >= start.offset

    asyncio.run(check())


def fail_to_log(server: DatabaseServer, name: str, statement: str) -> None:
    """Run a statement whose rows were written before the server found that it cannot log them."""
    run(server, name, "SET GLOBAL binlog_stmt_cache_size = 4096", "SET GLOBAL max_binlog_stmt_cache_size = 4096")
    with contextlib.suppress(pymysql.err.OperationalError):
        run(server, name, statement)
