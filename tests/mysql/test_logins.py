"""Connections that are logged in beforehand: ready soon, good when taken, replaced when the server ends them."""

from __future__ import annotations

import asyncio

from ha_canal.mysql.connection import end_of_binlog, inspect, session
from ha_canal.mysql.logins import Logins
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.process import free_port
from tests.mysql.sources import source_of


async def _full(logins: Logins) -> None:
    await eventually(lambda: logins.count == 3, within_s=20, what="connections are ready")


def test_a_connection_that_is_ready_answers_questions(database: Database) -> None:
    async def main() -> None:
        source = source_of(database.server)
        logins = Logins(source)
        async with logins.kept():
            await _full(logins)
        async with session(source, logins) as db:
            assert logins.count == 2
            assert (await inspect(db, source)).address == source.address
        logins.close()
        assert logins.count == 0
        async with session(source, logins) as db:
            assert await db.query("SELECT 1")

    asyncio.run(main())


def test_what_the_server_has_ended_is_not_given(mariadb: DatabaseServer) -> None:
    async def main() -> None:
        source = source_of(mariadb)
        logins = Logins(source)
        async with logins.kept():
            await _full(logins)
        for (thread_id,) in mariadb.run_sql(
            f"SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{source.user}'"
        ):
            mariadb.run_sql(f"KILL {thread_id}")
        await eventually(lambda: logins.take() is None, within_s=10, what="none is given")

    asyncio.run(main())


def test_a_source_that_cannot_be_reached_is_no_trouble(mariadb: DatabaseServer) -> None:
    async def main() -> None:
        logins = Logins(source_of(mariadb).model_copy(update={"port": free_port()}))
        async with logins.kept():
            await asyncio.sleep(0)
        assert logins.take() is None

    asyncio.run(main())


def test_the_end_of_mariadbs_binlog_is_the_one_that_the_server_computes(mariadb: DatabaseServer) -> None:
    async def main() -> None:
        source = source_of(mariadb)
        async with session(source) as db:
            info = await inspect(db, source)
            end = await end_of_binlog(db, info)
            computed = await db.query("SELECT BINLOG_GTID_POS(%s, %s)", (end.file, end.offset))
            assert end.gtid_set == computed[0][0]

    asyncio.run(main())
