"""Column texts to Python values, by the column's DDL type.

===============================  ==========================================================================
integers, YEAR, BIT              int
DECIMAL                          Decimal, with its scale
FLOAT, DOUBLE                    float
BINARY, BLOB, geometry           bytes (geometry: SRID and WKB, as the server stores it)
DATE, DATETIME                   date, datetime without time zone
TIMESTAMP                        datetime in UTC
TIME                             timedelta
JSON, VECTOR                     what `json.loads` makes of it
ENUM, SET                        the label; a frozenset of labels
anything else                    str
===============================  ==========================================================================

Zero and partial dates (``0000-00-00``, ``2024-02-00``), and what Python's types cannot hold, stay the server's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

Json = dict[str, Any] | list[Any] | bool
Value = None | int | float | str | bytes | Decimal | date | datetime | timedelta | frozenset[str] | Json
"""What a row holds; lists, dicts and bools come from JSON (and VECTOR) columns only."""

Convert = Callable[[str], Value]
Family = Literal[
    "integer", "decimal", "float", "bytes", "date", "datetime", "timestamp", "time", "json", "set", "text"
]  # fmt: skip
"""Types whose texts become values in the same way."""

_UNFIT = (ValueError, ArithmeticError, RecursionError)
"""What converters raise for texts that are no such value: decimal and timedelta have errors of their own."""
_NAME = re.compile(r"[a-z]\w*", re.ASCII)
_TIME = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?", re.ASCII)


@lru_cache(maxsize=4096)
def family(mysql_type: str) -> Family:
    """Return the family of the DDL type ``mysql_type``, such as ``int(11) unsigned``."""
    name = _NAME.match(mysql_type.strip().lower())
    return _FAMILIES.get(name[0], "text") if name else "text"


def converter(mysql_type: str) -> Convert:
    """Return what makes values of texts of the DDL type ``mysql_type``. What it returns raises nothing."""
    return CONVERTERS[family(mysql_type)]


def _or_text(convert: Convert) -> Convert:
    def converted(text: str) -> Value:
        try:
            return convert(text)
        except _UNFIT:
            return text

    return converted


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _timestamp(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _time(text: str) -> timedelta:
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError(text)
    sign, hours, minutes, seconds, fraction = parts.groups()
    microseconds = int((fraction or "").ljust(6, "0"))
    span = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=microseconds)
    return -span if sign else span


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "year", "bit")
_BLOBS = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_GEOMETRIES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
)
_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(_INTEGERS, "integer"),
    **dict.fromkeys(("decimal", "numeric"), "decimal"),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys((*_BLOBS, *_GEOMETRIES), "bytes"),
    "date": "date",
    "datetime": "datetime",
    "timestamp": "timestamp",
    "time": "time",
    "json": "json",
    "vector": "json",
    "set": "set",
}
CONVERTERS: dict[Family, Convert] = {
    "integer": _or_text(int),
    "decimal": _or_text(Decimal),
    "float": _or_text(float),
    "bytes": _or_text(_bytes),
    "date": _or_text(date.fromisoformat),
    "datetime": _or_text(datetime.fromisoformat),
    "timestamp": _or_text(_timestamp),
    "time": _or_text(_time),
    "json": _or_text(json.loads),
    "set": _set,
    "text": str,
}
