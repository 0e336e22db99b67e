"""Rows events up to their first row: what each type holds, which table it is of, and which columns are in it.

The body is table id (6), flags (2), in version 2 extra data behind its length (2, itself included), the number of
columns, a bitmap of present columns per image (INSERT: after; DELETE: before; UPDATE: both), and the rows (MySQL:
rows_event.h, Rows_event). MariaDB's compressed types hold one compressed block in place of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ha_canal.binlog.events import Bytes, EventType, read_lenenc, take
from ha_canal.errors import DecodeError
from ha_canal.model.change import ChangeKind

NO_TABLE = 0xFFFFFF
"""The table id of a rows event that only ends a statement and has no rows."""


class RowsShape(NamedTuple):
    """How the rows events of one type are laid out. ``extra``: version 2, with data of its own length in its head."""

    kind: ChangeKind
    extra: bool = True
    compressed: bool = False
    partial_json: bool = False


ROWS_SHAPES: dict[int, RowsShape] = {
    EventType.WRITE_ROWS: RowsShape(ChangeKind.INSERT),
    EventType.UPDATE_ROWS: RowsShape(ChangeKind.UPDATE),
    EventType.DELETE_ROWS: RowsShape(ChangeKind.DELETE),
    EventType.PARTIAL_UPDATE_ROWS: RowsShape(ChangeKind.UPDATE, partial_json=True),
    EventType.WRITE_ROWS_V1: RowsShape(ChangeKind.INSERT, extra=False),
    EventType.UPDATE_ROWS_V1: RowsShape(ChangeKind.UPDATE, extra=False),
    EventType.DELETE_ROWS_V1: RowsShape(ChangeKind.DELETE, extra=False),
    EventType.WRITE_ROWS_COMPRESSED_V1: RowsShape(ChangeKind.INSERT, extra=False, compressed=True),
    EventType.UPDATE_ROWS_COMPRESSED_V1: RowsShape(ChangeKind.UPDATE, extra=False, compressed=True),
    EventType.DELETE_ROWS_COMPRESSED_V1: RowsShape(ChangeKind.DELETE, extra=False, compressed=True),
    EventType.WRITE_ROWS_COMPRESSED: RowsShape(ChangeKind.INSERT, compressed=True),
    EventType.UPDATE_ROWS_COMPRESSED: RowsShape(ChangeKind.UPDATE, compressed=True),
    EventType.DELETE_ROWS_COMPRESSED: RowsShape(ChangeKind.DELETE, compressed=True),
}


@dataclass(frozen=True, slots=True)
class RowsHeader:
    """What stands before the rows: which table, how many columns, and which of them the images hold."""

    table_id: int
    column_count: int
    present_before: bytes
    present_after: bytes
    rows_at: int


def parse_rows_header(body: Bytes, shape: RowsShape) -> RowsHeader:
    """Read a rows event up to its first row."""
    at = 8
    if shape.extra:
        extra_bytes = int.from_bytes(take(body, at, 2), "little")
        if extra_bytes < 2:
            raise DecodeError(f"extra data of {extra_bytes} bytes")
        at += extra_bytes
    count, at = read_lenenc(body, at)
    bitmap_bytes = count + 7 >> 3
    before = after = b""
    if shape.kind is not ChangeKind.INSERT:
        before = bytes(take(body, at, bitmap_bytes))
        at += bitmap_bytes
    if shape.kind is not ChangeKind.DELETE:
        after = bytes(take(body, at, bitmap_bytes))
        at += bitmap_bytes
    return RowsHeader(int.from_bytes(body[:6], "little"), count, before, after, at)
