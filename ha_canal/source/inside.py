"""A transaction that was acknowledged in part, looked for on another server: is the same part of it the same there?

A cursor inside a transaction counts its events, and a replica may cut the rows of a statement into events in its own
way. What stays is their order, with rows as bytes: so a beginning of as many bytes is the same beginning, and only that
is taken for done. Otherwise all of the transaction comes again.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.row_count import counting_plan
from ha_canal.binlog.stream import BinlogStream
from ha_canal.config import SourceSection
from ha_canal.model.change import Begin, Commit, Transaction
from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, unpacked
from ha_canal.model.size import size_of
from ha_canal.mysql.dump import dump
from ha_canal.source.binlog import Binlog
from ha_canal.source.position import is_same_server
from ha_canal.source.purged import extra_mariadb
from ha_canal.source.refusal import explain_server_error

_HEARTBEAT_S = 0.5
"""A server notices that we have gone when it speaks."""

Screen = Callable[[Sequence[Parcel]], Sequence[Parcel]]


class Tables(Protocol):
    """Which tables are read."""

    def wants(self, schema: str, table: str) -> bool: ...


def is_inside_elsewhere(cursor: Position, binlog: Binlog) -> bool:
    """Whether ``cursor`` counts events of a transaction as another server has cut them."""
    return cursor.ordinal > 0 and bool(cursor.gtid_set) and not is_same_server(cursor, binlog.info)


def has_it(cursor: Position, binlog: Binlog) -> bool:
    """Whether the server has executed the transaction that ``cursor`` is inside of, as far as that is known."""
    if not cursor.inside:
        return True
    if binlog.info.flavor == "mysql":
        return cursor.inside in MysqlGtidSet.parse(binlog.end.gtid_set)
    executed = MariadbGtidPosition.parse(binlog.end.gtid_set)
    return not extra_mariadb(MariadbGtidPosition.parse(cursor.inside), executed, binlog.state)


async def place_inside(
    source: SourceSection, binlog: Binlog, cursor: Position, *, tables: Tables, screen: Screen
) -> Position:
    """Return ``cursor`` as a place inside the same transaction on this server, or before it. Raises our errors."""
    before = replace(cursor, ordinal=0, inside="", inside_bytes=0)
    if not cursor.inside or not has_it(cursor, binlog):
        return before
    info, oldest = binlog.info, binlog.oldest
    looking = _Beginning(cursor)
    # GTIDs say where it begins; it is nowhere before the oldest file.
    stream = BinlogStream(file=oldest.file, offset=oldest.offset, server_uuid=info.server_uuid, by_gtid=True)
    server_id = 0x80000000 | secrets.randbits(31)  # nobody's, so that no reader is cut
    async with dump(
        source, info, before, server_id=server_id, replica_uuid=uuid.uuid4(), heartbeat_s=_HEARTBEAT_S
    ) as socket:
        try:
            while not looking.is_over() and Position(stream.file, stream.offset).order < binlog.end.order:
                stream.feed(await socket.receive())
                _take_all(stream, looking, tables, screen)
                await asyncio.sleep(0)  # a fast source never makes us wait, and others share this loop
        except ServerError as error:
            raise explain_server_error(error, info, stream) from None
    there = looking.transaction
    if there is None or looking.done_bytes != cursor.inside_bytes:
        return before
    return replace(
        cursor, file=there.file, offset=there.start_offset, server_uuid=info.server_uuid, server_id=info.server_id
    )


def _take_all(stream: BinlogStream, looking: _Beginning, tables: Tables, screen: Screen) -> None:
    while not looking.is_over() and (found := stream.next_items()):
        if isinstance(found, PlanNeeded):
            table = found.table_map
            stream.supply_plan(found, counting_plan(table) if tables.wants(table.schema, table.table) else None)
        else:
            looking.take(screen(found))


class _Beginning:
    """Adds up what the transaction has before the ordinal of ``cursor``."""

    def __init__(self, cursor: Position) -> None:
        self._cursor = cursor
        self.transaction: Transaction | None = None
        self.done_bytes = 0
        self._is_over = False

    def is_over(self) -> bool:
        return self._is_over

    def take(self, items: Sequence[Parcel]) -> None:
        for item in unpacked(items):
            if item.transaction.gtid != self._cursor.inside or self._is_over:
                continue
            self.transaction = item.transaction
            if isinstance(item, Commit):
                self._is_over = True
            elif not isinstance(item, Begin):
                self._is_over = item.ordinal >= self._cursor.ordinal
                self.done_bytes += 0 if self._is_over else size_of(item)
