"""Rows without column names, on real servers that log none: read under right names, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ha_canal.errors import SchemaMismatchError, SourceLostError
from ha_canal.model.change import Rows
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo, inspect, session
from ha_canal.source.lookahead import Lookahead
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import SERVER_ID, source_of
from tests.source.reading import Reading, binlog_ends, end_of_reading, images, reading

FLAVORS = ["mariadb", "mysql"]
SWAP = "ALTER TABLE goods CHANGE a b INT, CHANGE b a INT"


@contextlib.asynccontextmanager
async def nameless(flavor: str, *options: str) -> AsyncIterator[Database]:
    """Run a server whose events carry no column names, with an empty database."""
    run, metadata = (mariadb_server, "NO_LOG") if flavor == "mariadb" else (mysql_server, "MINIMAL")
    async with run(options=[f"--binlog-row-metadata={metadata}", *options]) as server:
        yield Database(server, await asyncio.to_thread(server.create_database))


def named_rows(got: Reading) -> list[dict[str, str]]:
    """Return all rows as their names and values."""
    rows = [item for item in got.items if isinstance(item, Rows)]
    return [
        dict(zip((column.name for column in item.plan.columns), values, strict=True))
        for item in rows
        for values in images(item)
    ]


async def dumps_of(server: DatabaseServer) -> int:
    rows = await server.query("SHOW PROCESSLIST")
    return sum(str(row[4]).startswith("Binlog Dump") for row in rows)


@pytest.mark.parametrize("by_gtid", [True, False])
@pytest.mark.parametrize("flavor", FLAVORS)
def test_columns_that_were_swapped_since_stop_the_reading_before_a_row(flavor: str, *, by_gtid: bool) -> None:
    async def check() -> None:
        async with nameless(flavor) as db:
            source = source_of(db.server)
            await db.execute("CREATE TABLE goods (a INT, b INT)")
            _, start = await binlog_ends(source)
            await db.execute("INSERT INTO goods VALUES (1, 2)")
            _, swapped_at = await binlog_ends(source)
            await db.execute(SWAP)
            await db.execute("INSERT INTO goods VALUES (4, 3)")
            start = start if by_gtid else replace(start, gtid_set="")
            for _ in range(2):  # a new term meets the same
                async with reading(source, start, "") as got:
                    await eventually(lambda got=got: got.errors, what="it stops")  # type: ignore[misc]
                    (error,) = got.errors
                    assert not [item for item in got.items if isinstance(item, Rows)]
                assert isinstance(error, SchemaMismatchError)
                assert (error.file, error.offset < swapped_at.offset) == (start.file, True)
                assert f"rows of {db.name}.goods" in str(error)
                assert f"ALTER of {db.name}.goods at {start.file}:" in str(error)
                assert "unsubscribe(forget=True)" in str(error)
            behind = swapped_at if by_gtid else replace(swapped_at, gtid_set="")
            async with reading(source, behind, "") as got:
                await got.until_ids(1)
            assert named_rows(got) == [{"b": "4", "a": "3"}]
            async with reading(source, start, r"nothing\..*") as got:  # leaving the table out leads past it
                await eventually(lambda: got.reader.progress.transactions == 3, what="the end is reached")
            assert got.errors == []

    asyncio.run(check())


@pytest.mark.parametrize("flavor", FLAVORS)
def test_ddl_of_other_tables_ahead_does_no_harm_and_each_part_is_looked_through_once(
    flavor: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with nameless(flavor) as db:
            source = source_of(db.server)
            await db.execute("CREATE TABLE goods (a INT, b INT)")
            await db.execute("CREATE TABLE more (x INT, y INT)")
            _, start = await binlog_ends(source)
            await db.execute("INSERT INTO goods VALUES (1, 2)")
            await db.execute("CREATE TABLE other (a INT, b INT)")
            await db.execute("ALTER TABLE other CHANGE a c INT")
            await db.execute("INSERT INTO more VALUES (3, 4)")
            await db.execute("FLUSH BINARY LOGS")
            await db.execute("RENAME TABLE other TO another")
            await db.execute("INSERT INTO goods VALUES (5, 6)")
            async with reading(source, start, "") as got:
                await got.until_ids(3)
            assert got.errors == []
            assert named_rows(got) == [{"a": "1", "b": "2"}, {"x": "3", "y": "4"}, {"a": "5", "b": "6"}]
            assert caplog.text.count("looking for DDL") == 1

    with caplog.at_level(logging.INFO):
        asyncio.run(check())


@pytest.mark.parametrize("flavor", FLAVORS)
def test_ddl_while_reading_gives_the_new_names(flavor: str) -> None:
    async def check() -> None:
        async with nameless(flavor) as db:
            source = source_of(db.server)
            _, start = await binlog_ends(source)
            async with reading(source, start, "") as got:
                await db.execute("CREATE TABLE goods (a INT, b INT)")
                await db.execute("INSERT INTO goods VALUES (1, 2)")
                await got.until_ids(1)
                await db.execute(SWAP)
                await db.execute("INSERT INTO goods VALUES (4, 3)")
                await got.until_ids(2)
                await db.execute("CREATE TABLE more (x INT)")
                await db.execute("INSERT INTO more VALUES (5)")
                await db.execute("INSERT INTO goods VALUES (7, 6)")
                await got.until_ids(4)
                await eventually(lambda: _one_dump(db.server), what="no dump is left but the one that reads")
            assert got.errors == []
            assert named_rows(got) == [{"a": "1", "b": "2"}, {"b": "4", "a": "3"}, {"x": "5"}, {"b": "7", "a": "6"}]

    asyncio.run(check())


async def _one_dump(server: DatabaseServer) -> bool:
    return await dumps_of(server) == 1


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE {db}.goods", "CREATE TABLE {db}.goods (b INT, a INT)"],
        ["CREATE TABLE {db}.new (b INT, a INT)", "RENAME TABLE {db}.goods TO {db}.old, {db}.new TO {db}.goods"],
        ["DROP DATABASE {db}", "CREATE DATABASE {db}", "CREATE TABLE {db}.goods (b INT, a INT)"],
        ["CREATE OR REPLACE DATABASE {db}", "CREATE TABLE {db}.goods (b INT, a INT)"],
        ["CREATE OR REPLACE TABLE {db}.goods (b INT, a INT)"],
        ["/* why */ SET STATEMENT max_statement_time = 9 FOR ALTER TABLE {db}.goods RENAME COLUMN a TO c"],
    ],
)
def test_other_ways_to_change_a_table(statements: list[str]) -> None:
    async def check() -> None:
        async with nameless("mariadb") as db:
            source = source_of(db.server)
            await db.execute("CREATE TABLE goods (a INT, b INT)")
            _, start = await binlog_ends(source)
            await db.execute("INSERT INTO goods VALUES (1, 2)")
            for statement in statements:
                await db.server.execute(statement.format(db=db.name))
            error = await end_of_reading(source, start)
            assert isinstance(error, SchemaMismatchError)
            assert "was changed after them" in str(error)

    asyncio.run(check())


def test_names_in_the_events_need_no_look_ahead(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        source = source_of(database.server)
        await database.execute("CREATE TABLE goods (a INT, b INT)")
        _, start = await binlog_ends(source)
        await database.execute("INSERT INTO goods VALUES (1, 2)")
        await database.execute("FLUSH BINARY LOGS")
        await database.execute(SWAP)
        await database.execute("INSERT INTO goods VALUES (4, 3)")
        async with reading(source, start, rf"{database.name}\..*") as got:
            await got.until_ids(2)
        assert named_rows(got) == [{"a": "1", "b": "2"}, {"b": "4", "a": "3"}]
        assert "looking for DDL" not in caplog.text

    with caplog.at_level(logging.INFO):
        asyncio.run(check())


async def _backlog(db: Database) -> tuple[ServerInfo, Position, Position]:
    """Write 16 MB of rows, then an ALTER; return the server and both ends."""
    source = source_of(db.server)
    await db.execute("CREATE TABLE big (id INT PRIMARY KEY, filler LONGTEXT)")
    _, start = await binlog_ends(source)
    for number in range(4):
        await db.execute(f"INSERT INTO big VALUES ({number}, REPEAT('x', 4000000))")
    await db.execute("ALTER TABLE big ADD more INT")
    async with session(source) as asked:
        info = await inspect(asked, source)
    _, end = await binlog_ends(source)
    return info, start, end


@pytest.mark.parametrize("flavor", FLAVORS)
def test_looking_ahead_goes_on_after_a_break_and_can_be_cancelled(flavor: str) -> None:
    async def check() -> None:
        async with nameless(flavor) as db, FaultProxy(db.server.host, db.server.port) as proxy:
            info, start, end = await _backlog(db)
            lookahead = Lookahead(source_of(proxy), not_server_id=SERVER_ID)

            async def look() -> list[str]:
                found = await lookahead.ddl_before(end, here=start, boundary=start, boundary_is_local=False, info=info)
                return [str(ddl) for ddl in found]

            task = asyncio.create_task(look())
            await eventually(lambda: proxy.connections, what="it has connected")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            task = asyncio.create_task(look())
            await eventually(lambda: proxy.connections, what="it has connected again")
            await proxy.cut()
            with contextlib.suppress(SourceLostError):
                await task
            (found,) = await look()
            assert found.startswith(f"ALTER of {db.name}.big at {end.file}:")
            proxy.refuse()
            assert await look() == [found]  # nothing is looked through again

    asyncio.run(check())


def test_transactions_that_a_server_leaves_out_at_the_end_do_not_hold_it_up(mysql: DatabaseServer) -> None:
    async def check() -> None:
        source = source_of(mysql, heartbeat_s=30)
        name = await asyncio.to_thread(mysql.create_database)
        _, start = await binlog_ends(source)
        await asyncio.to_thread(mysql.drop_database, name)
        async with session(source) as asked:
            info = await inspect(asked, source)
        _, end = await binlog_ends(source)
        lookahead = Lookahead(source, not_server_id=SERVER_ID)
        async with asyncio.timeout(10):
            done = replace(start, gtid_set=end.gtid_set)
            assert not await lookahead.ddl_before(end, here=start, boundary=done, boundary_is_local=False, info=info)

    asyncio.run(check())
