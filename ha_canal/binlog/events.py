"""Binlog events: types, header, and the parsers of small bodies. Bytes in, values out.

Layouts are those of the MySQL server's libs/mysql/binlog/event (control_events.h, rows_event.h, statement_events.h)
and of MariaDB's log_event.h. A *body* is what stands between the 19-byte header and the checksum. Parsers raise
DecodeError for a body that is too short for what it says; who calls them adds the place.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ha_canal.errors import DecodeError

HEADER_BYTES = 19
CHECKSUM_BYTES = 4

FLAG_BINLOG_IN_USE = 0x01
FLAG_ARTIFICIAL = 0x20
FLAG_IGNORABLE = 0x80

Bytes = bytes | memoryview


class EventType(enum.IntEnum):
    """Types 0 to 42 are MySQL's (MariaDB shares those below 33, and 38), from 160 on MariaDB's own."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V0 = 20
    UPDATE_ROWS_V0 = 21
    DELETE_ROWS_V0 = 22
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171


def type_name(code: int) -> str:
    """Return the name of an event type for messages, also where it is not known."""
    try:
        return f"{EventType(code).name} event"
    except ValueError:
        return f"event of the unknown type {code}"


class Event(NamedTuple):
    """One event, its header read. ``offset`` is where it starts in its file, ``length`` its size there, in bytes.

    For an event inside a compressed transaction both are those of the event that holds it.
    """

    type_code: int
    timestamp_s: int
    server_id: int
    flags: int
    offset: int
    length: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class FormatDescription:
    """What a file says of itself. ``checksum``: its events end with a CRC32; ``created_s`` is 0 in most files."""

    server_version: str
    checksum: bool
    created_s: int

    @property
    def is_mariadb(self) -> bool:
        return "mariadb" in self.server_version.lower()


_FORMAT_FIXED = struct.Struct("<H50sIB")
_POST_HEADER_BYTES = {
    EventType.QUERY: 13,
    EventType.ROTATE: 8,
    EventType.TABLE_MAP: 8,
    EventType.WRITE_ROWS_V1: 8,
    EventType.UPDATE_ROWS_V1: 8,
    EventType.DELETE_ROWS_V1: 8,
    EventType.WRITE_ROWS: 10,
    EventType.UPDATE_ROWS: 10,
    EventType.DELETE_ROWS: 10,
}
_CHECKSUM_ALGORITHMS = {0: False, 1: True, 255: False}


def parse_format_description(body: Bytes) -> FormatDescription:
    """Read a FORMAT_DESCRIPTION body *with* its checksum: the byte before it says whether other events have one.

    Servers since MySQL 5.6.1 and MariaDB 5.3 write both into this event even when checksums are off.
    """
    if len(body) < _FORMAT_FIXED.size + CHECKSUM_BYTES + 1:
        raise DecodeError("it is too short")
    version, name, created_s, header_bytes = _FORMAT_FIXED.unpack_from(body)
    if version != 4 or header_bytes != HEADER_BYTES:
        raise DecodeError(f"binlog format {version} with headers of {header_bytes} bytes; only format 4 can be read")
    algorithm = body[-CHECKSUM_BYTES - 1]
    if algorithm not in _CHECKSUM_ALGORITHMS:
        raise DecodeError(f"checksum algorithm {algorithm} is not known")
    lengths = bytes(body[_FORMAT_FIXED.size : -CHECKSUM_BYTES - 1])
    for kind, length in _POST_HEADER_BYTES.items():
        if kind <= len(lengths) and lengths[kind - 1] not in (0, length):
            raise DecodeError(f"{kind.name} events with a fixed part of {lengths[kind - 1]} bytes, not {length}")
    return FormatDescription(name.rstrip(b"\0").decode("ascii", "replace"), _CHECKSUM_ALGORITHMS[algorithm], created_s)


def parse_rotate(body: Bytes) -> tuple[str, int]:
    """Return the next file and the offset in it."""
    if len(body) < 9:
        raise DecodeError("it names no file")
    return file_name(body[8:]), int.from_bytes(body[:8], "little")


def file_name(raw: Bytes) -> str:
    """Return the name of a binlog file as an event writes it."""
    try:
        name = bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        raise DecodeError(f"{bytes(raw[:64])!r} is no name of a binlog file")
    return name


def parse_heartbeat_v2(body: Bytes) -> tuple[str, int]:
    """Return the file and the offset that a HEARTBEAT_V2 states: fields of (type, length, value), ended by type 0."""
    name, position, at = "", -1, 0
    while at < len(body) and body[at] != 0:
        kind = body[at]
        size, at = read_lenenc(body, at + 1)
        value = take(body, at, size)
        at += size
        if kind == 1:
            name = file_name(value)
        elif kind == 2:
            position, _ = read_lenenc(value, 0)
    if not name or position < 0:
        raise DecodeError("it says neither file nor position")
    return name, position


def parse_incident(body: Bytes) -> str:
    """Return what happened, in the server's words."""
    number = int.from_bytes(take(body, 0, 2), "little")
    text = bytes(body[3 : 3 + body[2]]).decode("utf-8", "replace") if len(body) > 2 else ""
    return f"incident {number}: {text or 'without a message'}"


_LENENC_BYTES = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def read_lenenc(body: Bytes, at: int) -> tuple[int, int]:
    """Read a length-encoded integer; return it and where the next field starts."""
    first = take(body, at, 1)[0]
    if first < 0xFB:
        return first, at + 1
    size = _LENENC_BYTES.get(first)
    if size is None:
        raise DecodeError(f"0x{first:02x} starts no length-encoded integer")
    return int.from_bytes(take(body, at + 1, size), "little"), at + 1 + size


def take(body: Bytes, at: int, size: int) -> Bytes:
    """Return ``size`` bytes from ``at`` on, all of them."""
    if at + size > len(body):
        raise DecodeError(f"it ends after {len(body)} bytes, in a field of {size} bytes at {at}")
    return body[at : at + size]
