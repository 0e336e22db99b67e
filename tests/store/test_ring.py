"""What the ring holds, and when a put waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ha_canal import store
from ha_canal.errors import StartPassedError, UsageError
from ha_canal.model.change import Item
from ha_canal.model.position import Position
from ha_canal.model.run import unpacked
from ha_canal.store import Ring
from tests.store.changes import UUID, Writer, everything, flat, wants
from tests.store.test_subscription import FILE_START, GTID_START, get, settle


def test_public_names() -> None:
    assert store.__all__ == ["Batch", "Ring", "Subscription"]


def test_without_a_subscription_put_waits_and_nothing_is_dropped() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring(max_items=4)
        items = flat([writer.transaction("a") for _ in range(3)])
        putting = asyncio.ensure_future(ring.put(items))
        await settle()
        assert (ring.items, ring.last_sequence, ring.put_waits, putting.done()) == (4, 4, True, False)
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        seen: list[Item] = []
        while not putting.done() or reader.behind_items:
            batch = await get(reader)
            seen += unpacked(batch.items)
            reader.ack(batch.batch_id)
            await settle()
        assert seen == items
        assert (ring.items, ring.used_bytes, ring.first_sequence, ring.last_sequence) == (0, 0, 10, 9)

    asyncio.run(scenario())


def test_bytes_bound_the_ring_and_a_larger_item_goes_in_alone() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring(max_bytes=1000)
        small, large = writer.transaction("a"), writer.transaction("b", body=b"x" * 5000)
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        putting = asyncio.ensure_future(ring.put([*small, *large]))
        await settle()
        assert ring.used_bytes == 600
        seen: list[Item] = []
        largest = 0
        while not putting.done() or reader.behind_items:
            batch = await get(reader)
            seen += unpacked(batch.items)
            reader.ack(batch.batch_id)
            await settle()
            largest = max(largest, ring.used_bytes)
            assert ring.used_bytes <= 1000 or ring.items == 1
        assert seen == [*small, *large]
        assert largest == 5200

    asyncio.run(scenario())


def test_a_transaction_larger_than_the_ring_flows_through_a_waiting_get() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring(max_items=5)
        items = writer.transaction(*"ab" * 50)
        reader = ring.subscribe("r", start=FILE_START, wants=wants("a"))
        putting = asyncio.ensure_future(ring.put(items))
        seen: list[Item] = []
        while len(seen) < 52:
            batch = await reader.get(timeout_s=60)
            assert batch is not None
            seen += unpacked(batch.items)
            assert batch.partial_transaction == (len(seen) < 52)
            reader.ack(batch.batch_id)
        await putting
        assert seen == [items[0], *items[1:-1:2], items[-1]]

    asyncio.run(scenario())


def test_what_an_absent_reader_does_not_want_does_not_stop_the_others() -> None:
    async def scenario() -> None:
        writer, ring = Writer(number=1), Ring(max_items=3)
        absent = ring.subscribe("absent", start=GTID_START, wants=wants("d"))
        await asyncio.wait_for(ring.put(flat([writer.transaction("a", "b") for _ in range(10)])), timeout=10)
        assert absent.cursor.gtid_set == f"{UUID}:1-11"

    asyncio.run(scenario())


def test_empty_transactions_share_a_slot_and_keep_their_gtids() -> None:
    async def scenario() -> None:
        writer, ring = Writer(number=1), Ring(max_items=4)
        slow = ring.subscribe("slow", start=GTID_START, wants=everything)
        await ring.put(writer.transaction("a"))
        batch = await get(slow)
        late = ring.subscribe("late", start=GTID_START, wants=wants("b"))
        for _ in range(500):
            await ring.put(writer.transaction())
            assert await slow.get(timeout_s=0) is None
        assert (ring.items, ring.last_sequence, slow.behind_items) == (3, 503, 0)
        assert late.cursor.gtid_set == f"{UUID}:1-502"
        assert (late.cursor.offset, late.behind_items) == (writer.offset, 0)
        assert slow.ack(batch.batch_id) == late.cursor
        assert ring.items == 0
        await ring.put(writer.transaction())
        assert (slow.cursor.gtid_set, ring.items, ring.first_sequence) == (f"{UUID}:1-503", 1, 504)
        assert (late.cursor, ring.items, ring.first_sequence) == (slow.cursor, 0, 505)

    asyncio.run(scenario())


def test_a_run_that_grows_is_held_for_those_who_have_passed_a_part_of_it() -> None:
    async def scenario() -> None:
        writer, ring = Writer(number=1), Ring()
        early = ring.subscribe("early", start=GTID_START, wants=everything)
        late = ring.subscribe("late", start=GTID_START, wants=everything)
        await ring.put(writer.transaction())
        assert early.cursor.gtid_set == f"{UUID}:1-2"
        await ring.put(writer.transaction())
        assert (late.cursor.gtid_set, ring.items) == (f"{UUID}:1-3", 1)
        assert (early.cursor, ring.items) == (late.cursor, 0)

    asyncio.run(scenario())


def test_who_waits_for_room_or_for_entries_does_not_spin() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring(max_items=3)
        blocker = ring.subscribe("blocker", start=FILE_START, wants=everything)
        asked: list[str] = []

        def wants_none(schema: str, table: str) -> bool:
            asked.append(table)
            return False

        idle = ring.subscribe("idle", start=FILE_START, wants=wants_none)
        waiting = asyncio.ensure_future(idle.get(timeout_s=60))
        putting = asyncio.ensure_future(ring.put([*writer.transaction("a", "b"), *writer.transaction("c")]))
        await settle()
        room, waiters = ring._room, list(idle._waiters)
        await settle()
        assert (ring._room, list(idle._waiters)) == (room, waiters), "the same futures are waited for"
        assert (putting.done(), waiting.done(), asked) == (False, False, ["a", "b"])
        while not putting.done():
            blocker.ack((await get(blocker)).batch_id)
            await settle()
        idle.close()
        await asyncio.wait({waiting})
        assert waiting.exception() is not None

    asyncio.run(scenario())


def test_a_cancelled_put_leaves_what_it_put_and_nothing_twice() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring(max_items=3)
        items = flat([writer.transaction("a") for _ in range(2)])
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        putting = asyncio.ensure_future(ring.put(items))
        await settle()
        with pytest.raises(UsageError):
            await ring.put([])
        putting.cancel()
        await settle()
        assert (ring.last_sequence, ring.items, ring.put_waits) == (4, 3, False)
        rest = asyncio.ensure_future(ring.put(items[ring.last_sequence :]))
        seen: list[Item] = []
        while not rest.done() or reader.behind_items:
            batch = await get(reader)
            seen += unpacked(batch.items)
            reader.ack(batch.batch_id)
            await settle()
        assert seen == items

    asyncio.run(scenario())


@pytest.mark.parametrize("gtids", [UUID + ":{}", "0-7-{}", ""])
def test_a_start_behind_which_something_was_freed_is_refused(gtids: str) -> None:
    async def scenario() -> None:
        writer, ring = Writer(gtids=gtids), Ring()
        first = f"{UUID}:1" if ":" in gtids else "0-7-1"
        await ring.put(writer.transaction("a"))
        start = Position(writer.file, writer.offset, gtid_set=first if gtids else "")
        items = writer.transaction("a", "b", "c")
        await ring.put(items)
        reader = ring.subscribe("r", start=start, wants=everything)
        reader.ack((await get(reader, max_items=3)).batch_id)
        cursor = reader.cursor
        assert cursor.ordinal == 2
        with pytest.raises(StartPassedError):
            ring.subscribe("late", start=start, wants=everything)
        resumed = ring.subscribe("resumed", start=cursor, wants=everything)
        begin = await get(resumed, max_items=1)
        assert (begin.items, begin.position) == (tuple(items[:1]), replace(cursor, inside=""))
        assert (await get(resumed)).items == tuple(items[3:])
        reader.ack((await get(reader)).batch_id)
        resumed.ack(1)
        resumed.ack(2)
        with pytest.raises(StartPassedError):
            ring.subscribe("late", start=cursor, wants=everything)
        ring.subscribe("next", start=reader.cursor, wants=everything)

    asyncio.run(scenario())


def test_names_are_taken_once_and_sizes_are_checked() -> None:
    ring = Ring()
    ring.subscribe("r", start=FILE_START, wants=everything)
    with pytest.raises(UsageError):
        ring.subscribe("r", start=FILE_START, wants=everything)
    ring.unsubscribe("r")
    ring.unsubscribe("r")
    ring.subscribe("r", start=FILE_START, wants=everything)
    with pytest.raises(UsageError):
        Ring(max_bytes=0)


def test_a_large_ring_can_be_thrown_away() -> None:
    async def scenario() -> None:
        ring = Ring(max_items=300_000)
        item = Writer().transaction("a")[0]
        await ring.put([item] * 300_000)
        assert ring.items == 300_000

    asyncio.run(scenario())
