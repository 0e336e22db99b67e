"""How a term begins, what the next one goes on from, and how a term ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from ha_canal.cluster.coordinator import Create, Set
from ha_canal.errors import DecodeError, FilterError, NotLeaderError
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from tests.instance.terms import PATHS, insert, section_of, stored, stored_cursor, term
from tests.mysql.sources import purge_up_to


def write_in_session(database: Database, *statements: str) -> None:
    """Run statements on one connection."""
    connection = database.server.connect(database.name)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


async def poison(database: Database) -> None:
    """Log a change as a statement: no stream of rows can be trusted behind it."""
    await asyncio.to_thread(
        write_in_session, database, "SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO goods VALUES (666)"
    )


def put(ensemble: MemoryEnsemble, path: str, data: bytes) -> None:
    """Write as an operator does."""
    ensemble.apply([Set(path, data) if ensemble.tree.read(path) else Create(path, data)], "operator")


def test_two_clients_with_cursors_of_different_age_get_what_they_lack(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            quick, slow = await office.client("quick"), await office.client("slow")
            await insert(shop, 1, 2)
            await slow.read(2)
            await insert(shop, 3, 4)
            await slow.read(4, ack=False)
            await quick.read(4)
        await insert(shop, 5)
        async with term(ensemble, section_of(shop)) as office:
            assert office.instance.epoch == 2
            slow, quick = await office.client("slow"), await office.client("quick")
            assert await quick.read(5) == [5]
            assert await slow.read(5) == [3, 4, 5]

    asyncio.run(check())


def test_a_start_that_was_interrupted_is_made_anew(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            await office.client("one")
            await office.client("two", rf"{shop.name}\.goods")
        await insert(shop, 1)
        async with term(ensemble, section_of(shop)) as office:
            office.link.failing_reads = {PATHS.client("two").filter: 1, PATHS.client("one").cursor: 1}
            one, two = await office.client("one"), await office.client("two")
            assert not any(office.link.failing_reads.values())
            assert two.feed.pattern == rf"{shop.name}\.goods"
            assert await one.read(1) == await two.read(1) == [1]

    asyncio.run(check())


def test_a_stored_filter_that_is_none_stops_until_it_is_mended(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            await office.client("one")
            await office.client("two")
        put(ensemble, PATHS.client("two").filter, b"(")
        async with term(ensemble, section_of(shop), stopped_retry_s=0.2) as office:
            with pytest.raises(FilterError, match="is no regular expression"):
                await office.client("one")
            assert office.instance.state == "stopped"
            put(ensemble, PATHS.client("two").filter, b"")
            await eventually(lambda: office.instance.state != "stopped", what="the instance has looked again")
            one, two = await office.client("one"), await office.client("two")
            await insert(shop, 1)
            assert await one.read(1) == await two.read(1) == [1]

    asyncio.run(check())


def test_a_clean_stop_tells_clients_first_and_keeps_cursors_that_moved_by_themselves(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop, filter=rf"{shop.name}\.other")) as office:
            client = await office.client("one")
            begin = stored_cursor(ensemble, "one")
            await insert(shop, 1)
            await eventually(lambda: office.instance.describe({}).transactions, what="the row was passed over")
            gate = office.link.held = asyncio.Event()
            office.running.cancel()
            await eventually(lambda: office.link.waiting_writes, what="the last write is under way")
            assert isinstance(office.instance.ended.result(), NotLeaderError)
            assert not office.running.done()
            gate.set()
            await asyncio.wait([office.running])
            assert office.running.cancelled()
            assert begin != stored_cursor(ensemble, "one") == client.cursor

    asyncio.run(check())


def test_a_link_that_stays_cut_does_not_hold_up_a_clean_stop(shop: Database) -> None:
    async def check() -> None:
        async with term(MemoryEnsemble(), section_of(shop, filter=rf"{shop.name}\.other")) as office:
            await office.client("one")
            await insert(shop, 1)
            await eventually(lambda: office.instance.describe({}).transactions, what="the row was passed over")
            office.link.failing_writes = 1000
            office.running.cancel()
            await asyncio.wait_for(asyncio.wait([office.running]), 5)
            assert office.instance.ended.done()

    asyncio.run(check())


async def on_own_server(check: Callable[[Database], Awaitable[None]], *options: str) -> None:
    """Run a check on a MariaDB of its own: what is written there stays away from other tests."""
    async with mariadb_server(options=options) as server:
        shop = Database(server, server.create_database())
        await shop.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        await check(shop)


def test_a_stream_that_cannot_be_trusted_ends_the_term_after_a_pause() -> None:
    async def check(shop: Database) -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop), stopped_retry_s=3.0) as office:
            client, behind = await office.client("one"), await office.client("behind")
            await insert(shop, 1)
            await client.read(1)
            waiting = asyncio.create_task(client.feed.get(max_items=1, max_bytes=1, timeout_s=3600))
            await poison(shop)
            await eventually(lambda: office.instance.failure, what="the instance stops")
            failure = office.instance.failure
            assert isinstance(failure, DecodeError)
            assert office.instance.state == "stopped"
            assert office.detail.startswith(str(failure))
            with pytest.raises(DecodeError, match="set binlog_format = ROW"):
                await waiting
            assert await behind.read(1, ack=False) == [1]  # what was read before is still there
            with pytest.raises(DecodeError):
                await behind.feed.get(max_items=1, max_bytes=1, timeout_s=0)
            with pytest.raises(DecodeError):
                await office.running
            assert office.instance.ended.result() is failure
        async with term(ensemble, section_of(shop), stopped_retry_s=0.1) as office:
            one, behind = await office.client("one"), await office.client("behind")
            assert await behind.read(1) == [1]
            with pytest.raises(DecodeError):
                await one.feed.get(max_items=1, max_bytes=1, timeout_s=20)

    asyncio.run(on_own_server(check))


def test_a_cursor_without_gtids_in_the_middle_of_a_file_is_gone_on_from() -> None:
    async def check(shop: Database) -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            client = await office.client("one")
            await asyncio.to_thread(
                write_in_session,
                shop,
                "SET gtid_domain_id = 1",
                "INSERT INTO goods VALUES (1)",
                "INSERT INTO goods VALUES (2)",
            )
            await client.read(2)
            assert client.cursor.gtid_set.startswith("0-1-")
            assert ",1-1-2" in client.cursor.gtid_set
        cursor = PATHS.client("one").cursor
        record = json.loads(stored(ensemble, cursor) or b"")
        record["postion"]["gtid"] = ""  # as Canal writes it
        put(ensemble, cursor, json.dumps(record).encode())
        async with term(ensemble, section_of(shop)) as office:
            client = await office.client("one")
            await insert(shop, 3)
            assert await client.read(3) == [3]
            assert client.cursor.gtid_set == ""
            dumps = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog%'"
            for (thread,) in await shop.query(dumps):
                await shop.execute(f"KILL {thread}")
            await insert(shop, 4)
            assert await client.read(4) == [3, 4]
        await insert(shop, 5)
        async with term(ensemble, section_of(shop)) as office:
            assert await (await office.client("one")).read(5) == [5]

    asyncio.run(on_own_server(check))


def test_gtids_are_counted_from_the_first_transaction_of_a_server_also_after_a_part_of_it() -> None:
    async def check() -> None:
        async with mariadb_server() as server:
            ensemble = MemoryEnsemble()
            section = section_of(server, ring={"max_bytes": 64 * 1024})
            async with term(ensemble, section) as office:
                client = await office.client("one", r"t.*\.goods")
                assert client.cursor.gtid_set == ""
                shop = Database(server, server.create_database())
                await shop.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
                await insert(shop, 1)
                await client.read(1)
                assert client.cursor.gtid_set == "0-1-3"
                end = client.cursor
            begin = json.loads(stored(ensemble, PATHS.client("one").cursor) or b"")
            begin["postion"] |= {"gtid": "", "position": (await first_offset(shop)), "ordinal": 1}
            put(ensemble, PATHS.client("one").cursor, json.dumps(begin).encode())
            async with term(ensemble, section) as office:
                client = await office.client("one")
                assert await client.read(1) == [1]
                assert client.cursor.gtid_set == end.gtid_set

    asyncio.run(check())


async def first_offset(shop: Database) -> int:
    """Return where the first transaction of the first binlog file begins."""
    events = await shop.query("SHOW BINLOG EVENTS IN 'mysql-bin.000001' LIMIT 20")
    return next(int(event[1]) for event in events if event[2] == "Gtid")


def test_nobody_is_left_and_the_stored_start_is_purged() -> None:
    async def check(shop: Database) -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            client = await office.client("one")
            await insert(shop, 1)
            await client.read(1)
            await office.instance.forget("one")
            assert stored(ensemble, PATHS.parse) is not None
            assert stored_cursor(ensemble, "one") is None
        await shop.execute("FLUSH BINARY LOGS")
        await insert(shop, 2)
        await shop.execute("FLUSH BINARY LOGS")
        await purge_up_to(shop.server, "mysql-bin.000003")
        async with term(ensemble, section_of(shop)) as office:
            client = await office.client("two")
            await insert(shop, 3)
            assert await client.read(3) == [3]

    asyncio.run(on_own_server(check))


def test_nobody_is_left_and_the_next_client_begins_where_the_last_one_went(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            client = await office.client("one")
            await insert(shop, 1)
            await client.read(1)
            await office.instance.forget("one")
        await insert(shop, 2)
        async with term(ensemble, section_of(shop)) as office:
            assert await (await office.client("two")).read(2) == [2]

    asyncio.run(check())
