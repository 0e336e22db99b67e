"""Looks for DDL between the place of reading and the end of the binlog, on a dump connection of its own.

Column names that the database shows now are right for older events only if no DDL touched their table since
(`ha_canal.schema.catalog`). Who reads far behind the end has to look there before it reads a row. What was looked
through is remembered, so that each part of the binlog is read ahead once, whatever the number of tables; of all that
passes only the DDL that can change columns is kept, until reading has passed it too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.binlog.xa import XaRows
from ha_canal.config import SourceSection
from ha_canal.model.change import Item, Statement
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo
from ha_canal.mysql.dump import LARGEST_OFFSET, by_gtid
from ha_canal.schema.ddl import Ddl
from ha_canal.source.beside import BesideDumps
from ha_canal.source.progress import Progress
from ha_canal.source.refusal import server_errors_explained

log = logging.getLogger(__name__)

_LARGE_BYTES = 64 * 1024 * 1024


class Lookahead:
    """What was found ahead on one server. ``not_server_id`` is the replica id of the connection that reads."""

    def __init__(self, source: SourceSection, *, not_server_id: int) -> None:
        self._source = source
        self._dumps = BesideDumps(source, not_server_id=not_server_id)
        self._progress: Progress | None = None
        self._is_local = False
        self._seen_to: Position | None = None
        self._found: list[Ddl] = []

    async def ddl_before(
        self, end: Position, *, here: Position, boundary: Position, boundary_is_local: bool, info: ServerInfo
    ) -> Sequence[Ddl]:
        """Return, in order, all DDL between ``here`` and ``end`` that can change columns, and perhaps more.

        ``here`` and ``end`` are places in the binlog of the server ``info``, and nothing may be read backwards from
        one call to the next. ``boundary`` is the end of the last transaction before ``here``; it may be told by its
        GTIDs alone, unless ``boundary_is_local``. Raises our errors; called again, it goes on where it broke off.
        """
        if self._progress is None or self._seen_to is None or self._seen_to.order < here.order:
            self._progress, self._is_local, self._seen_to = Progress(boundary), boundary_is_local, None
            self._found = []
        self._found = [ddl for ddl in self._found if ddl.start.order >= here.order]
        if self._seen_to is None or self._seen_to.order < end.order:
            self._announce(self._seen_to or here, end)
            await self._read_on(self._progress, end, info)
        return self._found

    def _announce(self, start: Position, end: Position) -> None:
        if start.file == end.file and end.offset - start.offset < _LARGE_BYTES:
            return
        log.info(
            "%s: looking for DDL from %s:%d to %s:%d, since events there carry no column names; this may take a while, "
            "and binlog_row_metadata = FULL makes it unnecessary",
            *(self._source.address, start.file, start.offset, end.file, end.offset),
        )

    async def _read_on(self, progress: Progress, end: Position, info: ServerInfo) -> None:
        start = self._dump_start(progress)
        stream = BinlogStream(
            file=start.file,
            offset=start.offset,
            server_uuid=info.server_uuid,
            by_gtid=by_gtid(info, start),
            xa=XaRows.DROP,
        )
        async with self._dumps.dump(info, start) as socket:
            with server_errors_explained(info, stream):
                while not self._has_seen(stream, end):
                    stream.feed(await socket.receive())
                    self._take_all(stream, progress)
                    await asyncio.sleep(0)  # a long way must leave room for others

    def _dump_start(self, progress: Progress) -> Position:
        """By file and offset where that can be: a server has to search for GTIDs, from the start of their file on."""
        start = progress.position
        is_local = self._is_local or progress.transactions > 0
        return replace(start, gtid_set="") if is_local and start.offset <= LARGEST_OFFSET else start

    def _has_seen(self, stream: BinlogStream, end: Position) -> bool:
        """Note how far all is seen. Before its first event the stream only stands where it was asked to start."""
        if not stream.events:
            return False
        self._seen_to = Position(stream.file, stream.offset)
        return self._seen_to.order >= end.order

    def _take_all(self, stream: BinlogStream, progress: Progress) -> None:
        while found := stream.next_items():
            if isinstance(found, PlanNeeded):
                stream.supply_plan(found, None)
            else:
                self._keep_ddl(found)
                progress.advance(found)

    def _keep_ddl(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Statement):
                ddl = Ddl.of(item)
                if ddl.can_change_columns():
                    self._found.append(ddl)
