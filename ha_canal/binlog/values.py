"""One reader per column type: (bytes, offset) → (text, offset behind the value).

Readers do not check bounds: at the end of the body a slice comes out short and the returned offset lies beyond the
end, which `rows` checks once per image. They raise IndexError, ValueError, struct.error or zlib.error on garbage.

Texts, where the server has more than one way: FLOAT is the shortest text that reads back as the same float32, DOUBLE
the shortest for its 64 bits (both as Python's ``repr``); BIT is an unsigned decimal; byte strings (BINARY, BLOB,
GEOMETRY as SRID and WKB) are ISO-8859-1, one character per byte; ENUM and SET are labels; VECTOR is a JSON list of
float32 texts, such as ``[1.0, 0.25]``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from ha_canal.binlog import temporal
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.charsets import TextDecoder, text_decoder
from ha_canal.binlog.ddl_types import FIXED_BINARIES
from ha_canal.binlog.decimal import decimal_decoder
from ha_canal.binlog.jsonb import json_text
from ha_canal.errors import SchemaMismatchError
from ha_canal.model.table import Column

ValueReader = Callable[[bytes, int], tuple[str, int]]

_FLOAT32: Final = struct.Struct("<f")
_DOUBLE: Final = struct.Struct("<d")
_MOST_DEFLATED: Final = 1032
"""Bytes that one byte of a zlib stream can stand for, at most (zlib's "Technical Details")."""
_LEAST_NORMAL_FLOAT32: Final = 2.0**-126
"""Above it a float32 keeps any six digits, so that no text shorter than six needs to be tried."""
_INTEGER_BYTES: Final = {t.TINY: 1, t.SHORT: 2, t.INT24: 3, t.LONG: 4, t.LONGLONG: 8}


def value_reader(column: Column) -> ValueReader:
    """Return the reader for the column's values. SchemaMismatchError if its type never has values in rows."""
    if column.type_code in _INTEGER_BYTES:
        return _integer(_INTEGER_BYTES[column.type_code], signed=not column.unsigned)
    make = _MAKERS.get(column.type_code)
    if make is None:
        raise SchemaMismatchError(f"column {column.name!r} has the type {column.type_code}, which rows never hold")
    return make(column)


def float32_text(value: float) -> str:
    """Return the shortest text that reads back as the same float32."""
    for digits in (6, 7, 8) if abs(value) >= _LEAST_NORMAL_FLOAT32 else range(1, 9):
        text = f"{value:.{digits}g}"
        if _FLOAT32.unpack(_FLOAT32.pack(float(text)))[0] == value:
            return repr(float(text))
    return repr(float(f"{value:.9g}"))


def _integer(size: int, *, signed: bool) -> ValueReader:
    def read(data: bytes, offset: int) -> tuple[str, int]:
        end = offset + size
        return str(int.from_bytes(data[offset:end], "little", signed=signed)), end

    return read


def _float(_column: Column) -> ValueReader:
    return lambda data, offset: (float32_text(_FLOAT32.unpack_from(data, offset)[0]), offset + 4)


def _double(_column: Column) -> ValueReader:
    return lambda data, offset: (repr(_DOUBLE.unpack_from(data, offset)[0]), offset + 8)


def _bit(column: Column) -> ValueReader:
    size = (column.type_meta + 7) // 8

    def read(data: bytes, offset: int) -> tuple[str, int]:
        end = offset + size
        return str(int.from_bytes(data[offset:end], "big")), end

    return read


def _sized(length_bytes: int, convert: TextDecoder) -> ValueReader:
    """A value behind its length; ``convert`` makes text of its bytes."""

    def read(data: bytes, offset: int) -> tuple[str, int]:
        start = offset + length_bytes
        end = start + int.from_bytes(data[offset:start], "little")
        if end > len(data):
            raise ValueError(f"a value of {end - start} bytes where {max(len(data) - start, 0)} are left")
        return convert(data[start:end]), end

    return read


def _string(column: Column) -> ValueReader:
    length_bytes = 1 if column.type_meta < 256 else 2
    fixed = FIXED_BINARIES.get(column.mysql_type.lower())
    if column.type_code == t.STRING and fixed == column.type_meta:
        return _sized(length_bytes, _FIXED_TEXTS[column.mysql_type.lower()])
    if column.fixed_length:
        size = column.fixed_length
        return _sized(length_bytes, lambda data: str(data.ljust(size, b"\0"), "latin-1"))
    return _sized(length_bytes, text_decoder(column.charset))


def _blob(column: Column) -> ValueReader:
    return _sized(column.type_meta, text_decoder(column.charset))


def _bytes(column: Column) -> ValueReader:
    return _sized(column.type_meta, text_decoder("binary"))


def _compressed_string(column: Column) -> ValueReader:
    # MariaDB's length limit counts the header byte too, and so does the choice of one or two length bytes.
    decode = text_decoder(column.charset)
    return _sized(1 if column.type_meta < 256 else 2, lambda data: decode(inflate(data)))


def _compressed_blob(column: Column) -> ValueReader:
    decode = text_decoder(column.charset)
    return _sized(column.type_meta, lambda data: decode(inflate(data)))


def inflate(data: bytes) -> bytes:
    """Return what MariaDB's column compression stored (sql/field_comp.cc).

    No bytes are the empty value. The first byte is 0 before bytes stored as they are, or 8 in the high half for
    zlib; then its bit 3 says "without zlib header" and its lowest three bits count the bytes of the size, which
    come next, big-endian.
    """
    if not data or data[0] == 0:
        return data[1:]
    if data[0] >> 4 != 8:
        raise ValueError(f"0x{data[0]:02x} is no compression method")
    start = 1 + (data[0] & 7)
    size = int.from_bytes(data[1:start], "big")
    if size > _MOST_DEFLATED * len(data):
        raise ValueError(f"a compressed value of {len(data)} bytes cannot hold {size}")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if data[0] & 8 else zlib.MAX_WBITS)
    inflated = inflater.decompress(data[start:], size + 1)
    if len(inflated) != size:
        raise ValueError(f"a compressed value of {size} bytes inflates to {len(inflated)}")
    return inflated


