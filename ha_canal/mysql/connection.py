"""Logging in to MySQL or MariaDB, and asking: which server is this, can it be read, where does its binlog end.

PyMySQL does the login (TLS, authentication plugins); its calls block, so every public coroutine here runs them in a
thread, under a time limit. Errors are ours, with what to do; none holds the password.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pymysql
from pymysql.connections import Connection

from ha_canal.config import SourceSection
from ha_canal.errors import CanalError, ConfigError, SourceBusyError, SourceLostError, SourceRefusedError
from ha_canal.model.position import Position
from ha_canal.mysql.line import Line

Flavor = Literal["mysql", "mariadb"]

_BUSY = {1040, 1053, 1203, 1205, 1226, 1317}
"""Too many connections, shutting down, user limits, lock wait, interrupted: the server manual's error reference."""
_LINK = {2002, 2003, 2006, 2013, 2014}
_NO_TLS = 2026
_TLS_WANTED = 3159
_DENIED = {1044, 1045, 1130, 1142, 1227, 1698, 3118, 4151}
_BEFORE_TRANSACTIONS = {
    "Format_desc", "Previous_gtids", "Gtid_list", "Binlog_checkpoint", "Start_encryption", "Stop", "Rotate",
}  # fmt: skip
"""What `SHOW BINLOG EVENTS` calls the events that a binlog file may hold before its first transaction."""
_HEAD_EVENTS = 16
_ATTEMPTS_AT_END = 10


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the source says of itself. ``server_uuid`` is ``""`` on MariaDB."""

    flavor: Flavor
    version: str
    server_uuid: str
    server_id: int
    gtids: bool
    row_metadata_full: bool
    address: str


def explain(error: pymysql.MySQLError, source: SourceSection) -> CanalError:
    """Turn PyMySQL's error into ours, with what to do about it."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[-1]) if error.args else type(error).__name__
    where = f"{source.user}@{source.address}"
    if isinstance(getattr(error, "original_exception", None), ssl.SSLCertVerificationError):
        return SourceRefusedError(
            f"{where}: the server's certificate cannot be trusted ({text}). Give tls_ca the certificate of the "
            "authority that signed it, and host the name that stands in it; tls = 'required' encrypts without checking"
        )
    if code == _NO_TLS:
        return SourceRefusedError(
            f"{where}: the server has no TLS, and tls = {source.tls!r} asks for it ({text}). Switch TLS on at the "
            "server, or set tls = 'preferred'"
        )
    if code == _TLS_WANTED:
        return SourceRefusedError(f"{where}: the server wants TLS ({text}). Set tls = 'preferred' or 'required'")
    if code in _DENIED:
        return SourceRefusedError(
            f"{where}: the database denies access ({code}: {text}). Check user and password, and "
            "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO that user"
        )
    if code in _BUSY:
        return SourceBusyError(f"{where}: the database cannot serve now ({code}: {text})")
    if code in _LINK or code == 0:
        return SourceLostError(f"{where}: no connection to the database ({text})")
    return SourceRefusedError(f"{where}: the database refused ({code}: {text})")


def _tls_context(source: SourceSection) -> ssl.SSLContext:
    if source.tls != "verify" and not source.tls_ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading the system's certificates takes 20 ms
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        context = ssl.create_default_context(cafile=str(source.tls_ca) if source.tls_ca else None)
    except OSError as error:
        raise ConfigError("source", [f"tls_ca: {source.tls_ca} holds no certificates to trust: {error}"]) from None
    if source.tls != "verify":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connect_blocking(source: SourceSection, opened: Callable[[socket.socket], None] | None = None) -> Connection[Any]:
    """Log in. Blocks; raises our errors. ``tls = "preferred"`` goes on without TLS where the server has none.

    ``opened`` is given a second handle on each socket before anything is said on it.
    """
    password = source.read_password()
    try:
        if source.tls == "disabled":
            return _connect(source, password, opened, ssl_disabled=True)
        try:
            return _connect(source, password, opened, ssl=_tls_context(source))
        except pymysql.OperationalError as error:
            if source.tls != "preferred" or error.args[0] != _NO_TLS:
                raise
            return _connect(source, password, opened, ssl_disabled=True)
    except pymysql.MySQLError as error:
        raise explain(error, source) from None
    except RuntimeError as error:  # PyMySQL: an authentication plugin lacks what it needs
        raise SourceRefusedError(f"{source.user}@{source.address}: cannot log in: {error}") from None
    except (struct.error, LookupError, ValueError, AssertionError):  # PyMySQL, on a greeting that is none
        raise SourceLostError(
            f"{source.address}: what answers there is no MySQL or MariaDB server; check host and port"
        ) from None


