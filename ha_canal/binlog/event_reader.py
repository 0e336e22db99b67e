"""From packets to events: sizes, checksums and the account of positions checked, events of no file dealt with.

Events that stand in no file (an artificial ROTATE, heartbeats, copies of a file's head for a dump that starts further
on) end here: they say where the stream is. All others come out once they are proven to be whole and to follow the one
before.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ha_canal.binlog.chain import Chain
from ha_canal.binlog.checksum import crc_holds
from ha_canal.binlog.events import (
    CHECKSUM_BYTES,
    FLAG_ARTIFICIAL,
    FLAG_BINLOG_IN_USE,
    FLAG_IGNORABLE,
    HEADER_BYTES,
    Event,
    EventType,
    file_name,
    parse_format_description,
    parse_heartbeat_v2,
    parse_rotate,
)
from ha_canal.binlog.packets import PacketReader
from ha_canal.errors import ChainError, DecodeError

if TYPE_CHECKING:
    from ha_canal.binlog._scan import Scan
    from ha_canal.model.change import Transaction
    from ha_canal.model.run import Packed
    from ha_canal.model.stretch import PackedRows
    from ha_canal.model.table import RowPlan

HEADER = struct.Struct("<IBIIIH")
"""Time (s), type, server id, size, end in the file, flags."""

_FLAGS_AT = 17
_BODY_AT = 1 + HEADER_BYTES
_NEVER_IN_FILES = frozenset((EventType.FORMAT_DESCRIPTION, EventType.HEARTBEAT, EventType.HEARTBEAT_V2))


class EventReader:
    """Reads what a dump connection sends. ``checksum``: whether events of no file have one; None finds out.

    ``code`` and ``event_offset`` are type and start of the event that is being read, for messages.
    """

    __slots__ = (
        "_chain",
        "_checksums",
        "_packets",
        "_sent_checksums",
        "code",
        "event_offset",
        "events",
        "server_version",
    )

    def __init__(self, chain: Chain, *, checksum: bool | None) -> None:
        self.code: int | None = None
        self.event_offset = chain.offset
        self.events = 0
        self.server_version = ""
        self._chain = chain
        self._packets = PacketReader()
        self._sent_checksums = checksum
        self._checksums: bool | None = None

    @property
    def is_mariadb(self) -> bool:
        """Whether the current file says that MariaDB wrote it."""
        return self._chain.mariadb

    @property
    def pending_bytes(self) -> int:
        return self._packets.pending_bytes

    @property
    def packets(self) -> PacketReader:
        """Where bytes come in."""
        return self._packets

    def feed(self, chunk: bytes) -> None:
        self._packets.feed(chunk)

    def next_event(self, *, between: bool) -> Event | None:
        """Return the next event of the file, or None until more is fed. ``between``: no transaction is open."""
        while True:
            self.code = None
            self.event_offset = self._chain.offset
            packet = self._packets.next_event()
            if packet is None:
                return None
            event = self._read(packet, between=between)
            if event is not None:
                return event

    def next_run(self, scan: Scan) -> Packed | None:
        """Return the plain transactions that come next and are here whole. Only between transactions."""
        window = self._packets.window() if self._checksums is not None else None
        if window is None:
            return None
        chain = self._chain
        packed = scan.run(*window, chain.file, chain.offset, mariadb=chain.mariadb, checksums=bool(self._checksums))
        if packed is not None:
            self._packets.skip_to(scan.at, scan.sequence)
            chain.offset = scan.offset
            self.events += scan.events
        return packed

    def next_stretch(
        self, scan: Scan, *, transaction: Transaction, ordinal: int, named: dict[int, RowPlan | None]
    ) -> tuple[PackedRows | None, int] | None:
        """Take the rows events of the open transaction that come next and are here whole, and the tables they name.

        Returns the rows that somebody wants, and the next ordinal; None if there is nothing. See `RowsScan.stretch`.
        """
        window = self._packets.window()
        if window is None:
            return None
        chain = self._chain
        packed = scan.stretch(
            *window,
            chain.offset,
            transaction=transaction,
            ordinal=ordinal,
            named=named,
            mariadb=chain.mariadb,
            checksums=bool(self._checksums),
        )
        if not scan.events:
            return None
        self._packets.skip_to(scan.at, scan.sequence)
        chain.offset = scan.offset
        self.events += scan.events
        return packed, scan.used

    def _read(self, packet: memoryview, *, between: bool) -> Event | None:
        if len(packet) < _BODY_AT:
            raise DecodeError(f"an event of {len(packet) - 1} bytes")
        timestamp_s, code, server_id, size, log_pos, flags = HEADER.unpack_from(packet, 1)
        self.code = code
        self.events += 1
        if size + 1 != len(packet):
            raise DecodeError(f"it says it has {size} bytes, and has {len(packet) - 1}")
        if flags & FLAG_ARTIFICIAL or code in _NEVER_IN_FILES or (code == EventType.START_ENCRYPTION and not log_pos):
            self._read_outside(packet, code, log_pos, flags, between=between)
            return None
        body = self._checked_body(packet)
        offset = self._chain.advance(size, log_pos, between=between)
        self.event_offset = offset
        if code == EventType.ROTATE or code == EventType.STOP:
            self._end_file(code, body, between=between)
            return None
        return Event(code, timestamp_s, server_id, flags, offset, size, body)

    def _end_file(self, code: int, body: memoryview, *, between: bool) -> None:
        if not between:
            raise ChainError("the file ends inside a transaction")
        if code == EventType.ROTATE:
            self._chain.rotated(*parse_rotate(body))

    def _checked_body(self, packet: memoryview) -> memoryview:
        if self._checksums is None:
            raise DecodeError("it came before the file's FORMAT_DESCRIPTION event")
        if not self._checksums:
            return packet[_BODY_AT:]
        if len(packet) < _BODY_AT + CHECKSUM_BYTES or not crc_holds(packet[1:]):
            raise DecodeError("its checksum is wrong: bytes were changed on the way or on the source's disk")
        return packet[_BODY_AT:-CHECKSUM_BYTES]

    def _read_outside(self, packet: memoryview, code: int, log_pos: int, flags: int, *, between: bool) -> None:
        if code == EventType.FORMAT_DESCRIPTION:
            self._read_format(packet, log_pos, between=between)
        elif code == EventType.HEARTBEAT:
            body = self._body_outside(packet)
            if log_pos == 0 and self._chain.mariadb:  # the offset needs more than 32 bits
                log_pos, body = int.from_bytes(body[:8], "little"), body[8:]
            self._chain.heartbeat(file_name(body), log_pos, between=between)
        elif code == EventType.HEARTBEAT_V2:
            self._chain.heartbeat(*parse_heartbeat_v2(self._body_outside(packet)), between=between)
        elif code == EventType.ROTATE:
            self._chain.announced(*parse_rotate(self._body_outside(packet)), between=between)
        elif code == EventType.START_ENCRYPTION and flags & FLAG_IGNORABLE:
            pass  # a copy, for a dump that starts further on; the server decrypts what it sends
        elif code != EventType.GTID_LIST:
            raise DecodeError("it is marked artificial, and no server makes such ones up")

    def _body_outside(self, packet: memoryview) -> memoryview:
        """Return the body of an event that the server made up: whether it has a checksum, no file says."""
        holds = len(packet) >= _BODY_AT + CHECKSUM_BYTES and crc_holds(packet[1:])
        if self._sent_checksums and not holds:
            raise DecodeError("its checksum is wrong: bytes were changed on the way")
        if self._sent_checksums is False or not holds:
            return packet[_BODY_AT:]
        return packet[_BODY_AT:-CHECKSUM_BYTES]

    def _read_format(self, packet: memoryview, log_pos: int, *, between: bool) -> None:
        described = parse_format_description(packet[_BODY_AT:])
        # With checksums off this event has one all the same, which servers leave as it was when they change the event
        # for a dump: they set its time of creation and its position to 0.
        if described.checksum or (described.created_s and log_pos):
            closed = bytearray(packet[1:])  # the checksum is that of a file which is closed
            closed[_FLAGS_AT] &= ~FLAG_BINLOG_IN_USE & 0xFF
            if not crc_holds(closed):
                raise DecodeError("its checksum is wrong")
        self._chain.mariadb = described.is_mariadb
        self.event_offset = self._chain.format_description(len(packet) - 1, log_pos, between=between)
        self.server_version = described.server_version
        self._checksums = described.checksum
