"""One running MariaDB or MySQL server of a test, whichever runner started it.

`mariadb_server` and `mysql_server` yield this. Statements run as root over the unix socket, each on a connection of its
own; the capture account `canal` (password `canal`) is reachable over TCP on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pymysql

from ha_canal.testing.process import ServerProcess

Flavor: TypeAlias = Literal["mariadb", "mysql"]
Row: TypeAlias = tuple[Any, ...]

_ANSWER_LIMIT_S = 120.0

CANAL_USER = "canal"
CANAL_PASSWORD = "canal"


class DatabaseServer:
    """A server that runs (unless the test killed it), with throw-away data.

    `host`, `port`, `user` and `password` are for capture clients; `socket` is where root (`root_user`, no password)
    logs in.
    """

    host = "127.0.0.1"
    root_user = "root"
    root_password = ""
    user = CANAL_USER
    password = CANAL_PASSWORD

    def __init__(
        self,
        flavor: Flavor,
        command: Callable[[Sequence[str]], Sequence[str]],
        *,
        port: int,
        server_id: int,
        directory: Path,
        options: Sequence[str],
        log: Path,
    ) -> None:
        """`command` makes the whole command line out of the options that this server gets on top of the usual ones."""
        self.flavor: Flavor = flavor
        self.port = port
        self.server_id = server_id
        self.directory = directory
        self.socket = log.parent / "s.sock"
        self.options = tuple(options)
        self._command = command
        self._process = ServerProcess(f"{flavor} server {server_id} on port {port}", command(options), log=log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def log_text(self) -> str:
        """Return the server's error log, over all its restarts."""
        return self._process.log_text()

    async def start(self) -> None:
        """Start the server and return when root can log in; `ServerFailedError` with its log's tail if it cannot."""
        self._process.spawn()
        await self._process.until(self._accepts_root)

    async def restart(self, options: Sequence[str] | None = None) -> None:
        """Start the server again on the same port and data, with other extra options if given.

        One that still runs is asked to end first (SIGTERM), which takes MySQL 10 s while a binlog dump is attached.
        """
        await self._process.stop()
        if options is not None:
            self.options = tuple(options)
            self._process.argv = tuple(self._command(options))
        await self.start()

    async def stop(self) -> None:
        """End the server cleanly (SIGTERM)."""
        await self._process.stop()

    def kill(self) -> None:
        """End the server with SIGKILL and reap it."""
        self._process.kill()

    def pause(self) -> None:
        """Freeze the server with SIGSTOP."""
        self._process.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._process.resume()

    def connect(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """Return a new connection as root over the unix socket, in autocommit mode, with UTC as its time zone."""
        connection = pymysql.connect(
            unix_socket=str(self.socket),
            user=self.root_user,
            password=self.root_password,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            init_command="SET time_zone = '+00:00'",
            read_timeout=_ANSWER_LIMIT_S,
            defer_connect=True,
        )
        connection.connect(_connected(self.socket))
        return connection

    def run_sql(self, sql: str, *args: object, database: str | None = None) -> list[Row]:
        """Run one statement as root on a fresh connection and return its rows; blocks the calling thread."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    async def execute(self, sql: str, *args: object, database: str | None = None) -> None:
        """Run one statement as root; `args` fill its ``%s``."""
        await asyncio.to_thread(self.run_sql, sql, *args, database=database)

    async def query(self, sql: str, *args: object, database: str | None = None) -> list[Row]:
        """Run one statement as root and return its rows."""
        return await asyncio.to_thread(self.run_sql, sql, *args, database=database)

    def create_database(self, prefix: str = "t") -> str:
        """Create an empty utf8mb4 database with a name that no other test has, and return the name."""
        name = f"{prefix}_{secrets.token_hex(4)}"
        self.run_sql(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database; fails after 10 s when a connection left open by the test holds a lock in it."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 10")
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    async def _accepts_root(self) -> bool:
        try:
            await asyncio.to_thread(self.run_sql, "SELECT 1")
        except (OSError, pymysql.err.OperationalError):  # not up yet, or refusing logins yet
            return False
        return True


@dataclass(frozen=True, slots=True)
class Database:
    """One test's own database on a server that it shares with others."""

    server: DatabaseServer
    name: str

    def run_sql(self, sql: str, *args: object) -> list[Row]:
        """Run one statement as root in this database and return its rows; blocks the calling thread."""
        return self.server.run_sql(sql, *args, database=self.name)

    async def execute(self, sql: str, *args: object) -> None:
        """Run one statement as root in this database."""
        await self.server.execute(sql, *args, database=self.name)

    async def query(self, sql: str, *args: object) -> list[Row]:
        """Run one statement as root in this database and return its rows."""
        return await self.server.query(sql, *args, database=self.name)


def _connected(path: Path) -> socket.socket:
    """Return a socket connected to `path`; PyMySQL's own way leaves the socket open when it is refused."""
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(str(path))
    except OSError:
        link.close()
        raise
    return link