def _json(column: Column) -> ValueReader:
    return _sized(column.type_meta, json_text)


def _enum(column: Column) -> ValueReader:
    labels, size = ("", *column.labels), column.type_meta

    def read(data: bytes, offset: int) -> tuple[str, int]:
        end = offset + size
        return labels[int.from_bytes(data[offset:end], "little")], end

    return read


def _set(column: Column) -> ValueReader:
    labels, size = column.labels, column.type_meta

    def read(data: bytes, offset: int) -> tuple[str, int]:
        end = offset + size
        bits = int.from_bytes(data[offset:end], "little")
        if bits >> len(labels):
            raise ValueError(f"a SET of {len(labels)} labels with the bits {bits:#x}")
        return ",".join([label for bit, label in enumerate(labels) if bits >> bit & 1]), end

    return read


def _vector(column: Column) -> ValueReader:
    return _sized(column.type_meta, _vector_text)


def _vector_text(data: bytes) -> str:
    if len(data) % 4:
        raise ValueError(f"a VECTOR of {len(data)} bytes")
    return "[" + ", ".join([float32_text(value) for (value,) in _FLOAT32.iter_unpack(data)]) + "]"


def _uuid_text(data: bytes) -> str:
    digits = data.ljust(16, b"\0").hex()
    return "-".join(digits[start:end] for start, end in pairwise((0, 8, 12, 16, 20, 32)))


def _inet4_text(data: bytes) -> str:
    return ".".join(map(str, data.ljust(4, b"\0")))


def _inet6_text(data: bytes) -> str:
    """MariaDB's own layout (plugin/type_inet): the longest run of zeros is ``::``, and IPv4 in it stays dotted."""
    address = data.ljust(16, b"\0")
    groups = [int.from_bytes(address[at : at + 2], "big") for at in range(0, 16, 2)]
    start, length = _longest_zero_run(groups)
    if start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):
        return ("::ffff:" if length == 5 else "::") + _inet4_text(address[12:])
    texts = [f"{group:x}" for group in groups]
    if length == 0:
        return ":".join(texts)
    return ":".join(texts[:start]) + "::" + ":".join(texts[start + length :])


def _longest_zero_run(groups: list[int]) -> tuple[int, int]:
    """(start, length) of the first of the longest runs of zeros."""
    best = (0, 0)
    start = 0
    for index, group in enumerate([*groups, 1]):
        if group:
            if index - start > best[1]:
                best = (start, index - start)
            start = index + 1
    return best


_FIXED_TEXTS: Final = {"uuid": _uuid_text, "inet6": _inet6_text, "inet4": _inet4_text}

_MAKERS: Final[dict[int, Callable[[Column], ValueReader]]] = {
    t.FLOAT: _float,
    t.DOUBLE: _double,
    t.NEWDECIMAL: lambda column: decimal_decoder(column.type_meta >> 8, column.type_meta & 255),
    t.BIT: _bit,
    t.YEAR: lambda _column: temporal.year,
    t.DATE: lambda _column: temporal.date,
    t.NEWDATE: lambda _column: temporal.date,
    t.TIMESTAMP: lambda column: temporal.old_timestamp_decoder(column.type_meta),
    t.DATETIME: lambda column: temporal.old_datetime_decoder(column.type_meta),
    t.TIME: lambda column: temporal.old_time_decoder(column.type_meta),
    t.TIMESTAMP2: lambda column: temporal.timestamp2_decoder(column.type_meta),
    t.DATETIME2: lambda column: temporal.datetime2_decoder(column.type_meta),
    t.TIME2: lambda column: temporal.time2_decoder(column.type_meta),
    t.VARCHAR: _string,
    t.VAR_STRING: _string,
    t.STRING: _string,
    t.VARCHAR_COMPRESSED: _compressed_string,
    t.BLOB_COMPRESSED: _compressed_blob,
    **dict.fromkeys((t.BLOB, t.TINY_BLOB, t.MEDIUM_BLOB, t.LONG_BLOB), _blob),
    t.GEOMETRY: _bytes,
    t.VECTOR: _vector,
    t.JSON: _json,
    t.ENUM: _enum,
    t.SET: _set,
}
