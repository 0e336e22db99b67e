"""Whether an event's checksum holds: CRC-32, compiled and several times as fast, or zlib's."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ha_canal.binlog.events import CHECKSUM_BYTES
from ha_canal.compiled import PURE

if TYPE_CHECKING or PURE:
    checksum_of = zlib.crc32
else:
    try:
        from ha_canal.binlog._crc import checksum_of
    except ImportError:
        checksum_of = zlib.crc32


def crc_holds(event: bytes | bytearray | memoryview) -> bool:
    """Whether the last four bytes of ``event`` are the checksum of those before."""
    return checksum_of(event[:-CHECKSUM_BYTES]) == int.from_bytes(event[-CHECKSUM_BYTES:], "little")
