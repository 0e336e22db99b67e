"""Clients come, change their filter, go, and come back: nobody gets less or more than what is his."""

from __future__ import annotations

import asyncio

import pytest

from ha_canal.errors import CoordinatorLostError, FilterError, NotSubscribedError, SourceBusyError
from ha_canal.instance.feed import Feed
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database
from ha_canal.testing.eventually import eventually
from tests.instance.terms import PATHS, Client, Term, insert, section_of, stored, stored_cursor, term

BIG_ROWS, BIG_BYTES = 120, 100_000
"""A transaction of 12 MB: too large to be held back until its end, so it flows through the ring in parts."""
SMALL_RING = {"max_bytes": 64 * 1024}


async def insert_many(database: Database, rows: int, size_bytes: int) -> None:
    """Insert rows 1 to ``rows`` in one transaction."""
    await database.execute("CREATE TABLE big (id INT PRIMARY KEY, filler MEDIUMTEXT)")
    values = ",".join(f"({number}, REPEAT('x', {size_bytes}))" for number in range(1, rows + 1))
    await database.execute(f"INSERT INTO big VALUES {values}")


def test_a_filter_change_keeps_the_backlog_of_a_slow_client(shop: Database) -> None:
    async def check() -> None:
        async with term(ensemble := MemoryEnsemble(), section_of(shop)) as office:
            quick, slow = await office.client("quick"), await office.client("slow", rf"{shop.name}\.goods")
            await insert(shop, 1, 2, 3)
            assert await quick.read(3) == [1, 2, 3]
            pattern = rf"{shop.name}\.g.*"
            changed = await office.client("slow", pattern)
            assert stored(ensemble, PATHS.client("slow").filter) == pattern.encode()
            with pytest.raises(NotSubscribedError):
                await slow.feed.get(max_items=1, max_bytes=1, timeout_s=0)
            await insert(shop, 4)
            assert await changed.read(4) == [1, 2, 3, 4]
            assert await quick.read(4) == [1, 2, 3, 4]

    asyncio.run(check())


def test_what_is_in_flight_during_a_filter_change_comes_again(shop: Database) -> None:
    async def check() -> None:
        async with term(MemoryEnsemble(), section_of(shop)) as office:
            client = await office.client("one")
            await insert(shop, 1)
            await client.read(1)
            await insert(shop, 2)
            await client.read(2, ack=False)
            changed = await office.client("one", rf"{shop.name}\.goods")
            assert await changed.read(2) == [2]

    asyncio.run(check())


def test_a_filter_that_cannot_be_stored_changes_nothing(shop: Database) -> None:
    async def check() -> None:
        async with term(ensemble := MemoryEnsemble(), section_of(shop)) as office:
            client = await office.client("one", rf"{shop.name}\.goods")
            office.link.failing_writes = 1
            with pytest.raises(CoordinatorLostError):
                await office.client("one", rf"{shop.name}\.other")
            with pytest.raises(FilterError):
                await office.client("one", "(")
            assert stored(ensemble, PATHS.client("one").filter) == rf"{shop.name}\.goods".encode()
            assert (await office.client("one")).feed is client.feed
            await insert(shop, 1)
            assert await client.read(1) == [1]

    asyncio.run(check())


def test_a_client_whose_first_cursor_was_not_written_is_none(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            other = await office.client("other")
            await insert(shop, 1)
            await other.read(1)
            office.link.failing_writes = 1
            with pytest.raises(CoordinatorLostError):
                await office.client("new")
            assert [client.client_id for client in office.instance.describe({}).clients] == ["other"]
            new = await office.client("new")
            assert stored_cursor(ensemble, "new") == new.cursor
            await insert(shop, 2)
            assert await new.read(2, ack=False) == [2]
            await office.instance.flush()
            await other.read(2)
        async with term(ensemble, section_of(shop)) as office:
            assert await (await office.client("new")).read(2) == [2]

    asyncio.run(check())


def test_clients_come_and_go_while_idle_cursors_are_written(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop, filter=rf"{shop.name}\.other")) as office:
            for number in range(3):
                await office.client(f"old{number}")
            begin = stored_cursor(ensemble, "old0")
            await insert(shop, 1)
            await eventually(lambda: office.instance.describe({}).transactions, what="the row was passed over")
            office.link.held = asyncio.Event()
            flush = asyncio.create_task(office.instance.flush())
            await eventually(lambda: office.link.waiting_writes, what="the cursors are on their way")
            comes = asyncio.create_task(office.client("new"))
            goes = asyncio.create_task(office.instance.forget("old1"))
            await asyncio.sleep(0)
            office.link.held.set()
            await comes
            await goes
            await asyncio.wait([flush])
            assert begin != stored_cursor(ensemble, "old0") == stored_cursor(ensemble, "new")
            assert stored_cursor(ensemble, "old1") is None
            assert not office.running.done()

    asyncio.run(check())


