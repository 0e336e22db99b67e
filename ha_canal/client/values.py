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
from typing import Any

Json = dict[str, Any] | list[Any] | bool
Value = None | int | float | str | bytes | Decimal | date | datetime | timedelta | frozenset[str] | Json
"""What a row holds; lists, dicts and bools come from JSON (and VECTOR) columns only."""

Convert = Callable[[str], Value]

_NAME = re.compile(r"[a-z]\w*", re.ASCII)
_TIME = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?", re.ASCII)


@lru_cache(maxsize=4096)
def converter(mysql_type: str) -> Convert:
    """Return what makes values of texts of the DDL type ``mysql_type``, such as ``int(11) unsigned``."""
    name = _NAME.match(mysql_type.strip().lower())
    return _CONVERTERS.get(name[0], str) if name else str


def _or_text(convert: Convert) -> Convert:
    def converted(text: str) -> Value:
        try:
            return convert(text)
        except ValueError:
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
_CONVERTERS: dict[str, Convert] = {
    **dict.fromkeys(_INTEGERS, _or_text(int)),
    **dict.fromkeys(("decimal", "numeric"), _or_text(Decimal)),
    **dict.fromkeys(("float", "double"), _or_text(float)),
    **dict.fromkeys((*_BLOBS, *_GEOMETRIES), _or_text(_bytes)),
    "date": _or_text(date.fromisoformat),
    "datetime": _or_text(datetime.fromisoformat),
    "timestamp": _or_text(_timestamp),
    "time": _or_text(_time),
    "json": _or_text(json.loads),
    "vector": _or_text(json.loads),
    "set": _set,
}
