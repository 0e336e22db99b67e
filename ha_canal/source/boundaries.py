"""Where transactions begin in one binlog file, by their times: read from event headers alone, at the speed of a dump.

Bytes of a dump connection in; no I/O, no clock. Of each packet 24 bytes are looked at, the rest is stepped over, and
what is kept between two chunks is smaller than one header (one short statement, in files without GTID events).

Why the *first* young event counts and not the last old one: times in headers are those when a statement began, so a
long statement stands behind younger ones. All that precedes the first young event was committed before it.
"""

from __future__ import annotations

import struct
import sys

from ha_canal.binlog.events import FLAG_ARTIFICIAL, EventType
from ha_canal.binlog.packets import PacketReader
from ha_canal.binlog.rows_events import ROWS_SHAPES
from ha_canal.errors import DecodeError

_HEAD = struct.Struct("<IBIBxxxxIIH")
"""Packet header, the 0x00 in front of each event, and of the event: time, type, size, end in the file, flags."""
_FULL = 0xFFFFFF
_MOST_OF_A_STATEMENT = 4096
_STARTS = frozenset(
    {EventType.GTID, EventType.ANONYMOUS_GTID, EventType.GTID_TAGGED, EventType.MARIADB_GTID}
)  # fmt: skip
_OF_THE_FILE = frozenset(
    {
        EventType.FORMAT_DESCRIPTION, EventType.PREVIOUS_GTIDS, EventType.GTID_LIST, EventType.BINLOG_CHECKPOINT,
        EventType.START_ENCRYPTION, EventType.HEARTBEAT, EventType.HEARTBEAT_V2,
    }
)  # fmt: skip
_INSIDE = frozenset(
    {
        *ROWS_SHAPES, EventType.QUERY, EventType.XID, EventType.TABLE_MAP, EventType.ROWS_QUERY,
        EventType.ANNOTATE_ROWS, EventType.TRANSACTION_PAYLOAD, EventType.QUERY_COMPRESSED,
    }
)  # fmt: skip
_LAST_OF_A_FILE = frozenset({EventType.ROTATE, EventType.STOP})


