"""Reads a stretch of binlog for what is in it, without column names: to compare, or to count, and never to deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.row_count import count_rows, counting_plan
from ha_canal.binlog.stream import BinlogStream
from ha_canal.errors import DecodeError
from ha_canal.model.change import Commit, Rows
from ha_canal.model.gtid import MysqlGtidSet
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, unpacked
from ha_canal.mysql.connection import ServerInfo
from ha_canal.source.refusal import server_errors_explained
from ha_canal.source.search import BinlogSearch

Screen = Callable[[Sequence[Parcel]], Sequence[Parcel]]


class Tables(Protocol):
    """Which tables matter; the rows of others are dropped unread."""

    def wants(self, schema: str, table: str) -> bool: ...


class Taker(Protocol):
    """What is done with the items that pass."""

    def take(self, items: Iterable[Parcel]) -> None: ...
    def is_over(self) -> bool:
        """Whether it has seen enough."""


async def scan(
    search: BinlogSearch,
    info: ServerInfo,
    start: Position,
    end: Position,
    taker: Taker,
    *,
    tables: Tables,
    screen: Screen,
) -> None:
    """Show ``taker`` what passes ``screen`` from ``start`` to ``end``, and perhaps a little beyond.

    Both are ends of transactions on the server ``info``. Raises our errors.
    """
    stream = BinlogStream(file=start.file, offset=start.offset, server_uuid=info.server_uuid)
    async with search.dump(start) as socket:
        with server_errors_explained(info, stream):
            while not taker.is_over() and (stream.file, stream.offset) != (end.file, end.offset):
                stream.feed(await socket.receive())
                _take_all(stream, taker, tables, screen)
                if stream.events and Position(stream.file, stream.offset).order >= end.order:
                    return
                await asyncio.sleep(0)  # a fast source never makes us wait, and others share this loop


def _take_all(stream: BinlogStream, taker: Taker, tables: Tables, screen: Screen) -> None:
    while (found := stream.next_items()) and not taker.is_over():
        if isinstance(found, PlanNeeded):
            table = found.table_map
            stream.supply_plan(found, counting_plan(table) if tables.wants(table.schema, table.table) else None)
        else:
            taker.take(screen(found))


def place_behind(commit: Commit, server: Position) -> Position:
    """Return the end of a transaction, as a place of the server whose ids ``server`` has."""
    return replace(
        server,
        file=commit.transaction.file,
        offset=commit.end_offset,
        timestamp_ms=commit.transaction.commit_timestamp_us // 1000 or commit.timestamp_s * 1000,
        gtid_set="",
        ordinal=0,
    )


class Counting:
    """Counts transactions that are not empty, and their rows, up to ``end``; no longer than until ``is_late`` says."""

    def __init__(self, end: Position, is_late: Callable[[], bool]) -> None:
        self._end = end
        self._is_late = is_late
        self._open_rows = 0
        self.transactions = 0
        self.rows = 0
        self.can_count_rows = True
        """False: there are rows whose widths only the table's definition tells."""

    def take(self, items: Iterable[Parcel]) -> None:
        for item in unpacked(items):
            match item:
                case Rows():
                    self._add_rows(item)
                case Commit():
                    if not item.empty and place_behind(item, self._end).order <= self._end.order:
                        self.transactions += 1
                        self.rows += self._open_rows
                    self._open_rows = 0
                case _:
                    pass

    def _add_rows(self, rows: Rows) -> None:
        try:
            self._open_rows += count_rows(rows)
        except DecodeError:
            self.can_count_rows = False

    def is_over(self) -> bool:
        return self._is_late()


class GtidsBefore:
    """Adds the GTIDs of the transactions up to ``end`` to those that were done before the file."""

    def __init__(self, before: MysqlGtidSet, end: Position) -> None:
        self.gtids = before
        self._end = end

    def take(self, items: Iterable[Parcel]) -> None:
        for item in unpacked(items):
            if not isinstance(item, Commit) or not item.transaction.gtid:
                continue
            if place_behind(item, self._end).order <= self._end.order:
                self.gtids.add(item.transaction.gtid)

    def is_over(self) -> bool:
        return False


class NoTables:
    """Wants none."""

    def wants(self, schema: str, table: str) -> bool:  # the answer is the same for all
        return False
