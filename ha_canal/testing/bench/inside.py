"""The project's own way within one process: binlog → ring, and binlog → serialized entries.

Both stand on the production path: `Reader`, which logs in, dumps and decodes; `Sink`; `Ring`. `to_ring` has one
subscription, which waits as a client does, wants no table, and so passes over everything. `to_entries` takes from a
subscription as the gRPC service does, through `Delivery` (batches, encoding, ledger, acks), with an instance that
accepts every cursor at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from pydantic import SecretStr

from ha_canal.binlog.encode import encode_entry
from ha_canal.config import RingSection, SourceSection
from ha_canal.errors import CanalError, UsageError
from ha_canal.model.change import Commit, Item, Rows
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, unpacked
from ha_canal.mysql.connection import inspect, session, start_of_binlog
from ha_canal.protos.canal_pb2 import Messages, Notice
from ha_canal.protos.entry_pb2 import ROWDATA, TRANSACTIONEND, Entry, RowChange
from ha_canal.server.delivery import Delivery
from ha_canal.server.lock_queue import Claim
from ha_canal.server.ports import Moves, Sources
from ha_canal.server.service import BATCH_BYTES, BATCH_ITEMS
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.reader import Identity, Reader
from ha_canal.store.ring import Ring
from ha_canal.store.subscription import Subscription
from ha_canal.testing.bench.task import Mark, Task

_FILTER = r"bench\..*"
_NAME = "bench"
_EPOCH = 1
_LEASE_S = 60.0
_POLL_S = 5.0
_LONG_S = 3600.0


class Counted:
    """What came out: entries and their bytes; with ``check``, what stands in them too."""

    def __init__(self, *, check: bool) -> None:
        self.entry_bytes = 0
        self.entries = self.rows = self.transactions = self.ids = 0 if check else -1
        self._check = check

    def take(self, messages: Sequence[bytes]) -> None:
        self.entry_bytes += sum(map(len, messages))
        if self._check:
            entries = Messages.FromString(b"".join(messages)).messages
            self.entries += len(entries)
            for raw in entries:
                self._look_into(Entry.FromString(raw))

    def _look_into(self, entry: Entry) -> None:
        self.transactions += entry.entryType == TRANSACTIONEND
        if entry.entryType == ROWDATA:
            rows = RowChange.FromString(entry.storeValue).rowDatas
            self.rows += len(rows)
            self.ids += sum(int(row.afterColumns[0].value) for row in rows)


async def to_ring(task: Task, begin: Callable[[], None]) -> tuple[int, int]:
    """Read up to the mark into a ring; return the numbers of transactions and of rows events.

    ``begin`` is called when the first bytes of the binlog are here: when the first table is met.
    """
    async with _reading(task, lambda _schema, _table: False, begin) as (subscription, done):
        waiting = asyncio.create_task(subscription.get(timeout_s=_LONG_S))
        try:
            return await done
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])


async def to_entries(task: Task, begin: Callable[[], None]) -> Counted:
    """Read up to the mark, and take it all as entries. ``begin``: see `to_ring`."""
    counted = Counted(check=task.check)
    async with _reading(task, TableFilter(_FILTER).wants, begin) as (subscription, done):
        delivery = Delivery(_NAME, _NAME, _Instance(subscription), encode_entry, _LEASE_S)
        lease, _ = await delivery.enter(Claim(_NAME, _NAME), 0.0, None)
        with delivery.lock.call(lease.token):
            at = subscription.cursor
            while not _is_at(at, task.until):
                taken = await delivery.take(
                    lease.token, max_items=BATCH_ITEMS, max_bytes=BATCH_BYTES, timeout_s=_POLL_S
                )
                if taken is None:
                    if done.done():
                        done.result()
                    raise TimeoutError(f"nothing came for {_POLL_S} s at {at}")
                counted.take(taken.messages)
                at, acked = taken.position, delivery.accept(lease.token, taken.batch_id, _EPOCH)
            await acked
        delivery.close()
    return counted


@contextlib.asynccontextmanager
async def _reading(
    task: Task, wants: Callable[[str, str], bool], begin: Callable[[], None]
) -> AsyncIterator[tuple[Subscription, asyncio.Future[tuple[int, int]]]]:
    """Read into a ring while the block runs. The future has what was read up to the mark, or why reading failed."""
    source = SourceSection(host=task.host, port=task.port, user=task.user, password=SecretStr(task.password))
    async with session(source) as db:
        info = await inspect(db, source)
        oldest = await start_of_binlog(db, info)
    start = replace(oldest, server_uuid=info.server_uuid, server_id=info.server_id)
    limits = RingSection()
    ring = Ring(max_bytes=limits.max_bytes, max_items=limits.max_items, filled_from=start)
    subscription = ring.subscribe(_NAME, start=start, wants=wants)
    done: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    async def put(items: Sequence[Parcel]) -> None:
        progress = reader.progress
        if not _is_at(progress.position, task.until):
            await ring.put(items)
            return
        singly = list(unpacked(items))
        end = 1 + next(index for index, item in enumerate(singly) if _ends_at(item, task.until))
        await ring.put(singly[:end])
        beyond = singly[end:]
        done.set_result(
            (
                progress.transactions - sum(isinstance(item, Commit) for item in beyond),
                progress.rows_events - sum(isinstance(item, Rows) for item in beyond),
            )
        )
        await asyncio.Event().wait()  # what follows is no part of the task

    tables = TableFilter(_FILTER)
    reader = Reader(
        source, Identity.of_instance(_NAME, root="/bench"), _FirstTable(tables, begin), Sink(tables), put, start
    )
    reading = asyncio.create_task(reader.read_until_it_breaks())
    reading.add_done_callback(lambda task: _fail(done, task))
    try:
        yield subscription, done
    finally:
        reading.cancel()
        await asyncio.wait([reading])


class _FirstTable:
    """Calls ``begin`` when the first table is met: then the first bytes of the binlog are here."""

    def __init__(self, tables: TableFilter, begin: Callable[[], None]) -> None:
        self._tables = tables
        self._begin: Callable[[], None] | None = begin

    def wants(self, schema: str, table: str) -> bool:
        if self._begin is not None:
            self._begin()
            self._begin = None
        return self._tables.wants(schema, table)


def _fail(done: asyncio.Future[tuple[int, int]], reading: asyncio.Task[None]) -> None:
    if not reading.cancelled() and not done.done():
        done.set_exception(reading.exception() or ConnectionError("reading ended"))


def _is_at(position: Position, mark: Mark) -> bool:
    return position.file == mark.file and position.offset >= mark.offset


def _ends_at(item: Item, mark: Mark) -> bool:
    return isinstance(item, Commit) and item.end_offset >= mark.offset


class _Board:
    async def show(self, client_id: str, holder: str) -> None: ...

    async def clear(self, client_id: str) -> None: ...


class _Instance:
    """A term of office without a coordinator (`ha_canal.server.ports.ServedInstance`): cursors are kept nowhere."""

    def __init__(self, subscription: Subscription) -> None:
        self.epoch = _EPOCH
        self.ended: asyncio.Future[CanalError] = asyncio.get_running_loop().create_future()
        self.board = _Board()
        self._subscription = subscription

    def check_output(self) -> None: ...

    async def subscribe(self, client_id: str, pattern: str | None) -> tuple[Subscription, str]:
        return self._subscription, ""

    async def acknowledged(self, client_id: str, position: Position) -> None: ...

    async def forget(self, client_id: str) -> None: ...

    def notices_for(self, client_id: str) -> list[Notice]:
        return []

    @property
    def moves(self) -> Moves:
        raise UsageError("this instance keeps no cursors: there is nothing to move")

    @property
    def sources(self) -> Sources:
        raise UsageError("this instance has no standbys")
