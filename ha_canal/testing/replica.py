"""One test server as the replica of another, with GTIDs or without, and what happens to it afterwards."""

from __future__ import annotations

import asyncio
from contextlib import closing

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually

_USER = "repl"
_CATCHES_UP_WITHIN_S = 60.0


async def replica_of(primary: DatabaseServer, replica: DatabaseServer, *, gtids: bool = True) -> None:
    """Let ``replica`` follow ``primary``, and return when it has applied all that is there.

    One that is empty begins with the first binlog file. With GTIDs, one that was a primary itself goes on from what it
    has.
    """
    await primary.execute(f"CREATE USER IF NOT EXISTS {_USER}@'%%' IDENTIFIED BY '{_USER}'")
    await primary.execute(f"GRANT REPLICATION SLAVE ON *.* TO {_USER}@'%%'")
    for statement in _mariadb(primary, gtids=gtids) if primary.flavor == "mariadb" else _mysql(primary, gtids=gtids):
        await replica.execute(statement)
    await caught_up(primary, replica)


def _mariadb(primary: DatabaseServer, *, gtids: bool) -> list[str]:
    place = "MASTER_USE_GTID=slave_pos" if gtids else f"MASTER_USE_GTID=no, {_beginning('MASTER')}"
    change = (
        f"CHANGE MASTER TO MASTER_HOST='{primary.host}', MASTER_PORT={primary.port}, MASTER_USER='{_USER}', "
        f"MASTER_PASSWORD='{_USER}', MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, {place}"
    )
    return [*(["SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos"] if gtids else []), change, "START SLAVE"]


def _mysql(primary: DatabaseServer, *, gtids: bool) -> list[str]:
    place = "SOURCE_AUTO_POSITION=1" if gtids else f"SOURCE_AUTO_POSITION=0, {_beginning('SOURCE')}"
    change = (
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{primary.host}', SOURCE_PORT={primary.port}, "
        f"SOURCE_USER='{_USER}', SOURCE_PASSWORD='{_USER}', SOURCE_CONNECT_RETRY=1, SOURCE_HEARTBEAT_PERIOD=1, "
        f"GET_SOURCE_PUBLIC_KEY=1, {place}"
    )
    return [change, "START REPLICA"]


def _beginning(word: str) -> str:
    return f"{word}_LOG_FILE='mysql-bin.000001', {word}_LOG_POS=4"


async def caught_up(primary: DatabaseServer, replica: DatabaseServer) -> None:
    """Return when the replica has applied what the primary has committed by now."""
    mariadb = primary.flavor == "mariadb"
    ((wanted,),) = await primary.query("SELECT @@gtid_binlog_pos" if mariadb else "SELECT @@GLOBAL.gtid_executed")

    async def has_all() -> bool:
        if not mariadb:
            return bool((await replica.query("SELECT GTID_SUBSET(%s, @@GLOBAL.gtid_executed)", wanted))[0][0])
        ((there,),) = await replica.query("SELECT @@gtid_current_pos")
        reached = {gtid.partition("-")[0]: int(gtid.rpartition("-")[2]) for gtid in there.split(",") if gtid}
        return all(reached.get(g.partition("-")[0], 0) >= int(g.rpartition("-")[2]) for g in wanted.split(",") if g)

    await eventually(has_all, within_s=_CATCHES_UP_WITHIN_S, what=f"the replica on port {replica.port} has all")


async def promote(replica: DatabaseServer) -> None:
    """Let it apply what it has received, and make it a server of its own."""
    word = "SLAVE" if replica.flavor == "mariadb" else "REPLICA"

    async def has_applied_all() -> bool:
        rows = await asyncio.to_thread(_named, replica, f"SHOW {word} STATUS")
        return "read all relay log" in rows[0][f"{word.title()}_SQL_Running_State"]

    await replica.execute(f"STOP {word} IO_THREAD")
    await eventually(has_applied_all, within_s=_CATCHES_UP_WITHIN_S, what="all that was received is applied")
    await replica.execute(f"STOP {word}")
    await replica.execute(f"RESET {word} ALL")


def _named(server: DatabaseServer, sql: str) -> list[dict[str, str]]:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, map(str, row), strict=True)) for row in cursor.fetchall()]
