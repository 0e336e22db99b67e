"""Column types as DDL writes them (``information_schema.COLUMNS.COLUMN_TYPE``) against those of the binlog.

`parse_ddl_type` reads the text, `wire_types` says what TABLE_MAP must show for it, `ddl_text` writes a text where only
TABLE_MAP is known, and `sql_type` gives the java.sql.Types number that goes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ha_canal.binlog import type_codes as t
from ha_canal.binlog.charsets import bytes_per_character, label_decoder

_HEAD: Final = re.compile(r"([a-z]\w*)\s*(?:\(\s*(\d{1,10})\s*(?:,\s*(\d{1,10})\s*)?\))?", re.ASCII)
_LABEL: Final = re.compile(r"x'((?:[0-9a-f]{2})+)'|'((?:[^'\\]|''|\\.)*)'", re.DOTALL | re.IGNORECASE)
_ESCAPE: Final = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPES: Final = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}

_INTEGERS: Final = {"tinyint": t.TINY, "smallint": t.SHORT, "mediumint": t.INT24, "int": t.LONG, "bigint": t.LONGLONG}
_BLOBS: Final = {"tiny": 1, "": 2, "medium": 3, "long": 4}
_BLOB_BYTES: Final = {f"{size}{kind}": count for size, count in _BLOBS.items() for kind in ("blob", "text")}
_GEOMETRIES: Final = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
)
"""In the order of their numbers in TABLE_MAP (which are WKB's)."""
FIXED_BINARIES: Final = {"uuid": 16, "inet6": 16, "inet4": 4}
"""MariaDB's types that the binlog shows as BINARY of so many bytes."""
_TEMPORALS: Final = {
    "timestamp": (t.TIMESTAMP, t.TIMESTAMP2),
    "datetime": (t.DATETIME, t.DATETIME2),
    "time": (t.TIME, t.TIME2),
}
_ONE_WIRE_TYPE: Final = {
    "float": ((t.FLOAT, 4),),
    "double": ((t.DOUBLE, 8),),
    "year": ((t.YEAR, 0),),
    "json": ((t.JSON, 4),),
    "vector": ((t.VECTOR, 4),),
}

_SQL_TYPES: Final = {
    "tinyint": -6, "smallint": 5, "mediumint": 4, "int": 4, "bigint": -5, "float": 7, "double": 8, "decimal": 3,
    "bit": -7, "timestamp": 93, "datetime": 93, "date": 91, "time": 92, "char": 1, "enum": 1, "set": 1,
    "uuid": 1, "inet6": 1, "inet4": 1, "binary": 2004, "varbinary": 2004,
    **{name: 2005 if name.endswith("text") else 2004 for name in _BLOB_BYTES},
    **dict.fromkeys((*_GEOMETRIES, "geomcollection"), 2004),
}  # fmt: skip
_UNSIGNED_SQL_TYPES: Final = {"tinyint": 5, "smallint": 4, "mediumint": 4, "int": -5, "bigint": 3}
_VARCHAR_SQL_TYPE: Final = 12


@dataclass(frozen=True, slots=True)
class DdlType:
    """A column type in its parts; ``length`` and ``scale`` are None where the text has none."""

    name: str
    length: int | None = None
    scale: int | None = None
    unsigned: bool = False
    compressed: bool = False
    labels: tuple[str, ...] = ()


def parse_ddl_type(text: str) -> DdlType:
    """Read a COLUMN_TYPE. A text that is none gives a name that no column has."""
    lowered = text.strip().lower()
    if lowered.startswith(("enum(", "set(")):
        return DdlType(lowered[: lowered.index("(")], labels=tuple(_labels(text)))
    head = _HEAD.match(lowered)
    if head is None:
        return DdlType(lowered)
    rest = lowered[head.end() :]
    return DdlType(
        name=head[1],
        length=int(head[2]) if head[2] else None,
        scale=int(head[3]) if head[3] else None,
        unsigned="unsigned" in rest or "zerofill" in rest,
        compressed="compressed" in rest,
    )


def _labels(text: str) -> Iterator[str]:
    for digits, label in _LABEL.findall(text):
        if digits:  # MySQL 9 shows labels so that are in binary, and no text
            yield label_decoder("binary")(bytes.fromhex(digits))
        else:
            yield _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]) if match[1] else "'", label)


