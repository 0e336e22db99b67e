"""The data: deterministic tables, written so that each data set has a binlog file of its own.

Every value follows from the row's id and the seed. The file starts with the data set and holds nothing else. It is
written in two parts, the first a tenth of the whole; `Mark`s say where they end. Rows come as `INSERT … SELECT`:
the events are those of an INSERT with as many VALUES.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ha_canal.testing.bench.task import Mark
from ha_canal.testing.database import DatabaseServer

SCHEMA = "bench"
SERVER_OPTIONS = (
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--max-binlog-size=1G",
    "--innodb-buffer-pool-size=256M",
    "--binlog-cache-size=1M",
)
FLAVOR_OPTIONS = {
    "mysql": ("--innodb-redo-log-capacity=256M", "--tls-version="),
    "mariadb": ("--innodb-log-file-size=128M",),
}
"""Without TLS: it would cost every path the same, and hide what they cost themselves."""
_ROWS_PER_STATEMENT = 500
_PURGE_LIMIT_S = 20.0
_FIRST_PART = 10
"""The first part is this fraction of the whole."""

_MIXED = """id BIGINT NOT NULL PRIMARY KEY, quantity INT, name VARCHAR(40) CHARACTER SET latin1, price DECIMAL(12,2),
    made_at DATETIME, changed_at TIMESTAMP NULL, weight DOUBLE, note VARCHAR(80) CHARACTER SET utf8mb4, day DATE,
    state TINYINT"""
_MIXED_VALUES = """{id}, {hash} - 2147483648, CONCAT('name-', HEX({hash}), '-', {id} % 1000),
    ({hash} % 1000000000) / 100, '2020-01-01' + INTERVAL ({hash} % 100000000) SECOND,
    '2021-01-01' + INTERVAL ({hash} % 90000000) SECOND, {hash} / 7e0,
    IF({id} % 10 = 0, NULL, CONCAT('Größe 大小 ', {hash} % 10007)), '1970-01-01' + INTERVAL ({hash} % 20000) DAY,
    {hash} % 128"""
_WIDE_TYPES = (
    ("INT", "{hash} % 1000003 + {n}"),
    ("VARCHAR(24) CHARACTER SET latin1", "CONCAT('value-', {hash} % 99991, '-{n}')"),
    ("DECIMAL(12,2)", "({hash} % 10000000 + {n}) / 100"),
    ("DATETIME", "'2020-01-01' + INTERVAL ({hash} % 1000000 + {n}) SECOND"),
    ("BIGINT", "{hash} * {n}"),
    ("DOUBLE", "{hash} / ({n} + 7e0)"),
    ("VARCHAR(24) CHARACTER SET utf8mb4", "IF({id} % 10 = 0, NULL, CONCAT('ж-', {hash} % 1009))"),
    ("DATE", "'1970-01-01' + INTERVAL ({hash} % 20000 + {n}) DAY"),
    ("TINYINT", "({hash} + {n}) % 128"),
)
_BLOB_REPEATS = (32_768, *[512] * 32)
"""One value of 1 MiB, then 32 of 16 KiB; 32 bytes are repeated."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A table in the binlog. ``unit`` is what its rates are counted in: rows or transactions.

    ``first`` is the end of its first part, for paths that are too slow for all of it.
    """

    name: str
    unit: str
    first: Mark
    whole: Mark


class Writer:
    """Fills one server. ``rows`` is the size of the largest data set; the others follow from it."""

    def __init__(self, server: DatabaseServer, *, rows: int, seed: int) -> None:
        self._server = server
        self._rows = rows
        self._seed = seed
        server.run_sql(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4")
        self._run("CREATE TABLE numbers (n INT NOT NULL PRIMARY KEY)")
        self._run("INSERT INTO numbers VALUES " + ",".join(f"({n})" for n in range(_ROWS_PER_STATEMENT)))

    def begin(self, name: str) -> DataSet:
        """Write the first part of one data set. What was in the binlog before is purged."""
        unit, create, _ = self._recipe(name)
        rows = self._size(name)
        create(name, rows)
        self._new_file()
        first = self._write(name, Mark("", 0, 0, 0, 0), 0, rows // _FIRST_PART)
        return DataSet(name, unit, first, first)

    def finish(self, part: DataSet) -> DataSet:
        """Write the rest of the data set that was begun last."""
        begun_at = 0 if part.name == "huge" else part.first.rows
        return replace(part, whole=self._write(part.name, part.first, begun_at, self._size(part.name)))

    def parts(self, name: str) -> int:
        """How many times the first part is the whole, about."""
        return _FIRST_PART + (name == "huge")

    def _recipe(self, name: str) -> tuple[str, Callable[[str, int], None], Callable[[str, int, int], Iterator[range]]]:
        return {
            "bulk": ("row", self._create_mixed, self._fill_mixed),
            "single": ("transaction", self._create_single, self._fill_single),
            "huge": ("row", self._create_full, self._update),
            "wide": ("row", self._create_wide, self._fill_wide),
            "blobs": ("row", self._create_blobs, self._fill_blobs),
        }[name]

    def _size(self, name: str) -> int:
        share = {"bulk": 1, "single": 5, "huge": 2, "wide": 20, "blobs": 300}[name]
        return max(1000, round(self._rows // share, -3))

    def _new_file(self) -> None:
        """Begin a binlog file and purge those before it. MariaDB keeps them until InnoDB has made a checkpoint."""
        self._run("FLUSH BINARY LOGS")
        file, _ = self._end()
        deadline = time.monotonic() + _PURGE_LIMIT_S
        while self._server.run_sql("SHOW BINARY LOGS")[0][0] != file:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._server.flavor}: the binlog files before {file} are still there")
            self._run(f"PURGE BINARY LOGS TO '{file}'")

    def _end(self) -> tuple[str, int]:
        row = self._server.run_sql("SHOW BINARY LOGS")[-1]
        return str(row[0]), int(row[1])

    def _write(self, name: str, before: Mark, low: int, high: int) -> Mark:
        """Write the ids above ``low`` up to ``high``, and return where the binlog is then."""
        rows, transactions, sum_of_ids = before.rows, before.transactions, before.ids
        for written in self._recipe(name)[2](name, low, high):
            rows += len(written)
            transactions += 1
            sum_of_ids += sum(written)
        file, offset = self._end()
        if before.file not in ("", file):
            raise ValueError(f"the data does not fit in one binlog file ({before.file} is full): ask for fewer rows")
        return Mark(file, offset, rows, transactions, sum_of_ids)

    # Each `_fill…` writes the ids above ``low`` up to ``high``, and yields the ids of each transaction.

    def _create_mixed(self, name: str, _rows: int) -> None:
        self._run(f"CREATE TABLE {name} ({_MIXED})")

    def _fill_mixed(self, name: str, low: int, high: int) -> Iterator[range]:
        return self._insert_select(name, self._filled(_MIXED_VALUES, "n.id"), low, high)

    def _create_single(self, name: str, _rows: int) -> None:
        self._create_mixed(name, 0)
        values = self._filled(_MIXED_VALUES, "i")
        self._run(
            "CREATE PROCEDURE fill_single(IN low INT, IN high INT) BEGIN DECLARE i INT DEFAULT low; "
            f"WHILE i < high DO SET i = i + 1; INSERT INTO {name} VALUES ({values}); END WHILE; END"
        )

    def _fill_single(self, _name: str, low: int, high: int) -> Iterator[range]:
        self._run(f"CALL fill_single({low}, {high})")
        for row_id in range(low + 1, high + 1):
            yield range(row_id, row_id + 1)

    def _create_full(self, name: str, rows: int) -> None:
        self._create_mixed(name, rows)
        for _ in self._fill_mixed(name, 0, rows):
            pass

    def _update(self, name: str, low: int, high: int) -> Iterator[range]:
        self._run(
            f"UPDATE {name} SET quantity = quantity DIV 3, price = price + 1, state = 127 - state WHERE id <= {high}"
        )
        yield range(low + 1, high + 1)

    def _wide_columns(self) -> list[tuple[str, str]]:
        return [_WIDE_TYPES[n % len(_WIDE_TYPES)] for n in range(99)]

    def _create_wide(self, name: str, _rows: int) -> None:
        columns = ", ".join(f"c{n} {kind}" for n, (kind, _) in enumerate(self._wide_columns()))
        self._run(f"CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, {columns})")

    def _fill_wide(self, name: str, low: int, high: int) -> Iterator[range]:
        values = ", ".join(value.replace("{n}", str(n)) for n, (_, value) in enumerate(self._wide_columns()))
        return self._insert_select(name, self._filled(f"{{id}}, {values}", "n.id"), low, high)

    def _create_blobs(self, name: str, _rows: int) -> None:
        self._run(f"CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, body LONGBLOB)")

    def _fill_blobs(self, name: str, low: int, high: int) -> Iterator[range]:
        with contextlib.closing(self._server.connect(SCHEMA)) as connection, connection.cursor() as cursor:
            for row_id in range(low + 1, high + 1):
                repeats = _BLOB_REPEATS[row_id % len(_BLOB_REPEATS)]
                cursor.execute(f"INSERT INTO {name} VALUES ({row_id}, REPEAT(UNHEX(SHA2({row_id}, 256)), {repeats}))")
                yield range(row_id, row_id + 1)

    def _insert_select(self, name: str, values: str, low: int, high: int) -> Iterator[range]:
        with contextlib.closing(self._server.connect(SCHEMA)) as connection, connection.cursor() as cursor:
            for begin in range(low, high, _ROWS_PER_STATEMENT):
                count = min(_ROWS_PER_STATEMENT, high - begin)
                cursor.execute(
                    f"INSERT INTO {name} SELECT {values} FROM (SELECT {begin} + 1 + n AS id FROM numbers "
                    f"WHERE n < {count}) AS n ORDER BY n.id"
                )
                yield range(begin + 1, begin + count + 1)

    def _filled(self, values: str, row_id: str) -> str:
        return values.format(id=row_id, hash=f"CAST(CRC32(CONCAT('{self._seed}:', {row_id})) AS SIGNED)")

    def _run(self, sql: str) -> None:
        self._server.run_sql(sql, database=SCHEMA)


DATA_SETS = ("bulk", "single", "huge", "wide", "blobs")
