"""CRC-32 of events: the compiled one, several times as fast, or zlib's."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ha_canal.compiled import PURE

if TYPE_CHECKING or PURE:
    checksum_of = zlib.crc32
else:
    try:
        from ha_canal.binlog._crc import checksum_of
    except ImportError:
        checksum_of = zlib.crc32

__all__ = ["checksum_of"]
