"""The ring and its subscriptions against a plain list: any order of calls, small limits, restarts.

The model is the list of everything written, the entries that a reader with its filter must see in it, and how many
of those were acknowledged. After a restart from the durable cursor a new ring is filled from the start of the binlog.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypedDict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ha_canal.errors import NotOldestError, StartPassedError, UnknownBatchError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, Run, unpacked
from ha_canal.model.stretch import Stretch
from ha_canal.store import Batch, Ring, Subscription
from tests.store.changes import UUID, Listed, ListedRows, Wants, Writer, wants


class Limits(TypedDict):
    max_items: int
    max_bytes: int


NAMES = ("one", "two", "three")
tables = st.lists(st.sampled_from("abc"), max_size=7)


@dataclass
class Reader:
    """What the model knows of one subscription: ``acked`` entries of ``begun`` are behind its durable cursor."""

    subscription: Subscription
    wants: Wants
    start: Position
    cursor: Position
    given: list[Batch] = field(default_factory=list)
    acked: list[Item] = field(default_factory=list)
    acked_ids: set[int] = field(default_factory=set)
    dead_ids: set[int] = field(default_factory=set)
    durable: list[Item] = field(default_factory=list)
    resumed_at: int = 0


def wanted(items: list[Item], reader: Reader) -> list[Item]:
    """Return the entries that ``reader`` must see of ``items``: without Begin and Commit around nothing."""
    kept: list[Item] = []
    for item in items:
        match item:
            case Begin():
                kept.append(item)
            case Rows():
                if reader.wants(item.plan.schema, item.plan.table):
                    kept.append(item)
            case Statement():
                if not item.table or reader.wants(item.schema, item.table):
                    kept.append(item)
            case Commit():
                if kept and isinstance(kept[-1], Begin):
                    kept.pop()
                elif not item.empty:
                    kept.append(item)
    return kept


def entries(items: list[Item]) -> list[Item]:
    return [item for item in items if isinstance(item, Rows | Statement)]


def assert_well_formed(items: list[Item]) -> None:
    """Every entry stands between the Begin and the Commit of its own transaction."""
    inside = None
    for item in items:
        if isinstance(item, Begin):
            assert inside is None
            inside = item.transaction
        assert item.transaction is inside
        if isinstance(item, Commit):
            inside = None


def by_sequence(parcel: Parcel) -> list[list[Item]]:
    """Return the items per sequence number that ``parcel`` takes."""
    if isinstance(parcel, Run):
        return [parcel.packed.items(index) for index in range(parcel.packed.count)]
    return [list(unpacked([parcel]))]


def in_stretches(items: list[Item], most: int) -> list[Parcel]:
    """Return the rows that follow each other in ``items`` as stretches of at most so many."""
    put: list[Parcel] = []
    for is_rows, some in groupby(items, lambda item: isinstance(item, Rows)):
        if not is_rows:
            put += some
            continue
        rows = [item for item in some if isinstance(item, Rows)]
        put += [Stretch(ListedRows(rows[at : at + most])) for at in range(0, len(rows), most)]
    return put


def in_runs(items: list[Item], lengths: list[int]) -> list[Parcel]:
    """Return the transactions of ``items`` in runs of these lengths, until they are used up."""
    put: list[Parcel] = []
    transactions: list[list[Item]] = [[]]
    for item in items:
        transactions[-1].append(item)
        if isinstance(item, Commit):
            transactions.append([])
    waiting = deque(transactions[:-1])
    for length in lengths:
        run: list[list[Item]] = []
        while len(run) < length and waiting and not any(isinstance(item, Statement) for item in waiting[0]):
            run.append(waiting.popleft())
        if run:
            put.append(Run(Listed(run)))
        if waiting and (not length or len(run) < length):
            put += waiting.popleft()
    return put


class RingMachine(RuleBasedStateMachine):
    """One loop step at a time; puts run as a task, as the source's do."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.readers: dict[str, Reader] = {}
        self.putting: asyncio.Task[None] | None = None

    @initialize(
        max_items=st.integers(1, 12),
        max_bytes=st.sampled_from([1, 450, 1000, 100_000]),
        gtids=st.sampled_from([UUID + ":{}", "0-7-{}", ""]),
    )
    def begin(self, max_items: int, max_bytes: int, gtids: str) -> None:
        self.limits = Limits(max_items=max_items, max_bytes=max_bytes)
        self.writer = Writer(gtids=gtids, number=1)
        self.first_gtids = {UUID + ":{}": f"{UUID}:1", "0-7-{}": "0-7-1", "": ""}[gtids]
        self.origin = Position(self.writer.file, self.writer.offset, gtid_set=self.first_gtids)
        self.ring = Ring(**self.limits)
        self.item_counts = [0]  # per sequence number, how many items there are up to it

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        if self.putting is not None and self.putting.done():
            self.putting.result()
            self.putting = None

    @rule(transactions=st.lists(tables, max_size=4), rotate=st.booleans(), size=st.integers(0, 300))
    def write(self, transactions: list[list[str]], rotate: bool, size: int) -> None:
        if rotate:
            self.writer.rotate()
        for names in transactions:
            self.writer.transaction(*names, body=b"x" * size)

    @rule(table=st.sampled_from(["a", "b", "c", ""]))
    def write_statement(self, table: str) -> None:
        self.writer.ddl(table)

    @precondition(lambda self: self.putting is None)
    @rule(count=st.integers(1, 20))
    def put(self, count: int) -> None:
        self.start_put(self.writer.written[self.sent : self.sent + count])

    @precondition(lambda self: self.putting is None)
    @rule(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4))
    def put_runs(self, lengths: list[int]) -> None:
        """Put the next transactions in runs of these lengths; 0, and one with DDL: as items."""
        if self.sent and not isinstance(self.writer.written[self.sent - 1], Commit):
            return
        self.start_put(in_runs(self.writer.written[self.sent :], lengths))

    @precondition(lambda self: self.putting is None)
    @rule(count=st.integers(1, 20), most=st.integers(1, 6))
    def put_stretches(self, count: int, most: int) -> None:
        self.start_put(in_stretches(self.writer.written[self.sent : self.sent + count], most))

    @property
    def sent(self) -> int:
        """How many of the items written are in the ring, or were."""
        return self.item_counts[self.ring.last_sequence]

    def start_put(self, items: Sequence[Parcel]) -> None:
        del self.item_counts[self.ring.last_sequence + 1 :]
        for item in items:
            for together in by_sequence(item):
                self.item_counts.append(self.item_counts[-1] + len(together))
        self.putting = self.loop.create_task(self.ring.put(items))
        self.settle()

    @precondition(lambda self: self.putting is not None)
    @rule()
    def cancel_put(self) -> None:
        assert self.putting is not None
        self.putting.cancel()
        self.loop.run_until_complete(asyncio.wait({self.putting}))
        self.putting = None

    @rule(name=st.sampled_from(NAMES), wanted_tables=st.sets(st.sampled_from("abc")))
    def subscribe(self, name: str, wanted_tables: set[str]) -> None:
        if name in self.readers:
            return
        try:
            self.add(name, wants(*wanted_tables), self.origin, [])
        except StartPassedError:
            assert self.ring.first_sequence > 1

    def add(self, name: str, wants: Wants, start: Position, acked: list[Item]) -> None:
        subscription = self.ring.subscribe(name, start=start, wants=wants)
        self.readers[name] = Reader(
            subscription, wants, start, start, acked=list(acked), durable=list(acked), resumed_at=len(acked)
        )
        self.settle()

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def unsubscribe_and_come_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.readers)))
        by_itself = data.draw(st.booleans(), label="by itself")
        old = self.readers.pop(name)
        if by_itself:
            old.subscription.close()
        else:
            self.ring.unsubscribe(name)
        self.settle()
        try:
            self.add(name, old.wants, old.cursor, old.durable)
        except StartPassedError:
            assert self.ring.first_sequence > 1
            self.fail_over()
            self.add(name, old.wants, old.cursor, old.durable)

    def a_reader(self, data: st.DataObject) -> Reader:
        return self.readers[data.draw(st.sampled_from(sorted(self.readers)))]

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), max_items=st.integers(1, 8), max_bytes=st.sampled_from([1, 500, 900, 10_000]))
    def get(self, data: st.DataObject, max_items: int, max_bytes: int) -> None:
        reader = self.a_reader(data)

        async def get_now() -> tuple[Batch | None, int]:
            batch = await reader.subscription.get(max_items=max_items, max_bytes=max_bytes, timeout_s=0)
            return batch, self.sent

        batch, sent = self.loop.run_until_complete(get_now())
        self.settle()
        seen = reader.acked + [item for flying in reader.given for item in unpacked(flying.items)]
        there = wanted(self.writer.written[:sent], reader)
        if batch is None:
            assert len(entries(seen)) >= len(entries(there)), "more only if a new ring is not filled up to there yet"
            return
        items = list(unpacked(batch.items))
        assert 1 <= len(items) <= max_items
        assert batch.size_bytes == sum(item.size_bytes for item in items)
        assert batch.size_bytes <= max_bytes or len(items) == 1
        assert batch.partial_transaction == (not isinstance(items[-1], Commit))
        if batch.partial_transaction:
            assert not any(isinstance(item, Commit) for item in items)
        reader.given.append(batch)
        seen += items
        assert_well_formed(seen[reader.resumed_at :])
        assert entries(seen) == entries(there)[: len(entries(seen))]

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        reader = self.a_reader(data)
        if not reader.given:
            return
        durable = data.draw(st.booleans(), label="durable")
        batch = reader.given.pop(0)
        cursor = reader.subscription.ack(batch.batch_id)
        assert cursor is not None
        if reader.given:
            assert cursor == batch.position
        reader.acked += unpacked(batch.items)
        reader.acked_ids.add(batch.batch_id)
        if durable:
            reader.cursor, reader.durable = cursor, list(reader.acked)
        self.settle()

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), batch_id=st.integers(-1, 12))
    def ack_any(self, data: st.DataObject, batch_id: int) -> None:
        reader = self.a_reader(data)
        flying = [batch.batch_id for batch in reader.given]
        if flying and batch_id == flying[0]:
            return
        if batch_id in flying:
            with pytest.raises(NotOldestError):
                reader.subscription.ack(batch_id)
        elif batch_id in reader.acked_ids:
            assert reader.subscription.ack(batch_id) is None
        else:
            with pytest.raises(UnknownBatchError):
                reader.subscription.ack(batch_id)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        reader = self.a_reader(data)
        flying = [batch.batch_id for batch in reader.given]
        batch_id = data.draw(st.sampled_from([None, *flying]), label="batch")
        reader.subscription.rollback(batch_id)
        reader.given = [] if batch_id is None else reader.given[: flying.index(batch_id)]
        self.settle()

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), batch_id=st.integers(-1, 12))
    def rollback_unknown(self, data: st.DataObject, batch_id: int) -> None:
        reader = self.a_reader(data)
        if all(batch.batch_id != batch_id for batch in reader.given):
            with pytest.raises(UnknownBatchError):
                reader.subscription.rollback(batch_id)

    @rule()
    def fail_over(self) -> None:
        """A new leader: a new ring, filled from the start; every client goes on behind its durable cursor."""
        if self.putting is not None:
            self.cancel_put()
        readers, self.readers = self.readers, {}
        self.ring = Ring(**self.limits)
        self.item_counts = [0]
        for name, old in readers.items():
            self.add(name, old.wants, old.cursor, old.durable)

    @invariant()
    def bounded_and_counted(self) -> None:
        if not hasattr(self, "ring"):
            return
        ring = self.ring
        assert 0 <= ring.items <= self.limits["max_items"]
        assert ring.used_bytes <= self.limits["max_bytes"] or ring.items == 1
        assert (ring.items == 0) == (ring.used_bytes == 0) == (ring.first_sequence == ring.last_sequence + 1)
        for reader in self.readers.values():
            assert reader.subscription.in_flight == len(reader.given)
            assert 0 <= reader.subscription.behind_items <= ring.last_sequence

    @invariant()
    def a_put_waits_only_for_room(self) -> None:
        if self.putting is not None:
            assert self.ring.items > 0
            assert self.ring.put_waits

    def teardown(self) -> None:
        try:
            if hasattr(self, "ring"):
                self.drain()
        finally:
            self.loop.close()

    def drain(self) -> None:
        """In the end everyone gets everything, once, whole and in order."""
        if self.putting is not None:
            self.cancel_put()
        for reader in self.readers.values():
            reader.subscription.rollback()
            reader.given.clear()
        rest = self.writer.written[self.sent :]
        if self.readers:
            self.loop.run_until_complete(self.finish(rest))
        for reader in self.readers.values():
            assert entries(reader.acked) == entries(wanted(self.writer.written, reader))
            cursor = reader.subscription.cursor
            assert cursor.ordinal == 0
            if self.writer.gtids and cursor != reader.start:
                last = self.writer.number
                assert cursor.gtid_set == (f"0-7-{last}" if "-7-" in self.first_gtids else f"{UUID}:1-{last}")

    async def finish(self, rest: list[Item]) -> None:
        putting = asyncio.ensure_future(self.ring.put(rest))
        idle_rounds = 0
        while idle_rounds < 3:
            await asyncio.sleep(0)
            idle_rounds += 1
            for reader in self.readers.values():
                while batch := await reader.subscription.get(timeout_s=0, max_items=3):
                    reader.acked += unpacked(batch.items)
                    reader.subscription.ack(batch.batch_id)
                    idle_rounds = 0
        assert putting.done() or putting.cancel()
        await putting  # raises if it had to be cancelled: what everyone has read leaves room


RingMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRing = RingMachine.TestCase
