"""The dump command on real servers: what is asked for, and how its socket ends."""

from __future__ import annotations

import asyncio
import struct
import uuid
from dataclasses import replace

import pytest

from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.config import SourceSection
from ha_canal.errors import CanalError, SourceLostError, SourceRefusedError
from ha_canal.model.change import Commit
from ha_canal.model.gtid import MysqlGtidSet
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo, inspect, session, start_of_binlog
from ha_canal.mysql.dump import BinlogSocket, by_gtid, dump, encode_gtid_set
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import REPLICA_UUID, SERVER_ID, source_of

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


async def ask(source: SourceSection) -> tuple[ServerInfo, Position]:
    async with session(source) as db:
        info = await inspect(db, source)
        return info, await start_of_binlog(db, info)


async def gtids_from(source: SourceSection, info: ServerInfo, start: Position, last: str) -> list[str]:
    """Return the GTIDs that a dump from ``start`` gives, up to ``last``."""
    stream = BinlogStream(
        file=start.file, offset=start.offset, server_uuid=info.server_uuid, by_gtid=by_gtid(info, start)
    )
    got: list[str] = []
    async with (
        asyncio.timeout(20),
        dump(source, info, start, server_id=SERVER_ID, replica_uuid=REPLICA_UUID) as socket,
    ):
        while last not in got:
            match stream.next_items():
                case PlanNeeded() as needed:
                    stream.supply_plan(needed, None)
                case []:
                    stream.feed(await socket.receive())
                case items:
                    got += [item.transaction.gtid for item in items if isinstance(item, Commit)]
    return got


def test_a_set_as_the_command_carries_it() -> None:
    assert encode_gtid_set(MysqlGtidSet()) == bytes(8)
    plain = encode_gtid_set(MysqlGtidSet.parse(f"{A}:1-5:7"))
    assert plain == struct.pack("<Q", 1) + uuid.UUID(A).bytes + struct.pack("<5Q", 2, 1, 6, 7, 8)
    tagged = encode_gtid_set(MysqlGtidSet.parse(f"{A}:1-5:blue:3"))
    first = uuid.UUID(A).bytes + b"\0" + struct.pack("<3Q", 1, 1, 6)
    second = uuid.UUID(A).bytes + b"\x08blue" + struct.pack("<3Q", 1, 3, 4)
    assert tagged == b"\1\2\0\0\0\0\0\1" + first + second


SETS = (
    "{me}:1-{before}",
    "{me}:1-{before},00000000-0000-0000-0000-000000000001:1-7:9-12",
    "{me}:1-{before}:blue:1",
    "{me}:1-{before}:blue:2,00000000-0000-0000-0000-000000000001:a_tag_of_two_and_thirty_letters_:5",
    "{me}:1-{before}:blue:1-3,00000000-0000-0000-0000-000000000001:x:9",
)


def test_mysql_sends_what_is_not_in_the_set_tags_included() -> None:
    async def check() -> None:
        async with mysql_server() as server:  # tags stay in the sets of a server for good
            database = Database(server, server.create_database())
            source = source_of(server)
            info, start = await ask(source)
            me = info.server_uuid
            before = int((await _last(server)).rpartition(":")[2])
            await asyncio.to_thread(_write_tagged, database, "blue")
            new = [f"{me}:{before + 1}", *(f"{me}:blue:{number}" for number in (1, 2, 3)), f"{me}:{before + 2}"]
            for text in SETS:
                done = MysqlGtidSet.parse(text.format(me=me, before=before))
                got = await gtids_from(source, info, replace(start, gtid_set=str(done)), new[-1])
                assert got == [gtid for gtid in new if gtid not in done], text

    asyncio.run(check())


def _write_tagged(database: Database, tag: str) -> None:
    connection = database.server.connect(database.name)
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
            cursor.execute(f"SET SESSION gtid_next = 'AUTOMATIC:{tag}'")
            for number in (1, 2, 3):
                cursor.execute(f"INSERT INTO goods VALUES ({number})")
            cursor.execute("SET SESSION gtid_next = 'AUTOMATIC'")
            cursor.execute("INSERT INTO goods VALUES (4)")
    finally:
        connection.close()


