"""Row images to tuples of texts, column by column. The plain, slow reading; a compiled one must agree with it.

An image is a bitmap of NULLs, one bit per column that is *in* the image, then the values that are not NULL, end to
end. An UPDATE has two images per row. In PARTIAL_UPDATE_ROWS the after image starts with options and, if they say so,
a bit per JSON column of the table that tells a diff from a document (MySQL's ``Rows_event`` in rows_event.h).
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from ha_canal.binlog import type_codes as t
from ha_canal.binlog.json_diff import apply_json_diffs
from ha_canal.binlog.values import ValueReader, value_reader
from ha_canal.errors import DecodeError, StreamError
from ha_canal.model.change import ChangeKind, Rows
from ha_canal.model.table import RowPlan

_GARBAGE: Final = (IndexError, ValueError, OverflowError, struct.error, zlib.error)
_PARTIAL_JSON_OPTION: Final = 1


class Absent(enum.Enum):
    """What stands for a column that the image does not hold (``binlog_row_image`` MINIMAL or NOBLOB)."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT

Value = str | None | Absent
"""A column's text, None for NULL, or `ABSENT`."""

Image = tuple[Value, ...]
"""One value per column of the table; ``()`` where the kind of change has no such image."""

_Step = tuple[int, ValueReader]


def decode_rows(rows: Rows) -> Iterator[tuple[Image, Image]]:
    """Yield (before, after) for each row of the event: ``before`` is ``()`` for INSERT, ``after`` for DELETE.

    Raises DecodeError, placed at the event, for bytes that are no row of the plan.
    """
    try:
        yield from _walk(rows)
    except StreamError as error:
        raise error.at(rows.transaction.file, rows.offset) from error.__cause__


def _walk(rows: Rows) -> Iterator[tuple[Image, Image]]:
    if rows.partial_json and rows.kind is ChangeKind.UPDATE:
        yield from _partial_rows(rows)
        return
    before = _image_reader(rows, rows.present_before) if rows.kind is not ChangeKind.INSERT else None
    after = _image_reader(rows, rows.present_after) if rows.kind is not ChangeKind.DELETE else None
    end, offset = len(rows.body), 0
    while True:
        start = offset
        old, offset = before.read(offset) if before else ((), offset)
        new, offset = after.read(offset) if after else ((), offset)
        yield old, new
        if offset >= end:
            return
        if offset == start:
            raise DecodeError(f"{rows.plan.schema}.{rows.plan.table}: {end} bytes of rows that hold no column")


def value_readers(plan: RowPlan) -> tuple[ValueReader, ...]:
    """Return one reader per column: the plan's own, or, for a plan made by hand, new ones."""
    return plan.readers or tuple(map(value_reader, plan.columns))


def _image_reader(rows: Rows, present: bytes) -> _ImageReader:
    columns, readers = rows.plan.columns, value_readers(rows.plan)
    if len(present) < (len(columns) + 7) // 8:
        raise DecodeError(f"{len(present)} bytes say which of {len(columns)} columns are in the rows")
    steps = [(index, readers[index]) for index in range(len(columns)) if present[index >> 3] >> (index & 7) & 1]
    return _ImageReader(rows, steps)


