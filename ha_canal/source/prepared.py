"""Reads the rows of an XA transaction again, from where they were prepared, on a dump connection of its own.

Rows are logged at ``XA PREPARE``, and delivered at ``XA COMMIT``. What the stream has not kept until then (it was too
large, or was prepared before the stream began) is read from its file and offset. Where that is not known, files are
looked through from the commit backwards: the nearest prepare of that name before it holds the rows, unless it was
decided in between. So nothing about prepared transactions has to be remembered over restarts (docs/adr/0004).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.binlog.xa import Order, PreparedGroups, XaRows, Xid
from ha_canal.binlog.xa_transactions import PreparedNeeded
from ha_canal.config import SourceSection
from ha_canal.errors import ChainError, PositionPurgedError
from ha_canal.model.change import Commit, Item, Transaction
from ha_canal.model.position import Position, file_sequence
from ha_canal.model.table import RowPlan
from ha_canal.mysql.connection import ServerInfo, Session
from ha_canal.mysql.dump import BinlogSocket
from ha_canal.source.beside import BesideDumps
from ha_canal.source.refusal import server_errors_explained

log = logging.getLogger(__name__)

_FIRST_OFFSET = 4

Plan = Callable[[PlanNeeded, BinlogStream, Transaction], Awaitable[RowPlan | None]]
"""Answers the question of a stream which reads this prepared group again."""


class PreparedRows:
    """Finds and reads prepared groups of one server. ``not_server_id`` is that of the connection that reads."""

    def __init__(self, source: SourceSection, *, not_server_id: int) -> None:
        self._dumps = BesideDumps(source, not_server_id=not_server_id)

    async def items(
        self, needed: PreparedNeeded, groups: PreparedGroups, *, db: Session, info: ServerInfo, plan: Plan
    ) -> AsyncGenerator[Sequence[Item]]:
        """Yield the group's items in slices, its `Commit` last. ``groups`` learns what was found on the way.

        Raises PositionPurgedError when the rows are in no binlog file any more, and our errors of connections.
        """
        group = needed.prepared or await self._find(needed, groups, db, info)
        start = Position(group.file, group.start_offset)
        async with self._reading(start, info, xa=XaRows.REPLAY) as (stream, socket):
            is_first = True
            while True:
                match stream.next_items():
                    case PlanNeeded() as question:
                        stream.supply_plan(question, await plan(question, stream, group))
                    case []:
                        stream.feed(await socket.receive())
                    case items:
                        if is_first:
                            _check_is_group(group, items[0].transaction)
                        is_first = False
                        mine = _up_to_commit(items)
                        yield mine
                        if isinstance(mine[-1], Commit):
                            return

    async def _find(self, needed: PreparedNeeded, groups: PreparedGroups, db: Session, info: ServerInfo) -> Transaction:
        commit = needed.commit
        until = Position(commit.file, commit.start_offset).order
        names = [str(row[0]) for row in await db.query("SHOW BINARY LOGS")]
        names = sorted((name for name in names if file_sequence(name) <= until[0]), key=file_sequence, reverse=True)
        log.info(
            "%s: looking for the rows of the XA transaction %s, which %s:%d commits, in the binlog before it",
            *(info.address, needed.xid, commit.file, commit.start_offset),
        )
        newer: set[Xid] = set()
        for name in names:
            seen = (await self._look_through(name, until, info)).known()
            for xid, group in seen.items():
                if group is not None and xid not in newer and xid != needed.xid:
                    groups.learn(xid, group.transaction)
            if needed.xid in seen:
                found = seen[needed.xid]
                if found is not None:
                    return found.transaction
                break
            newer.update(seen)
            until = (file_sequence(name), _FIRST_OFFSET)
        raise PositionPurgedError(
            f"{info.address}: {commit.file}:{commit.start_offset} commits the XA transaction {needed.xid}, and its "
            "rows, which are logged when it is prepared, are in no binlog file of the server: the file was purged, or "
            "the session that prepared it did not log (sql_log_bin = 0). Keep binlog files for longer than a "
            "transaction may stay prepared; to go on, read the tables it changed anew, and start behind this place"
        )

    async def _look_through(self, name: str, until: Order, info: ServerInfo) -> PreparedGroups:
        """Return what was prepared or decided in one file, before ``until``."""
        groups = PreparedGroups(before=until)
        async with self._reading(Position(name, _FIRST_OFFSET), info, xa=XaRows.FIND, prepared=groups) as reading:
            stream, socket = reading
            while stream.file == name and (file_sequence(name), stream.offset) < until:
                stream.feed(await socket.receive())
                _pass_over(stream)
                await asyncio.sleep(0)  # a long way must leave room for others
        return groups

    @contextlib.asynccontextmanager
    async def _reading(
        self, start: Position, info: ServerInfo, *, xa: XaRows, prepared: PreparedGroups | None = None
    ) -> AsyncIterator[tuple[BinlogStream, BinlogSocket]]:
        """Dump from ``start`` by file and offset: GTIDs could not name a group that is done."""
        stream = BinlogStream(
            file=start.file, offset=start.offset, server_uuid=info.server_uuid, xa=xa, prepared=prepared
        )
        async with self._dumps.dump(info, start) as socket:
            with server_errors_explained(info, stream):
                yield stream, socket


def _pass_over(stream: BinlogStream) -> None:
    """Let the stream see all that was fed."""
    while True:
        got = stream.next_parcels()
        if isinstance(got, PlanNeeded):
            stream.supply_plan(got, None)
        elif not got:
            return


def _check_is_group(group: Transaction, found: Transaction) -> None:
    if found != group:
        raise ChainError(
            f"the server sends {found.event_id_prefix} where {group.event_id_prefix} was prepared: another server "
            "answers, or its binlog was reset",
            file=group.file,
            offset=group.start_offset,
        )


def _up_to_commit(items: Sequence[Item]) -> Sequence[Item]:
    for index, item in enumerate(items):
        if isinstance(item, Commit):
            return items[: index + 1]
    return items