@pytest.mark.parametrize("fails", [False, True])
def test_a_cursor_on_its_way_does_not_bring_a_forgotten_client_back(shop: Database, *, fails: bool) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop, filter=rf"{shop.name}\.other")) as office:
            one, two = await office.client("one"), await office.client("two")
            begin = one.cursor
            await insert(shop, 1)
            await eventually(lambda: office.instance.describe({}).transactions, what="the row was passed over")
            first_gate = office.link.held = asyncio.Event()
            first = asyncio.create_task(office.instance.acknowledged("two", two.cursor))
            await eventually(lambda: office.link.waiting_writes, what="a write is under way")
            flush = asyncio.create_task(office.instance.flush())
            await eventually(lambda: "one" in office.instance._cursors._next.positions, what="a cursor is behind it")
            goes = asyncio.create_task(office.instance.forget("one"))
            await eventually(lambda: "one" not in office.instance._feeds, what="the client goes")
            second_gate = office.link.held = asyncio.Event()
            first_gate.set()
            await first
            await eventually(lambda: office.link.waiting_writes, what="the deletion is under way")
            office.link.failing_writes = 1 if fails else 0
            second_gate.set()
            await asyncio.wait([flush, goes])
            assert isinstance(flush.exception(), NotSubscribedError)
            await office.instance.flush()
            if fails:
                assert isinstance(goes.exception(), CoordinatorLostError)
                assert begin != stored_cursor(ensemble, "one") == one.cursor
            else:
                assert goes.exception() is None
                assert ensemble.tree.children(PATHS.client("one").path) == []

    asyncio.run(check())


def test_a_client_that_comes_while_a_transaction_is_put_begins_behind_it(shop: Database) -> None:
    async def check() -> None:
        async with term(MemoryEnsemble(), section_of(shop, ring=SMALL_RING)) as office:
            client = await office.client("one")
            await insert_many(shop, 300, 3000)
            await client.read(100, max_items=1)
            new = await office.client("new")
            await insert(shop, 1000)
            reads = asyncio.create_task(new.read(1000))
            assert await client.read(1000) == [*range(1, 301), 1000]
            assert await reads == [1000]

    asyncio.run(check())


def test_a_client_that_comes_in_a_large_transaction_begins_behind_it(shop: Database) -> None:
    async def check() -> None:
        async with term(MemoryEnsemble(), section_of(shop, ring=SMALL_RING)) as office:
            client = await office.client("one")
            await insert_many(shop, BIG_ROWS, BIG_BYTES)
            await client.read(40, max_items=1)
            with pytest.raises(SourceBusyError, match="inside a large transaction"):
                await office.client("new")
            await client.read(BIG_ROWS, max_items=1)
            new = await eventually_subscribed(office, "new")
            await insert(shop, 1000)
            assert await new.read(1000) == [1000]
            assert await client.read(1000) == [*range(1, BIG_ROWS + 1), 1000]

    asyncio.run(check())


async def eventually_subscribed(office: Term, client_id: str) -> Client:
    async def subscribed() -> Client | None:
        try:
            return await office.client(client_id)
        except SourceBusyError:
            return None

    return await eventually(subscribed, what=f"{client_id} can begin")


def test_the_last_client_goes_in_a_large_transaction(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop, ring=SMALL_RING)) as office:
            client = await office.client("one")
            await insert_many(shop, BIG_ROWS, BIG_BYTES)
            await client.read(40, max_items=1)
            await office.instance.forget("one")
            with pytest.raises(SourceBusyError):
                await office.client("new")
            await asyncio.wait_for(office.running, 10)
            assert office.instance.ended.result().retriable
        async with term(ensemble, section_of(shop, ring=SMALL_RING)) as office:
            new = await office.client("new")
            assert await new.read(BIG_ROWS) == list(range(1, BIG_ROWS + 1))

    asyncio.run(check())


def test_acks_of_a_client_that_is_gone_are_refused(shop: Database) -> None:
    async def check() -> None:
        async with term(ensemble := MemoryEnsemble(), section_of(shop)) as office:
            client = await office.client("one")
            await office.instance.forget("one")
            with pytest.raises(NotSubscribedError):
                await office.instance.acknowledged("one", client.cursor)
            assert stored_cursor(ensemble, "one") is None
            assert isinstance(client.feed, Feed)

    asyncio.run(check())
