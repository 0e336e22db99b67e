"""TABLE_MAP events: the types of a table's columns and, as far as the server logs them, their names and properties.

Layout: MySQL's ``Table_map_log_event`` (libbinlogevents/rows_event.h) and MariaDB's of the same name. The body is::

    table_id:6 flags:2 schema:len1+bytes+0 table:len1+bytes+0 count:lenenc types:count
    metadata:lenenc+bytes nullable:(count+7)/8 then fields of (type:1 length:lenenc value)

Metadata becomes one integer per column:

==========================  =============================================================
FLOAT, DOUBLE               bytes of the value
VARCHAR, STRING             most bytes the value can have (MariaDB's VARCHAR_COMPRESSED: plus one)
BIT                         bits
NEWDECIMAL                  precision << 8 | scale
ENUM, SET                   bytes of the value
BLOBs, JSON, GEOMETRY, …    bytes of the length before the value
TIMESTAMP2, DATETIME2, …    digits of the fraction
TYPED_ARRAY                 0 (it never has a value in a row)
others                      0
==========================  =============================================================

Bytes in, values out; whatever is not as above is a `DecodeError` that holds the offset in the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ha_canal.binlog import table_fields
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.reader import ByteReader


@dataclass(frozen=True, slots=True)
class TableMap:
    """One TABLE_MAP event. Sequences have one element per column; None stands for "the server did not log it"."""

    table_id: int
    flags: int
    schema: str
    table: str
    type_codes: tuple[int, ...]
    type_metas: tuple[int, ...]
    nullable: tuple[bool, ...]
    unsigned: tuple[bool, ...] | None = None
    collations: tuple[int, ...] | None = None
    """Collation ids of character, ENUM and SET columns; 0 for other columns, and for those not logged."""
    names: tuple[str, ...] | None = None
    labels: tuple[tuple[str, ...], ...] | None = None
    """Labels of ENUM and SET columns; () for other columns."""
    primary_key: tuple[int, ...] | None = None
    """Indexes of the key's columns in key order; with names logged, () means that there is no primary key."""
    geometry_types: tuple[int, ...] | None = None
    visible: tuple[bool, ...] | None = None
    vector_dimensions: tuple[int, ...] | None = None
    unknown_fields: tuple[int, ...] = field(default=())

    @property
    def has_names(self) -> bool:
        """Whether the event came with ``binlog_row_metadata=FULL``."""
        return self.names is not None


def parse_table_map(body: bytes, *, mariadb: bool | None = None) -> TableMap:
    """Read a TABLE_MAP body (no event header, no checksum).

    ``mariadb`` says which server wrote it. It only matters for tables with GEOMETRY before text columns, which
    the servers number differently; there, None (not known) leaves character sets out if the two readings differ.
    Raises DecodeError with the offset in the body.
    """
    reader = ByteReader(body, "TABLE_MAP")
    try:
        return _parse(reader, mariadb)
    except (IndexError, ValueError, KeyError) as error:
        raise reader.error(str(error)) from error


