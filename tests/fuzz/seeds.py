"""The real bytes that mutations start from: events of captured files, and the table maps that their rows need."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ha_canal.binlog.events import EventType
from ha_canal.binlog.file import MAGIC, frame_payload

HERE = Path(__file__).parent
FILES = tuple(sorted((*(HERE / "captured").glob("*.binlog"), *(HERE.parent / "binlog/captured").glob("*.binlog"))))


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event in its parts; ``body`` is without the checksum."""

    code: int
    flags: int
    server_id: int
    body: bytes
    mariadb: bool

    def packed(self, log_pos: int) -> bytes:
        """Return the whole event as it stands in a file that it ends at ``log_pos`` of."""
        size = 19 + len(self.body) + 4
        event = struct.pack("<IBIIIH", 1_700_000_000, self.code, self.server_id, size, log_pos & 0xFFFFFFFF, self.flags)
        event += self.body
        return event + struct.pack("<I", zlib.crc32(event))

    @property
    def size(self) -> int:
        return 23 + len(self.body)


def events_of(path: Path) -> list[RawEvent]:
    raw = path.read_bytes()
    mariadb = b"MariaDB" in raw[:100]
    events = []
    at = len(MAGIC)
    while at < len(raw):
        _, code, server_id, size, _, flags = struct.unpack_from("<IBIIIH", raw, at)
        events.append(RawEvent(code, flags, server_id, raw[at + 19 : at + size - 4], mariadb))
        at += size
    return events


BINLOGS = tuple(events_of(path) for path in FILES)
EVENTS = tuple(event for events in BINLOGS for event in events)


def bodies(*codes: int, mariadb: bool | None = None) -> tuple[bytes, ...]:
    """Return the different bodies of events of these types, without checksum."""
    found = [event.body for event in EVENTS if event.code in codes and mariadb in (None, event.mariadb)]
    assert found, codes
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class RowsSeed:
    """A rows event and the TABLE_MAP in front of it."""

    code: int
    table_map: bytes
    rows: bytes
    mariadb: bool


def rows_seeds() -> Iterator[RowsSeed]:
    for events in BINLOGS:
        maps: dict[bytes, bytes] = {}
        for event in events:
            if event.code == EventType.TABLE_MAP:
                maps[event.body[:6]] = event.body
            elif event.body[:6] in maps and event.code in _ROWS:
                yield RowsSeed(event.code, maps[event.body[:6]], event.body, event.mariadb)


_ROWS = {23, 24, 25, 30, 31, 32, 39, 166, 167, 168, 169, 170, 171}


def stream_of(events: list[RawEvent], *, sequence: int = 1) -> tuple[bytes, int]:
    """Return the events one behind the other, from the start of a file, as packets; and where they end."""
    packets, at = [], len(MAGIC)
    for event in events:
        at += event.size
        packet, sequence = frame_payload(b"\0" + event.packed(at), sequence)
        packets.append(packet)
    return b"".join(packets), at
