"""MariaDB's domains in the ring where sequence numbers fall: nothing is lost, and on one server nothing comes twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.errors import StartPassedError
from ha_canal.model.change import Item, Rows
from ha_canal.model.gtid import MariadbGtidPosition
from ha_canal.model.position import Position
from ha_canal.model.run import unpacked
from ha_canal.store import Ring, Subscription
from tests.store.changes import Wants, Writer, everything, flat, wants

READ, ELSEWHERE = 1, 2


@dataclass
class Stream:
    """A binlog, and the boundary behind each of its transactions; boundary 0 lies before the first."""

    transactions: list[list[Item]]
    boundaries: list[Position]


def stream_of(gtids: list[str], empty: list[bool] | None = None, *, server_id: int = READ) -> Stream:
    writer = Writer(server_uuid="")
    done = MariadbGtidPosition.parse("9-1-1")
    stream = Stream([], [Position(writer.file, writer.offset, server_id=server_id, gtid_set=str(done))])
    for gtid, is_empty in zip(gtids, empty or [False] * len(gtids), strict=True):
        writer.gtids = gtid
        stream.transactions.append(writer.transaction(*([] if is_empty else ["a", "b"])))
        done.add(gtid)
        at_ms = writer.number * 1000 + 1_000_000
        stream.boundaries.append(replace(stream.boundaries[0], offset=writer.offset, timestamp_ms=at_ms))
        stream.boundaries[-1] = replace(stream.boundaries[-1], gtid_set=str(done))
    return stream


def rows(items: list[Item], wants: Wants) -> list[Item]:
    return [item for item in items if isinstance(item, Rows) and wants(item.plan.schema, item.plan.table)]


async def drain(reader: Subscription, *, rolls_back: bool = False) -> list[Item]:
    if rolls_back:
        while await reader.get(timeout_s=0, max_items=3):
            pass
        reader.rollback()
    got: list[Item] = []
    while batch := await reader.get(timeout_s=0, max_items=5):
        got += unpacked(batch.items)
        reader.ack(batch.batch_id)
    return got


def test_a_lower_number_behind_the_cursor_is_not_passed_over() -> None:
    async def scenario() -> None:
        stream = stream_of(["0-1-7", "0-2-4", "0-1-8"])
        at = stream.boundaries[1]
        ring = Ring(filled_from=at)
        reader = ring.subscribe("r", start=at, wants=everything)
        await ring.put(flat(stream.transactions[1:]))
        for rolls_back in (True, False):
            batch = await reader.get(timeout_s=0)
            assert batch is not None
            assert batch.items == tuple(flat(stream.transactions[1:]))
            assert batch.position == stream.boundaries[3]
            if rolls_back:
                reader.rollback()

    asyncio.run(scenario())


def test_higher_numbers_before_the_cursor_are_done_on_the_same_server() -> None:
    async def scenario() -> None:
        stream = stream_of(["0-1-8", "0-1-9", "0-2-6", "0-1-10"])
        ring = Ring(filled_from=stream.boundaries[1])
        reader = ring.subscribe("r", start=stream.boundaries[3], wants=everything)
        for transaction in stream.transactions[1:3]:
            await ring.put(transaction)
            assert await drain(reader) == []
        await ring.put(stream.transactions[3])
        assert await drain(reader) == stream.transactions[3]

    asyncio.run(scenario())


def test_a_cursor_whose_transaction_never_comes_ends_by_its_number_or_its_place() -> None:
    """The server lost it, or the ring was filled from behind it: waiting for it would pass over all, for ever."""

    async def scenario() -> None:
        stream = stream_of(["0-1-8", "0-2-9", "0-2-10", "0-2-11"])
        ring = Ring(filled_from=stream.boundaries[1])
        lost = replace(stream.boundaries[1], gtid_set="0-1-10", server_id=ELSEWHERE)
        reader = ring.subscribe("elsewhere", start=lost, wants=everything)
        behind = replace(stream.boundaries[1], gtid_set="0-1-20")
        same = ring.subscribe("same", start=behind, wants=everything)
        await ring.put(flat(stream.transactions[1:]))
        assert await drain(reader) == flat(stream.transactions[2:])
        assert await drain(same) == flat(stream.transactions[1:])

    asyncio.run(scenario())


def test_domains_that_one_of_the_positions_lacks() -> None:
    async def scenario() -> None:
        stream = stream_of(["0-1-1", "1-1-5", "0-1-2", "1-2-3", "2-1-1"])
        ring = Ring(filled_from=stream.boundaries[1])
        reader = ring.subscribe("knows more", start=stream.boundaries[3], wants=everything)
        other = ring.subscribe("as much", start=stream.boundaries[1], wants=everything)
        await ring.put(flat(stream.transactions[1:]))
        assert await drain(reader) == flat(stream.transactions[3:])
        assert await drain(other) == flat(stream.transactions[1:])
        assert reader.cursor == other.cursor == stream.boundaries[5]

    asyncio.run(scenario())


def test_who_comes_after_its_transaction_was_freed_gets_all_that_is_left() -> None:
    async def scenario() -> None:
        stream = stream_of(["0-1-7", "0-1-9", "0-2-4"])
        ring = Ring(filled_from=stream.boundaries[0])
        first = ring.subscribe("first", start=stream.boundaries[0], wants=everything)
        await ring.put(flat(stream.transactions[:2]))
        await drain(first)
        late = ring.subscribe("late", start=stream.boundaries[2], wants=everything)
        with pytest.raises(StartPassedError):
            ring.subscribe("too late", start=stream.boundaries[1], wants=everything)
        await ring.put(stream.transactions[2])
        assert await drain(late) == await drain(first) == stream.transactions[2]
        with pytest.raises(StartPassedError):
            ring.subscribe("with a higher number", start=stream.boundaries[2], wants=everything)

    asyncio.run(scenario())


def test_cursors_are_of_the_server_that_is_read() -> None:
    async def scenario() -> None:
        stream = stream_of(["0-1-1", "0-1-2", "0-1-3"])
        elsewhere = Position("old.000077", 9, server_id=ELSEWHERE, gtid_set="0-1-1")
        ring = Ring(filled_from=replace(elsewhere, server_id=READ))
        reader = ring.subscribe("r", start=elsewhere, wants=everything)
        assert reader.cursor == elsewhere
        await ring.put(flat(stream.transactions))
        inside = await reader.get(timeout_s=0, max_items=2)
        assert inside is not None
        begun = stream.transactions[0][0].transaction
        assert inside.position == replace(
            elsewhere, file=begun.file, offset=begun.start_offset, ordinal=1, server_id=READ, inside=begun.gtid
        )
        rest = await reader.get(timeout_s=0)
        assert rest is not None
        assert rest.position == replace(stream.boundaries[3], gtid_set="0-1-3")

    asyncio.run(scenario())


gtid_lists = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 2), st.integers(1, 12)), min_size=1, max_size=10, unique=True
).map(lambda parts: ["-".join(map(str, part)) for part in parts])


@settings(max_examples=300, deadline=None)
@given(gtid_lists, st.data())
def test_what_follows_the_cursor_in_the_stream_is_what_comes(gtids: list[str], data: st.DataObject) -> None:
    async def scenario() -> None:
        count = len(gtids)
        empty = data.draw(st.lists(st.booleans(), min_size=count, max_size=count), label="empty")
        stream = stream_of(gtids, empty)
        numbers = [int(gtid.rpartition("-")[2]) for gtid in gtids]
        rises = numbers == sorted(set(numbers))
        filled = data.draw(st.integers(0, count), label="filled from")
        start = data.draw(st.integers(filled, count), label="start")
        there = data.draw(st.integers(filled, count), label="in the ring at subscribe")
        freed = data.draw(st.integers(filled, min(start, there)), label="freed at subscribe")
        elsewhere = data.draw(st.booleans(), label="cursor of another server") and freed == filled
        ring = Ring(filled_from=stream.boundaries[filled])
        holder = ring.subscribe("holder", start=stream.boundaries[filled], wants=everything)
        await ring.put(flat(stream.transactions[filled:freed]))
        await drain(holder)
        await ring.put(flat(stream.transactions[freed:there]))
        cursor = stream.boundaries[start]
        if elsewhere:
            cursor = replace(cursor, server_id=ELSEWHERE, file="old.000077")
        wanted = data.draw(st.sampled_from([wants("a", "b"), wants("b")]), label="wanted")
        reader = ring.subscribe("r", start=cursor, wants=wanted)
        seen: list[Item] = []
        for transaction in stream.transactions[there:]:
            await ring.put(transaction[: len(transaction) // 2])
            if data.draw(st.booleans()):
                seen += await drain(reader, rolls_back=data.draw(st.booleans()))
            await ring.put(transaction[len(transaction) // 2 :])
        seen += await drain(reader, rolls_back=data.draw(st.booleans()))
        came, new = rows(seen, wanted), rows(flat(stream.transactions[start:]), wanted)
        if elsewhere and not rises:
            assert came == [row for row in rows(flat(stream.transactions), wanted) if row in came]
            assert all(row in came for row in new)
        else:
            assert came == new
        assert reader.cursor.gtid_set == stream.boundaries[-1].gtid_set

    asyncio.run(scenario())
