"""Rows of one event to serialized ``RowData``, a column at a time: how the Python encoder keeps up with a source.

`rows` reads image by image and value by value, and says where a body is wrong. Here the values of all rows are first
taken apart into one flat list, then each column becomes texts (`bulk_values`), then the rows are put together again
from ready pieces. Nothing here describes an error: for whatever is unusual, `encode_rows` returns None, and the
careful path, which is what defines the bytes, does the event.

A flat list has one slot for the NULL bits of each row and one per column of the image, so that a column is a slice
with a stride. A NULL takes a slot too: each pattern of NULLs in an image has a layout of its own, in which the columns
that are NULL have the format ``0s``: no bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain, compress, repeat
from operator import ne, not_, or_, sub
from typing import Any, Final, NamedTuple

from ha_canal.binlog import wire
from ha_canal.binlog.bulk_values import BulkColumn, bulk_column
from ha_canal.binlog.memo import Memo
from ha_canal.binlog.rows import value_readers
from ha_canal.binlog.values import ValueReader
from ha_canal.errors import StreamError
from ha_canal.model.change import ChangeKind, Rows

_UNUSUAL: Final = (IndexError, ValueError, OverflowError, struct.error, zlib.error, StreamError)
_LEAST_BYTES: Final = 400
"""Below, there are too few rows to share what each event costs."""
_MOST_BYTES: Final = 1 << 20
"""Above, values may be large, and here they are copied several times."""
_BEFORE, _AFTER = b"\x0a", b"\x12"
_VALUE: Final = b"\x42"
_ROW_DATAS: Final = b"\x62"
_FLOATS: Final = ("f", "d")
"""Where values which are equal may have different texts: 0 and -0."""
_KEPT: Final = 512
_ENCODERS_KEPT: Final = 64
_NULL: Final = -1
"""Stands for the length of a NULL."""

Frames = tuple[tuple[bytes, ...], ...]
_Updated = bool | list[bool]
"""Of each row, or of all."""
_Unpack = Callable[[bytes, int], tuple[Any, ...]]
_Step = tuple[ValueReader | None, _Unpack, int]
"""How to read the value that comes next, or None: the last number read is its size; then how to read the neighbours
behind it, and their bytes."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How to read a row: ``first`` its NULL bits and what is fixed in front, then the steps.

    ``steps_on`` read on in a next row of the same layout: the last of them ends with the ``first`` of that.
    """

    first: _Unpack
    first_bytes: int
    first_values: int
    steps: tuple[_Step, ...]
    steps_on: tuple[_Step, ...]


class _Layouts(dict[bytes, _Layout]):
    """The layout for each pattern of NULL bits: made when it is met first, and kept if there are few."""

    __slots__ = ("_columns",)

    def __init__(self, columns: list[BulkColumn]) -> None:
        super().__init__()
        self._columns = columns

    def __missing__(self, nulls: bytes) -> _Layout:
        if len(nulls) * 8 < len(self._columns):
            raise ValueError("NULL bits reach beyond the event")
        layout = _layout(self._columns, nulls)
        if len(self) < _KEPT:
            self[nulls] = layout
        return layout


def _layout(columns: list[BulkColumn], nulls: bytes) -> _Layout:
    bits = int.from_bytes(nulls, "little")
    formats = [f"{len(nulls)}s"]
    readers: list[ValueReader | None] = []
    for bit, column in enumerate(columns):
        if bits >> bit & 1:
            formats[-1] += "0s"
            continue
        formats[-1] += column.format
        if column.sized or column.reader:
            readers.append(column.reader)
            formats.append("")
    first, *others = formats
    size, values = struct.calcsize("<" + first), len(struct.unpack("<" + first, bytes(struct.calcsize("<" + first))))
    steps = tuple(map(_step, readers, others))
    steps_on = (*steps[:-1], _step(readers[-1], others[-1] + first)) if steps else ()
    return _Layout(struct.Struct("<" + first).unpack_from, size, values, steps, steps_on)


def _step(reader: ValueReader | None, format_: str) -> _Step:
    unpack = struct.Struct("<" + format_)
    return reader, unpack.unpack_from, unpack.size


@dataclass(frozen=True, slots=True)
class _Image:
    """An image that holds the columns ``indexes``; ``columns`` says how to read each of them.

    ``fixed_bytes`` is what it has at least where nothing is NULL: no part of it that is read at once has more.
    """

    indexes: list[int]
    columns: list[BulkColumn]
    layouts: _Layouts
    null_bytes: int
    fixed_bytes: int


class _Values(NamedTuple):
    """One column of all rows, as read and as texts.

    ``nulls`` has a 1 for each that is NULL and a 0 for others, and is empty if none is. ``text_bytes`` is what all
    texts have, 0 if they differ.
    """

    raw: list[Any]
    texts: list[str]
    nulls: list[int]
    text_bytes: int


class _BulkEncoder:
    """Encodes the events of one plan which hold the same columns."""

    __slots__ = ("_after", "_before", "_frames", "_leads", "_row_heads")

    def __init__(self, rows: Rows, frames: Frames) -> None:
        columns = list(map(bulk_column, rows.plan.columns, value_readers(rows.plan)))
        self._before = _image(columns, rows.present_before) if rows.kind is not ChangeKind.INSERT else None
        self._after = _image(columns, rows.present_after) if rows.kind is not ChangeKind.DELETE else None
        self._frames = frames
        self._leads: dict[tuple[str, bytes, int, bool], Memo[int]] = {}
        self._row_heads = Memo[int](lambda size: str(_ROW_DATAS + wire.varint(size), "latin-1"), 4 * _KEPT)

    def encode(self, body: bytes) -> tuple[bytes, int]:
        """Return the row data of all rows, and how many they are. Raises one of ``_UNUSUAL``."""
        before: dict[int, _Values] = {}
        after: dict[int, _Values] = {}
        if self._before and self._after:
            old, new = _taken_apart(body, [self._before, self._after])
            before = _columns_of(self._before, old, {})
            after = _columns_of(self._after, new, before)
        elif self._after:
            after = _columns_of(self._after, _taken_apart_alone(body, self._after), {})
        elif self._before:
            before = _columns_of(self._before, _taken_apart_alone(body, self._before), {})
        pieces, tail = self._pieces(before, after)
        rows = list(map("".join, zip(*pieces, repeat(tail))))
        heads = map(self._row_heads.__getitem__, map(len, rows))
        return "".join(chain.from_iterable(zip(heads, rows, strict=True))).encode("latin-1"), len(rows)

    def _pieces(self, before: dict[int, _Values], after: dict[int, _Values]) -> tuple[list[Iterable[str]], str]:
        """Return lists of one piece per row, in the order in which the pieces follow each other, and what ends a row.

        What stands between two values, from the tail of one to the length of the next, is one piece.
        """
        pieces: list[Iterable[str]] = []
        tail = ""
        for index, values in before.items():
            pieces += (self._between(tail, _BEFORE, index, values, False), values.texts)
            tail = str(self._frames[index][2], "latin-1")
        for index, values in after.items():
            pieces += (self._between(tail, _AFTER, index, values, _updated(before.get(index), values)), values.texts)
            tail = str(self._frames[index][2], "latin-1")
        return pieces, tail

    def _between(self, tail: str, tag: bytes, index: int, values: _Values, updated: _Updated) -> Iterable[str]:
        if isinstance(updated, bool) and values.text_bytes:
            return repeat(self._lead(tail, tag, index, updated=updated)[values.text_bytes])
        sizes: Iterable[int] = map(len, values.texts)
        if values.nulls:
            sizes = map(sub, sizes, values.nulls)  # 0 - 1 is _NULL
        if isinstance(updated, bool):
            return map(self._lead(tail, tag, index, updated=updated).__getitem__, sizes)
        leads = self._lead(tail, tag, index, updated=False), self._lead(tail, tag, index, updated=True)
        return [leads[new][size] for new, size in zip(updated, sizes, strict=True)]

    def _lead(self, tail: str, tag: bytes, index: int, *, updated: bool) -> Memo[int]:
        key = (tail, tag, index, updated)
        if key not in self._leads:
            frame, before = self._frames[index], tail.encode("latin-1") + tag
            self._leads[key] = Memo(lambda size: str(before + _column_start(frame, size, updated), "latin-1"), _KEPT)
        return self._leads[key]


def _column_start(frame: tuple[bytes, ...], size: int, updated: bool) -> bytes:
    """What of a column comes before its text of ``size`` bytes; all but the tail of one that is NULL."""
    head, tail = frame[updated], frame[2]
    if size == _NULL:
        return frame[3 + updated].removesuffix(tail)
    field = _VALUE + wire.varint(size) if size else b""
    return wire.varint(len(head) + len(field) + size + len(tail)) + head + field


def _updated(old: _Values | None, new: _Values) -> _Updated:
    """Tell for each row whether the column is another than before."""
    if old is None:
        return True
    if old is new or (old.texts == new.texts and old.nulls == new.nulls):
        return False
    changed = list(map(ne, old.texts, new.texts))
    if old.nulls or new.nulls:
        none = [0] * len(changed)
        moved = map(ne, old.nulls or none, new.nulls or none)
        changed = [a or b for a, b in zip(changed, moved, strict=True)]
    return True if all(changed) else changed


def _image(columns: list[BulkColumn], present: bytes) -> _Image:
    indexes = [index for index in range(len(columns)) if present[index >> 3] >> (index & 7) & 1]
    if not indexes:
        raise ValueError("an image without columns")
    held = [columns[index] for index in indexes]
    null_bytes = (len(held) + 7) // 8
    fixed_bytes = null_bytes + sum(struct.calcsize("<" + column.format) for column in held)
    return _Image(indexes, held, _Layouts(held), null_bytes, fixed_bytes)


def _taken_apart(body: bytes, images: list[_Image]) -> list[list[Any]]:
    """Return, for each image, the NULL bits and values of all rows in one list."""
    characters = str(body, "latin-1")
    taken: list[list[Any]] = [[] for _ in images]
    into = [(image.layouts, image.null_bytes, flat) for image, flat in zip(images, taken, strict=True)]
    at, end = 0, len(body)
    while at < end:
        for layouts, null_bytes, values in into:
            layout = layouts[body[at : at + null_bytes]]
            values += layout.first(body, at)
            at += layout.first_bytes
            for read, unpack_next, next_bytes in layout.steps:
                if read is None:
                    start = at
                    at += values[-1]
                    values[-1] = characters[start:at]
                else:
                    value, at = read(body, at)
                    values.append(value)
                values += unpack_next(body, at)
                at += next_bytes
    if at > end:
        raise ValueError("a row ends beyond the event")
    return taken


def _taken_apart_alone(body: bytes, image: _Image) -> list[Any]:
    """Do the same with one image: a row with the same NULLs as the one before is read on from the end of that."""
    characters = str(body, "latin-1")
    values: list[Any] = []
    at, end = 0, len(body)
    body += bytes(image.fixed_bytes)  # so that it can be read on from the last row, too
    while at < end:
        nulls = body[at : at + image.null_bytes]
        layout = image.layouts[nulls]
        steps, first_bytes, first_values = layout.steps_on, layout.first_bytes, layout.first_values
        values += layout.first(body, at)
        at += first_bytes
        while steps:
            for read, unpack_next, next_bytes in steps:
                if read is None:
                    start = at
                    at += values[-1]
                    values[-1] = characters[start:at]
                else:
                    value, at = read(body, at)
                    values.append(value)
                values += unpack_next(body, at)
                at += next_bytes
            if at - first_bytes >= end or values[-first_values] != nulls:
                del values[-first_values:]
                at -= first_bytes
                break
    if at > end:
        raise ValueError("a row ends beyond the event")
    return values


def _columns_of(image: _Image, flat: list[Any], known: dict[int, _Values]) -> dict[int, _Values]:
    """Return the columns of all rows; what equals a ``known`` column is not converted again."""
    found: dict[int, _Values] = {}
    stride = len(image.columns) + 1
    patterns: list[bytes] = flat[::stride]
    bits = {pattern: int.from_bytes(pattern, "little") for pattern in set(patterns)}
    any_null = reduce(or_, bits.values())
    for bit, (index, column) in enumerate(zip(image.indexes, image.columns, strict=True)):
        raw = flat[bit + 1 :: stride]
        nulls = _nulls(bits, patterns, bit) if any_null >> bit & 1 else []
        old = known.get(index)
        if old and old.raw == raw and old.nulls == nulls and not (column.format in _FLOATS and 0.0 in raw):
            found[index] = old
        else:
            found[index] = _Values(raw, _texts(column, raw, nulls), nulls, 0 if nulls else column.text_bytes)
    return found


def _nulls(bits: dict[bytes, int], patterns: list[bytes], bit: int) -> list[int]:
    is_null = {pattern: number >> bit & 1 for pattern, number in bits.items()}
    return list(map(is_null.__getitem__, patterns))


def _texts(column: BulkColumn, raw: list[Any], nulls: list[int]) -> list[str]:
    if not nulls:
        return column.texts(raw)
    present = list(compress(raw, map(not_, nulls)))
    sources: tuple[Iterator[str], Iterator[str]] = iter(column.texts(present) if present else ()), repeat("")
    return list(map(next, map(sources.__getitem__, nulls)))


def encode_rows(rows: Rows, frames: Frames, *, least_bytes: int = _LEAST_BYTES) -> tuple[bytes, int] | None:
    """Return the serialized ``rowDatas`` of the event and the number of its rows, or None for the careful path.

    A body of less than ``least_bytes`` is for the careful path as well.
    """
    if not max(least_bytes, 1) <= len(rows.body) <= _MOST_BYTES or (
        rows.partial_json and rows.kind is ChangeKind.UPDATE
    ):
        return None
    try:
        return _encoder(rows, frames).encode(rows.body)
    except _UNUSUAL:
        return None


def _encoder(rows: Rows, frames: Frames) -> _BulkEncoder:
    kept = rows.plan.compiled.setdefault(__name__, {})
    assert isinstance(kept, dict)
    key = (rows.kind, rows.present_before, rows.present_after)
    encoder: _BulkEncoder | None = kept.get(key)
    if encoder is None:
        encoder = _BulkEncoder(rows, frames)
        if len(kept) < _ENCODERS_KEPT:
            kept[key] = encoder
    return encoder
