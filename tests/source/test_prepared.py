"""XA transactions on real servers: delivered when they are committed, whoever read their rows, and when."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace

import pytest

from ha_canal.binlog.transactions import MOST_HELD_BYTES
from ha_canal.config import SourceSection
from ha_canal.errors import PositionPurgedError, SchemaMismatchError, SourceLostError
from ha_canal.model.change import Commit, Item, Rows
from ha_canal.model.gtid import MysqlGtidSet
from ha_canal.model.position import Position
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import purge_up_to, source_of
from tests.source.reading import Reading, binlog_ends, end_of_reading, reading
from tests.source.test_reader import check_transactions

RUNNERS: dict[str, Callable[..., AbstractAsyncContextManager[DatabaseServer]]] = {
    "mariadb": mariadb_server,
    "mysql": mysql_server,
}
NO_NAMES = {"mariadb": ["--binlog-row-metadata=NO_LOG"], "mysql": ["--binlog-row-metadata=MINIMAL"]}
FILLER_BYTES = 3000
LARGE = 2 * MOST_HELD_BYTES // FILLER_BYTES


class Xa:
    """One XA transaction after the other, under one name of its own."""

    def __init__(self, server: DatabaseServer, database: str) -> None:
        self._server = server
        self._database = database
        self._name = str(uuid.uuid4())
        self._xid = f"'{self._name}','it''s',{uuid.uuid4().int % 1000 + 1}"

    async def prepare(self, *statements: str) -> None:
        await asyncio.to_thread(self._run, *self._inside(statements), f"XA PREPARE {self._xid}")

    async def in_one_phase(self, *statements: str) -> None:
        await asyncio.to_thread(self._run, *self._inside(statements), f"XA COMMIT {self._xid} ONE PHASE")

    async def commit(self) -> None:
        await asyncio.to_thread(self._run, f"XA COMMIT {self._xid}")

    async def rollback(self) -> None:
        await asyncio.to_thread(self._run, f"XA ROLLBACK {self._xid}")

    async def outlived(self) -> bool:
        """Whether the server still knows it behind a crash.

        MySQL 9.7.4 forgets a prepared transaction in about a fifth of kills right behind it, also where every log is
        flushed, though its rows are in the binlog; XA COMMIT then says XAER_NOTA.
        """
        prepared = await asyncio.to_thread(self._server.run_sql, "XA RECOVER")
        return any(
            self._name.encode() in (row[3] if isinstance(row[3], bytes) else row[3].encode()) for row in prepared
        )

    def _inside(self, statements: Sequence[str]) -> list[str]:
        return [f"XA START {self._xid}", *statements, f"XA END {self._xid}"]

    def _run(self, *statements: str) -> None:
        with closing(self._server.connect(self._database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def insert(*ids: int) -> str:
    return f"INSERT INTO goods VALUES {', '.join(f'({number}, NULL)' for number in ids)}"


def large(first: int) -> list[str]:
    """Return statements that insert `LARGE` rows: more than is held back."""
    ids = range(first, first + LARGE)
    return [
        f"INSERT INTO goods VALUES {', '.join(f'({n}, REPEAT(0x78, {FILLER_BYTES}))' for n in ids[at : at + 200])}"
        for at in range(0, LARGE, 200)
    ]


async def create_goods(server: DatabaseServer, database: str) -> None:
    await server.execute("CREATE TABLE goods (id INT PRIMARY KEY, filler TEXT)", database=database)


async def here(source: SourceSection, *, by_gtid: bool = True) -> Position:
    _, end = await binlog_ends(source)
    return end if by_gtid else replace(end, gtid_set="")


async def restart(source: SourceSection, at: Position, tables: str, wanted: int) -> Reading:
    """Read on from ``at`` with a reader that knows nothing else, until so many rows have come."""
    async with reading(source, at, tables) as got:
        await got.until_ids(wanted)
    assert got.errors == []
    check_transactions(got.items)
    return got


@pytest.mark.parametrize("by_gtid", [True, False])
def test_they_come_when_and_in_the_order_that_they_are_committed(database: Database, *, by_gtid: bool) -> None:
    async def check() -> None:
        server, source, tables = database.server, source_of(database.server), rf"{database.name}\..*"
        first, second, third = (Xa(server, database.name) for _ in range(3))
        undone = "UPDATE goods SET filler = 'b' WHERE id = 3"
        await create_goods(server, database.name)
        start = await here(source, by_gtid=by_gtid)
        async with reading(source, start, tables) as got:
            await first.prepare(insert(1), insert(2), "UPDATE goods SET filler = 'a' WHERE id = 1")
            await second.prepare(insert(3), "SAVEPOINT s", undone, "ROLLBACK TO s", insert(5))
            await third.prepare(insert(6))
            await database.execute(insert(7))
            await got.until_ids(1)
            behind_prepares = await here(source, by_gtid=by_gtid)
            await second.commit()
            await third.rollback()
            await third.prepare(insert(8))
            await database.execute(insert(9))
            await first.commit()
            await third.commit()
            await first.in_one_phase(insert(10), insert(11))
            await second.in_one_phase("DELETE FROM goods WHERE id = 12345")
            await database.execute(insert(12))
            await got.until_ids(11)
        assert got.ids == [7, 3, 5, 9, 1, 2, 1, 8, 10, 11, 12]
        assert got.errors == []
        check_transactions(got.items)
        # From anywhere in between the same items come, whoever held the rows.
        for at in (start, behind_prepares):
            again = await restart(source, at, tables, 11 if at is start else 10)
            assert again.items == got.items[len(got.items) - len(again.items) :]
            assert again.ids == got.ids[len(got.ids) - len(again.ids) :]

    asyncio.run(check())


def test_every_cursor_of_a_fail_over_finds_what_was_prepared_before_it(database: Database) -> None:
    async def check() -> None:
        server, source, tables = database.server, source_of(database.server), rf"{database.name}\..*"
        open_long, other = Xa(server, database.name), Xa(server, database.name)
        await create_goods(server, database.name)
        start = await here(source)
        await open_long.prepare(insert(1))
        await server.execute("FLUSH BINARY LOGS")
        await other.prepare(insert(2))
        places: list[Position] = []
        async with reading(source, start, tables) as got:
            for number in range(3, 6):
                await database.execute(insert(number))
                await got.until_ids(number - 2)
                places.append(got.reader.progress.position)
            await open_long.commit()
            await other.commit()
            await got.until_ids(5)
        assert got.ids == [3, 4, 5, 1, 2]
        for done, place in enumerate(places, start=1):
            for at in (place, replace(place, gtid_set="")):
                assert (await restart(source, at, tables, 5 - done)).ids == got.ids[done:]
        if server.flavor == "mysql":  # by GTIDs alone: the place in the file is another server's
            at = replace(places[1], file="mysql-bin.000001", offset=4)
            assert MysqlGtidSet.parse(at.gtid_set)
            assert (await restart(source, at, tables, 3)).ids == [5, 1, 2]

    asyncio.run(check())


@pytest.mark.parametrize("flavor", RUNNERS)
def test_a_prepare_outlives_a_crash_of_the_server(flavor: str) -> None:
    async def check() -> bool:
        """Return whether the server itself kept what was prepared: where it did not, there is nothing to check."""
        async with RUNNERS[flavor]() as server:
            name = server.create_database()
            await create_goods(server, name)
            source, xa, lost = source_of(server), Xa(server, name), Xa(server, name)
            start = await here(source)
            async with reading(source, start, rf"{name}\..*") as got:
                await xa.prepare(insert(1))
                await lost.prepare(insert(2))
                await server.execute(insert(3), database=name)
                await got.until_ids(1)
                server.kill()
                await server.restart()
                if not (await xa.outlived() and await lost.outlived()):
                    return False
                await lost.rollback()
                await server.execute(insert(4), database=name)
                await xa.commit()
                await server.execute(insert(5), database=name)
                await got.until_ids(4)
            assert got.ids == [3, 4, 1, 5]
            check_transactions(got.items)
            return True

    crashes = 1 if flavor == "mariadb" else 8
    assert any(asyncio.run(check()) for _ in range(crashes))


@pytest.mark.parametrize("one_phase", [False, True])
def test_a_large_one_is_read_again_over_cuts_and_not_held(database: Database, *, one_phase: bool) -> None:
    async def check() -> None:
        server, tables = database.server, rf"{database.name}\..*"
        await create_goods(server, database.name)
        async with FaultProxy(server.host, server.port) as proxy:
            source = source_of(proxy)
            start = await here(source)
            xa = Xa(server, database.name)
            if one_phase:
                await xa.in_one_phase(*large(1))
            else:
                await xa.prepare(*large(1))
                await database.execute(insert(0))
                await xa.commit()
            await database.execute(insert(LARGE + 1))
            cuts = 0

            async def cut(items: Sequence[Item]) -> None:
                nonlocal cuts
                if cuts == len(got.errors) < 4 and sum(isinstance(item, Rows) for item in items) > 1:
                    cuts += 1
                    await proxy.cut()

            async with reading(source, start, tables, cut) as got:
                await got.until_ids(LARGE + 1 + (not one_phase))
        assert got.ids == [0] * (not one_phase) + list(range(1, LARGE + 2))
        assert len(got.errors) == cuts >= 1
        assert {type(error) for error in got.errors} == {SourceLostError}
        check_transactions(got.items)

    asyncio.run(check())


@pytest.mark.parametrize("flavor", RUNNERS)
def test_what_was_prepared_in_a_purged_file_stops_the_reading(flavor: str) -> None:
    async def check() -> None:
        async with RUNNERS[flavor]() as server:
            name = server.create_database()
            await create_goods(server, name)
            source, xa = source_of(server), Xa(server, name)
            await xa.prepare(insert(1))
            await server.execute("FLUSH BINARY LOGS")
            start = await here(source)
            await purge_up_to(server, start.file)
            await server.execute(insert(2), database=name)
            await xa.commit()
            error = await end_of_reading(source, start, rf"{name}\..*")
            assert isinstance(error, PositionPurgedError)
            assert "XA" in str(error)
            assert start.file in str(error)

    asyncio.run(check())


@pytest.mark.parametrize("flavor", RUNNERS)
def test_names_of_columns_are_proved_where_the_rows_were_prepared(flavor: str) -> None:
    async def check() -> None:
        async with RUNNERS[flavor](options=NO_NAMES[flavor]) as server:
            name = server.create_database()
            await create_goods(server, name)
            source, xa, tables = source_of(server), Xa(server, name), rf"{name}\..*"
            await xa.prepare(insert(1))
            start = await here(source)
            await xa.commit()
            assert (await restart(source, start, tables, 1)).ids == [1]
            await server.execute("ALTER TABLE goods RENAME COLUMN filler TO stuffing", database=name)
            assert isinstance(await end_of_reading(source, start, tables), SchemaMismatchError)

    asyncio.run(check())


def test_a_position_moves_past_what_is_only_prepared(database: Database) -> None:
    async def check() -> None:
        server, source = database.server, source_of(database.server)
        await create_goods(server, database.name)
        start = await here(source)
        xa = Xa(server, database.name)
        async with reading(source, start, rf"{database.name}\..*") as got:
            await xa.prepare(insert(1))
            end = await here(source)
            await eventually(lambda: got.reader.progress.position.offset == end.offset, what="the prepare is read")
            assert got.reader.progress.position.gtid_set == end.gtid_set
            assert [type(item) for item in got.items] == [Commit]
            assert got.ids == []
            await xa.rollback()

    asyncio.run(check())
