"""Single values, byte by byte: the cases that other readers got wrong, and garbage."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.binlog import type_codes as t
from ha_canal.binlog.rows import ABSENT, decode_rows
from ha_canal.binlog.values import float32_text, value_reader
from ha_canal.errors import DecodeError
from ha_canal.model.change import ChangeKind, Rows
from ha_canal.model.table import Column, RowPlan
from tests.binlog.binlog_file import TRANSACTION

_SQUEEZED = b"\x8a\x01\xf4" + zlib.compress(b"a" * 500, wbits=-15)


def _column(code: int, meta: int = 0, **more: object) -> Column:
    return Column("c", code, meta, "t", 0, **more)  # type: ignore[arg-type]  # what the test names


@pytest.mark.parametrize(
    ("column", "data", "text"),
    [
        (_column(t.TINY), "80", "-128"),
        (_column(t.TINY, unsigned=True), "80", "128"),
        (_column(t.INT24), "ffffff", "-1"),
        (_column(t.INT24, unsigned=True), "ffffff", "16777215"),
        (_column(t.LONGLONG, unsigned=True), "ffffffffffffffff", "18446744073709551615"),
        (_column(t.FLOAT, 4), struct.pack("<f", 1.1).hex(), "1.1"),
        (_column(t.FLOAT, 4), "24a20100", "1.5e-40"),
        (_column(t.FLOAT, 4), "01000000", "1e-45"),
        (_column(t.FLOAT, 4), "00008080", "-1.1754944e-38"),
        (_column(t.DOUBLE, 8), struct.pack("<d", 0.1).hex(), "0.1"),
        (_column(t.NEWDECIMAL, 10 << 8 | 2), "8000007b2d", "123.45"),
        (_column(t.NEWDECIMAL, 10 << 8 | 2), "7fffff84d2", "-123.45"),
        (_column(t.NEWDECIMAL, 10 << 8 | 2), "8000000000", "0.00"),
        (_column(t.BIT, 9), "01ff", "511"),
        (_column(t.YEAR), "00", "0000"),
        (_column(t.YEAR), "7c", "2024"),
        (_column(t.DATE), "000000", "0000-00-00"),
        (_column(t.DATE), "15be0f", "2015-00-21"),
        (_column(t.DATE), "210000", "0000-01-01"),
        (_column(t.DATE), "9fcf07", "0999-12-31"),
        (_column(t.TIME2, 0), "800000", "00:00:00"),
        (_column(t.TIME2, 1), "80000000", "00:00:00.0"),
        (_column(t.TIME2, 3), "8000000000", "00:00:00.000"),
        (_column(t.TIME2, 5), "800000000000", "00:00:00.00000"),
        (_column(t.TIME2, 2), "7fffffff", "-00:00:00.01"),
        (_column(t.TIME2, 6), "7fffffffffff", "-00:00:00.000001"),
        (_column(t.TIME2, 0), "b46efb", "838:59:59"),
        (_column(t.DATETIME2, 3), "80000000000000", "0000-00-00 00:00:00.000"),
        (_column(t.TIMESTAMP2, 0), "00000000", "0000-00-00 00:00:00"),
        (_column(t.TIMESTAMP2, 0), "80000000", "2038-01-19 03:14:08"),
        (_column(t.TIMESTAMP2, 2), "0000000163", "1970-01-01 00:00:01.99"),
        (_column(t.TIMESTAMP), "01000000", "1970-01-01 00:00:01"),
        (_column(t.DATETIME), struct.pack("<q", 20150115232425).hex(), "2015-01-15 23:24:25"),
        (_column(t.TIME), (-1234556 & 0xFFFFFF).to_bytes(3, "little").hex(), "-123:45:56"),
        (_column(t.STRING, 6, charset="binary", fixed_length=6), "0161", "a\0\0\0\0\0"),
        (_column(t.VARCHAR, 300, charset="utf8mb4"), "0400f09f9982", "🙂"),
        (_column(t.VARCHAR_COMPRESSED, 2001, charset="utf8mb4"), "030000" + b"ab".hex(), "ab"),
        (_column(t.VARCHAR_COMPRESSED, 2001, charset="latin1"), f"{len(_SQUEEZED):02x}00{_SQUEEZED.hex()}", 500 * "a"),
        (_column(t.BLOB_COMPRESSED, 2, charset="binary"), "0000", ""),
        (_column(t.ENUM, 1, labels=("a", "b")), "00", ""),
        (_column(t.ENUM, 2, labels=("a", "b")), "0200", "b"),
        (_column(t.SET, 1, labels=("a", "b", "c")), "05", "a,c"),
        (_column(t.SET, 1, labels=("a",)), "00", ""),
        (_column(t.VECTOR, 4), "08000000" + struct.pack("<2f", 1, 0.1).hex(), "[1.0, 0.1]"),
        (_column(t.JSON, 4), "00000000", "null"),
        (_column(t.GEOMETRY, 4), "0300000000ff01", "\x00ÿ\x01"),
    ],
)  # fmt: skip
def test_value(column: Column, data: str, text: str) -> None:
    raw = bytes.fromhex(data)
    assert value_reader(column)(b"#" + raw + b"#", 1) == (text, 1 + len(raw))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_text_reads_back_and_none_is_shorter(value: float) -> None:
    text = float32_text(value)
    packed = struct.pack("<f", value)
    assert struct.pack("<f", float(text)) == packed
    digits = len(text.partition("e")[0].lstrip("-0.").replace(".", "").rstrip("0"))
    assert digits < 2 or struct.pack("<f", float(f"{value:.{digits - 1}g}")) != packed


_EVERY_TYPE = (
    *(_column(code) for code in (t.TINY, t.SHORT, t.INT24, t.LONG, t.LONGLONG, t.YEAR, t.DATE)),
    *(_column(code) for code in (t.TIMESTAMP, t.DATETIME, t.TIME)),
    *(_column(code, digits) for code in (t.TIMESTAMP, t.DATETIME, t.TIME) for digits in (1, 6)),
    *(_column(code, digits) for code in (t.TIMESTAMP2, t.DATETIME2, t.TIME2) for digits in (0, 3, 6)),
    _column(t.FLOAT, 4),
    _column(t.DOUBLE, 8),
    _column(t.NEWDECIMAL, 65 << 8 | 30),
    _column(t.BIT, 64),
    _column(t.STRING, 6, charset="binary", fixed_length=6),
    _column(t.VARCHAR, 20, charset="ujis"),
    _column(t.BLOB, 4, charset="utf16"),
    _column(t.VARCHAR_COMPRESSED, 2001, charset="utf8mb4"),
    _column(t.BLOB_COMPRESSED, 2, charset="binary"),
    _column(t.ENUM, 2, labels=("a", "b")),
    _column(t.SET, 8, labels=tuple("abcdefgh")),
    _column(t.VECTOR, 4),
    _column(t.JSON, 2),
    _column(t.GEOMETRY, 1),
)


@given(st.sampled_from(_EVERY_TYPE), st.binary(max_size=60), st.sampled_from(list(ChangeKind)[:3]), st.booleans())
def test_garbage_rows_are_decode_errors(column: Column, body: bytes, kind: ChangeKind, partial: bool) -> None:
    plan = RowPlan("s", "t", 1, (column, _column(t.LONG)))
    rows = Rows(TRANSACTION, 0, 4, 50, 0, kind, plan, b"\x03", b"\x03", body, partial)
    with suppress(DecodeError):
        assert all(len(image) in (0, 2) for pair in decode_rows(rows) for image in pair)


def test_errors_say_where() -> None:
    plan = RowPlan("s", "t", 1, (_column(t.LONG),))
    rows = Rows(TRANSACTION, 0, 4, 50, 0, ChangeKind.INSERT, plan, b"\x01", b"\x01", b"\0\x01\0")
    with pytest.raises(DecodeError, match=r"s\.t column 0 'c' t, byte 5 of 3 bytes of rows.*mysql-bin\.000001:4"):
        list(decode_rows(rows))


def test_bits_of_null_count_the_columns_in_the_image() -> None:
    plan = RowPlan("s", "t", 1, tuple(_column(t.TINY) for _ in range(10)))
    rows = Rows(TRANSACTION, 0, 4, 50, 0, ChangeKind.INSERT, plan, b"", b"\x04\x03", bytes((0b010, 7, 9)))
    (((), after),) = decode_rows(rows)
    assert after == (ABSENT, ABSENT, "7", *[ABSENT] * 5, None, "9")


def test_a_row_without_columns_is_one_row() -> None:
    plan = RowPlan("s", "t", 1, (_column(t.LONG),))
    rows = Rows(TRANSACTION, 0, 4, 50, 0, ChangeKind.INSERT, plan, b"\0", b"\0", b"")
    assert [len(after) for _, after in decode_rows(rows)] == [1]
