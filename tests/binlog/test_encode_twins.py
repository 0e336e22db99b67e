"""The compiled encoder against its twin in Python: the same bytes, or an error from both, whatever the rows are."""

from __future__ import annotations

import math
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.binlog import encode_twin
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.bulk_rows import encode_rows
from ha_canal.binlog.bulk_values import bulk_column
from ha_canal.binlog.decimal import decimal_size_bytes
from ha_canal.binlog.rows import decode_rows, value_readers
from ha_canal.binlog.values import value_reader
from ha_canal.errors import DecodeError
from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.table import Column, RowPlan
from ha_canal.protos.entry_pb2 import Entry
from tests.binlog.lean import leaner

compiled = pytest.importorskip("ha_canal.binlog._entry", reason="not compiled")

_LABELS = st.lists(st.text(max_size=4), min_size=1, max_size=64).map(tuple)
_DIGITS = st.integers(0, 6)
_CHARSETS = st.sampled_from(
    ("utf8mb4", "utf8mb3", "latin1", "ascii", "binary", "koi8r", "swe7", "cp1256", "gbk", "utf16", "ucs2", "ujis")
)


def _column(codes: tuple[int, ...], metas: st.SearchStrategy[int], **more: object) -> st.SearchStrategy[Column]:
    fields = {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in more.items()}
    return st.builds(
        Column,
        name=st.sampled_from(("", "id", "ä" * 5, "name", "n" * 64, "n" * 125)),
        type_code=st.sampled_from(codes),
        type_meta=metas,
        mysql_type=st.sampled_from(("t", "varchar(255)", "enum('" + "x" * 120 + "')", "uuid")),
        sql_type=st.sampled_from((-7, 0, 12)),
        is_key=st.booleans(),
        **fields,
    )


_DECIMALS = st.integers(1, 65).flatmap(lambda precision: st.integers(0, precision).map(lambda s: precision << 8 | s))
_COLUMNS = st.one_of(
    _column((t.TINY, t.SHORT, t.INT24, t.LONG, t.LONGLONG), st.just(0), unsigned=st.booleans()),
    _column((t.FLOAT, t.DOUBLE, t.YEAR, t.DATE, t.NEWDATE), st.just(0)),
    _column((t.NEWDECIMAL,), _DECIMALS),
    _column((t.BIT,), st.integers(1, 64)),
    _column((t.TIMESTAMP, t.DATETIME, t.TIME, t.TIMESTAMP2, t.DATETIME2, t.TIME2), _DIGITS),
    _column((t.STRING, t.VARCHAR, t.VAR_STRING), st.sampled_from((4, 40, 300)), charset=_CHARSETS),
    _column((t.STRING,), st.sampled_from((4, 16)), charset=st.just("binary"), fixed_length=st.sampled_from((4, 16))),
    _column((t.BLOB, t.TINY_BLOB, t.LONG_BLOB, t.JSON, t.GEOMETRY, t.VECTOR), st.integers(1, 4), charset=_CHARSETS),
    _column((t.BLOB_COMPRESSED,), st.integers(1, 2), charset=st.just("utf8mb4")),
    _column((t.ENUM, t.SET), st.sampled_from((1, 2, 8)), labels=_LABELS),
)


@st.composite
def _values(draw: st.DrawFn, column: Column) -> bytes:
    """Bytes that are mostly a value of ``column``."""
    sized = {t.STRING, t.VARCHAR, t.VAR_STRING}
    if column.type_code in sized or column.type_code in t.BLOBS | {t.JSON, t.GEOMETRY, t.VECTOR}:
        text = draw(st.one_of(st.text(max_size=50).map(lambda s: s.encode()), st.binary(max_size=200)))
        length_bytes = column.type_meta if column.type_code not in sized else 1 if column.type_meta < 256 else 2
        text = text[: (1 << 8 * length_bytes) - 1]
        return len(text).to_bytes(length_bytes, "little") + text
    if column.type_code == t.DOUBLE:
        return struct.pack("<d", draw(st.floats()))
    if column.type_code == t.FLOAT:
        return struct.pack("<f", draw(st.floats(width=32)))
    if column.type_code in t.LABELLED:
        return draw(st.integers(0, len(column.labels))).to_bytes(column.type_meta, "little")
    if column.type_code == t.NEWDECIMAL:
        size = decimal_size_bytes(column.type_meta >> 8, column.type_meta & 255)
        return draw(st.sampled_from((b"\x80", b"\x7f" + b"\xff" * size))).ljust(size, b"\0")[:size]
    raw = draw(st.binary(min_size=8, max_size=8))
    return raw[: value_reader(column)(raw, 0)[1]] if column.type_code != t.DATETIME2 else b"\x99" + raw[:7]


