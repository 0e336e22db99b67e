"""The stream on what real servers send: dumps from inside a file, over files, by GTID with holes, over a crash."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pymysql

from ha_canal.binlog.stream import BinlogStream
from ha_canal.model.change import Commit, Item, Rows, Statement
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from tests.binlog.streams import drain

_SEND_ANNOTATIONS = 2
_WITHIN_S = 20


class Dump:
    """A dump connection, read by its own thread of control: blocking, for tests alone."""

    def __init__(self, connection: pymysql.Connection[pymysql.cursors.Cursor], stream: BinlogStream) -> None:
        self.stream = stream
        self._socket = connection._sock  # type: ignore[attr-defined]
        self._socket.settimeout(_WITHIN_S)

    def read_until(self, table: str) -> list[Item]:
        """Return the items up to the end of the transaction that creates ``table``."""
        items: list[Item] = []
        deadline = time.monotonic() + _WITHIN_S
        while not any(isinstance(item, Statement) and item.table == table for item in items):
            assert time.monotonic() < deadline, f"{table} did not come; the stream is at {self.stream.offset}"
            self.stream.feed(self._socket.recv(65536))
            items += drain(self.stream)
        return items

    def read_heartbeats(self, events: int) -> None:
        """Read until so many events have come that are not changes."""
        due = self.stream.events + events
        while self.stream.events < due:
            self.stream.feed(self._socket.recv(65536))
            assert drain(self.stream) == []


@contextmanager
def dump(server: DatabaseServer, file: str, offset: int, gtids: str | None = None) -> Iterator[Dump]:
    """Ask for the binlog from ``file``:``offset`` on, or what is not in ``gtids``."""
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET @master_binlog_checksum = @@global.binlog_checksum")
            cursor.execute("SET @source_binlog_checksum = @@global.binlog_checksum")
            cursor.execute("SET @master_heartbeat_period = 50000000, @source_heartbeat_period = 50000000")
            if server.flavor == "mariadb":
                cursor.execute("SET @mariadb_slave_capability = 4")
                if gtids is not None:
                    cursor.execute(f"SET @slave_connect_state = '{gtids}'")
        if gtids is not None and server.flavor == "mysql":
            done = _gtid_set(gtids)
            command, body = 0x1E, struct.pack("<HIIQI", 0, 4711, 0, 4, len(done)) + done
        else:
            flags = _SEND_ANNOTATIONS if server.flavor == "mariadb" else 0
            command, body = 0x12, struct.pack("<IHI", offset, flags, 4711) + file.encode()
        connection._execute_command(command, body)  # type: ignore[attr-defined]
        stream = BinlogStream(file=file, offset=offset, server_uuid="", by_gtid=gtids is not None)
        yield Dump(connection, stream)
    finally:
        connection._force_close()  # type: ignore[attr-defined]


def _gtid_set(text: str) -> bytes:
    uuid, *intervals = text.split(":")
    packed = [struct.pack("<QQ", int(first), int(last) + 1) for first, last in (i.split("-") for i in intervals)]
    return struct.pack("<Q", 1) + UUID(uuid).bytes + struct.pack("<Q", len(packed)) + b"".join(packed)


def place(server: DatabaseServer) -> tuple[str, int]:
    status = "SHOW MASTER STATUS" if server.flavor == "mariadb" else "SHOW BINARY LOG STATUS"
    file, offset = server.run_sql(status)[0][:2]
    return str(file), int(offset)


def commits(items: list[Item]) -> list[Commit]:
    return [item for item in items if isinstance(item, Commit)]


def test_a_dump_from_inside_a_file_over_the_next_one(database: Database) -> None:
    file, offset = place(database.server)
    database.run_sql("CREATE TABLE first (id INT PRIMARY KEY)")
    for number in range(5):
        database.run_sql(f"INSERT INTO first VALUES ({number})")
    database.server.run_sql("FLUSH BINARY LOGS")
    database.run_sql("INSERT INTO first VALUES (100), (101)")
    database.run_sql("CREATE TABLE last (id INT PRIMARY KEY)")
    with dump(database.server, file, offset) as connection:
        items = connection.read_until("last")
        connection.read_heartbeats(3)
        assert (connection.stream.file, connection.stream.offset) == place(database.server)
        assert connection.stream.at_transaction_boundary
    assert items[0].transaction.start_offset == offset
    assert len([item for item in items if isinstance(item, Rows)]) == 6
    ends = commits(items)
    assert len(ends) == 8
    middle = ends[3]
    with dump(database.server, middle.transaction.file, middle.end_offset) as connection:
        again = connection.read_until("last")
    assert again == items[items.index(middle) + 1 :]


def test_a_dump_by_gtid_leaves_out_what_is_done(database: Database) -> None:
    database.run_sql("CREATE TABLE first (id INT PRIMARY KEY)")
    file, offset = place(database.server)
    for number in range(6):
        database.run_sql(f"INSERT INTO first VALUES ({number})")
    database.run_sql("CREATE TABLE last (id INT PRIMARY KEY)")
    with dump(database.server, file, offset) as connection:
        items = connection.read_until("last")
    gtids = [commit.transaction.gtid for commit in commits(items)]
    if database.server.flavor == "mariadb":
        done, left_out = gtids[2], gtids[:3]
    else:
        uuid, gno = gtids[0].split(":")  # a hole: the first transaction here and the fourth are done
        done, left_out = f"{uuid}:1-{gno}:{int(gno) + 3}-{int(gno) + 3}", [gtids[0], gtids[3]]
    with dump(database.server, "", 4, done) as connection:
        again = connection.read_until("last")
    assert again == [item for item in items if item.transaction.gtid not in left_out]


def test_a_dump_goes_on_over_a_crash() -> None:
    asyncio.run(_over_a_crash())


async def _over_a_crash() -> None:
    async with mariadb_server(options=["--binlog-checksum=NONE"]) as server:
        await server.execute("CREATE DATABASE shop")
        await server.execute("CREATE TABLE first (id INT)", database="shop")
        server.kill()
        await server.start()
        await server.execute("CREATE TABLE last (id INT)", database="shop")
        assert place(server)[0] == "mysql-bin.000002"
        with dump(server, "mysql-bin.000001", 4) as connection:
            items = connection.read_until("last")
            assert connection.stream.file == "mysql-bin.000002"
    assert [item.table for item in items if isinstance(item, Statement)] == ["", "first", "last"]
