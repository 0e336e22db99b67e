"""The raw drain: a dump connection read as fast as plain Python can, packet and event headers only. The limit.

What it does, exactly: PyMySQL logs in (no TLS) and sends COM_BINLOG_DUMP; then the blocking socket is read with
`recv_into` into one buffer of 1 MiB. Of each packet it unpacks, with one precompiled struct, the length, the status
byte, and the event header's type and end position; counts the type; and hops to the next packet by its length. A
packet that goes on behind the buffer is hopped over without being kept. No checksum is computed, nothing is copied but
a header that was cut in two, and no position is followed. The clock runs from the first bytes of the dump to the event
which ends at the wanted place.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pymysql

from ha_canal.testing.bench.task import Task

_BUFFER_BYTES = 1 << 20
_COM_BINLOG_DUMP = 0x12
_FIRST_EVENT = 4
_SERVER_ID = 0x7FFF0001
_SEND_ANNOTATE_ROWS = 2
_HEAD = struct.Struct("<IBxxxxBxxxxxxxxI")
"""Length and number of the packet, its status, and of the event: type and end (time, server id and size between)."""
_LENGTH_MASK = 0xFFFFFF
_XID, _XID_BYTES = 16, 31
_ROWS = (23, 24, 25, 30, 31, 32)


def drain(task: Task, begin: Callable[[], None]) -> tuple[int, int]:
    """Read up to the mark; return the numbers of XID and of rows events. ``begin`` is called at the first bytes."""
    link = _dump(task)
    try:
        link._sock.recv(1, socket.MSG_PEEK)  # noqa: SLF001 # see below
        begin()
        counts = _count(link._sock, task.until.offset)  # noqa: SLF001 # PyMySQL cannot hand its socket over
    finally:
        link._force_close()  # noqa: SLF001 # no COM_QUIT: the server is not listening
    return counts[_XID], sum(counts[code] for code in _ROWS)


def _dump(task: Task) -> Any:
    link: Any = pymysql.connect(host=task.host, port=task.port, user=task.user, password=task.password)
    link.cursor().execute("SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'")
    flags = 0
    if task.flavor == "mariadb":
        link.cursor().execute("SET @mariadb_slave_capability = 4")
        flags = _SEND_ANNOTATE_ROWS
    place = struct.pack("<IHI", _FIRST_EVENT, flags, _SERVER_ID) + task.until.file.encode()
    link._execute_command(_COM_BINLOG_DUMP, place)  # noqa: SLF001 # the only way to send it
    link._sock.settimeout(None)  # noqa: SLF001 # see above
    return link


def _count(sock: socket.socket, end: int) -> list[int]:
    """Return how many events of each type came, the one that ends at ``end`` included."""
    counts = [0] * 256
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    unpack = _HEAD.unpack_from
    head_bytes = _HEAD.size
    at = filled = 0
    while True:
        last = filled - head_bytes
        while at <= last:
            length, status, code, log_pos = unpack(buffer, at)
            if status:
                raise ConnectionError(f"the server ends the dump: {bytes(view[at : min(filled, at + 200)])!r}")
            counts[code] += 1
            if log_pos == end:
                return counts
            at += 4 + (length & _LENGTH_MASK)
        if at >= filled:
            at -= filled
            filled = 0
        else:
            view[: filled - at] = view[at:filled]
            filled, at = filled - at, 0
        filled += _received(sock, view[filled:])


def _received(sock: socket.socket, room: memoryview) -> int:
    count = sock.recv_into(room)
    if not count:
        raise ConnectionError("the server closed the connection before the wanted place")
    return count
