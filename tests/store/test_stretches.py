"""A ring of stretches gives what a ring of items gives: the same batches and cursors, wherever a reader begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ha_canal.model.change import Item
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, unpacked
from ha_canal.store import Ring, Subscription
from tests.store.changes import UUID, Wants, Writer, wants
from tests.store.test_machine import in_stretches

Given = tuple[list[Item], Position, bool]


async def _begun(parcels: Sequence[Parcel], start: Position, wanted: Wants) -> tuple[Ring, Subscription]:
    ring = Ring()
    await ring.put(parcels)
    return ring, ring.subscribe("reader", start=start, wants=wanted)


async def _batches(subscription: Subscription, sizes: Sequence[tuple[int, int]]) -> list[Given]:
    got: list[Given] = []
    for most_items, most_bytes in sizes:
        batch = await subscription.get(max_items=most_items, max_bytes=most_bytes, timeout_s=0)
        if batch is not None:
            got.append((list(unpacked(batch.items)), batch.position, batch.partial_transaction))
    return got


transactions = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), min_size=1, max_size=3)
sizes = st.lists(st.tuples(st.integers(1, 8), st.sampled_from([1, 500, 900, 1600, 10_000])), min_size=1, max_size=12)


@given(
    transactions,
    st.sets(st.sampled_from("abc"), min_size=1),
    st.sampled_from([UUID + ":{}", "0-7-{}", ""]),
    st.integers(1, 5),
    sizes,
    sizes,
    st.data(),
)
def test_stretches_are_told_as_items_are(
    transactions: list[list[str]],
    wanted_tables: set[str],
    gtids: str,
    most: int,
    first_sizes: list[tuple[int, int]],
    then_sizes: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    writer = Writer(gtids=gtids)
    for number, names in enumerate(transactions):
        writer.transaction(*names, body=b"x" * number)
    parcels = in_stretches(writer.written, most)
    wanted = wants(*wanted_tables)
    start = Position("bin.000001", 4, server_uuid=UUID, server_id=7)
    acks, back = data.draw(st.integers(0, 6), label="acks"), data.draw(st.booleans(), label="roll back")

    async def told(written: Sequence[Parcel]) -> tuple[list[Given], list[Given], list[Given], list[Position]]:
        """Read, acknowledge a part, roll back, read on; and begin anew at the cursor in a ring like it."""
        ring, subscription = await _begun(written, start, wanted)
        before = await _batches(subscription, first_sizes)
        cursors = [
            cursor for batch_id in range(1, min(acks, len(before)) + 1) if (cursor := subscription.ack(batch_id))
        ]
        if back:
            subscription.rollback()
        cursors.append(subscription.cursor)
        after = await _batches(subscription, then_sizes)
        ring.unsubscribe("reader")
        _, again = await _begun(written, cursors[-1], wanted)
        return before, after, await _batches(again, then_sizes), cursors

    assert asyncio.run(told(parcels)) == asyncio.run(told(writer.written))