class _ImageReader:
    """Reads images which hold the columns of ``steps``."""

    __slots__ = ("_blank", "_body", "_null_bytes", "_plan", "_steps")

    def __init__(self, rows: Rows, steps: list[_Step]) -> None:
        self._plan = rows.plan
        self._body = rows.body
        self._steps = steps
        self._null_bytes = (len(steps) + 7) // 8
        self._blank: list[Value] = [ABSENT] * len(rows.plan.columns)

    def read(self, offset: int) -> tuple[Image, int]:
        body, index = self._body, -1
        nulls, at = self.nulls(offset)
        values = self._blank.copy()
        try:
            for bit, (index, read) in enumerate(self._steps):
                if nulls >> bit & 1:
                    values[index] = None
                else:
                    values[index], at = read(body, at)
        except _GARBAGE as error:
            raise self.failure(index, at, str(error)) from error
        if at > len(body):
            raise self.failure(index, at, f"the row ends {at - len(body)} bytes beyond the event")
        return tuple(values), at

    def read_with_places(self, offset: int) -> tuple[Image, int, dict[int, tuple[int, int]]]:
        """As `read`, and where each column that is not NULL stands, as (start, end)."""
        image, end = self.read(offset)
        nulls, at = self.nulls(offset)
        places: dict[int, tuple[int, int]] = {}
        for bit, (index, read) in enumerate(self._steps):
            if not nulls >> bit & 1:
                start = at
                _, at = read(self._body, at)
                places[index] = (start, at)
        return image, end, places

    def read_partial(self, offset: int, old: dict[int, bytes]) -> tuple[Image, int]:
        """Read an after image with JSON diffs; ``old`` holds the binary documents of the before image."""
        is_diff, at = self._diff_columns(offset)
        nulls, at = self.nulls(at)
        values, index = self._blank.copy(), -1
        try:
            for bit, (index, read) in enumerate(self._steps):
                if nulls >> bit & 1:
                    values[index] = None
                elif index in is_diff:
                    values[index], at = self._patched(index, at, old)
                else:
                    values[index], at = read(self._body, at)
        except _GARBAGE as error:
            raise self.failure(index, at, str(error)) from error
        if at > len(self._body):
            raise self.failure(index, at, f"the row ends {at - len(self._body)} bytes beyond the event")
        return tuple(values), at

    def nulls(self, offset: int) -> tuple[int, int]:
        end = offset + self._null_bytes
        if end > len(self._body):
            raise self.failure(-1, offset, f"{self._null_bytes} bytes of NULL bits reach beyond the event")
        return int.from_bytes(self._body[offset:end], "little"), end

    def failure(self, index: int, offset: int, why: str) -> DecodeError:
        where = f"{self._plan.schema}.{self._plan.table}"
        if index >= 0:
            column = self._plan.columns[index]
            where += f" column {index} {column.name!r} {column.mysql_type}"
        return DecodeError(f"{where}, byte {offset} of {len(self._body)} bytes of rows: {why}")

    def _diff_columns(self, offset: int) -> tuple[set[int], int]:
        if offset >= len(self._body):
            raise self.failure(-1, offset, "the options of a partial row are missing")
        options, at = self._body[offset], offset + 1
        if options & ~_PARTIAL_JSON_OPTION:
            raise self.failure(-1, offset, f"the options {options:#x} of a partial row are not known")
        if not options:
            return set(), at
        json_columns = [index for index, column in enumerate(self._plan.columns) if column.type_code == t.JSON]
        end = at + (len(json_columns) + 7) // 8
        bits = int.from_bytes(self._body[at:end], "little")
        return {index for bit, index in enumerate(json_columns) if bits >> bit & 1}, end

    def _patched(self, index: int, offset: int, old: dict[int, bytes]) -> tuple[str, int]:
        start = offset + 4
        end = start + int.from_bytes(self._body[offset:start], "little")
        if end > len(self._body):
            raise ValueError(f"a diff of {end - start} bytes reaches beyond the event")
        if index not in old:
            raise self.failure(
                index,
                offset,
                "the event holds only what changed in this JSON document, and not the document before; "
                "SET GLOBAL binlog_row_image = 'FULL', or binlog_row_value_options = '', on the source",
            )
        return apply_json_diffs(old[index], self._body[start:end]), end


def _partial_rows(rows: Rows) -> Iterator[tuple[Image, Image]]:
    before, after = _image_reader(rows, rows.present_before), _image_reader(rows, rows.present_after)
    offset = 0
    while offset < len(rows.body):
        old, offset, places = before.read_with_places(offset)
        documents = {
            index: rows.body[start + 4 : end]
            for index, (start, end) in places.items()
            if rows.plan.columns[index].type_code == t.JSON
        }
        new, offset = after.read_partial(offset, documents)
        yield old, new
