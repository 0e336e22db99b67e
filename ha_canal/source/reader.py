"""Reads one source for as long as its instance runs: connect, dump, decode, hand on; and again after a break.

Each connection asks anew who the server is. What was handed on is known from `Progress`, so a break loses nothing and
repeats nothing. An error that trying again cannot mend (`StreamError`, a refusal) ends the reading; the instance
shows it and decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from ha_canal.binlog.columns import compile_plan
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.binlog.table_map import TableMap
from ha_canal.binlog.xa import XaRows
from ha_canal.binlog.xa_transactions import PreparedNeeded
from ha_canal.config import SourceSection
from ha_canal.errors import SchemaMismatchError, SourceChangedError
from ha_canal.model.change import Statement, Transaction
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel
from ha_canal.model.table import RowPlan
from ha_canal.mysql.connection import Ready, ServerInfo, Session, end_of_binlog, has_gtids_before, inspect, session
from ha_canal.mysql.dump import BinlogSocket, by_gtid, dump
from ha_canal.schema.catalog import Catalog, Known, check_unchanged
from ha_canal.source.lookahead import Lookahead
from ha_canal.source.position import is_same_server
from ha_canal.source.prepared import PreparedRows
from ha_canal.source.progress import Progress
from ha_canal.source.refusal import server_errors_explained

log = logging.getLogger(__name__)


class Tables(Protocol):
    """Decides which tables are read at all."""

    def wants(self, schema: str, table: str) -> bool: ...


class Screen(Protocol):
    """Drops the items that nobody wants."""

    def pass_items(self, items: Sequence[Parcel]) -> list[Parcel]: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom we read: the same on all nodes of the instance, so that a new leader's dump ends an old one's."""

    server_id: int
    replica_uuid: uuid.UUID

    @classmethod
    def of_instance(cls, name: str, *, root: str, server_id: int = 0) -> Identity:
        """Derive both from the instance's name and the cluster's root, unless ``server_id`` is given."""
        replica_uuid = uuid.uuid5(uuid.NAMESPACE_URL, f"ha_canal:{root}/{name}")
        return cls(server_id or 0x40000000 | replica_uuid.int & 0x3FFFFFFF, replica_uuid)


