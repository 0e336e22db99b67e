"""The reader on real servers: restarts, cut connections, purged binlogs, and others with its identity."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from ha_canal.errors import (
    PositionPurgedError,
    SourceBusyError,
    SourceChangedError,
    SourceLostError,
    SourceRefusedError,
)
from ha_canal.model.change import Begin, Commit, Item, Rows
from ha_canal.model.position import Position
from ha_canal.source.reader import Identity
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import purge_up_to, source_of
from tests.source.reading import Reading, binlog_ends, end_of_reading, reading

ServerRunner = Callable[..., AbstractAsyncContextManager[DatabaseServer]]
RUNNERS: dict[str, ServerRunner] = {"mariadb": mariadb_server, "mysql": mysql_server}

BIG_ROWS, BIG_BYTES = 9000, 3000
"""A transaction of 27 MB: more than is held back until its end and sockets hold besides."""


def write_big(database: Database, first: int) -> None:
    """Insert `BIG_ROWS` rows in one transaction."""
    connection = database.server.connect(database.name)
    try:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            for start in range(first, first + BIG_ROWS, 100):
                values = ",".join(f"({number}, REPEAT('x', {BIG_BYTES}))" for number in range(start, start + 100))
                cursor.execute(f"INSERT INTO big VALUES {values}")
            cursor.execute("COMMIT")
    finally:
        connection.close()


def check_transactions(items: Sequence[Item]) -> None:
    """Check that each transaction is Begin, its ordinals in rising order, Commit."""
    last = -1
    inside = False
    for item in items:
        match item:
            case Begin():
                assert not inside
                inside, last = True, -1
            case Commit():
                assert inside is not item.empty
                inside = False
            case _:
                assert inside
                assert item.ordinal > last
                last = item.ordinal


def test_rows_and_statements_come_as_they_were_committed(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        _, start = await binlog_ends(source)
        async with reading(source, start, rf"{database.name}\.goods") as got:
            await database.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
            await database.execute("CREATE TABLE unwanted (id INT PRIMARY KEY)")
            await database.execute("INSERT INTO goods VALUES (1), (2)")
            await database.execute("INSERT INTO unwanted VALUES (77)")
            await database.execute("INSERT INTO goods VALUES (3)")
            await got.until_ids(3)
            await eventually(lambda: got.reader.lag_s() == 0.0, what="the reader has caught up")
            _, end = await binlog_ends(source)
            at = got.reader.progress.position
            assert (at.file, at.offset, at.gtid_set) == (end.file, end.offset, end.gtid_set)
        assert got.ids == [1, 2, 3]
        assert [sql for sql in got.statements if "goods" in sql] == ["CREATE TABLE goods (id INT PRIMARY KEY)"]
        check_transactions(got.items)
        assert got.reader.connected_to is None
        assert got.reader.lag_s() < 0
        assert got.errors == []

    asyncio.run(check())


@pytest.mark.parametrize("by_gtid", [True, False])
def test_cuts_in_the_middle_of_a_big_transaction(database: Database, *, by_gtid: bool) -> None:
    async def check() -> None:
        server = database.server
        await database.execute("CREATE TABLE big (id INT PRIMARY KEY, filler TEXT)")
        async with FaultProxy(server.host, server.port) as proxy:
            source = source_of(proxy)
            _, start = await binlog_ends(source)
            await asyncio.to_thread(write_big, database, 1)
            await database.execute(f"INSERT INTO big VALUES ({BIG_ROWS + 1}, 'last')")
            cuts = 0

            async def cut(items: Sequence[Item]) -> None:
                """Cut each of the first connections when it has given something new; what it got before still comes."""
                nonlocal cuts
                if cuts == len(got.errors) < 6 and any(isinstance(item, Rows) for item in items):
                    cuts += 1
                    await proxy.cut()

            if not by_gtid:
                start = replace(start, gtid_set="")
            async with reading(source, start, rf"{database.name}\..*", cut) as got:
                await got.until_ids(BIG_ROWS + 1)
            assert (got.reader.progress.position.gtid_set != "") is by_gtid
        assert got.ids == list(range(1, BIG_ROWS + 2))
        assert len(got.errors) == cuts >= 2
        assert {type(error) for error in got.errors} == {SourceLostError}
        check_transactions(got.items)

    asyncio.run(check())


@pytest.mark.parametrize("flavor", RUNNERS)
def test_a_server_that_is_killed_and_comes_back(flavor: str) -> None:
    async def check() -> None:
        async with RUNNERS[flavor]() as server:
            database = Database(server, server.create_database())
            source = source_of(server)
            oldest, _ = await binlog_ends(source)
            await database.execute("CREATE TABLE big (id INT PRIMARY KEY, filler TEXT)")
            async with reading(source, oldest, rf"{database.name}\..*") as got:
                await database.execute("INSERT INTO big VALUES (1, '')")
                await got.until_ids(1)
                await asyncio.to_thread(write_big, database, 2)
                server.kill()
                await server.start()
                await database.execute(f"INSERT INTO big VALUES ({2 + BIG_ROWS}, '')")
                await got.until_ids(2 + BIG_ROWS)
            assert got.ids == list(range(1, 3 + BIG_ROWS))
            assert got.errors
            check_transactions(got.items)
            assert got.reader.progress.position.gtid_set  # counted from the empty set on

    asyncio.run(check())


@pytest.mark.parametrize("flavor", RUNNERS)
def test_a_binlog_that_is_purged(flavor: str) -> None:
    async def check() -> None:
        async with RUNNERS[flavor]() as server:
            database = Database(server, server.create_database())
            source = source_of(server)
            await database.execute("CREATE TABLE goods (id INT)")
            _, before = await binlog_ends(source)
            await database.execute("INSERT INTO goods VALUES (1)")
            await server.execute("FLUSH BINARY LOGS")
            await server.execute("FLUSH BINARY LOGS")
            await purge_up_to(server, "mysql-bin.000003")
            assert before.gtid_set
            for start in (before, replace(before, gtid_set="")):
                error = await end_of_reading(source, start)
                assert isinstance(error, PositionPurgedError), f"{start}: {error!r}"
                assert source.address in str(error)
                assert "is gone" in str(error)

    asyncio.run(check())


def test_another_reader_with_our_identity_takes_over(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        _, start = await binlog_ends(source)
        tables = rf"{database.name}\..*"
        first = Reading(source, start, tables)  # it does not come back: both would cut each other for ever
        connection = asyncio.create_task(first.reader.read_until_it_breaks())
        await database.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        await eventually(lambda: first.statements, what="the first reader reads")
        async with reading(source, start, tables) as second:
            with pytest.raises(SourceBusyError, match="give this instance a server_id of its own"):
                await asyncio.wait_for(connection, 20)
            await eventually(lambda: second.statements, what="the second reader reads")
            assert second.errors == []

    asyncio.run(check())


def test_reading_needs_a_right_of_its_own(database: Database) -> None:
    async def check() -> None:
        server = database.server
        await server.execute("CREATE USER client@'%' IDENTIFIED BY 'client'")
        try:
            await server.execute("GRANT REPLICATION CLIENT ON *.* TO client@'%'")
            source = source_of(server, user="client", password="client")
            _, start = await binlog_ends(source)
            error = await end_of_reading(source, start)
        finally:
            await server.execute("DROP USER client@'%'")
        assert isinstance(error, SourceRefusedError)
        assert "GRANT REPLICATION SLAVE" in str(error) or "REPLICATION SLAVE" in str(error)

    asyncio.run(check())


def test_reading_does_not_go_on_at_another_server(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        reading = Reading(source, Position("mysql-bin.000001", 4, str(uuid.UUID(int=1)), 9), "")
        with pytest.raises(SourceChangedError, match="is now server"):
            await reading.reader.read_until_it_breaks()

    asyncio.run(check())


def test_a_position_of_another_server_by_gtid(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        _, end = await binlog_ends(source)
        foreign = "0-101-99999999" if database.server.flavor == "mariadb" else f"{end.server_uuid}:1-99999999"
        error = await end_of_reading(source, replace(end, gtid_set=foreign))
        assert isinstance(error, SourceRefusedError)
        assert source.address in str(error)

    asyncio.run(check())


def test_who_we_are_is_the_same_on_every_node() -> None:
    one, same = (Identity.of_instance("shop", root="/otter/canal") for _ in range(2))
    assert one == same
    assert one != Identity.of_instance("shop", root="/other")
    assert one != Identity.of_instance("shop2", root="/otter/canal")
    assert 0x40000000 <= one.server_id < 0x80000000
    assert Identity.of_instance("shop", root="/otter/canal", server_id=9).server_id == 9
