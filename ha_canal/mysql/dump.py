"""The dump command, and the socket behind it: from here on the server only sends, and we only read.

PyMySQL logs in and sends the command; after that its socket is ours, non-blocking, read by the event loop in big
chunks. A TLS socket is read the same way: OpenSSL is asked first, and the loop waits for the file descriptor only
when OpenSSL says that it has nothing left.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pymysql
from pymysql.connections import Connection

from ha_canal.config import SourceSection
from ha_canal.errors import CanalError, SourceLostError, SourceRefusedError
from ha_canal.model.gtid import MysqlGtidSet
from ha_canal.model.position import Position
from ha_canal.mysql.connection import Ready, ServerInfo, connect_blocking, explain
from ha_canal.mysql.line import Line

_COM_BINLOG_DUMP = 0x12
_COM_BINLOG_DUMP_GTID = 0x1E
_SEND_ANNOTATE_ROWS = 0x02
"""MariaDB leaves its ANNOTATE_ROWS events out unless asked for them, and the chain of positions would have holes."""
_CHUNK_BYTES = 256 * 1024
_FIRST_EVENT_OFFSET = 4
LARGEST_OFFSET = 0xFFFFFFFF
"""The protocol has 32 bits for the place where a dump by file and offset starts."""
_SILENT_HEARTBEATS = 3


class BinlogSocket:
    """Bytes as the server sends them. Made by `dump`."""

    def __init__(self, sock: socket.socket, source: SourceSection) -> None:
        self._socket = sock
        self._source = source
        self._silence_s = source.heartbeat_s * _SILENT_HEARTBEATS + 1
        self._must_write = False
        sock.setblocking(False)

    async def receive(self) -> bytes:
        """Return the next bytes, up to 256 KiB. Raises what `receive_into` raises."""
        buffer = bytearray(_CHUNK_BYTES)
        return bytes(buffer[: await self.receive_into(memoryview(buffer))])

    async def receive_into(self, room: memoryview) -> int:
        """Put the next bytes into ``room``; return how many there are.

        Raises SourceLostError when the connection ends, or when nothing came for three heartbeats.
        """
        size = self._receive_now(room)
        if size is not None:
            return size
        try:
            async with asyncio.timeout(self._silence_s):
                while size is None:
                    await self._ready(write=self._must_write)
                    size = self._receive_now(room)
        except TimeoutError:
            raise SourceLostError(
                f"{self._source.address}: nothing came for {self._silence_s:.0f} s, not even a heartbeat"
            ) from None
        return size

    def _receive_now(self, room: memoryview) -> int | None:
        """Return how many bytes came; None: none are here."""
        self._must_write = False
        try:
            size = self._socket.recv_into(room)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:  # a TLS key update has to be answered first
            self._must_write = True
            return None
        except OSError as error:
            raise SourceLostError(f"{self._source.address}: the binlog connection broke ({error})") from None
        if not size:
            raise SourceLostError(f"{self._source.address}: the server closed the binlog connection")
        if isinstance(self._socket, ssl.SSLSocket):
            return self._receive_more(room, size)
        return size

    def _receive_more(self, room: memoryview, size: int) -> int:
        """TLS gives one record (16 KiB) at a time: take as many as there are, so that rounds are large all the same."""
        with contextlib.suppress(OSError):  # there is no more, or the connection broke: the next call meets it again
            while size < len(room) and (more := self._socket.recv_into(room[size:])):
                size += more
        return size

    async def _ready(self, *, write: bool = False) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
        add(self._socket, _wake, future)
        try:
            await future
        finally:
            remove(self._socket)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.asynccontextmanager
async def dump(
    source: SourceSection,
    info: ServerInfo,
    start: Position,
    *,
    server_id: int,
    replica_uuid: uuid.UUID,
    heartbeat_s: float = 0.0,
    ready: Ready | None = None,
) -> AsyncIterator[BinlogSocket]:
    """Ask the server for its binlog from ``start`` on: by GTID set where there is one, else by file and offset.

    ``server_id`` and ``replica_uuid`` are the same on all nodes of an instance: a new leader's dump makes the server
    end the old one's (measured: MySQL keys on the uuid, MariaDB on the server id). ``heartbeat_s`` is how often the
    server speaks when it has nothing to send (0: the section's), and so how soon it notices that we have gone; silence
    is judged by the section's. A connection that is ``ready`` is used. Raises our errors.
    """
    wanted = threading.Event()
    wanted.set()
    asked = source.model_copy(update={"heartbeat_s": heartbeat_s}) if heartbeat_s else source
    line = Line(source.address)
    try:
        given = ready.take() if ready else None
        connection = await line.run(_start_blocking, asked, info, start, server_id, replica_uuid, wanted, given, line)
    except asyncio.CancelledError:
        wanted.clear()  # the thread goes on for a moment; a late dump would make the server end the next leader's
        raise
    finally:
        line.release()
    sock = connection._sock  # type: ignore[attr-defined]  # noqa: SLF001 # PyMySQL cannot hand its socket over
    try:
        yield BinlogSocket(sock, source)
    finally:
        connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 # no COM_QUIT: the server is not listening


def _start_blocking(
    source: SourceSection,
    info: ServerInfo,
    start: Position,
    server_id: int,
    replica_uuid: uuid.UUID,
    wanted: threading.Event,
    given: Connection[Any] | None,
    line: Line,
) -> Connection[Any]:
    if given is not None:
        line.holds_connection(given)
    connection = given or connect_blocking(source, line.holds)
    try:
        with connection.cursor() as cursor:
            for statement in _session_settings(source, info, start, replica_uuid):
                cursor.execute(statement)
        if not wanted.is_set():
            raise SourceLostError(f"{source.address}: nobody waits for this binlog dump any more")
        connection._execute_command(*_command(info, start, server_id))  # type: ignore[attr-defined]  # noqa: SLF001 # the only way to send it
    except (pymysql.MySQLError, CanalError) as error:
        connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 # see above
        raise (explain(error, source) if isinstance(error, pymysql.MySQLError) else error) from None
    return connection


def _session_settings(source: SourceSection, info: ServerInfo, start: Position, replica_uuid: uuid.UUID) -> list[str]:
    heartbeat_ns = int(source.heartbeat_s * 1_000_000_000)
    settings = [
        "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum",
        f"SET @slave_uuid = '{replica_uuid}', @replica_uuid = '{replica_uuid}'",
        f"SET @master_heartbeat_period = {heartbeat_ns}, @source_heartbeat_period = {heartbeat_ns}",
        "SET SESSION net_write_timeout = 7200",
    ]
    if info.flavor == "mariadb":
        settings.append("SET @mariadb_slave_capability = 4")
        if by_gtid(info, start):
            settings += [
                f"SET @slave_connect_state = '{start.gtid_set}'",
                "SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0",
            ]
    return settings


def by_gtid(info: ServerInfo, start: Position) -> bool:
    """Whether a dump from ``start`` is asked for by GTIDs. (An empty MariaDB position cannot be: it names no place.)"""
    return info.gtids and bool(start.gtid_set)


def _command(info: ServerInfo, start: Position, server_id: int) -> tuple[int, bytes]:
    if info.flavor == "mysql" and by_gtid(info, start):
        done = encode_gtid_set(MysqlGtidSet.parse(start.gtid_set))
        head = struct.pack("<HIIQI", 0, server_id, 0, _FIRST_EVENT_OFFSET, len(done))
        return _COM_BINLOG_DUMP_GTID, head + done
    flags = _SEND_ANNOTATE_ROWS if info.flavor == "mariadb" else 0
    if by_gtid(info, start):  # MariaDB was told by @slave_connect_state, and looks at no file
        return _COM_BINLOG_DUMP, struct.pack("<IHI", _FIRST_EVENT_OFFSET, flags, server_id)
    if start.offset > LARGEST_OFFSET:
        raise SourceRefusedError(
            f"{info.address}: reading cannot start at {start.file}:{start.offset}, since the protocol has 32 bits for "
            "an offset (4 GiB). Move the cursor to the start of this file or of the next one, and keep binlog files "
            "smaller: SET GLOBAL max_binlog_size = 1073741824; with GTIDs (gtid_mode = ON) offsets do not matter"
        )
    return _COM_BINLOG_DUMP, struct.pack("<IHI", start.offset, flags, server_id) + start.file.encode()


def encode_gtid_set(gtids: MysqlGtidSet) -> bytes:
    """Return the set as COM_BINLOG_DUMP_GTID carries it; the tagged form (MySQL 8.3) only where a tag is in it."""
    items = gtids.items()
    tagged = any(tag for _, tag, _ in items)
    parts = [_tagged_count(len(items)) if tagged else struct.pack("<Q", len(items))]
    for source, tag, intervals in items:
        parts.append(uuid.UUID(source).bytes)
        if tagged:
            parts.append(bytes([2 * len(tag)]) + tag.encode())
        parts.append(struct.pack("<Q", len(intervals)))
        parts += [struct.pack("<QQ", first, last + 1) for first, last in intervals]
    return b"".join(parts)


def _tagged_count(count: int) -> bytes:
    return b"\x01" + count.to_bytes(6, "little") + b"\x01"