class BoundaryScan:
    """Looks in one file, dumped from its first event on, for the last boundary before all that is young.

    An event is young from the second ``young_s`` on; 0 asks for the time of the file alone (`created_s`). ``stop_at``
    is an offset, the end of a transaction, beyond which nothing is looked at; 0: the end of the file.
    """

    def __init__(self, *, young_s: int, stop_at: int = 0) -> None:
        self._young_s = young_s
        self._stop_at = stop_at or sys.maxsize
        self._rest = b""
        self._skip = 0
        self._continued = False
        self._announced = False
        self._by_gtid = False
        self._in_transaction = False
        self._start = 4
        self._end = 4
        self._newest_s = 0
        self._newest_before_s = 0
        self.created_s = 0
        """When the file was begun, by the server's clock; 0: not seen yet."""
        self.found: int | None = None
        """The offset of the boundary, once it is known."""

    @property
    def newest_before_s(self) -> int:
        """The time of the last event before what was found; 0: there is none."""
        return self._newest_before_s

    def feed(self, chunk: bytes) -> bool:
        """Take what the connection gave; return whether all is known. Raises what `PacketReader` raises."""
        buffer = self._rest + chunk if self._rest else chunk
        at, bytes_in_all = self._skip, len(buffer)
        unpack = _HEAD.unpack_from
        while at + 24 <= bytes_in_all:
            if not self._continued and self._by_gtid:
                at = self._step_over(buffer, at)
                if at + 24 > bytes_in_all:
                    break
            packet, ok, time_s, code, size, end, flags = unpack(buffer, at)
            length = packet & _FULL
            if self._continued:
                self._continued = length == _FULL
            elif ok:
                break
            else:
                if code == EventType.QUERY and not self._by_gtid and not self._has_statement(buffer, at, length):
                    break
                if self._take(time_s, code, size, end, flags, buffer, at):
                    return True
                self._continued = length == _FULL
            at += 4 + length
        self._keep(buffer, at, bytes_in_all)
        return False

    def _step_over(self, buffer: bytes, at: int) -> int:
        """Step over whole old events of transactions that GTID events begin: nearly all that there is."""
        unpack, last = _HEAD.unpack_from, len(buffer) - 24
        young_s, stop_at, before, newest_s = self._young_s, self._stop_at, self._end, self._newest_s
        while at <= last:
            packet, ok, time_s, code, size, end, _ = unpack(buffer, at)
            if ok or time_s >= young_s or not before < end < stop_at or packet & _FULL == _FULL:
                break
            if code in _STARTS:
                self._start = end - size
                self._newest_before_s = newest_s
            elif code not in _INSIDE:
                break
            if time_s > newest_s:
                newest_s = time_s
            before = end
            at += 4 + (packet & _FULL)
        self._end, self._newest_s = before, newest_s
        return at

    def _keep(self, buffer: bytes, at: int, size: int) -> None:
        self._rest, self._skip = (buffer[at:], 0) if at < size else (b"", at - size)
        rest = self._rest
        if len(rest) >= 5 and not self._continued and rest[4]:
            length = int.from_bytes(rest[:3], "little")
            if len(rest) >= 4 + length:
                _raise_for(rest[4 : 4 + length])

    def _take(self, time_s: int, code: int, size: int, end: int, flags: int, buffer: bytes, at: int) -> bool:
        if code in _OF_THE_FILE or (code in _LAST_OF_A_FILE and (flags & FLAG_ARTIFICIAL or not end)):
            return self._of_the_file(time_s, code, end)
        start = end - size if end else self._end
        if code in _STARTS:
            self._by_gtid = True
            self._begin(start)
        elif not self._by_gtid or code in _LAST_OF_A_FILE:
            self._without_gtid(code, start, buffer, at)
        if time_s >= self._young_s or code in _LAST_OF_A_FILE:
            return self._is_found(self._start)
        if end and end < self._end:  # 32 bits are used up: no dump could begin behind this place
            return self._is_found(self._start)
        self._end = end or self._end + size
        self._newest_s = max(self._newest_s, time_s)
        if self._end >= self._stop_at:
            self._newest_before_s = self._newest_s
            return self._is_found(self._end)
        return False

    def _begin(self, start: int) -> None:
        self._start = start
        self._newest_before_s = self._newest_s

    def _is_found(self, offset: int) -> bool:
        self.found = offset
        return True

    def _of_the_file(self, time_s: int, code: int, end: int) -> bool:
        if code == EventType.ROTATE:
            if self._announced:  # the next file: this one ended without a word, as in a crash
                self._newest_before_s = self._newest_s
                return self._is_found(self._end)
            self._announced = True
        if code == EventType.FORMAT_DESCRIPTION:
            self.created_s = time_s
            if not self._young_s:
                return True
        if end and code not in (EventType.HEARTBEAT, EventType.HEARTBEAT_V2):
            self._end = max(self._end, end)
            if not self._in_transaction:
                self._begin(self._end)
        return self._end >= self._stop_at and self._is_found(self._end)

    def _without_gtid(self, code: int, start: int, buffer: bytes, at: int) -> None:
        """MySQL before 5.7 marks no transaction but by BEGIN; a statement outside of one is all of it."""
        if not self._in_transaction or code in _LAST_OF_A_FILE:
            self._begin(start)
            self._in_transaction = True
        if code == EventType.XID:
            self._in_transaction = False
        elif code == EventType.QUERY:
            self._in_transaction = _statement(buffer, at) not in (b"COMMIT", b"ROLLBACK") and (
                self._start != start or _statement(buffer, at) == b"BEGIN"
            )

    def _has_statement(self, buffer: bytes, at: int, length: int) -> bool:
        return len(buffer) - at - 4 >= min(length, _MOST_OF_A_STATEMENT)


def _statement(buffer: bytes, at: int) -> bytes:
    """Return the text of the QUERY event in the packet at ``at``, or the beginning of a long one.

    The body is: thread (4), time (4), length of the database's name (1), error (2), length of the status (2), status,
    name, a zero byte, text; then, maybe, a checksum, which is no part of the words that matter here.
    """
    length = int.from_bytes(buffer[at : at + 3], "little")
    if length > _MOST_OF_A_STATEMENT:
        return b""
    body = buffer[at + 24 : at + 4 + length]
    if len(body) < 13:
        raise DecodeError(f"a QUERY event with a body of {len(body)} bytes")
    text = body[13 + int.from_bytes(body[11:13], "little") + body[8] + 1 :]
    for word in (b"BEGIN", b"COMMIT", b"ROLLBACK"):
        if text.upper().startswith(word) and len(text) - len(word) in (0, 4):
            return word
    return text


def _raise_for(payload: bytes) -> None:
    """Raise what a packet that is no event means."""
    reader = PacketReader()
    reader.feed(len(payload).to_bytes(3, "little") + b"\x01" + payload)
    reader.next_event()
