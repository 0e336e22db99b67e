"""Fingerprints of transactions: the same on every server that has executed them, whatever its files and table ids.

A fingerprint is a CRC32 over tables, kinds of change, column bitmaps, row images and statements. Positions, table ids,
times and server ids are no part of it, nor is where one rows event ends and the next of the same table begins: servers
cut them as they like. `Memory` keeps those that were read, by where each transaction ended, so that what a cursor has
behind it can be told at any time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from ha_canal.model.change import Begin, Commit, Rows, Statement
from ha_canal.model.position import Position, file_sequence
from ha_canal.model.remembered import NOTHING_REMEMBERED, Remembered
from ha_canal.model.run import Parcel, unpacked

MOST_REMEMBERED = 128
"""More than the threads with which a standby may apply transactions out of order, and few enough for each ack."""
REMEMBERED_S = 600
"""Nothing older than that before the last transaction is remembered: all of it has to be read again to be found."""


class Fingerprints:
    """Takes the items of one stream, in pieces of any size; the transactions that are left of it get a fingerprint."""

    def __init__(self) -> None:
        self._crc = 0
        self._layout: tuple[object, ...] = ()

    def of(self, items: Iterable[Parcel]) -> Iterator[tuple[Commit, int]]:
        """Yield the end of each transaction that is not empty, and its fingerprint."""
        for item in unpacked(items):
            match item:
                case Rows():
                    self._add_rows(item)
                case Statement():
                    self._layout = ()
                    self._crc = crc32(b"\0".join((b"\1", item.sql.encode("utf-8", "surrogateescape"))), self._crc)
                case Begin():
                    self._crc, self._layout = 0, ()
                case Commit() if not item.empty:
                    yield item, self._crc
                case Commit():
                    pass

    def _add_rows(self, rows: Rows) -> None:
        plan = rows.plan
        layout = (plan.schema, plan.table, rows.kind, rows.present_before, rows.present_after)
        if layout != self._layout:
            self._layout = layout
            names = f"\2{plan.schema}\0{plan.table}\0{int(rows.kind)}\0"
            head = names.encode("utf-8", "surrogateescape") + rows.present_before + b"\0" + rows.present_after
            self._crc = crc32(head, self._crc)
        self._crc = crc32(rows.body, self._crc)


@dataclass(slots=True)
class _File:
    """The transactions of one binlog file, in rising order of where they end."""

    key: tuple[int, str]
    ends: array[int] = field(default_factory=lambda: array("Q"))
    times_s: array[int] = field(default_factory=lambda: array("I"))
    crcs: array[int] = field(default_factory=lambda: array("I"))


class Memory:
    """The fingerprints of what was read behind ``start``, and ``before``: those of what lies before it, if known."""

    def __init__(self, start: Position, before: Remembered = NOTHING_REMEMBERED) -> None:
        first = _File(file_sequence(start.file))
        for crc in before.fingerprints:
            _append(first, start.offset, before.since_s, crc)
        self._files = [first]
        self._fingerprints = Fingerprints()

    def saw(self, items: Iterable[Parcel]) -> None:
        """Take note of items that were read and passed the instance's filter."""
        for commit, crc in self._fingerprints.of(items):
            key = file_sequence(commit.transaction.file)
            if key != self._files[-1].key:
                self._files.append(_File(key))
            _append(self._files[-1], commit.end_offset, commit.timestamp_s, crc)

    def recall(self, cursor: Position) -> Remembered:
        """Return what is remembered of the last transactions at or before ``cursor``, a place of this server."""
        last = self._last_before(cursor)
        crcs: list[int] = []
        since_s = 0
        for crc, time_s in last:
            if len(crcs) == MOST_REMEMBERED or time_s * 1000 < cursor.timestamp_ms - REMEMBERED_S * 1000:
                break
            crcs.append(crc)
            since_s = min(since_s or time_s, time_s)
        return Remembered(tuple(reversed(crcs)), since_s)

    def forget_before(self, cursor: Position) -> None:
        """Let go of what no cursor at or behind ``cursor`` needs."""
        while len(self._files) > 1 and self._count_before(cursor, self._files[1:]) >= MOST_REMEMBERED:
            del self._files[0]
        first = self._files[0]
        spare = self._count_before(cursor, [first]) - MOST_REMEMBERED
        if spare > MOST_REMEMBERED:  # seldom, as it moves all that stays
            del first.ends[:spare], first.times_s[:spare], first.crcs[:spare]

    def _count_before(self, cursor: Position, files: Sequence[_File]) -> int:
        return sum(_done(file, cursor) for file in files)

    @property
    def transactions(self) -> int:
        """How many are kept."""
        return sum(len(file.ends) for file in self._files)

    def _last_before(self, cursor: Position) -> Iterator[tuple[int, int]]:
        for file in reversed(self._files):
            for index in range(_done(file, cursor) - 1, -1, -1):
                yield file.crcs[index], file.times_s[index]


def _done(file: _File, cursor: Position) -> int:
    """Return how many of the file's transactions end at or before ``cursor``."""
    key = file_sequence(cursor.file)
    if file.key == key:
        return bisect_right(file.ends, cursor.offset)
    return len(file.ends) if file.key < key else 0


def _append(file: _File, end: int, time_s: int, crc: int) -> None:
    file.ends.append(end)
    file.times_s.append(time_s)
    file.crcs.append(crc)
