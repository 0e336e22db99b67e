"""What the server itself shows of a row: the texts that decoding must give, recorded around each statement.

Strings and bytes are asked for in hexadecimal, everything else as text; numbers come without the zeros of ZEROFILL,
FLOAT and DOUBLE through their exact value.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pymysql

from ha_canal.testing.fidelity_case import Case, Step, name_sql

RowTexts = tuple[str | None, ...]

_COLUMNS: Final = (
    "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, COLUMN_KEY = 'PRI', EXTRA FROM information_schema.COLUMNS "
    "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
GEOMETRIES: Final = frozenset(
    (
        "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
        "geometrycollection", "geomcollection",
    )
)  # fmt: skip
BYTES: Final = frozenset(["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"]) | GEOMETRIES
TEXTS: Final = frozenset(["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"])


@dataclass(frozen=True, slots=True)
class Shown:
    """A column as the server describes it."""

    name: str
    column_type: str
    data_type: str
    is_key: bool
    virtual: bool = False
    """Whether it is generated when it is read: MariaDB leaves it out of images that are not full."""

    @property
    def expression(self) -> str:
        """What to SELECT for `text`."""
        column = name_sql(self.name)
        if self.data_type in BYTES or self.data_type == "vector":
            return f"HEX({column})"
        if self.data_type in TEXTS:
            return f"HEX(CONVERT({column} USING utf8mb4))"
        match self.data_type:
            case "json":
                return f"HEX(CAST({column} AS CHAR CHARACTER SET utf8mb4))"
            case "bit":
                return f"CAST({column} + 0 AS CHAR)"
            case "float" | "double":
                return f"{column} * 1e0"
            case _:
                return f"CAST({column} AS CHAR)"

    def text(self, value: Any) -> str | None:
        """Return the text that decoding must give where the server selects ``value``."""
        if value is None:
            return None
        if self.data_type in BYTES:
            return bytes.fromhex(value).decode("latin-1")
        if self.data_type in TEXTS or self.data_type == "json":
            return bytes.fromhex(value).decode()
        match self.data_type:
            case "vector":
                floats = struct.iter_unpack("<f", bytes.fromhex(value))
                return "[" + ", ".join(shortest_float32(number) for (number,) in floats) + "]"
            case "float":
                return shortest_float32(value)
            case "double":
                return repr(float(value))
            case _:
                return _without_fill(str(value)) if "zerofill" in self.column_type else str(value)


def shortest_float32(value: float) -> str:
    """Return the shortest decimal that reads back as this float32, as Python prints it."""
    wanted = struct.pack("<f", value)
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        with suppress(OverflowError):
            if struct.pack("<f", float(text)) == wanted:
                return repr(float(text))
    return repr(value)


def _without_fill(text: str) -> str:
    stripped = text.lstrip("0")
    return stripped if stripped[:1].isdigit() else f"0{stripped}"


@dataclass(slots=True)
class Expected:
    """One statement, and each row that it changed as (before, after); () where there was or is no such row.

    ``after`` is all of a table with system versioning.
    """

    step: Step
    sql: str
    pairs: list[tuple[RowTexts, RowTexts]] = field(default_factory=list)
    snapshot: list[RowTexts] = field(default_factory=list)


class Recorder:
    """Makes the table of one case, runs its steps, and keeps what the server shows around them."""

    def __init__(self, connection: pymysql.Connection[Any], schema: str, case: Case) -> None:
        """Create the table. Raises what the server answers to a definition that it refuses."""
        self.case = case
        self.schema = schema
        self._connection = connection
        self._target = f"{name_sql(schema)}.{name_sql(case.table.name)}"
        self._rows: dict[int, RowTexts] = {}
        self.expected: list[Expected] = []
        self.refused = 0
        if case.session:
            self._query(f"SET SESSION {', '.join(case.session)}")
        self._query(case.table.create_sql)
        self.columns = tuple(
            Shown(str(name), _text(column_type), str(data_type).lower(), bool(key), "VIRTUAL" in str(extra))
            for name, column_type, data_type, key, extra in self._columns()
        )
        if case.table.judging == "history" and "row_from" not in (column.name for column in self.columns):
            self.columns += tuple(Shown(name, "timestamp(6)", "timestamp", False) for name in ("row_start", "row_end"))
        history = " FOR SYSTEM_TIME ALL" if case.table.judging == "history" else ""
        self._select = f"SELECT {', '.join(column.expression for column in self.columns)} FROM {self._target}{history}"

    def run(self, step: Step) -> None:
        """Run one statement, under the step's settings already; the server may refuse it, or a part of it."""
        expected = Expected(step, step.statement(self.case.table.name))
        try:
            self._query(expected.sql)
        except pymysql.MySQLError as error:
            if not isinstance(error.args[0], int) or error.args[0] in (1064, 2006, 2013):
                raise
            self.refused += 1
        match self.case.table.judging:
            case "rows":
                expected.pairs = self._changed(step.ids, step.distance)
            case "history":
                expected.snapshot = self._shown(self._query(self._select))
            case "sequence":
                expected.pairs = [((), row) for row in self._shown(self._query(self._select))]
        self.expected.append(expected)

    def _changed(self, ids: Sequence[int], distance: int) -> list[tuple[RowTexts, RowTexts]]:
        if not ids:
            return []
        places = {key: key + distance for key in ids}
        keys = ", ".join(map(str, {*places, *places.values()}))
        found = self._query(f"SELECT `id`, {self._select[7:]} WHERE `id` IN ({keys})")
        now = dict(zip((int(row[0]) for row in found), self._shown([row[1:] for row in found]), strict=True))
        moved = distance and any(place in now for place in places.values())
        pairs = [(self._rows.get(key, ()), now.get(place if moved else key, ())) for key, place in places.items()]
        for key in ids:
            self._rows.pop(key, None)
        self._rows.update(now)
        return [pair for pair in pairs if pair != ((), ())]

    def _shown(self, rows: Sequence[tuple[Any, ...]]) -> list[RowTexts]:
        return [tuple(column.text(value) for column, value in zip(self.columns, row, strict=True)) for row in rows]

    def _columns(self) -> Sequence[tuple[Any, ...]]:
        return self._query(_COLUMNS, self.schema, self.case.table.name)

    def _query(self, sql: str, *args: object) -> Sequence[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
