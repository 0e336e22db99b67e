"""The server as an oracle: what it SELECTs of a row around each statement, against the images in its binlog."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pymysql

from ha_canal.binlog.columns import ColumnVersion, TableVersion, compile_plan
from ha_canal.binlog.rows import Image, decode_rows
from ha_canal.binlog.table_map import TableMap
from ha_canal.model.change import Rows
from ha_canal.model.table import RowPlan
from ha_canal.testing.database import Database
from tests.binlog.binlog_file import rows_of

_COLUMNS = (
    "SELECT COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME, ''), COLUMN_KEY = 'PRI', DATA_TYPE "
    "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point", "linestring")


@dataclass(frozen=True, slots=True)
class Pair:
    """What one row was and became, as the server shows it: columns as `expected` makes them."""

    before: tuple[str | None, ...]
    after: tuple[str | None, ...]


class Recorder:
    """Runs statements that touch one row each in table ``t``, whose first column is the key ``id``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.server.connect(database.name)
        self._cursor = self._connection.cursor()
        found = self._query(_COLUMNS, database.name, "t")
        self.data_types = [str(row[4]).lower() for row in found]
        self.version = TableVersion(tuple(ColumnVersion(str(r[0]), _text(r[1]), str(r[2]), bool(r[3])) for r in found))
        self._select = ", ".join(map(_expression, [row[0] for row in found], self.data_types))
        self._file, self._start = self._end_of_binlog()
        self.pairs: list[Pair] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()
        self._connection.close()

    def run(self, sql: str, key: int, *args: object) -> bool:
        """Run a statement on the row ``key``; False where the server refuses the value."""
        before = self._row(key)
        try:
            self._cursor.execute(sql, args or None)
        except (pymysql.err.DataError, pymysql.err.OperationalError, pymysql.err.IntegrityError):
            return False
        after = self._row(key)
        if before != after:
            self.pairs.append(Pair(before, after))
        return True

    def execute(self, sql: str) -> None:
        self._cursor.execute(sql)

    def images(self, narrow: dict[str, Any] | None = None, *, with_version: bool = True) -> list[tuple[Image, Image]]:
        """Return the decoded images of all rows so far; ``narrow`` replaces parts of each TABLE_MAP."""

        def plan(table_map: TableMap) -> RowPlan:
            narrowed = replace(table_map, **narrow) if narrow else table_map
            return compile_plan(narrowed, self.version if with_version else None)

        return [pair for rows in self.events(plan) for pair in decode_rows(rows)]

    def events(self, plan: Callable[[TableMap], RowPlan]) -> Iterator[Rows]:
        """Yield the rows events so far, under plans of one's own."""
        mariadb = self._database.server.flavor == "mariadb"
        return rows_of(self._file, self._start, self._database.name, plan, mariadb=mariadb)

    def _row(self, key: int) -> tuple[str | None, ...]:
        found = self._query(f"SELECT {self._select} FROM t WHERE id = {key}")
        return tuple(map(_expected, found[0], self.data_types)) if found else ()

    def _query(self, sql: str, *args: object) -> Sequence[tuple[Any, ...]]:
        self._cursor.execute(sql, args or None)
        return self._cursor.fetchall()

    def _end_of_binlog(self) -> tuple[Path, int]:
        statement = "SHOW MASTER STATUS" if self._database.server.flavor == "mariadb" else "SHOW BINARY LOG STATUS"
        file, offset = self._query(statement)[0][:2]
        base = Path(str(self._query("SELECT @@log_bin_basename")[0][0]))
        return base.parent / str(file), int(offset)


def fresh_table(database: Database, columns: str) -> None:
    with closing(database.server.connect(database.name)) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS t")
        cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {columns})")


def comparable(image: Image, data_types: Sequence[str]) -> tuple[object, ...]:
    """An image as `Recorder` shows the server's own row."""
    return tuple(map(_decoded_value, image, data_types))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _expression(name: str, data_type: str) -> str:
    column = f"`{name}`"
    match data_type:
        case _ if data_type in _BYTES or data_type == "vector":
            return f"HEX({column})"
        case "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set":
            return f"HEX(CONVERT({column} USING utf8mb4))"
        case "bit":
            return f"CAST({column} + 0 AS CHAR)"
        case "float" | "double":
            return f"CAST({column} AS DOUBLE)"
        case "json":
            return f"HEX(CAST({column} AS CHAR CHARACTER SET utf8mb4))"
        case _:
            return f"CAST({column} AS CHAR)"


def _expected(value: Any, data_type: str) -> str | None:
    if value is None:
        return None
    if data_type == "float":
        return repr(struct.unpack("<f", struct.pack("<f", value))[0])
    if data_type == "double":
        return repr(float(value))
    return str(value)


def _decoded_value(value: object, data_type: str) -> object:
    if not isinstance(value, str):
        return value
    match data_type:
        case _ if data_type in _BYTES:
            return value.encode("latin-1").hex().upper()
        case "vector":
            return struct.pack(f"<{value.count(',') + 1}f", *map(float, value.strip("[]").split(","))).hex().upper()
        case "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" | "json":
            return value.encode().hex().upper()
        case "float":
            return repr(struct.unpack("<f", struct.pack("<f", float(value)))[0])
        case _:
            return value
