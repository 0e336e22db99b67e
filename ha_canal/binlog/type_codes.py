"""Column type codes of the binlog (``enum_field_types`` of MySQL's and MariaDB's field_types.h)."""

from __future__ import annotations

from typing import Final

TINY: Final = 1
SHORT: Final = 2
LONG: Final = 3
FLOAT: Final = 4
DOUBLE: Final = 5
NULL: Final = 6
TIMESTAMP: Final = 7
LONGLONG: Final = 8
INT24: Final = 9
DATE: Final = 10
TIME: Final = 11
DATETIME: Final = 12
YEAR: Final = 13
NEWDATE: Final = 14
VARCHAR: Final = 15
BIT: Final = 16
TIMESTAMP2: Final = 17
DATETIME2: Final = 18
TIME2: Final = 19
BLOB_COMPRESSED: Final = 140
VARCHAR_COMPRESSED: Final = 141
VECTOR: Final = 242
TYPED_ARRAY: Final = 244
JSON: Final = 245
NEWDECIMAL: Final = 246
ENUM: Final = 247
SET: Final = 248
TINY_BLOB: Final = 249
MEDIUM_BLOB: Final = 250
LONG_BLOB: Final = 251
BLOB: Final = 252
VAR_STRING: Final = 253
STRING: Final = 254
GEOMETRY: Final = 255

INTEGERS: Final = frozenset((TINY, SHORT, INT24, LONG, LONGLONG))
NUMERIC: Final = INTEGERS | {YEAR, FLOAT, DOUBLE, NEWDECIMAL}
"""The types that TABLE_MAP's SIGNEDNESS counts; YEAR is one of them (seen on MariaDB 10.11 and MySQL 9.7)."""
BLOBS: Final = frozenset((TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, BLOB_COMPRESSED))
CHARACTER: Final = BLOBS | {STRING, VAR_STRING, VARCHAR, VARCHAR_COMPRESSED}
"""The types that have a character set; `table_fields` knows which others the character set fields count."""
LABELLED: Final = frozenset((ENUM, SET))
OLD_TEMPORAL: Final = frozenset((TIMESTAMP, TIME, DATETIME))
"""Formats of before MySQL 5.6; MariaDB uses the same codes for fractional seconds of its own (5.3 on)."""
