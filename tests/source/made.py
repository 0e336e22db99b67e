"""Binlog files made event by event, with times of the test's choice, as a dump connection sends them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ha_canal.binlog.events import EventType
from ha_canal.binlog.file import frame_payload


@dataclass
class MadeFile:
    """A file under construction; ``packets`` are what a dump of it from its start sends."""

    packets: bytearray = field(default_factory=bytearray)
    offset: int = 4
    sequence: int = 1

    def event(self, code: int, time_s: int, body: bytes = b"", *, artificial: bool = False) -> int:
        """Append an event with four bytes in the place of a checksum; return where it starts."""
        start, size = self.offset, 19 + len(body) + 4
        self.offset += 0 if artificial else size
        end = 0 if artificial else self.offset
        flags = 0x20 if artificial else 0
        event = struct.pack("<IBIIIH", time_s, code, 1, size, end & 0xFFFFFFFF, flags) + body + b"\xaa\xbb\xcc\xdd"
        packet, self.sequence = frame_payload(b"\0" + event, self.sequence)
        self.packets += packet
        return start

    def begin(self, created_s: int, *, name: bytes = b"bin.000001") -> None:
        """Announce the file, and give it its first event."""
        self.event(EventType.ROTATE, 0, struct.pack("<Q", 4) + name, artificial=True)
        self.event(EventType.FORMAT_DESCRIPTION, created_s, bytes(80))

    def statement(self, time_s: int, sql: bytes, *, status: bytes = b"\0" * 7) -> int:
        head = struct.pack("<IIBHH", 7, 0, 4, 0, len(status))
        return self.event(EventType.QUERY, time_s, head + status + b"shop\0" + sql)

    def transaction(self, start: int | None, *times_s: int) -> int:
        """Append BEGIN, a rows event per inner time, XID; ``start`` is a GTID event's type, None: there are none."""
        first = -1
        if start is not None:
            first = self.event(start, times_s[-1], bytes(25))
        begin = self.statement(times_s[0], b"BEGIN")
        for time_s in times_s[1:-1]:
            self.event(EventType.TABLE_MAP, time_s, bytes(40))
            self.event(EventType.WRITE_ROWS, time_s, bytes(100))
        self.event(EventType.XID, times_s[-1], bytes(8))
        return begin if first < 0 else first