class Reader:
    """One source, read from ``start`` on. ``put`` is awaited with every slice of items: it is the back-pressure."""

    def __init__(
        self,
        source: SourceSection,
        identity: Identity,
        tables: Tables,
        screen: Screen,
        put: Callable[[Sequence[Parcel]], Awaitable[None]],
        start: Position,
        *,
        ready: Ready | None = None,
    ) -> None:
        self._source = source
        self._ready = ready
        self._identity = identity
        self._tables = tables
        self._screen = screen
        self._put = put
        self._catalog = Catalog()
        self._lookahead = Lookahead(source, not_server_id=identity.server_id)
        self._server: tuple[object, ...] = ()
        self._transactions_elsewhere = 0
        self.progress = Progress(start)
        self.connected_to: ServerInfo | None = None
        self._caught_up = False
        self.heard = 0
        """How often something came on the binlog connection."""

    async def read_until_it_breaks(self) -> None:
        """Connect once, and read until the connection ends. Always raises: retriable errors call for the next try."""
        async with AsyncExitStack() as stack:
            db = await stack.enter_async_context(session(self._source, self._ready))
            info = await inspect(db, self._source)
            self._check_same_source(info)
            await self._learn_of(info, db)
            start = self.progress.position
            socket = await stack.enter_async_context(
                dump(
                    self._source,
                    info,
                    start,
                    server_id=self._identity.server_id,
                    replica_uuid=self._identity.replica_uuid,
                    ready=self._ready,
                )
            )
            self.connected_to = info
            self._transactions_elsewhere = self.progress.transactions if by_gtid(info, start) else -1
            log.info("%s: reading from %s (%s %s)", info.address, start, info.flavor, info.version)
            stream = BinlogStream(
                file=start.file,
                offset=start.offset,
                server_uuid=info.server_uuid,
                by_gtid=by_gtid(info, start),
                xa=XaRows.ASK,
            )
            try:
                with server_errors_explained(info, stream):
                    await self._pump(stream, socket, db, info)
            finally:
                self.connected_to = None

    def lag_s(self) -> float:
        """How far reading is behind the source: 0 when all that came was handed on; negative: unknown."""
        if self.connected_to is None:
            return -1.0
        if self._caught_up:
            return 0.0
        return max(0.0, time.time() - self.progress.timestamp_ms / 1000)

    def _check_same_source(self, info: ServerInfo) -> None:
        at = self.progress.position
        if not is_same_server(at, info):
            raise SourceChangedError(
                f"{info.address} is now server {info.server_uuid or info.server_id}, and we were reading from server "
                f"{at.server_uuid or at.server_id} at {at}"
            )

    async def _learn_of(self, info: ServerInfo, db: Session) -> None:
        """Begin anew what holds for one server only, and find out whether GTIDs can be counted from the start."""
        server = (info.flavor, info.server_uuid, info.server_id, info.address)
        if server != self._server:
            self._server = server
            self._catalog = Catalog()
            self._lookahead = Lookahead(self._source, not_server_id=self._identity.server_id)
        start = self.progress.position
        if info.gtids and not start.gtid_set and not await has_gtids_before(db, info, start):
            self.progress.count_gtids_from_empty()

    async def _pump(self, stream: BinlogStream, socket: BinlogSocket, db: Session, info: ServerInfo) -> None:
        while True:
            match stream.next_parcels():
                case PlanNeeded() as needed:
                    stream.supply_plan(needed, await self._plan(needed, stream, db, info))
                case [] if stream.prepared_needed is not None:
                    await self._deliver_prepared(stream.prepared_needed, stream, db, info)
                case []:
                    await self._receive(stream, socket)
                case parcels:
                    await self._hand_on(parcels)
                    await asyncio.sleep(0)  # nor does a compressed transaction, of which more is here already

    async def _receive(self, stream: BinlogStream, socket: BinlogSocket) -> None:
        self._caught_up = True
        size = await socket.receive_into(stream.room())
        self._caught_up = False
        self.heard += 1
        stream.received(size)
        await asyncio.sleep(0)  # a fast source never makes us wait, and others share this loop

    async def _deliver_prepared(
        self, needed: PreparedNeeded, stream: BinlogStream, db: Session, info: ServerInfo
    ) -> None:
        """Hand on the rows that an XA transaction prepared, now that it is committed."""
        rows = PreparedRows(self._source, not_server_id=self._identity.server_id)

        async def plan(question: PlanNeeded, there: BinlogStream, group: Transaction) -> RowPlan | None:
            return await self._plan(question, there, db, info, group)

        pieces = rows.items(needed, stream.prepared, db=db, info=info, plan=plan)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                stream.supply_prepared(needed, piece)
                while stream.prepared_needed is needed and (parcels := stream.next_parcels()):
                    assert not isinstance(parcels, PlanNeeded)  # it reads no further before all is supplied
                    await self._hand_on(parcels)

    async def _hand_on(self, items: Sequence[Parcel]) -> None:
        fresh = self.progress.fresh(items)
        for item in fresh:
            if isinstance(item, Statement):
                self._catalog.saw(item)
        # Progress goes first: whoever subscribes while the put waits begins behind what is being put, and a put that
        # is cancelled ends the term.
        self.progress.advance(fresh)
        await self._put(self._screen.pass_items(fresh))

    async def _plan(
        self, needed: PlanNeeded, stream: BinlogStream, db: Session, info: ServerInfo, group: Transaction | None = None
    ) -> RowPlan | None:
        """Return how rows of the table are read, or None. ``group``: they are in this one, which is read again."""
        table_map = needed.table_map
        if not self._tables.wants(table_map.schema, table_map.table):
            return None
        known = await self._catalog.find(
            table_map.schema, table_map.table, query=db.query, end_of_binlog=lambda: end_of_binlog(db, info)
        )
        here = Position(stream.file, stream.offset)
        try:
            if known is not None and not table_map.has_names:
                await self._prove_names(table_map, known, here, info, group)
            return compile_plan(table_map, known.version if known else None)
        except SchemaMismatchError as error:
            raise error.at(here.file, here.offset) from None

    async def _prove_names(
        self, table_map: TableMap, known: Known, here: Position, info: ServerInfo, group: Transaction | None
    ) -> None:
        """Raise SchemaMismatchError unless the names are right from ``here`` on, up to when they were asked for."""
        asked_at = known.asked_at
        if here.order >= asked_at.order:
            return
        lookahead, boundary = self._lookahead, self.progress.position
        is_local = self.progress.transactions > self._transactions_elsewhere
        if group is not None:  # it lies behind what the look-ahead of reading has passed
            lookahead = Lookahead(self._source, not_server_id=self._identity.server_id)
            boundary, is_local = replace(boundary, file=group.file, offset=group.start_offset), True
        ahead = await lookahead.ddl_before(
            asked_at, here=here, boundary=boundary, boundary_is_local=is_local, info=info
        )
        check_unchanged(table_map.schema, table_map.table, here=here, asked_at=asked_at, ahead=ahead)
