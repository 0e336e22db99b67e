"""Binlog files as a dump connection would send them: each event in packets, so that `BinlogStream` reads both.

A file is the magic number ``fe bin`` and then events, one behind the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ha_canal.binlog.events import HEADER_BYTES
from ha_canal.errors import DecodeError

MAGIC = b"\xfebin"
_FULL = 0xFFFFFF


def read_binlog_file(path: Path) -> Iterator[bytes]:
    """Yield the file's events as framed packets, one event at a time.

    Raises:
        DecodeError: it is no binlog file, or it ends inside an event.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DecodeError("it does not start as a binlog file does", file=path.name)
        sequence = 1
        while header := file.read(HEADER_BYTES):
            size = int.from_bytes(header[9:13], "little")
            event = header + file.read(max(0, size - HEADER_BYTES))
            if len(event) != size:
                raise DecodeError(f"it ends inside an event of {size} bytes", file=path.name, offset=file.tell())
            framed, sequence = frame_payload(b"\0" + event, sequence)
            yield framed


def frame_payload(payload: bytes, sequence: int) -> tuple[bytes, int]:
    """Return ``payload`` as packets that count from ``sequence`` on, and the number of the next packet."""
    packets: list[bytes] = []
    for at in range(0, len(payload) + 1, _FULL):
        part = payload[at : at + _FULL]
        packets += (len(part).to_bytes(3, "little"), bytes((sequence,)), part)
        sequence = sequence + 1 & 0xFF
    return b"".join(packets), sequence
