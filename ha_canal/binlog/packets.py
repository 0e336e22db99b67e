"""MySQL packets: the frames in which a server sends its binlog. Chunks of any size in, whole payloads out.

A packet is a 3-byte little-endian length, a sequence number that counts on modulo 256, and the payload; a payload of
0xFFFFFF bytes and more is split, and ends with the first packet that is shorter than that (client/server protocol,
"MySQL Packets"). After COM_BINLOG_DUMP each payload is 0x00 and one event, or 0xFF and an error, or 0xFE for the end.

Payloads are views into the chunks that were fed, so a chunk is copied only where an event straddles two of them.
"""

from __future__ import annotations

from ha_canal.errors import ChainError, DecodeError, SourceLostError

_HEADER_BYTES = 4
_FULL = 0xFFFFFF
_OK, _END, _ERROR = 0x00, 0xFE, 0xFF
_LONGEST_END = 8


class ServerError(Exception):
    """An error that the server sent instead of an event, in its own words; the source decides what it means."""

    def __init__(self, code: int, sqlstate: str, message: str) -> None:
        self.code = code
        self.sqlstate = sqlstate
        self.message = message
        super().__init__(f"error {code} ({sqlstate}): {message}")


class PacketReader:
    """Cuts a stream of chunks into events. Work is linear in the bytes fed, however large an event is."""

    __slots__ = ("_at", "_buffer", "_chunks", "_chunks_bytes", "_end", "_needed", "_parts", "_sequence", "_view")

    def __init__(self) -> None:
        self._buffer = b""
        self._view = memoryview(self._buffer)
        self._at = 0
        self._end = 0
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._needed = _HEADER_BYTES
        self._sequence = 1
        self._parts: bytearray | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes that were fed and not handed out yet."""
        return self._end - self._at + self._chunks_bytes + len(self._parts or b"")

    def feed(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self._chunks_bytes += len(chunk)

    def next_event(self) -> memoryview | None:
        """Return the next event with its 0x00 in front, or None until more is fed.

        Raises:
            ServerError: the server sent an error.
            SourceLostError: the server ended the stream.
            DecodeError, ChainError: these are no packets of a binlog stream, or one is missing.
        """
        while (packet := self._next_packet()) is not None:
            if self._parts is not None or len(packet) == _FULL:
                joined = self._join(packet)
                if joined is None:
                    continue
                packet = joined
            if len(packet) and packet[0] == _OK:
                return packet
            raise _not_an_event(bytes(packet[:1024]))
        return None

    def window(self) -> tuple[bytes, int, int, int] | None:
        """Return what is here in one piece, as (buffer, start, end, number of the next packet); None: nothing whole."""
        if self._parts is not None or (self._end - self._at < self._needed and not self._gather()):
            return None
        return self._buffer, self._at, self._end, self._sequence

    def skip_to(self, at: int, sequence: int) -> None:
        """Go on at ``at`` of the window, with the packet of this number: what stood before it was read there."""
        self._at, self._sequence = at, sequence
        self._needed = _HEADER_BYTES

    def _next_packet(self) -> memoryview | None:
        at = self._at
        if self._end - at < self._needed and not self._gather():
            return None
        at = self._at
        buffer = self._buffer
        size = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16
        if self._end - at < size + _HEADER_BYTES:
            self._needed = size + _HEADER_BYTES
            if not self._gather():
                return None
            return self._next_packet()
        if buffer[at + 3] != self._sequence:
            raise ChainError(f"packet {buffer[at + 3]} came where {self._sequence} was due: the connection lost bytes")
        self._sequence = self._sequence + 1 & 0xFF
        self._needed = _HEADER_BYTES
        self._at = at + _HEADER_BYTES + size
        return self._view[at + _HEADER_BYTES : self._at]

    def _gather(self) -> bool:
        """Put what was fed behind the rest of the buffer, if that makes a packet whole; return whether it does."""
        rest = self._end - self._at
        if rest + self._chunks_bytes < self._needed:
            return False
        if rest:
            self._chunks.insert(0, self._buffer[self._at :])
        self._buffer = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._view = memoryview(self._buffer)
        self._chunks.clear()
        self._chunks_bytes = 0
        self._at = 0
        self._end = len(self._buffer)
        return True

    def _join(self, packet: memoryview) -> memoryview | None:
        if self._parts is None:
            self._parts = bytearray()
        self._parts += packet
        if len(packet) == _FULL:
            return None
        joined, self._parts = memoryview(self._parts), None
        return joined


def _not_an_event(payload: bytes) -> Exception:
    if not payload:
        return DecodeError("an empty packet came where a binlog event was due")
    if payload[0] == _ERROR and len(payload) >= 3:
        code = int.from_bytes(payload[1:3], "little")
        marked = payload[3:4] == b"#"
        sqlstate = payload[4:9].decode("ascii", "replace") if marked else ""
        return ServerError(code, sqlstate, payload[9 if marked else 3 :].decode("utf-8", "replace"))
    if payload[0] == _END and len(payload) <= _LONGEST_END:
        return SourceLostError("the server ended the binlog stream, as it does when it shuts down")
    return DecodeError(f"a packet that starts with 0x{payload[0]:02x} came where a binlog event was due")
