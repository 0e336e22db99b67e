"""mysql-replication reads the same binlog: it must agree where it is right (plain types, full images, given places)."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from ha_canal.binlog.encode import encode_entry
from ha_canal.client.change import Change
from ha_canal.client.entries import changes_of
from ha_canal.model.change import Rows
from ha_canal.model.position import Position
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.fidelity_round import end_of, read_items
from ha_canal.testing.fidelity_text import quoted

_SEED = random.SystemRandom().randrange(1 << 32)
_ROWS = 60
_COLUMNS = (
    "id INT PRIMARY KEY, a TINYINT UNSIGNED, b MEDIUMINT, c BIGINT UNSIGNED, d DECIMAL(30,9), e DOUBLE, "
    "f VARCHAR(300), g TEXT CHARACTER SET latin1, h VARBINARY(20), i DATE, j DATETIME(6), k TIME(3), "
    "l ENUM('x','y'), m BLOB, n YEAR"
)


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {_SEED}")
    return random.Random(_SEED)


@pytest.mark.filterwarnings("ignore:'db' is deprecated")  # mysql-replication passes it to PyMySQL
def test_another_reader_agrees(database: Database, rng: random.Random) -> None:
    start = end_of(database.server)
    database.run_sql(f"CREATE TABLE t ({_COLUMNS})")
    for key in range(_ROWS):
        database.run_sql(f"INSERT INTO t VALUES ({key}, {_values(rng)})")
        database.run_sql(f"UPDATE t SET b = b - 1, f = {_text(rng)} WHERE id = {rng.randint(0, key)}")
    database.run_sql("DELETE FROM t WHERE id % 3 = 0")
    ours = [_ours(change) for change in _changes(database, start)]
    assert len(ours) > _ROWS
    assert ours == _theirs(database, start, len(ours))


def _values(rng: random.Random) -> str:
    values = (
        str(rng.randrange(256)),
        str(rng.randint(-(1 << 23) + 9999, (1 << 23) - 1)),
        str(rng.getrandbits(64)),
        f"{rng.randint(-(10**20), 10**20)}.{rng.randrange(10**9)}",
        repr(rng.uniform(-1e9, 1e9)),
        _text(rng),
        quoted("".join(rng.choices("abcÄß€", k=9))),
        f"x'{rng.randbytes(9).hex()}'",
        f"'{rng.randint(1000, 9999)}-{rng.randint(1, 12):02}-11'",
        f"'{rng.randint(1000, 9999)}-01-11 10:11:12.{rng.randrange(10**6):06}'",
        f"'{rng.randint(0, 800)}:{rng.randrange(60):02}:01.25'",
        rng.choice(("'x'", "'y'")),
        f"x'{rng.randbytes(rng.randrange(1, 300)).hex()}'",  # it takes an empty one for text
        str(rng.randint(1901, 2155)),
    )
    return ", ".join("NULL" if rng.random() < 0.1 else value for value in values)


def _text(rng: random.Random) -> str:
    return quoted("".join(rng.choices("abc '\"äß漢🙂", k=rng.randint(0, 40))))


def _changes(database: Database, start: Position) -> list[Change]:
    items, error = asyncio.run(read_items(database.server, start))
    assert error is None
    entries = [encode_entry(item, epoch=1) or b"" for item in items if isinstance(item, Rows)]
    return [change for change in changes_of(entries) if change.schema == database.name]


def _ours(change: Change) -> tuple[Any, ...]:
    return change.kind, change.before and _row(change.before), change.after and _row(change.after)


def _theirs(database: Database, start: Position, count: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    with closing(_stream(database.server, start, database.name)) as stream:
        for event in stream:
            for row in event.rows:
                match event:
                    case WriteRowsEvent():
                        found.append(("insert", None, _row(row["values"])))
                    case UpdateRowsEvent():
                        found.append(("update", _row(row["before_values"]), _row(row["after_values"])))
                    case _:
                        found.append(("delete", _row(row["values"]), None))
            if len(found) >= count:
                break
    return found


def _stream(server: DatabaseServer, start: Position, schema: str) -> Any:
    """Not told of MariaDB: it would then leave file and offset out of account, and read all there is."""
    settings = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    return BinLogStreamReader(
        connection_settings=settings,
        server_id=4242,
        resume_stream=True,
        log_file=start.file,
        log_pos=start.offset,
        only_schemas=[schema],
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )


def _row(row: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """What both readers mean by a value: they must not differ in type either."""
    assert value is None or isinstance(value, (int, str, bytes, float, Decimal, date, datetime, timedelta))
    return value
