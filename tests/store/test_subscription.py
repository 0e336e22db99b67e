"""What a subscription gives, acknowledges and takes back, one rule per test."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest

from ha_canal.errors import NotOldestError, NotSubscribedError, UnknownBatchError, UsageError
from ha_canal.model.change import Rows
from ha_canal.model.position import Position
from ha_canal.store import Batch, Ring, Subscription
from tests.store.changes import UUID, Writer, everything, flat, wants

FILE_START = Position("bin.000001", 4)
GTID_START = Position("bin.000001", 4, server_id=1, gtid_set=f"{UUID}:1")


async def get(subscription: Subscription, *, max_items: int = 1000, max_bytes: int = 1 << 20) -> Batch:
    batch = await subscription.get(timeout_s=0, max_items=max_items, max_bytes=max_bytes)
    assert batch is not None
    return batch


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_gives_whole_transactions_in_order_and_moves_behind_them() -> None:
    async def scenario() -> None:
        writer, ring = Writer(number=1), Ring()
        items = flat([writer.transaction("a", "b"), writer.transaction("c")])
        reader = ring.subscribe("r", start=GTID_START, wants=everything)
        await ring.put(items)
        batch = await get(reader)
        assert (batch.batch_id, batch.items, batch.partial_transaction) == (1, tuple(items), False)
        assert batch.size_bytes == sum(item.size_bytes for item in items)
        assert batch.position == Position(
            "bin.000001", writer.offset, UUID, GTID_START.server_id, 1003_000, gtid_set=f"{UUID}:1-3"
        )
        assert reader.cursor == GTID_START
        assert (reader.in_flight, ring.items) == (1, len(items) - 1), "a Begin is with its reader until it goes out"
        assert reader.ack(1) == batch.position == reader.cursor
        assert (reader.in_flight, ring.items, ring.used_bytes, ring.first_sequence) == (0, 0, 0, len(items) + 1)
        assert await reader.get(timeout_s=0) is None

    asyncio.run(scenario())


def test_cuts_at_a_transaction_end_where_it_can() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        one, two = writer.transaction("a"), writer.transaction("a", "a", "a")
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        await ring.put([*one, *two])
        assert (await get(reader, max_items=5)).items == tuple(one)
        first = await get(reader, max_items=3)
        assert (first.items, first.partial_transaction) == (tuple(two[:3]), True)
        begin = two[0].transaction
        assert (first.position.offset, first.position.ordinal) == (begin.start_offset, 2)
        assert (await get(reader, max_bytes=1)).items == (two[3],)
        last = await get(reader)
        assert (last.items, last.partial_transaction) == (tuple(two[4:]), False)

    asyncio.run(scenario())


def test_filters_rows_and_sends_begin_and_commit_only_around_something() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=wants("a"))
        unwanted, mixed = writer.transaction("b", "c"), writer.transaction("b", "a", "b")
        ddl, other_ddl, unnamed = writer.ddl("a"), writer.ddl("b"), writer.ddl("")
        await ring.put([*unwanted, *mixed, *ddl, *other_ddl, *unnamed])
        batch = await get(reader)
        assert list(batch.items) == [mixed[0], mixed[2], mixed[4], *ddl, *unnamed]
        assert batch.position.offset == writer.offset

    asyncio.run(scenario())


def test_filtered_transactions_move_the_cursor_without_any_entry() -> None:
    async def scenario() -> None:
        writer, ring = Writer(number=1), Ring()
        reader = ring.subscribe("r", start=GTID_START, wants=wants("a"))
        await ring.put(writer.transaction("b") + writer.transaction())
        assert await reader.get(timeout_s=0) is None
        assert (reader.cursor.offset, reader.cursor.gtid_set) == (writer.offset, f"{UUID}:1-3")
        assert ring.items == 0
        await ring.put(writer.transaction("a"))
        batch = await get(reader)
        await ring.put(writer.transaction("b"))
        assert await reader.get(timeout_s=0) is None
        cursor = reader.ack(batch.batch_id)
        assert cursor is not None
        assert cursor.gtid_set == f"{UUID}:1-5"
        assert ring.items == 0

    asyncio.run(scenario())


def test_acks_come_oldest_first_and_an_acked_batch_may_be_acked_again() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        await ring.put(flat([writer.transaction("a") for _ in range(3)]))
        batches = [await get(reader, max_items=3) for _ in range(3)]
        with pytest.raises(NotOldestError):
            reader.ack(2)
        assert reader.ack(1) == batches[0].position
        assert reader.ack(1) is None
        for unknown in (0, -1, 4):
            with pytest.raises(UnknownBatchError):
                reader.ack(unknown)
        assert reader.ack(2) == batches[1].position
        assert (reader.ack(1), reader.ack(2)) == (None, None)

    asyncio.run(scenario())


def test_rollback_gives_again_under_new_ids() -> None:
    async def scenario() -> None:
        writer, ring = Writer(number=1), Ring()
        reader = ring.subscribe("r", start=GTID_START, wants=everything)
        await ring.put(flat([writer.transaction("a", "b") for _ in range(3)]))
        batches = [await get(reader, max_items=4) for _ in range(3)]
        reader.rollback(2)
        again = [await get(reader, max_items=4) for _ in range(2)]
        assert [(b.batch_id, b.items, b.position) for b in again] == [
            (b.batch_id + 2, b.items, b.position) for b in batches[1:]
        ]
        with pytest.raises(UnknownBatchError):
            reader.rollback(3)
        assert reader.ack(1) == batches[0].position
        for rolled_back in (2, 3):
            with pytest.raises(UnknownBatchError):
                reader.ack(rolled_back)
        with pytest.raises(UnknownBatchError):
            reader.rollback(1)
        reader.rollback()
        reader.rollback()
        assert reader.cursor == batches[0].position
        whole = await get(reader)
        assert (whole.batch_id, whole.items) == (6, batches[1].items + batches[2].items)
        with pytest.raises(UnknownBatchError):
            reader.ack(4)

    asyncio.run(scenario())


@pytest.mark.parametrize("gtids", [UUID + ":{}", "0-7-{}", ""])
def test_passes_over_what_was_done_at_the_start(gtids: str) -> None:
    async def scenario() -> None:
        writer, ring = Writer(gtids=gtids), Ring()
        old = [writer.transaction("a"), writer.transaction()]
        done = Position(writer.file, writer.offset, gtid_set="0-7-2" if "-7-" in gtids else gtids and f"{UUID}:1-2")
        writer.rotate()
        new = [writer.transaction("b"), writer.transaction("c")]
        reader = ring.subscribe("r", start=done, wants=everything)
        await ring.put(flat([*old, *new]))
        assert (await get(reader)).items == tuple(flat(new))
        assert reader.cursor == done

    asyncio.run(scenario())


def test_gtids_decide_where_the_files_of_another_server_do_not() -> None:
    async def scenario() -> None:
        writer, ring = Writer(file="other.000001"), Ring()
        items = [writer.transaction("a") for _ in range(4)]
        start = Position("bin.000900", 77, gtid_set=f"{UUID}:1-2:4")
        reader = ring.subscribe("r", start=start, wants=everything)
        await ring.put(flat(items))
        batch = await get(reader)
        assert batch.items == tuple(items[2])
        assert batch.position.gtid_set == f"{UUID}:1-4"

    asyncio.run(scenario())


def test_a_mariadb_sequence_number_that_falls_later_is_not_passed_over() -> None:
    async def scenario() -> None:
        writer, ring = Writer(gtids="0-7-{}"), Ring()
        reader = ring.subscribe("r", start=Position("x.000001", 4, gtid_set="0-7-1,1-1-9"), wants=everything)
        done, new = writer.transaction("a"), writer.transaction("a")
        writer.number = 0
        fallen = writer.transaction("b")
        await ring.put([*done, *new, *fallen])
        for _ in range(2):
            assert (await get(reader)).items == tuple(new + fallen)
            reader.rollback()

    asyncio.run(scenario())


def test_files_that_are_counted_anew_are_not_passed_over() -> None:
    async def scenario() -> None:
        writer, ring = Writer(gtids="", file="bin.000009"), Ring()
        done, new = writer.transaction("a"), writer.transaction("b")
        reader = ring.subscribe("r", start=Position("bin.000009", new[0].transaction.start_offset), wants=everything)
        writer.file, writer.offset = "bin.000001", 4
        await ring.put([*done, *new, *writer.transaction("c")])
        for _ in range(2):
            assert (await get(reader)).items == tuple(writer.written[len(done) :])
            reader.rollback()

    asyncio.run(scenario())


def test_positions_stay_without_gtids_unless_the_empty_set_is_known_to_be_all() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        unknown = ring.subscribe("unknown", start=FILE_START, wants=everything)
        fresh = ring.subscribe("fresh", start=FILE_START, wants=everything, gtids_from_empty=True)
        await ring.put(flat([writer.transaction("a"), writer.transaction(), writer.transaction()]))
        assert (await get(unknown)).position.gtid_set == ""
        batch = await get(fresh)
        assert batch.position.gtid_set == f"{UUID}:1-3"
        fresh.rollback()
        assert fresh.cursor == FILE_START
        assert (await get(fresh)).position == batch.position

    asyncio.run(scenario())


def test_a_start_inside_a_transaction_goes_on_behind_what_was_acked_and_ends_it() -> None:
    async def scenario() -> None:
        writer = Writer()
        items = writer.transaction("a", "b", "c")
        for ordinal, rest in ((2, [items[0], items[3], items[4]]), (3, [items[0], items[4]])):
            ring = Ring()
            start = Position("bin.000001", 4, UUID, ordinal=ordinal)
            reader = ring.subscribe("r", start=start, wants=everything)
            await ring.put(items[:3])
            assert await reader.get(timeout_s=0) is None
            assert reader.cursor == start
            await ring.put(items[3:])
            begin = await get(reader, max_items=1)
            assert begin.position == replace(start, inside=f"{UUID}:1")
            assert [*begin.items, *(await get(reader)).items] == rest

    asyncio.run(scenario())


def test_a_start_within_a_transaction_takes_the_items_from_that_offset_on() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        items = writer.transaction("a", "b")
        second = items[2]
        reader = ring.subscribe("r", start=Position(writer.file, second.offset), wants=everything)
        await ring.put(items)
        assert (await get(reader)).items == (items[0], *items[2:])

    asyncio.run(scenario())


def test_get_waits_for_the_rest_of_a_transaction() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        items = writer.transaction("a", "b")
        waiting = asyncio.ensure_future(reader.get(timeout_s=60))
        for item in items[:-1]:
            await ring.put([item])
            await settle()
            assert not waiting.done()
        await ring.put(items[-1:])
        batch = await waiting
        assert batch is not None
        assert batch.items == tuple(items)

    asyncio.run(scenario())


def test_get_gives_the_part_when_the_rest_does_not_come_in_time() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        one, two = writer.transaction("a"), writer.transaction("b", "c")
        await ring.put([*one, *two[:2]])
        assert (await get(reader)).items == tuple(one)
        batch = await reader.get(timeout_s=0.001)
        assert batch is not None
        assert (batch.items, batch.partial_transaction) == (tuple(two[:2]), True)
        assert await reader.get(timeout_s=0.001) is None

    asyncio.run(scenario())


def test_a_cancelled_get_takes_nothing() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        items = writer.transaction("a", "b")
        waiting = asyncio.ensure_future(reader.get(timeout_s=60))
        await ring.put(items[:2])
        await settle()
        waiting.cancel()
        await settle()
        assert waiting.cancelled()
        await ring.put(items[2:])
        assert (await get(reader)).items == tuple(items)
        assert reader.in_flight == 1

    asyncio.run(scenario())


def test_two_gets_at_once_share_no_entry_and_a_rollback_reaches_them() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        gets = [asyncio.ensure_future(reader.get(timeout_s=60)) for _ in range(2)]
        one, two = writer.transaction("a", "b"), writer.transaction("c")
        await ring.put(one[:2])
        await settle()
        await ring.put(one[2:])
        await settle()
        assert [task.done() for task in gets] == [True, False]
        reader.rollback()
        again = await gets[1]
        assert again is not None
        assert again.items == tuple(one)
        await ring.put(two)
        assert (await get(reader)).items == tuple(two)

    asyncio.run(scenario())


def test_close_wakes_who_waits_and_frees_what_only_it_held() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=wants("a"))
        other = ring.subscribe("other", start=FILE_START, wants=everything)
        waiting = asyncio.ensure_future(reader.get(timeout_s=60))
        await settle()
        reader.close()
        reader.close()
        with pytest.raises(NotSubscribedError):
            await waiting
        with pytest.raises(NotSubscribedError):
            reader.ack(1)
        with pytest.raises(NotSubscribedError):
            reader.rollback()
        await ring.put(writer.transaction("a"))
        other.ack((await get(other)).batch_id)
        assert ring.items == 0
        assert reader.cursor == FILE_START

    asyncio.run(scenario())


def test_nothing_that_was_acked_is_kept_alive() -> None:
    async def scenario() -> None:
        writer, ring = Writer(), Ring()
        reader = ring.subscribe("r", start=FILE_START, wants=everything)
        await ring.put(writer.transaction("a", "b"))
        writer.written.clear()
        assert len((await get(reader)).items) == 4
        reader.ack(1)
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Rows)]

    asyncio.run(scenario())


def test_a_batch_has_at_least_one_entry() -> None:
    async def scenario() -> None:
        reader = Ring().subscribe("r", start=FILE_START, wants=everything)
        with pytest.raises(UsageError):
            await reader.get(timeout_s=0, max_items=0)

    asyncio.run(scenario())
