"""An instance in memory: a whole implementation of the server's ports, with switches for what can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ha_canal.errors import CanalError, FilterError, NotLeaderError, NotOldestError, UnknownInstanceError, UsageError
from ha_canal.model.change import ChangeKind, Commit, Item, Statement, Transaction
from ha_canal.model.position import Position
from ha_canal.protos import canal_pb2, entry_pb2
from ha_canal.server.serve import grpc_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def statement(number: int, sql: str = "") -> Statement:
    """The change with this number, as one statement that is a transaction."""
    transaction = Transaction(f"0-1-{number}", "bin.000001", number * 100, "", 1, 1_700_000_000)
    return Statement(
        transaction, 0, number * 100, 100, 1_700_000_000, ChangeKind.QUERY, sql or f"do {number}", "shop", "shop", ""
    )


def silent(number: int) -> Commit:
    """A transaction of which nothing passed the filter."""
    transaction = Transaction(f"0-1-{number}", "bin.000001", number * 100, "", 1, 1_700_000_000)
    return Commit(transaction, number * 100, 100, 1_700_000_000, number * 100 + 100, 0, empty=True)


def encode(item: Item, *, epoch: int, lean: bool = False) -> bytes | None:
    """The entry of a `statement`, marked where it may be lean; None of a `silent` one."""
    if not isinstance(item, Statement):
        return None
    header = entry_pb2.Header(
        version=1,
        logfileName=item.transaction.file,
        logfileOffset=item.offset,
        gtid=item.transaction.gtid,
        eventType=entry_pb2.QUERY,
        schemaName=item.schema,
        eventId=f"{item.transaction.event_id_prefix}#{item.ordinal}",
        executeTime=item.timestamp_s * 1000,
        epoch=epoch,
        props=[entry_pb2.Pair(key="lean")] if lean else [],
    )
    change = entry_pb2.RowChange(isDdl=True, sql=item.sql, eventType=entry_pb2.QUERY, ddlSchemaName=item.database)
    return entry_pb2.Entry(
        header=header, entryType=entry_pb2.ROWDATA, storeValue=change.SerializeToString()
    ).SerializeToString()


def position_behind(item: Item) -> Position:
    return Position(item.transaction.file, item.offset + item.event_length, gtid_set=item.transaction.gtid)


@dataclass(frozen=True, slots=True)
class MemoryBatch:
    batch_id: int
    items: tuple[Item, ...]
    partial_transaction: bool
    position: Position


class MemorySubscription:
    """A list of items with a place that was given and a place that was acknowledged."""

    def __init__(self, items: list[Item], start: int) -> None:
        self._items = items
        self._given = start
        self.out: deque[tuple[int, int]] = deque()  # (batch id, place before it)
        self._last_id = 0
        self._news = asyncio.Event()

    def wake(self) -> None:
        self._news.set()

    async def get(self, *, max_items: int, max_bytes: int, timeout_s: float) -> MemoryBatch | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._given >= len(self._items):
                    self._news.clear()
                    await self._news.wait()
        if self._given >= len(self._items):
            return None
        taken, size = [self._items[self._given]], self._items[self._given].size_bytes
        for item in self._items[self._given + 1 : self._given + max_items]:
            size += item.size_bytes
            if size > max_bytes:
                break
            taken.append(item)
        self._last_id += 1
        self.out.append((self._last_id, self._given))
        self._given += len(taken)
        return MemoryBatch(self._last_id, tuple(taken), False, position_behind(taken[-1]))

    def ack(self, batch_id: int) -> None:
        if not self.out or self.out[0][0] != batch_id:
            raise NotOldestError(f"batch {batch_id} is not the oldest")
        self.out.popleft()

    def rollback(self, batch_id: int | None) -> None:
        while self.out and (batch_id is None or self.out[-1][0] >= batch_id):
            self._given = self.out.pop()[1]
        self._news.set()


@dataclass(slots=True)
class Source:
    """What all nodes of a cluster share: the items, the durable cursors and filters, and the shown holders."""

    items: list[Item] = field(default_factory=list)
    cursors: dict[str, Position] = field(default_factory=dict)
    filters: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    running: list[MemoryInstance] = field(default_factory=list)

    def commit(self, *items: Item) -> None:
        self.items.extend(items)
        for instance in self.running:
            for subscription in instance.subscriptions.values():
                subscription.wake()

    async def show(self, client_id: str, holder: str) -> None:
        self.shown[client_id] = holder

    async def clear(self, client_id: str) -> None:
        self.shown.pop(client_id, None)


class MemoryInstance:
    """One term of office over a `Source`. Set ``fault`` to make output fail, ``write_fault`` to make writes fail."""

    def __init__(self, source: Source, epoch: int) -> None:
        self.notices: list[canal_pb2.Notice] = []
        self.known_moves = MemoryMoves()
        self.epoch = epoch
        self.board = source
        self.ended: asyncio.Future[CanalError] = asyncio.get_running_loop().create_future()
        self.subscriptions: dict[str, MemorySubscription] = {}
        self.fault: CanalError | None = None
        self.write_fault: CanalError | None = None
        self.writes_go = asyncio.Event()
        self.writes_go.set()
        self.writes: list[Position] = []
        self.writes_waiting = 0
        self._source = source
        source.running.append(self)

    def end(self, error: CanalError) -> None:
        self.fault = error
        self._source.running.remove(self)
        self.ended.set_result(error)

    def check_output(self) -> None:
        if self.fault:
            raise self.fault

    async def subscribe(self, client_id: str, pattern: str | None) -> tuple[MemorySubscription, str]:
        if pattern == "(":
            raise FilterError("'(' is no regular expression")
        if pattern is not None:
            self._source.filters[client_id] = pattern
        if client_id not in self.subscriptions:
            self.subscriptions[client_id] = MemorySubscription(self._source.items, self._start(client_id))
        return self.subscriptions[client_id], self._source.filters.get(client_id, "")

    def _start(self, client_id: str) -> int:
        cursor = self._source.cursors.get(client_id)
        behind = [index for index, item in enumerate(self._source.items, 1) if position_behind(item) == cursor]
        return behind[0] if behind else 0

    async def acknowledged(self, client_id: str, position: Position) -> None:
        self.writes_waiting += 1
        await self.writes_go.wait()
        self.writes_waiting -= 1
        if self.write_fault:
            raise self.write_fault
        self.check_output()
        self.writes.append(position)
        self._source.cursors[client_id] = position

    async def forget(self, client_id: str) -> None:
        self.subscriptions.pop(client_id, None)
        self._source.cursors.pop(client_id, None)
        self._source.filters.pop(client_id, None)

    def notices_for(self, client_id: str) -> list[canal_pb2.Notice]:
        return [one for one in self.notices if one.client_id in ("", client_id)]

    @property
    def moves(self) -> MemoryMoves:
        return self.known_moves

    @property
    def sources(self) -> MemorySources:
        return MemorySources()


class MemorySources:
    """Knows one other source."""

    async def switch(self, request: canal_pb2.SwitchSourceRequest) -> canal_pb2.SwitchSourceReply:
        if request.to != "db2:3306":
            raise UsageError(f"{request.to!r} is no source")
        return canal_pb2.SwitchSourceReply(before="db:3306", to=request.to)


class MemoryMoves:
    """Remembers the moves that were asked for; all clients are at the same place."""

    def __init__(self) -> None:
        self.asked: list[canal_pb2.MovePositionRequest] = []

    async def show(self) -> canal_pb2.PositionsReply:
        return canal_pb2.PositionsReply(clients=[canal_pb2.PositionsReply.Client(client_id="a")])

    async def find(self, request: canal_pb2.FindPositionRequest) -> canal_pb2.FindPositionReply:
        return canal_pb2.FindPositionReply(place=canal_pb2.Place(file="bin.000001", timestamp_ms=request.time_ms))

    async def move(self, request: canal_pb2.MovePositionRequest) -> canal_pb2.MovePositionReply:
        self.asked.append(request)
        return canal_pb2.MovePositionReply(moved=not request.dry_run)


class MemoryDirectory:
    """What one node knows: the instance ``shop``, run here, elsewhere (``leader``), or nowhere."""

    def __init__(self) -> None:
        self.shop: MemoryInstance | None = None
        self.leader = ""
        self.trouble: Exception | None = None
        self.asked_for: list[tuple[str, str]] = []

    def instance(self, name: str) -> MemoryInstance:
        if self.trouble:
            raise self.trouble
        if name != "shop":
            raise UnknownInstanceError(f"no instance {name!r} is configured on this node; it has: shop")
        if self.shop is None or self.shop.ended.done():
            raise NotLeaderError("shop", self.leader)
        return self.shop

    async def until_led(self, name: str, not_led_by: str) -> None:
        self.asked_for.append((name, not_led_by))

    async def describe(self, request: canal_pb2.DescribeRequest) -> canal_pb2.DescribeReply:
        return canal_pb2.DescribeReply(answered_by="memory", nodes=[canal_pb2.Node(name=request.instance)])


@contextlib.asynccontextmanager
async def serving(
    directory: MemoryDirectory, *, lease_s: float = 10.0, listen: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    """Serve ``directory`` on loopback; gives the address."""
    async with grpc_server(directory, listen, encode=encode, lease_s=lease_s, grace_s=0.2) as port:
        yield f"127.0.0.1:{port}"