def _connect(
    source: SourceSection, password: str, opened: Callable[[socket.socket], None] | None, **tls: Any
) -> Connection[Any]:
    made: Connection[Any] = pymysql.connect(
        host=source.host,
        port=source.port,
        user=source.user,
        password=password,
        charset="utf8mb4",
        connect_timeout=max(1, int(source.connect_timeout_s)),
        read_timeout=max(1, int(source.connect_timeout_s * 3)),
        write_timeout=max(1, int(source.connect_timeout_s)),
        autocommit=True,
        program_name="ha_canal",
        defer_connect=True,
        **tls,
    )
    made.connect(_dial(source, opened) if opened else None)
    return made


def _dial(source: SourceSection, opened: Callable[[socket.socket], None]) -> socket.socket:
    try:
        sock = socket.create_connection((source.host, source.port), timeout=source.connect_timeout_s)
    except OSError as error:
        raise pymysql.OperationalError(2003, f"Can't connect to MySQL server on {source.host!r} ({error})") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened(sock.dup())
    return sock


class Session:
    """One logged-in connection for questions. Made by `session`; one call at a time."""

    def __init__(self, connection: Connection[Any], source: SourceSection, line: Line) -> None:
        self._connection = connection
        self._source = source
        self._line = line

    async def query(self, sql: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows. Raises our errors."""
        return (await self._line.run(self._query, sql, arguments))[1]

    async def named(self, sql: str) -> list[dict[str, str]]:
        """Return all rows, each by the names of its columns: for answers that differ from version to version."""
        names, rows = await self._line.run(self._query, sql, ())
        return [dict(zip(names, map(_text_or_none, row), strict=True)) for row in rows]

    def _query(self, sql: str, arguments: Sequence[object]) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, tuple(arguments) or None)
                return [column[0] for column in cursor.description or ()], list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise explain(error, self._source) from None

    async def variables(self, *names: str) -> dict[str, str]:
        """Return those of the server's global variables that it has."""
        marks = ", ".join(["%s"] * len(names))
        rows = await self.query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({marks})", names)  # marks only
        return {str(name).lower(): str(value) for name, value in rows}


class Ready(Protocol):
    """Has connections that are logged in already: `ha_canal.mysql.logins`."""

    def take(self) -> Connection[Any] | None: ...


@contextlib.asynccontextmanager
async def session(
    source: SourceSection,
    ready: Ready | None = None,
    *,
    limit_s: float | None = None,
    threads: Executor | None = None,
) -> AsyncIterator[Session]:
    """Log in for questions, unless a connection is ``ready``; log out at the end.

    The login and each question may last ``limit_s`` (None: as long as the section's timeouts say), and block
    ``threads``. What lasts longer, or is cancelled, is cut, and so is the connection. Raises our errors.
    """
    line = Line(source.address, limit_s=limit_s, threads=threads)
    try:
        connection = ready.take() if ready else None
        if connection is None:
            connection = await line.run(connect_blocking, source, line.holds)
        else:
            line.holds_connection(connection)
        try:
            yield Session(connection, source, line)
        finally:
            with contextlib.suppress(pymysql.MySQLError, OSError):
                connection.close()
    finally:
        line.cut()


async def inspect(db: Session, source: SourceSection) -> ServerInfo:
    """Return who the server is, once it is sure that its binlog can be read.

    Raises SourceRefusedError with the setting to change: no binlog, or a format that is not ROW.
    """
    got = await db.variables(
        "version", "server_id", "server_uuid", "log_bin", "binlog_format", "gtid_mode", "binlog_row_metadata"
    )
    if got.get("log_bin", "OFF") not in {"ON", "1"}:
        raise SourceRefusedError(f"{source.address}: the binlog is off. Start the server with log-bin=mysql-bin")
    if got.get("binlog_format", "ROW") != "ROW":
        raise SourceRefusedError(
            f"{source.address}: binlog_format is {got['binlog_format']}, and rows are only in ROW. "
            "SET GLOBAL binlog_format = 'ROW' (and in the server's configuration), then reconnect the writers"
        )
    mariadb = "mariadb" in got["version"].lower()
    return ServerInfo(
        flavor="mariadb" if mariadb else "mysql",
        version=got["version"],
        server_uuid="" if mariadb else got.get("server_uuid", ""),
        server_id=int(got["server_id"]),
        gtids=source.use_gtids and (mariadb or got.get("gtid_mode", "OFF") == "ON"),
        row_metadata_full=got.get("binlog_row_metadata", "") == "FULL",
        address=source.address,
    )


async def end_of_binlog(db: Session, info: ServerInfo) -> Position:
    """Return where the binlog ends now, with the GTIDs done. Raises SourceRefusedError without the right to ask."""
    if info.flavor == "mariadb":
        rows = await db.query("SHOW MASTER STATUS")
    else:
        try:
            rows = await db.query("SHOW BINARY LOG STATUS")
        except SourceRefusedError as error:  # before MySQL 8.2 the statement had its old name
            if "1064" not in str(error):
                raise
            rows = await db.query("SHOW MASTER STATUS")
    if not rows:
        raise SourceRefusedError(f"{info.address}: the server reports no binlog position; is the binlog on?")
    file, offset = str(rows[0][0]), int(rows[0][1])
    gtid_set = str(rows[0][4]).replace("\n", "") if info.flavor == "mysql" and len(rows[0]) > 4 else ""
    if info.flavor == "mariadb":
        file, offset, gtid_set = await _mariadb_end(db, file, offset)
    return _place(info, file, offset, gtid_set)


async def _mariadb_end(db: Session, file: str, offset: int) -> tuple[str, int, str]:
    """Return the end with its GTIDs, from ``file`` and ``offset`` on.

    BINLOG_GTID_POS reads the whole file (measured: 50 ms for 120 MB), and @@gtid_binlog_pos is a look at memory; it is
    that of the end if the end is the same before and after. While a server writes without a pause, the file is read.
    """
    for _ in range(_ATTEMPTS_AT_END):
        gtid_set = str((await db.query("SELECT @@GLOBAL.gtid_binlog_pos"))[0][0] or "")
        rows = await db.query("SHOW MASTER STATUS")
        if (str(rows[0][0]), int(rows[0][1])) == (file, offset):
            return file, offset, gtid_set
        file, offset = str(rows[0][0]), int(rows[0][1])
    return file, offset, str((await db.query("SELECT BINLOG_GTID_POS(%s, %s)", (file, offset)))[0][0] or "")


async def start_of_binlog(db: Session, info: ServerInfo) -> Position:
    """Return where the oldest binlog file starts, with the GTIDs that were done before it."""
    file = (await binlog_files(db))[0][0]
    if info.flavor == "mariadb":
        gtid_set = str((await db.query("SELECT BINLOG_GTID_POS(%s, 4)", (file,)))[0][0] or "")
    else:
        gtid_set = (await db.variables("gtid_purged")).get("gtid_purged", "").replace("\n", "")
    return _place(info, file, 4, gtid_set)


async def binlog_files(db: Session) -> list[tuple[str, int]]:
    """Return name and size in bytes of every binlog file, oldest first: never none."""
    return [(str(row[0]), int(row[1])) for row in await db.query("SHOW BINARY LOGS")]


async def binlog_state(db: Session, info: ServerInfo) -> str:
    """Return MariaDB's last GTID of each server in each domain of its binlog; ``""`` for MySQL."""
    if info.flavor == "mysql":
        return ""
    return (await db.variables("gtid_binlog_state")).get("gtid_binlog_state", "").replace("\n", "")


async def server_time_ms(db: Session) -> int:
    """Return the time of the server's clock, in milliseconds since 1970."""
    return int((await db.query("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)"))[0][0])


async def has_gtids_before(db: Session, info: ServerInfo, place: Position) -> bool:
    """Return whether a transaction of the binlog may lie before ``place``: GTIDs cannot be counted from there."""
    oldest = await start_of_binlog(db, info)
    if oldest.gtid_set or oldest.file != place.file:
        return True
    head = await db.query(f"SHOW BINLOG EVENTS IN %s LIMIT {_HEAD_EVENTS}", (place.file,))
    starts = [int(event[1]) for event in head if event[2] not in _BEFORE_TRANSACTIONS]
    return bool(starts) and starts[0] < place.offset


def _place(info: ServerInfo, file: str, offset: int, gtid_set: str) -> Position:
    return Position(file, offset, info.server_uuid, info.server_id, 0, gtid_set if info.gtids else "")


async def visible_tables(db: Session) -> list[tuple[str, str]]:
    """Return (schema, table) of every table that this account may see."""
    rows = await db.query("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES")
    return [(_text(schema), _text(table)) for schema, table in rows]


def _text_or_none(value: object) -> str:
    return "" if value is None else _text(value)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