def wire_types(ddl: DdlType, charset: str) -> tuple[tuple[int, int], ...]:
    """Return the (type code, metadata) pairs that TABLE_MAP may show for the type; none if the type is unknown."""
    name, length = ddl.name, ddl.length
    if name in _INTEGERS:
        return ((_INTEGERS[name], 0),)
    if name in _TEMPORALS:
        old, new = _TEMPORALS[name]
        return (new, length or 0), (old, 0)
    if name in _BLOB_BYTES:
        return ((t.BLOB_COMPRESSED if ddl.compressed else t.BLOB, _BLOB_BYTES[name]),)
    if name in _GEOMETRIES or name == "geomcollection":
        return ((t.GEOMETRY, 4),)
    if name in FIXED_BINARIES:
        return ((t.STRING, FIXED_BINARIES[name]),)
    return _other_wire_types(ddl, charset)


def _other_wire_types(ddl: DdlType, charset: str) -> tuple[tuple[int, int], ...]:
    length = ddl.length or 0
    string_bytes = (1 if ddl.length is None else ddl.length) * bytes_per_character(charset)
    match ddl.name:
        case "char" | "binary":
            return ((t.STRING, string_bytes),)
        case "varchar" | "varbinary":
            if ddl.compressed:
                return ((t.VARCHAR_COMPRESSED, string_bytes + 1),)
            return (t.VARCHAR, string_bytes), (t.VAR_STRING, string_bytes)
        case "decimal":
            return ((t.NEWDECIMAL, length << 8 | (ddl.scale or 0)),)
        case "bit":
            return ((t.BIT, length or 1),)
        case "enum":
            return ((t.ENUM, 1 if len(ddl.labels) < 256 else 2),)
        case "set":
            size = (len(ddl.labels) + 7) // 8
            return ((t.SET, 8 if size > 4 else size),)
        case "date":
            return (t.DATE, 0), (t.NEWDATE, 0)
        case _:
            return _ONE_WIRE_TYPE.get(ddl.name, ())


def sql_type(ddl: DdlType) -> int:
    """Return the java.sql.Types number: one for the column, whatever its values (unsigned ones take the wider)."""
    if ddl.unsigned and ddl.name in _UNSIGNED_SQL_TYPES:
        return _UNSIGNED_SQL_TYPES[ddl.name]
    return _SQL_TYPES.get(ddl.name, _VARCHAR_SQL_TYPE)


def ddl_text(
    code: int,
    meta: int,
    *,
    charset: str,
    unsigned: bool,
    labels: tuple[str, ...],
    geometry: int = 0,
    dimensions: int = 0,
) -> str:
    """Write the type that TABLE_MAP shows. Display widths, UUID and INET are not in it: those are BINARY here."""
    suffix = " unsigned" if unsigned else ""
    for name, integer in _INTEGERS.items():
        if code == integer:
            return name + suffix
    match code:
        case t.FLOAT | t.DOUBLE:
            return ("float" if code == t.FLOAT else "double") + suffix
        case t.NEWDECIMAL:
            return f"decimal({meta >> 8},{meta & 255}){suffix}"
        case t.ENUM | t.SET:
            quoted = ",".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in labels)
            return f"{'enum' if code == t.ENUM else 'set'}({quoted})"
        case t.GEOMETRY:
            return _GEOMETRIES[geometry] if geometry < len(_GEOMETRIES) else "geometry"
        case t.VECTOR:
            return f"vector({dimensions})"
        case _:
            return _string_text(code, meta, charset) or _plain_text(code, meta)


def _string_text(code: int, meta: int, charset: str) -> str:
    binary = charset == "binary"
    characters = meta // bytes_per_character(charset)
    match code:
        case t.STRING:
            return f"{'binary' if binary else 'char'}({characters})"
        case t.VARCHAR | t.VAR_STRING:
            return f"{'varbinary' if binary else 'varchar'}({characters})"
        case t.VARCHAR_COMPRESSED:
            return f"{'varbinary' if binary else 'varchar'}({(meta - 1) // bytes_per_character(charset)}) compressed"
        case _ if code in t.BLOBS:
            size = next((name for name, count in _BLOBS.items() if count == meta), "")
            return f"{size}{'blob' if binary else 'text'}" + (" compressed" if code == t.BLOB_COMPRESSED else "")
        case _:
            return ""


def _plain_text(code: int, meta: int) -> str:
    for name, codes in _TEMPORALS.items():
        if code in codes:
            return f"{name}({meta})" if meta else name
    plain = {t.BIT: f"bit({meta})", t.DATE: "date", t.NEWDATE: "date", t.YEAR: "year", t.JSON: "json", t.NULL: "null"}
    return plain.get(code, f"type {code}")
