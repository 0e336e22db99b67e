"""How many rows a rows event holds, by the widths of its columns alone: no names, no character sets, no values.

Widths are those of `ha_canal.binlog.table_map`'s metadata. Old temporal types of MariaDB are as wide as their digits
say, which no event tells: such rows cannot be counted without the table's definition.
"""

from __future__ import annotations

from ha_canal.binlog import type_codes as t
from ha_canal.binlog.decimal import decimal_size_bytes
from ha_canal.binlog.table_map import TableMap
from ha_canal.errors import DecodeError
from ha_canal.model.change import ChangeKind, Rows
from ha_canal.model.table import Column, RowPlan

_FIXED_BYTES = {
    t.TINY: 1,
    t.SHORT: 2,
    t.INT24: 3,
    t.LONG: 4,
    t.LONGLONG: 8,
    t.FLOAT: 4,
    t.DOUBLE: 8,
    t.YEAR: 1,
    t.DATE: 3,
    t.NEWDATE: 3,
}
_OLD_TEMPORAL_BYTES = {t.TIMESTAMP: 4, t.DATETIME: 8, t.TIME: 3}
_TEMPORAL_BYTES = {t.TIMESTAMP2: 4, t.DATETIME2: 5, t.TIME2: 3}
_BEHIND_LENGTH = t.BLOBS | {t.JSON, t.GEOMETRY, t.VECTOR, t.BLOB_COMPRESSED}
_STRINGS = (t.VARCHAR, t.VAR_STRING, t.STRING, t.VARCHAR_COMPRESSED)


def can_be_counted(table_map: TableMap, *, mariadb: bool) -> bool:
    """Whether the event tells the widths of all columns."""
    return not (mariadb and t.OLD_TEMPORAL & set(table_map.type_codes))


def counting_plan(table_map: TableMap) -> RowPlan:
    """Return a plan without names, for `count_rows` alone."""
    columns = tuple(
        Column("", code, meta, "", 0) for code, meta in zip(table_map.type_codes, table_map.type_metas, strict=True)
    )
    return RowPlan(table_map.schema, table_map.table, table_map.table_id, columns)


def count_rows(rows: Rows) -> int:
    """Return the number of rows. Raises DecodeError, placed at the event, for bytes that are no rows of the plan."""
    try:
        return _Counter(rows).count()
    except DecodeError as error:
        raise error.at(rows.transaction.file, rows.offset) from error.__cause__


class _Counter:
    """Steps over the images of one event. A width is in bytes, or, negative, the bytes of the length in front."""

    __slots__ = ("_after", "_before", "_body", "_json", "_rows")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._body = rows.body
        columns = rows.plan.columns
        insert, delete = rows.kind is ChangeKind.INSERT, rows.kind is ChangeKind.DELETE
        self._before = None if insert else self._present(rows.present_before)
        self._after = None if delete else self._present(rows.present_after)
        partial = rows.partial_json and rows.kind is ChangeKind.UPDATE
        self._json = [index for index, column in enumerate(columns) if column.type_code == t.JSON] if partial else None

    def count(self) -> int:
        count, at = 0, 0
        while True:
            start = at
            if self._before is not None:
                at = self._skip(self._before, at)
            if self._after is not None:
                at = self._skip(self._after, self._skip_options(at))
            count += 1
            if at >= len(self._body):
                return count
            if at == start:
                raise self._error(at, "rows without any column")

    def _present(self, present: bytes) -> list[int]:
        columns = self._rows.plan.columns
        if len(present) < (len(columns) + 7) // 8:
            raise self._error(0, f"{len(present)} bytes say which of {len(columns)} columns are in the rows")
        return [_width(column) for index, column in enumerate(columns) if present[index >> 3] >> (index & 7) & 1]

    def _skip(self, widths: list[int], at: int) -> int:
        body = self._body
        end = at + (len(widths) + 7) // 8
        nulls = int.from_bytes(body[at:end], "little")
        at = end
        for width in widths:
            if nulls & 1:
                pass
            elif width >= 0:
                at += width
            else:
                at += int.from_bytes(body[at : at - width], "little") - width
            nulls >>= 1
        if at > len(body):
            raise self._error(at, f"a row ends {at - len(body)} bytes behind the event")
        return at

    def _skip_options(self, at: int) -> int:
        """Step over what says, in a partial update, which JSON columns hold a diff."""
        if self._json is None:
            return at
        if self._body[at : at + 1] not in (b"\0", b"\1"):
            raise self._error(at, "the options of a partial row are missing, or not known")
        return at + 1 + (self._body[at] & 1) * ((len(self._json) + 7) // 8)

    def _error(self, at: int, why: str) -> DecodeError:
        plan = self._rows.plan
        return DecodeError(f"{plan.schema}.{plan.table}, byte {at} of {len(self._body)} bytes of rows: {why}")


def _width(column: Column) -> int:
    code, meta = column.type_code, column.type_meta
    if code in _FIXED_BYTES:
        return _FIXED_BYTES[code]
    if code in _TEMPORAL_BYTES:
        return _TEMPORAL_BYTES[code] + (meta + 1) // 2
    if code in _OLD_TEMPORAL_BYTES:
        return _OLD_TEMPORAL_BYTES[code]
    if code in _STRINGS:
        return -1 if meta < 256 else -2
    if code in _BEHIND_LENGTH:
        return -meta
    if code == t.NEWDECIMAL:
        return decimal_size_bytes(meta >> 8, meta & 255)
    if code == t.BIT:
        return (meta + 7) // 8
    if code in t.LABELLED:
        return meta
    raise DecodeError(f"column type {code}, which rows never hold")
