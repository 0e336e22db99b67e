"""A column's values of many rows at once, to texts: what `bulk_rows` does with a column where `rows` reads a value.

Python spends more on going from one value to the next than on the value. So a column here is a `struct` format, by
which neighbours leave the row in one call, and a function from the list of what it gave to the list of texts. These
are texts of ISO-8859-1 whose characters are the *bytes* of the UTF-8 to be sent: they join and measure like those
bytes, and ASCII needs no work at all.

The usual types are here; the rest is read by `values`, value by value. A function may refuse what it is given, with
one of the exceptions of those readers; then the careful reading of `rows` says what is wrong, or reads it after all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ha_canal.binlog import temporal
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.charsets import TextDecoder, text_decoder
from ha_canal.binlog.decimal import decimal_size_bytes
from ha_canal.binlog.memo import Memo
from ha_canal.binlog.values import ValueReader, float32_text
from ha_canal.model.table import Column

Texts = Callable[[list[Any]], list[str]]
"""From what the format gave (integers, floats, bytes, or the ISO-8859-1 of a sized value) to texts."""


@dataclass(frozen=True, slots=True)
class BulkColumn:
    """How to take a column out of rows, and what to make of it.

    ``format`` is that of the value itself, or, if ``sized``, of the length before it. With a ``reader`` it is empty:
    the reader is called for each value, and ``texts`` gets what it returns. ``text_bytes`` is what every text has; 0:
    they differ.
    """

    format: str
    texts: Texts
    sized: bool = False
    reader: ValueReader | None = None
    text_bytes: int = 0


_INTEGERS: Final = {t.SHORT: "h", t.LONG: "i", t.LONGLONG: "q"}
_LENGTHS: Final = {1: "B", 2: "H", 4: "I"}
_STRINGS: Final = frozenset((t.VARCHAR, t.VAR_STRING, t.STRING))
_BLOBS: Final = frozenset((t.BLOB, t.TINY_BLOB, t.MEDIUM_BLOB, t.LONG_BLOB))
_MEMO_ENTRIES: Final = 1 << 15
_ASCII: Final = bytes(range(128))
_SMALL: Final = tuple(map(str, [*range(256), *range(-128, 0)]))
"""Texts by their numbers from -128 to 255: negative ones count from the end."""


def bulk_column(column: Column, read: ValueReader) -> BulkColumn:
    """Return how to read the column in bulk; ``read`` is its reader, for what has no faster way."""
    code = column.type_code
    if code == t.TINY:
        return BulkColumn("B" if column.unsigned else "b", _tiny)
    if code in _INTEGERS:
        return BulkColumn(_INTEGERS[code].upper() if column.unsigned else _INTEGERS[code], _plain)
    if code in _STRINGS and not column.fixed_length:
        return _text(column, _LENGTHS[1 if column.type_meta < 256 else 2])
    if code in _BLOBS and column.type_meta in _LENGTHS:
        return _text(column, _LENGTHS[column.type_meta])
    if code in _FIXED:
        return _FIXED[code](column, read)
    return _read_singly(column, read)


def _read_singly(_column: Column, read: ValueReader) -> BulkColumn:
    return BulkColumn("", lambda texts: list(map(_as_utf8, texts)), reader=read)


def _as_utf8(text: str) -> str:
    return text if text.isascii() else str(text.encode(), "latin-1")


def _tiny(numbers: list[Any]) -> list[str]:
    return list(map(_SMALL.__getitem__, numbers))


def _plain(numbers: list[Any]) -> list[str]:
    return list(map(repr, numbers))


def _float(_column: Column, _read: ValueReader) -> BulkColumn:
    return BulkColumn("f", lambda numbers: list(map(float32_text, numbers)))


def _double(_column: Column, _read: ValueReader) -> BulkColumn:
    return BulkColumn("d", _plain)


def _text(column: Column, length_format: str) -> BulkColumn:
    decode = text_decoder(column.charset)
    if column.charset in ("utf8mb3", "utf8mb4"):
        return BulkColumn(length_format, lambda values: _checked_utf8(values, decode), sized=True)
    if decode(_ASCII) == _ASCII.decode():
        return BulkColumn(length_format, lambda values: _superset_of_ascii(values, decode), sized=True)
    return BulkColumn(length_format, lambda values: [_decoded(value, decode) for value in values], sized=True)


def _checked_utf8(values: list[str], decode: TextDecoder) -> list[str]:
    """Return ``values`` if they are UTF-8. A NUL between two values keeps what ends one from going on in the next."""
    joined = "\0".join(values)
    if not joined.isascii():
        try:
            joined.encode("latin-1").decode()
        except UnicodeDecodeError:
            return [_decoded(value, decode) for value in values]
    return values


def _superset_of_ascii(values: list[str], decode: TextDecoder) -> list[str]:
    if "".join(values).isascii():
        return values
    return [value if value.isascii() else _decoded(value, decode) for value in values]


def _decoded(value: str, decode: TextDecoder) -> str:
    return _as_utf8(decode(value.encode("latin-1")))


def _big_endian(values: list[bytes], size: int) -> tuple[int, ...]:
    """Return what ``values`` of ``size`` bytes, at most 8, are as big-endian integers."""
    pad = bytes(8 - size)
    return struct.unpack(f">{len(values)}Q", pad + pad.join(values))


_DATES: Final = Memo[bytes](lambda raw: _day(int.from_bytes(raw, "little")), _MEMO_ENTRIES)
_PACKED_DAYS: Final = Memo[int](lambda packed: _packed_day(packed) + " ", _MEMO_ENTRIES)
_PACKED_MINUTES: Final = Memo[int](lambda packed: f"{packed >> 6:02}:{packed & 63:02}:", 1 << 11)
_DAYS: Final = Memo[int](lambda day: temporal.utc_text(day * 86400)[:-8], _MEMO_ENTRIES)
_MINUTES: Final = Memo[int](lambda minute: f"{minute // 60:02}:{minute % 60:02}:", 1440)
_SECONDS: Final = tuple(f"{second:02}" for second in range(64))


def _packed_day(packed: int) -> str:
    months = (packed >> 5) - (1 << 17)
    if not 0 <= months < 130_000:
        raise ValueError("a DATETIME outside of the years 0 to 9999")
    return f"{months // 13:04}-{months % 13:02}-{packed & 31:02}"


def _day(packed: int) -> str:
    if packed >> 9 > 9999:
        raise ValueError("a DATE behind the year 9999")
    return f"{packed >> 9:04}-{packed >> 5 & 15:02}-{packed & 31:02}"


def _date(_column: Column, _read: ValueReader) -> BulkColumn:
    return BulkColumn("3s", lambda values: list(map(_DATES.__getitem__, values)), text_bytes=10)


def _datetime2(column: Column, _read: ValueReader) -> BulkColumn:
    digits = column.type_meta
    size, bits = 5 + (digits + 1) // 2, 8 * ((digits + 1) // 2)
    day, minute = 17 + bits, 6 + bits

    def texts(values: list[bytes]) -> list[str]:
        packed = _big_endian(values, size)
        whole = [
            f"{_PACKED_DAYS[p >> day]}{_PACKED_MINUTES[p >> minute & 2047]}{_SECONDS[p >> bits & 63]}" for p in packed
        ]
        return _with_fractions(whole, packed, digits)

    return BulkColumn(f"{size}s", texts, text_bytes=_clock_bytes(digits))


def _timestamp2(column: Column, read: ValueReader) -> BulkColumn:
    digits = column.type_meta
    size, bits = 4 + (digits + 1) // 2, 8 * ((digits + 1) // 2)

    def texts(values: list[bytes]) -> list[str]:
        stamps = _big_endian(values, size)
        if 0 in stamps:
            _check_fractions(stamps, digits)
            return [read(value, 0)[0] for value in values]
        seconds = [stamp >> bits for stamp in stamps] if bits else stamps
        whole = [f"{_DAYS[s // 86400]}{_MINUTES[s // 60 % 1440]}{_SECONDS[s % 60]}" for s in seconds]
        return _with_fractions(whole, stamps, digits)

    return BulkColumn(f"{size}s", texts, text_bytes=_clock_bytes(digits))


def _clock_bytes(digits: int) -> int:
    return 20 + digits if digits else 19


def _with_fractions(texts: list[str], packed: tuple[int, ...], digits: int) -> list[str]:
    """Add the fraction in the lowest bits of ``packed``, which is stored in an even number of digits."""
    if digits == 0:
        return texts
    _check_fractions(packed, digits)
    stored = digits + digits % 2
    mask, end = (1 << 4 * stored) - 1, None if stored == digits else -1
    return [text + f".{number & mask:0{stored}}"[:end] for text, number in zip(texts, packed, strict=True)]


def _check_fractions(packed: tuple[int, ...], digits: int) -> None:
    """Refuse what no server writes: its text would have another size than all others."""
    stored = digits + digits % 2
    mask = (1 << 4 * stored) - 1
    if digits and max([number & mask for number in packed]) >= 10**stored:
        raise ValueError("a fraction with too many digits")


def _decimal(column: Column, read: ValueReader) -> BulkColumn:
    precision, scale = column.type_meta >> 8, column.type_meta & 255
    size, whole_digits = decimal_size_bytes(precision, scale), precision - scale
    if size > 8 or whole_digits > 17 or scale > 9:
        return BulkColumn(f"{size}s", lambda values: [read(value, 0)[0] for value in values])
    bits = 8 * decimal_size_bytes(scale, scale)
    sign, mask, limit = 1 << 8 * size - 1, (1 << bits) - 1, 10**whole_digits
    unsigned, one_group = mask & ~sign, min(limit, 10**9)
    fractions = Memo[int](lambda number: _fraction_text(number, scale), 10_000)

    def texts(values: list[bytes]) -> list[str]:
        stored = _big_endian(values, size)
        if min(stored) >= sign and (max(stored) ^ sign) >> bits < one_group:
            return [f"{(n ^ sign) >> bits}{fractions[n & unsigned]}" for n in stored]
        numbers = [n ^ sign if n & sign else n ^ sign - 1 for n in stored]
        wholes = [n >> bits for n in numbers]
        if max(wholes) >= one_group:
            wholes = _of_two_groups(wholes, limit)
        made = [f"{whole}{fractions[n & mask]}" for whole, n in zip(wholes, numbers, strict=True)]
        return [text if n & sign else "-" + text for text, n in zip(made, stored, strict=True)]

    return BulkColumn(f"{size}s", texts)


def _of_two_groups(stored: list[int], limit: int) -> list[int]:
    """Return the numbers whose digits from the tenth on are stored above the lowest 32 bits."""
    numbers = [(number >> 32) * 10**9 + (number & 0xFFFFFFFF) for number in stored]
    if max(numbers) >= limit or max([number & 0xFFFFFFFF for number in stored]) >= 10**9:
        raise ValueError("a DECIMAL with too many digits")
    return numbers


def _fraction_text(number: int, scale: int) -> str:
    if number >= 10**scale:
        raise ValueError("a DECIMAL with too many digits")
    return f".{number:0{scale}}" if scale else ""


def _enum(column: Column, read: ValueReader) -> BulkColumn:
    if column.type_meta not in (1, 2):
        return _read_singly(column, read)
    labels = [_as_utf8(label) for label in ("", *column.labels)]
    return BulkColumn(_LENGTHS[column.type_meta], lambda numbers: [labels[number] for number in numbers])


_FIXED: Final[dict[int, Callable[[Column, ValueReader], BulkColumn]]] = {
    t.FLOAT: _float,
    t.DOUBLE: _double,
    t.DATE: _date,
    t.NEWDATE: _date,
    t.DATETIME2: _datetime2,
    t.TIMESTAMP2: _timestamp2,
    t.NEWDECIMAL: _decimal,
    t.ENUM: _enum,
}