@st.composite
def _rows(draw: st.DrawFn) -> Rows:
    columns = tuple(draw(st.lists(_COLUMNS, min_size=1, max_size=12)))
    plan = RowPlan(draw(st.sampled_from(("", "s"))), "t", draw(st.integers(0, 1 << 48)), columns)
    kind = draw(st.sampled_from((ChangeKind.INSERT, ChangeKind.UPDATE, ChangeKind.DELETE)))
    bitmap_bytes = (len(columns) + 7) // 8
    bits = st.one_of(st.just(b"\xff" * bitmap_bytes), st.binary(min_size=bitmap_bytes, max_size=bitmap_bytes))
    before, after = draw(bits), draw(bits)
    return Rows(
        _TRANSACTION, 3, 5000, 77, 1, kind, plan, before, after, draw(_bodies(columns, kind, before, after)),
        draw(st.booleans()) and kind is not ChangeKind.UPDATE,
    )  # fmt: skip


@st.composite
def _bodies(draw: st.DrawFn, columns: tuple[Column, ...], kind: ChangeKind, before: bytes, after: bytes) -> bytes:
    body = b""
    old: dict[int, bytes] = {}
    images = [before] * (kind is not ChangeKind.INSERT) + [after] * (kind is not ChangeKind.DELETE)
    for _ in range(draw(st.integers(1, 4))):
        for image in images:
            held = [index for index in range(len(columns)) if image[index >> 3] >> (index & 7) & 1]
            nulls = draw(st.integers(0, (1 << len(held)) - 1)) & draw(st.integers(0, (1 << len(held)) - 1))
            body += nulls.to_bytes((len(held) + 7) // 8, "little")
            for bit, index in enumerate(held):
                if nulls >> bit & 1:
                    continue
                if index not in old or draw(st.booleans()):
                    old[index] = draw(_values(columns[index]))
                body += old[index]
    cut = draw(st.one_of(st.none(), st.integers(0, len(body))))
    return body[:cut] + draw(st.sampled_from((b"", b"", b"\0", b"\xff" * 9)))


_TRANSACTION = Transaction("", "mysql-bin.000012", 4711, "", 5, 1_700_000_000, 1_700_000_000_123_456)


def _outcome(call: object, *arguments: object) -> bytes | str | None:
    try:
        return call(*arguments)  # type: ignore[operator,no-any-return]  # a function, of either twin
    except DecodeError as error:
        return str(error)


@settings(max_examples=400, deadline=None)
@given(_rows())
def test_rows_are_the_same_from_both(rows: Rows) -> None:
    expected = _outcome(encode_twin.encode_row_change, rows)
    assert _outcome(compiled.encode_row_change, rows) == expected
    by_itself = compiled.compiled_row_change(rows)
    assert by_itself == (expected if isinstance(expected, bytes) else None)


@settings(max_examples=400, deadline=None)
@given(_rows())
def test_rows_in_bulk_are_those_of_the_careful_path(rows: Rows) -> None:
    _assert_bulk_is_careful(rows)


@settings(max_examples=200, deadline=None)
@given(_COLUMNS, st.binary(max_size=80), st.sampled_from(list(ChangeKind)[:3]))
def test_garbage_in_bulk_is_left_to_the_careful_path(column: Column, body: bytes, kind: ChangeKind) -> None:
    plan = RowPlan("s", "t", 1, (column, Column("n", t.LONG, 0, "int", 4)))
    _assert_bulk_is_careful(Rows(_TRANSACTION, 0, 4, 50, 0, kind, plan, b"\x03", b"\x03", body))


def test_a_fraction_that_is_none_beside_a_zero_timestamp_in_bulk() -> None:
    plan = RowPlan("s", "t", 1, (Column("c", t.TIMESTAMP2, 3, "timestamp(3)", 93),))
    stamps = [b"\x60\0\0\0\1\2"] * 60
    stamps[7], stamps[20] = bytes(6), b"\x60\0\0\0\xff\xff"
    body = b"".join(b"\0" + stamp for stamp in stamps)
    _assert_bulk_is_careful(Rows(_TRANSACTION, 0, 4, 50, 0, ChangeKind.INSERT, plan, b"", b"\1", body))


def _has_odd_sizes(rows: Rows) -> bool:
    """Whether it has dates or times that no server writes, whose texts have other sizes than all others."""
    columns = list(map(bulk_column, rows.plan.columns, value_readers(rows.plan)))
    values = [pair for images in decode_rows(rows) for image in images for pair in zip(columns, image, strict=False)]
    return any(
        column.text_bytes and isinstance(text, str) and len(text) != column.text_bytes for column, text in values
    )


def _assert_bulk_is_careful(rows: Rows) -> None:
    in_bulk = encode_rows(rows, encode_twin.column_frames(rows.plan), least_bytes=0)
    try:
        pieces, count = encode_twin.careful_pieces(rows)
    except DecodeError:
        assert in_bulk is None
        return
    usual = bool(rows.body) and all(_images_with_columns(rows)) and not _has_odd_sizes(rows)
    assert in_bulk is not None or not usual
    if in_bulk is not None:
        assert (b"".join(pieces[2:]), count) == in_bulk


def _images_with_columns(rows: Rows) -> list[bool]:
    """Tell for each image of a row whether it holds any column."""
    mask = (1 << len(rows.plan.columns)) - 1
    images = [rows.present_before] * (rows.kind is not ChangeKind.INSERT)
    images += [rows.present_after] * (rows.kind is not ChangeKind.DELETE)
    return [bool(int.from_bytes(image, "little") & mask) for image in images]


@settings(max_examples=200, deadline=None)
@given(_COLUMNS, st.binary(max_size=80), st.sampled_from(list(ChangeKind)[:3]))
def test_garbage_is_the_same_from_both(column: Column, body: bytes, kind: ChangeKind) -> None:
    plan = RowPlan("s", "t", 1, (column, Column("n", t.LONG, 0, "int", 4)))
    rows = Rows(_TRANSACTION, 0, 4, 50, 0, kind, plan, b"\x03", b"\x03", body)
    expected = _outcome(encode_twin.encode_row_change, rows)
    assert _outcome(compiled.encode_row_change, rows) == expected
    assert compiled.compiled_row_change(rows) == (expected if isinstance(expected, bytes) else None)


@given(st.lists(st.floats() | st.floats(0, 1e6).map(lambda value: round(value, 2)), min_size=1, max_size=50))
def test_doubles_are_the_same_from_both(values: list[float]) -> None:
    _assert_same_texts(t.DOUBLE, [struct.pack("<d", value) for value in values])


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_floats_are_the_same_from_both(values: list[float]) -> None:
    _assert_same_texts(t.FLOAT, [struct.pack("<f", value) for value in values])


def test_powers_and_their_neighbours_are_the_same_from_both() -> None:
    powers = [2.0**exponent for exponent in range(-1074, 1024)] + [
        float(f"1e{exponent}") for exponent in range(-323, 309)
    ]
    near = [math.nextafter(value, bound) for value in powers for bound in (0, math.inf)]
    _assert_same_texts(t.DOUBLE, [struct.pack("<d", value) for value in powers + near])
    bits = [exponent << 23 | mantissa for exponent in range(256) for mantissa in (0, 1, 0x400000, 0x7FFFFF)]
    _assert_same_texts(t.FLOAT, [struct.pack("<I", value) for value in bits])


def _assert_same_texts(code: int, values: list[bytes]) -> None:
    plan = RowPlan("s", "t", 1, (Column("c", code, 0, "t", 0),))
    body = b"".join(b"\0" + value for value in values)
    rows = Rows(_TRANSACTION, 0, 4, 50, 0, ChangeKind.INSERT, plan, b"", b"\1", body)
    assert compiled.compiled_row_change(rows) == encode_twin.encode_row_change(rows)


_NUMBERS = st.one_of(st.integers(0, 1 << 32), st.sampled_from((0, 127, 128, (1 << 63) - 1, 1 << 63, 1 << 70)))
_TRANSACTIONS = st.builds(
    Transaction,
    gtid=st.sampled_from(("", "0-1-7", "3e11fa47-71ca-11e1-9e33-c80aa9429562:some_tag:23", "g" * 140)),
    file=st.sampled_from(("mysql-bin.000012", "", "f" * 300, "\udce9")),
    start_offset=_NUMBERS,
    server_uuid=st.sampled_from(("", "3e11fa47-71ca-11e1-9e33-c80aa9429562")),
    server_id=st.integers(0, (1 << 32) - 1),
    timestamp_s=st.integers(0, (1 << 32) - 1),
    commit_timestamp_us=_NUMBERS,
)
_PLAN = RowPlan("schéma", "t" * 64, 7, (Column("n", t.LONG, 0, "int", 4),))


@st.composite
def _items(draw: st.DrawFn) -> Item:
    transaction, offset, length = draw(_TRANSACTIONS), draw(_NUMBERS), draw(_NUMBERS)
    number, timestamp_s = draw(_NUMBERS), draw(st.integers(0, (1 << 32) - 1))
    rows = draw(st.sampled_from((1, 9, 10, 1000)))
    items: tuple[Item, ...] = (
        Begin(transaction, offset, length, number),
        Commit(transaction, offset, length, timestamp_s, 5, 1, number),
        Commit(transaction, offset, length, timestamp_s, 5, 1, number, empty=True),
        Statement(transaction, number, offset, length, timestamp_s, ChangeKind.ALTER, "ALTER …", "d", "s", "t"),
        Rows(transaction, number, offset, length, timestamp_s, ChangeKind.INSERT, _PLAN, b"", b"\1", _INT * rows),
    )
    return draw(st.sampled_from(items))


_INT = b"\0\1\0\0\0"


@given(_items(), st.sampled_from((0, 1, 1 << 40)))
def test_entries_are_the_same_from_both(item: Item, epoch: int) -> None:
    encoded = encode_twin.encode_entry(item, epoch=epoch)
    assert compiled.encode_entry(item, epoch=epoch) == encoded
    lean = compiled.encode_entry(item, epoch=epoch, lean=True)
    if compiled.compiled_entry(item, epoch) is None or not isinstance(item, Rows):  # it may be lean, and need not
        assert lean == encoded
    else:
        assert Entry.FromString(lean or b"") == leaner(encoded)


@pytest.mark.parametrize("kind", list(ChangeKind)[:3])
def test_large_values_in_threads_are_the_same_from_both(kind: ChangeKind) -> None:
    column = Column("c", t.LONG_BLOB, 4, "longblob", 0, charset="latin1")
    plan = RowPlan("s", "t", 1, (Column("n", t.LONG, 0, "int", 4), column))
    bodies = [_wide_row(index) * (2 if kind is ChangeKind.UPDATE else 1) for index in range(4)]
    events = [Rows(_TRANSACTION, 0, 4, 50, 0, kind, plan, b"\x03", b"\x03", body) for body in bodies]
    with ThreadPoolExecutor(len(events)) as threads:
        encoded = list(threads.map(compiled.encode_row_change, events))
    assert encoded == [encode_twin.encode_row_change(rows) for rows in events]


def _wide_row(index: int) -> bytes:
    content = bytes(range(256)) * (4096 + index)
    return b"\0" + index.to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
