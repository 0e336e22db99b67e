"""Places found by time in the binlog of real servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ha_canal.mysql.connection import binlog_files, end_of_binlog, inspect, session
from ha_canal.source.search import BinlogSearch
from ha_canal.testing.database import Database, DatabaseServer
from tests.mysql.sources import source_of


@contextlib.asynccontextmanager
async def search(server: DatabaseServer) -> AsyncIterator[BinlogSearch]:
    source = source_of(server)
    async with session(source) as db:
        info = await inspect(db, source)
        end = await end_of_binlog(db, info)
        yield BinlogSearch(source, info, [name for name, _ in await binlog_files(db)], end)


async def end(server: DatabaseServer) -> tuple[str, int]:
    source = source_of(server)
    async with session(source) as db:
        place = await end_of_binlog(db, await inspect(db, source))
    return place.file, place.offset


def now_s(server: DatabaseServer) -> int:
    return int(server.run_sql("SELECT UNIX_TIMESTAMP()")[0][0])


def test_places_are_found_in_the_right_file_and_not_beyond_the_end(database: Database) -> None:
    server = database.server

    async def check() -> None:
        await database.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        begun_s = now_s(server)
        places = []
        for number in range(3):
            await server.execute("FLUSH BINARY LOGS")
            places.append(await end(server))
            await database.execute("INSERT INTO goods VALUES (%s)", number)
        last = await end(server)
        async with search(server) as looking:
            seen = await end(server)  # MariaDB notes a checkpoint behind a new file some time later
            await database.execute("INSERT INTO goods VALUES (100)")
            found = await looking.before((now_s(server) + 100) * 1000)
            assert found is not None
            assert last <= (found.file, found.offset) <= seen
            assert found.timestamp_ms >= begun_s * 1000
            assert await looking.before(1000) is None

    asyncio.run(check())


def test_a_faked_time_shows_where_the_boundary_is(database: Database) -> None:
    """Statements in the future of the test: the first of them is where everything before is old. MySQL compresses."""
    server = database.server

    def write() -> list[tuple[str, int]]:
        connection = server.connect(database.name)
        places = []
        try:
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
                if server.flavor == "mysql":
                    cursor.execute("SET binlog_transaction_compression = ON")
                for number in range(5):
                    places.append(asyncio.run(end(server)))
                    cursor.execute(f"SET timestamp = UNIX_TIMESTAMP('2030-01-01 00:00:0{number}')")
                    cursor.execute(f"INSERT INTO goods VALUES ({number})")
        finally:
            connection.close()
        return places

    async def check() -> None:
        places = await asyncio.to_thread(write)
        first_s = int(server.run_sql("SELECT UNIX_TIMESTAMP('2030-01-01')")[0][0])
        async with search(server) as looking:
            for number, place in enumerate(places):
                found = await looking.before((first_s + number) * 1000 + 500)
                assert found is not None
                assert (found.file, found.offset) == place

    asyncio.run(check())


@pytest.mark.parametrize("many", [1, 2, 3, 7, 12])
def test_the_newest_file_that_is_old_enough_is_found_with_few_questions(mariadb: DatabaseServer, many: int) -> None:
    class Heads(BinlogSearch):
        asked = 0

        async def created_s(self, file: str) -> int:
            self.asked += 1
            return int(file[1:]) * 10

    async def check() -> None:
        async with search(mariadb) as real:
            files = [f"f{number:03}" for number in range(1, many + 1)]
            for young_s in range(5, many * 10 + 10, 5):
                heads = Heads(source_of(mariadb), real._info, files, real._end)
                expected = (young_s - 1) // 10
                found = await heads._newest_begun_before(young_s)
                assert found == (files[min(expected, many) - 1] if expected else None)
                assert heads.asked <= 8

    asyncio.run(check())