def test_an_offset_that_the_protocol_cannot_say(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        info, start = await ask(source)
        place = replace(start, offset=2**32, gtid_set="")
        with pytest.raises(SourceRefusedError, match=r":4294967296, since the protocol has 32 bits.*max_binlog_size"):
            async with dump(source, info, place, server_id=SERVER_ID, replica_uuid=REPLICA_UUID):
                pass

    asyncio.run(check())


def test_by_gtid_an_offset_does_not_matter(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        async with session(source) as db:
            info = await inspect(db, source)
        done = await _executed(database.server)
        await database.execute("CREATE TABLE goods (id INT)")
        place = Position("no-such-file.000001", 2**40, info.server_uuid, info.server_id, gtid_set=done)
        last = await _last(database.server)
        assert await gtids_from(source, info, place, last) == [last]

    asyncio.run(check())


async def _executed(server: DatabaseServer) -> str:
    variable = "gtid_binlog_pos" if server.flavor == "mariadb" else "gtid_executed"
    return str((await server.query(f"SELECT @@global.{variable}"))[0][0]).replace("\n", "")


async def _last(server: DatabaseServer) -> str:
    if server.flavor == "mariadb":
        return await _executed(server)
    me = (await server.query("SELECT @@server_uuid"))[0][0]
    executed = MysqlGtidSet.parse(await _executed(server))
    return next(f"{me}:{ivs[-1][1]}" for source, tag, ivs in executed.items() if (source, tag) == (me, ""))


async def _end_of(socket: BinlogSocket) -> CanalError:
    """Read until the socket ends, and return its error."""
    with pytest.raises(CanalError) as caught:
        await asyncio.wait_for(_drained(socket), 20)
    return caught.value


async def _drained(socket: BinlogSocket) -> None:
    while await socket.receive():
        pass


def test_silence_is_a_loss(database: Database) -> None:
    async def check() -> None:
        server = database.server
        async with FaultProxy(server.host, server.port) as proxy:
            source = source_of(proxy, heartbeat_s=0.1)
            info, start = await ask(source)
            async with dump(source, info, start, server_id=SERVER_ID, replica_uuid=REPLICA_UUID) as socket:
                assert await socket.receive()
                proxy.black_hole("down")
                error = await _end_of(socket)
        assert isinstance(error, SourceLostError)
        assert "nothing came for 1 s, not even a heartbeat" in str(error)

    asyncio.run(check())


def test_heartbeats_keep_a_quiet_connection(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server, heartbeat_s=0.1)
        info, start = await ask(source)
        start = replace(start, gtid_set=await _executed(database.server))
        async with (
            dump(source, info, start, server_id=SERVER_ID, replica_uuid=REPLICA_UUID) as socket,
            asyncio.timeout(20),
        ):
            loop = asyncio.get_running_loop()
            until = loop.time() + 1.5  # longer than the silence that is a loss
            while loop.time() < until:
                assert await socket.receive()

    asyncio.run(check())


@pytest.mark.parametrize("tls", ["disabled", "preferred"])
def test_a_connection_that_is_cut(database: Database, tls: str) -> None:
    async def check() -> None:
        server = database.server
        async with FaultProxy(server.host, server.port) as proxy:
            source = source_of(proxy, tls=tls)
            info, start = await ask(source)
            async with dump(source, info, start, server_id=SERVER_ID, replica_uuid=REPLICA_UUID) as socket:
                assert await socket.receive()
                await proxy.cut()
                assert isinstance(await _end_of(socket), SourceLostError)

    asyncio.run(check())


def test_a_connection_that_the_server_ends(database: Database) -> None:
    async def check() -> None:
        server = database.server
        source = source_of(server)
        info, start = await ask(source)
        async with dump(source, info, start, server_id=SERVER_ID, replica_uuid=REPLICA_UUID) as socket:
            assert await socket.receive()
            for number in await eventually(lambda: dumps_of(server), what="the dump is in the process list"):
                await server.execute(f"KILL {number}")
            assert isinstance(await _end_of(socket), SourceLostError)
        await eventually(lambda: _none(server), what="no dump is left")

    asyncio.run(check())


async def dumps_of(server: DatabaseServer) -> list[int]:
    """Return the connections of binlog dumps."""
    rows = await server.query("SHOW PROCESSLIST")
    return [int(row[0]) for row in rows if str(row[4]).startswith("Binlog Dump")]


async def _none(server: DatabaseServer) -> bool:
    return not await dumps_of(server)
