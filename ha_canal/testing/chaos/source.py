"""A primary and its replica, at one address that moves: what applications and nodes of the campaign know as the source.

A promotion loses nothing by itself, so that whatever is missing afterwards is ours: the primary takes no more commits,
the replica catches up, the primary is killed, the replica takes its place, and the old one comes back as its replica.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pymysql

from ha_canal.testing.database import DatabaseServer, Flavor
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.proxy import FaultProxy

_CATCH_UP_S = 60.0
_ACCOUNT = (
    "CREATE USER repl@'%' IDENTIFIED BY 'repl'",
    "GRANT REPLICATION SLAVE ON *.* TO repl@'%'",
)


class Source:
    """Two servers, of which one is the primary; ``links`` follow it."""

    def __init__(self, primary: DatabaseServer, replica: DatabaseServer) -> None:
        self.primary = primary
        self.replica = replica
        self.links: list[FaultProxy] = []

    @property
    def flavor(self) -> Flavor:
        return self.primary.flavor

    @property
    def servers(self) -> Sequence[DatabaseServer]:
        return (self.primary, self.replica)

    def connect(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """Connect to whoever is the primary now, as an application does."""
        return self.primary.connect(database)

    async def promote(self) -> None:
        """Kill the primary once the replica has all that it committed, and let that take its place."""
        old, new = self.primary, self.replica
        with contextlib.closing(await asyncio.to_thread(old.connect)) as last, last.cursor() as cursor:
            await asyncio.to_thread(cursor.execute, "FLUSH TABLES WITH READ LOCK")
            await self.caught_up()
            old.kill()
        for statement in _words(new).stop:
            await new.execute(statement)
        self.primary, self.replica = new, old
        for link in self.links:
            link.turn_to(new.host, new.port)
            await link.cut()

    async def crashed_server_returns(self, server: DatabaseServer) -> None:
        """Start a server again in the role that it has; a replica goes on where it was."""
        await server.start()
        if server is self.replica:
            await server.execute(_words(server).follow[-1])

    async def rejoin(self) -> None:
        """Start the server that was replaced, as the replica of the new primary."""
        await self.replica.start()
        await self.replicate()

    async def replicate(self) -> None:
        """Let the replica follow the primary."""
        for statement in _words(self.replica).follow:
            await self.replica.execute(statement.format(port=self.primary.port))

    async def caught_up(self) -> None:
        """Return when the replica has all that the primary has committed."""
        words = _words(self.primary)
        ((wanted,),) = await self.primary.query(words.done)

        async def has_all() -> bool:
            return bool((await self.replica.query(words.has, wanted))[0][0] == words.has_all)

        await eventually(has_all, within_s=_CATCH_UP_S, what="the replica has all that the primary committed")


class _Mariadb:
    follow = (
        "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos",
        (
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', MASTER_PASSWORD='repl', "
            "MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, MASTER_USE_GTID=slave_pos"
        ),
        "START SLAVE",
    )
    stop = ("STOP SLAVE", "RESET SLAVE ALL")
    done = "SELECT @@gtid_binlog_pos"
    has = "SELECT MASTER_GTID_WAIT(%s, 1)"
    has_all = 0


class _Mysql:
    follow = (
        (
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='repl', "
            "SOURCE_PASSWORD='repl', SOURCE_CONNECT_RETRY=1, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_AUTO_POSITION=1, "
            "GET_SOURCE_PUBLIC_KEY=1"
        ),
        "START REPLICA",
    )
    stop = ("STOP REPLICA", "RESET REPLICA ALL")
    done = "SELECT @@GLOBAL.gtid_executed"
    has = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 1)"
    has_all = 0


def _words(server: DatabaseServer) -> type[_Mariadb | _Mysql]:
    return _Mariadb if server.flavor == "mariadb" else _Mysql


@contextlib.asynccontextmanager
async def running_source(flavor: Flavor) -> AsyncIterator[Source]:
    """Run the two servers; the replica follows from the first event on."""
    run = mysql_server if flavor == "mysql" else mariadb_server
    async with run(server_id=1) as primary, run(server_id=2) as replica:
        await primary.execute(_ACCOUNT[0])
        await primary.execute(_ACCOUNT[1])
        source = Source(primary, replica)
        await source.replicate()
        await source.caught_up()
        yield source