def _parse(reader: ByteReader, mariadb: bool | None) -> TableMap:
    table_id, flags = reader.integer(6), reader.integer(2)
    schema, table = _name(reader), _name(reader)
    types = reader.take(reader.lenenc())
    codes, metas = _types_and_metas(types, reader.sub_reader())
    nullable = _bits_low_first(reader.take((len(types) + 7) // 8), len(types))
    fields = dict(_fields(reader))
    found = table_fields.parse_fields(codes, fields, mariadb)
    return TableMap(
        table_id=table_id,
        flags=flags,
        schema=schema,
        table=table,
        type_codes=codes,
        type_metas=metas,
        nullable=nullable,
        unsigned=found.unsigned,
        collations=found.collations,
        names=found.names,
        labels=found.labels,
        primary_key=found.primary_key,
        geometry_types=found.geometry_types,
        visible=found.visible,
        vector_dimensions=found.vector_dimensions,
        unknown_fields=found.unknown,
    )


def _name(reader: ByteReader) -> str:
    name = reader.take(reader.integer(1))
    if reader.integer(1) != 0:
        raise reader.error("a name does not end with a zero byte")
    return str(name, "utf-8")


def _fields(reader: ByteReader) -> Iterator[tuple[int, ByteReader]]:
    while reader.left:
        kind = reader.integer(1)
        yield kind, reader.sub_reader()


def _bits_low_first(data: bytes, count: int) -> tuple[bool, ...]:
    return tuple(bool(data[index >> 3] >> (index & 7) & 1) for index in range(count))


def _types_and_metas(types: bytes, metadata: ByteReader) -> tuple[tuple[int, ...], tuple[int, ...]]:
    codes: list[int] = []
    metas: list[int] = []
    for code in types:
        read = _META_READERS.get(code)
        if read is None:
            raise metadata.error(f"column {len(codes)} has the unknown type {code}")
        real_code, meta = read(metadata, code)
        codes.append(real_code)
        metas.append(meta)
    if metadata.left:
        raise metadata.error(f"{metadata.left} bytes of column metadata too many")
    return tuple(codes), tuple(metas)


def _no_meta(_reader: ByteReader, code: int) -> tuple[int, int]:
    return code, 0


def _byte_meta(reader: ByteReader, code: int) -> tuple[int, int]:
    return code, reader.integer(1)


def _short_meta(reader: ByteReader, code: int) -> tuple[int, int]:
    return code, reader.integer(2)


def _bit_meta(reader: ByteReader, code: int) -> tuple[int, int]:
    bits, whole_bytes = reader.integer(1), reader.integer(1)
    return code, whole_bytes * 8 + bits


def _decimal_meta(reader: ByteReader, code: int) -> tuple[int, int]:
    precision, scale = reader.integer(1), reader.integer(1)
    if not (0 < precision <= 65 and scale <= 38 and scale <= precision):
        raise reader.error(f"DECIMAL({precision},{scale}) cannot be")
    return code, precision << 8 | scale


def _string_meta(reader: ByteReader, _code: int) -> tuple[int, int]:
    """STRING holds the real type in its first byte, two bits of which may be bits 8 and 9 of the length, inverted."""
    first, length = reader.integer(1), reader.integer(1)
    if first & 0x30 != 0x30:
        return first | 0x30, length | ((first & 0x30) ^ 0x30) << 4
    if first not in (t.STRING, t.VAR_STRING, t.ENUM, t.SET):
        raise reader.error(f"a string column of the unknown type {first}")
    return first, length


def _typed_array_meta(reader: ByteReader, code: int) -> tuple[int, int]:
    """Multi-valued indexes: the element's type, then its metadata (VARCHAR: 3 bytes)."""
    element = reader.integer(1)
    reader.take({t.VARCHAR: 3, t.NEWDECIMAL: 2, t.TIME2: 1, t.DATETIME2: 1, t.TIMESTAMP2: 1}.get(element, 0))
    return code, 0


_META_READERS: dict[int, Callable[[ByteReader, int], tuple[int, int]]] = {
    **dict.fromkeys(t.INTEGERS | t.OLD_TEMPORAL | {t.NULL, t.DATE, t.YEAR, t.NEWDATE}, _no_meta),
    **dict.fromkeys(t.BLOBS | {t.FLOAT, t.DOUBLE, t.TIMESTAMP2, t.DATETIME2, t.TIME2}, _byte_meta),
    **dict.fromkeys((t.JSON, t.GEOMETRY, t.VECTOR), _byte_meta),
    **dict.fromkeys((t.VARCHAR, t.VARCHAR_COMPRESSED), _short_meta),
    **dict.fromkeys((t.STRING, t.VAR_STRING, t.ENUM, t.SET), _string_meta),
    t.BIT: _bit_meta,
    t.NEWDECIMAL: _decimal_meta,
    t.TYPED_ARRAY: _typed_array_meta,
}
