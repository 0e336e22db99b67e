"""Reads one source for as long as its instance runs: connect, dump, decode, hand on; and again after a break.

Each connection asks anew who the server is. What was handed on is known from `Progress`, so a break loses nothing and
repeats nothing. An error that trying again cannot mend (`StreamError`, a refusal) ends the reading; the instance
shows it and decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from ha_canal.binlog.columns import compile_plan
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream, PlanNeeded
from ha_canal.config import SourceSection
from ha_canal.errors import (
    CanalError,
    PositionPurgedError,
    SchemaMismatchError,
    SourceBusyError,
    SourceLostError,
    SourceRefusedError,
)
from ha_canal.model.change import Item, Statement
from ha_canal.model.position import Position
from ha_canal.model.table import RowPlan
from ha_canal.mysql.connection import ServerInfo, Session, end_of_binlog, has_gtids_before, inspect, session
from ha_canal.mysql.dump import BinlogSocket, by_gtid, dump
from ha_canal.schema.catalog import Catalog
from ha_canal.source.position import is_same_server
from ha_canal.source.progress import Progress

log = logging.getLogger(__name__)

_PURGED = ("purged", "Could not find first log file", "not in the master's binlog", "could not be found")
"""Words of error 1236 that mean "gone", from both servers; its code alone means anything at all."""
_CUT = (4052,)
_SLAVE_UUID_TAKEN = "with the same server_uuid/server_id"


class Tables(Protocol):
    """Decides which tables are read at all."""

    def wants(self, schema: str, table: str) -> bool: ...


class Screen(Protocol):
    """Drops the items that nobody wants."""

    def pass_items(self, items: Sequence[Item]) -> list[Item]: ...


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
        put: Callable[[Sequence[Item]], Awaitable[None]],
        start: Position,
    ) -> None:
        self._source = source
        self._identity = identity
        self._tables = tables
        self._screen = screen
        self._put = put
        self._catalog = Catalog()
        self._server: tuple[object, ...] = ()
        self.progress = Progress(start)
        self.connected_to: ServerInfo | None = None
        self._caught_up = False

    async def read_until_it_breaks(self) -> None:
        """Connect once, and read until the connection ends. Always raises: retriable errors call for the next try."""
        async with AsyncExitStack() as stack:
            db = await stack.enter_async_context(session(self._source))
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
                )
            )
            self.connected_to = info
            log.info("%s: reading from %s (%s %s)", info.address, start, info.flavor, info.version)
            stream = BinlogStream(
                file=start.file,
                offset=start.offset,
                server_uuid=info.server_uuid,
                by_gtid=by_gtid(info, start),
            )
            try:
                await self._pump(stream, socket, db, info)
            except ServerError as error:
                raise _explain_server_error(error, info, stream) from None
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
        if not (at.gtid_set and info.gtids) and not is_same_server(at, info):
            raise SourceRefusedError(
                f"{info.address} is now server {info.server_uuid or info.server_id}, and we were reading from server "
                f"{at.server_uuid or at.server_id} at {at}; without GTIDs reading cannot go on there"
            )

    async def _learn_of(self, info: ServerInfo, db: Session) -> None:
        """Begin anew what holds for one server only, and find out whether GTIDs can be counted from the start."""
        server = (info.flavor, info.server_uuid, info.server_id, info.address)
        if server != self._server:
            self._server = server
            self._catalog = Catalog()
        start = self.progress.position
        if info.gtids and not start.gtid_set and not await has_gtids_before(db, info, start):
            self.progress.count_gtids_from_empty()

    async def _pump(self, stream: BinlogStream, socket: BinlogSocket, db: Session, info: ServerInfo) -> None:
        while True:
            match stream.next_items():
                case PlanNeeded() as needed:
                    stream.supply_plan(needed, await self._plan(needed, db, info))
                case []:
                    self._caught_up = True
                    chunk = await socket.receive()
                    self._caught_up = False
                    stream.feed(chunk)
                    await asyncio.sleep(0)  # a fast source never makes us wait, and others share this loop
                case items:
                    await self._hand_on(items, info)

    async def _hand_on(self, items: Sequence[Item], info: ServerInfo) -> None:
        fresh = self.progress.fresh(items)
        for index, item in enumerate(fresh):
            if isinstance(item, Statement):
                try:
                    self._catalog.saw(item, names_in_events=info.row_metadata_full)
                except SchemaMismatchError:
                    await self._pass_on(fresh[:index])
                    raise
        await self._pass_on(fresh)

    async def _pass_on(self, items: Sequence[Item]) -> None:
        # Progress goes first: whoever subscribes while the put waits begins behind what is being put, and a put that
        # is cancelled ends the term.
        self.progress.advance(items)
        await self._put(self._screen.pass_items(items))

    async def _plan(self, needed: PlanNeeded, db: Session, info: ServerInfo) -> RowPlan | None:
        table_map = needed.table_map
        if not self._tables.wants(table_map.schema, table_map.table):
            return None
        version = await self._catalog.find(
            table_map.schema, table_map.table, query=db.query, end_of_binlog=lambda: end_of_binlog(db, info)
        )
        return compile_plan(table_map, version)


def _explain_server_error(error: ServerError, info: ServerInfo, stream: BinlogStream) -> CanalError:
    """Turn the error packet that ended a dump into ours. 1236 is the server's word for every trouble with a dump."""
    where = f"{info.address}, reading at {stream.file}:{stream.offset}"
    if error.code in _CUT or _SLAVE_UUID_TAKEN in error.message:
        return SourceBusyError(
            f"{where}: another reader with our server id took over the binlog connection ({error.message}). "
            "If it is not another node of this cluster, give this instance a server_id of its own"
        )
    if any(word in error.message for word in _PURGED):
        return PositionPurgedError(f"{where}: the binlog that is needed is gone ({error.code}: {error.message})")
    if error.code in {1040, 1053, 1317, 2013}:
        return SourceLostError(f"{where}: the server ended the binlog connection ({error.message})")
    if error.code in {1045, 1227}:
        return SourceRefusedError(
            f"{where}: the right REPLICATION SLAVE is missing ({error.message}). "
            f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user"
        )
    return SourceRefusedError(f"{where}: the server refused the binlog dump ({error.code}: {error.message})")
