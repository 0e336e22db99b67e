"""The events that give a transaction its GTID: MySQL's plain, anonymous and tagged ones, and MariaDB's.

Plain: flags, uuid (16 bytes), number (8), then by server version logical clock, commit timestamps and more
(MySQL: control_events.h, Gtid_event). Tagged: the same fields in the mysql::serialization format. MariaDB: sequence
number, domain, flags (log_event.h, Gtid_log_event); the server id is the header's.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from ha_canal.binlog.events import Bytes, take
from ha_canal.errors import DecodeError


class GtidStart(NamedTuple):
    """The start of a transaction. ``gtid`` is ``""`` for an anonymous one.

    ``commit_timestamp_us`` is the time of commit on the server where the transaction was first committed, in
    microseconds, so that it is the same on every replica; 0 where the server does not say.
    """

    gtid: str
    commit_timestamp_us: int


_TAG = re.compile(rb"[a-z_][a-z0-9_]{0,31}")
_PLAIN = struct.Struct("<B16sq")
_CLOCK_BYTES = 17
_TIMESTAMP_BYTES = 7
_TIMESTAMP_MORE = 1 << 55


def parse_gtid(body: Bytes, *, anonymous: bool = False) -> GtidStart:
    if len(body) < _PLAIN.size:
        raise DecodeError(f"its body has {len(body)} bytes")
    _, uuid, number = _PLAIN.unpack_from(body)
    timestamp = 0
    at = _PLAIN.size + _CLOCK_BYTES
    if len(body) >= at + _TIMESTAMP_BYTES:
        timestamp = int.from_bytes(body[at : at + _TIMESTAMP_BYTES], "little")
        if timestamp & _TIMESTAMP_MORE:
            timestamp = int.from_bytes(take(body, at + _TIMESTAMP_BYTES, _TIMESTAMP_BYTES), "little")
    return GtidStart("" if anonymous else _text(uuid, "", number), timestamp)


def parse_gtid_tagged(body: Bytes) -> GtidStart:
    """Read a GTID_TAGGED body: version, size and last required field, then (field number, value) in rising order.

    Field numbers are 0 flags, 1 uuid, 2 number, 3 tag, 4 and 5 logical clock, 6 immediate commit timestamp,
    7 original one (absent when equal), and more that nobody here needs.
    """
    version, at = _read_varlen(body, 0)
    size, at = _read_varlen(body, at)
    _, at = _read_varlen(body, at)
    if version != 1 or size != len(body):
        raise DecodeError(f"serialization version {version} with {size} bytes in a body of {len(body)}")
    uuid, tag, numbers = b"", "", dict[int, int]()
    while at < len(body):
        field, at = _read_varlen(body, at)
        if field > 7:
            break
        if field == 1:
            uuid, at = _read_uuid(body, at)
        elif field == 3:
            length, at = _read_varlen(body, at)
            tag = _read_tag(bytes(take(body, at, length)))
            at += length
        else:
            numbers[field], at = _read_varlen(body, at)
    if not uuid or 2 not in numbers:
        raise DecodeError("it has no uuid or no number")
    if numbers[2] & 1:
        raise DecodeError("its number is negative")
    timestamp = numbers.get(7, numbers.get(6, 0))
    if timestamp >= _TIMESTAMP_MORE:
        raise DecodeError(f"it was committed {timestamp} microseconds after 1970")
    return GtidStart(_text(uuid, tag, numbers[2] >> 1), timestamp)


def _read_tag(raw: bytes) -> str:
    if raw and not _TAG.fullmatch(raw):
        raise DecodeError(f"{raw[:64]!r} is no tag of a GTID")
    return raw.decode("ascii")


def _text(uuid: bytes, tag: str, number: int) -> str:
    if number < 1:
        raise DecodeError(f"{number} is no number of a GTID")
    return f"{UUID(bytes=uuid)}:{tag}:{number}" if tag else f"{UUID(bytes=uuid)}:{number}"


def _read_uuid(body: Bytes, at: int) -> tuple[bytes, int]:
    octets = bytearray()
    for _ in range(16):
        octet, at = _read_varlen(body, at)
        octets.append(octet)
    return bytes(octets), at


def _read_varlen(body: Bytes, at: int) -> tuple[int, int]:
    """Read an unsigned integer whose first byte says by its trailing one bits how many bytes follow.

    Signed integers have their sign in the lowest bit of what this returns.
    """
    first = take(body, at, 1)[0]
    size = ((first + 1) & ~first).bit_length()
    if size == 9:  # all ones: 8 whole bytes follow
        return int.from_bytes(take(body, at + 1, 8), "little"), at + 9
    return int.from_bytes(take(body, at, size), "little") >> size, at + size


_MARIADB = struct.Struct("<QIB")
_STANDALONE, _GROUP_COMMIT_ID, _PREPARED_XA, _COMPLETED_XA = 1, 2, 64, 128
_START_ALTER, _ROLLBACK_ALTER = 2, 8
_SHORTEST_MARIADB = 19
"""Shorter bodies are filled up with zero bytes, which read as "no more flags"."""


@dataclass(frozen=True, slots=True)
class MariadbGtidStart:
    """The start of a MariaDB event group.

    ``standalone``: its first query event is also its end. ``prepared_xa``: rows of an XA transaction that may still be
    rolled back. ``not_done``: the statement inside (the first phase of an ALTER in two phases, or one that was rolled
    back) did not change the table.
    """

    gtid: str
    standalone: bool
    prepared_xa: bool
    not_done: bool


def parse_mariadb_gtid(body: Bytes, server_id: int) -> MariadbGtidStart:
    if len(body) < _SHORTEST_MARIADB:
        raise DecodeError(f"its body has {len(body)} bytes")
    sequence, domain, flags = _MARIADB.unpack_from(body)
    at = _MARIADB.size + (8 if flags & _GROUP_COMMIT_ID else 0)
    if flags & (_PREPARED_XA | _COMPLETED_XA):
        lengths = take(body, at + 4, 2)
        at += 6 + lengths[0] + lengths[1]
    more = body[at] if at < len(body) else 0
    return MariadbGtidStart(
        f"{domain}-{server_id}-{sequence}",
        standalone=bool(flags & _STANDALONE),
        prepared_xa=bool(flags & _PREPARED_XA),
        not_done=bool(more & (_START_ALTER | _ROLLBACK_ALTER)),
    )
