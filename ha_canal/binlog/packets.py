"""MySQL packets: the frames in which a server sends its binlog. Chunks of any size in, whole payloads out.

A packet is a 3-byte little-endian length, a sequence number that counts on modulo 256, and the payload; a payload of
0xFFFFFF bytes and more is split, and ends with the first packet that is shorter than that (client/server protocol,
"MySQL Packets"). After COM_BINLOG_DUMP each payload is 0x00 and one event, or 0xFF and an error, or 0xFE for the end.

Payloads are views into the buffer that bytes are received into, and good until more is fed. Nothing is copied but the
rest of one round, to the front of the buffer, and a payload of several packets.
"""

from __future__ import annotations

from ha_canal.errors import ChainError, DecodeError, SourceLostError

_HEADER_BYTES = 4
_FULL = 0xFFFFFF
_OK, _END, _ERROR = 0x00, 0xFE, 0xFF
_LONGEST_END = 8
_BUFFER_BYTES = 512 * 1024
_LEAST_ROOM = 64 * 1024


class ServerError(Exception):
    """An error that the server sent instead of an event, in its own words; the source decides what it means."""

    def __init__(self, code: int, sqlstate: str, message: str) -> None:
        self.code = code
        self.sqlstate = sqlstate
        self.message = message
        super().__init__(f"error {code} ({sqlstate}): {message}")


class PacketReader:
    """Cuts a stream of chunks into events. Work is linear in the bytes fed, however large an event is."""

    __slots__ = ("_at", "_buffer", "_end", "_parts", "_sequence", "_view")

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._at = 0
        self._end = 0
        self._sequence = 1
        self._parts: bytearray | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes that were fed and not handed out yet."""
        return self._end - self._at + len(self._parts or b"")

    def feed(self, chunk: bytes) -> None:
        self._room(max(len(chunk), _LEAST_ROOM))[: len(chunk)] = chunk
        self.received(len(chunk))

    def room(self) -> memoryview:
        """Return where the next bytes go, at least 64 KiB; then `received` says how many came."""
        return self._room(_LEAST_ROOM)

    def received(self, size: int) -> None:
        self._end += size

    def _room(self, least: int) -> memoryview:
        if self._at == self._end:
            self._at = self._end = 0
        if len(self._buffer) - self._end < least:
            self._make_room(least)
        return self._view[self._end :]

    def _make_room(self, least: int) -> None:
        """Move what is not read to the front of the buffer, which is made as large as the packet that is not whole."""
        rest = self._view[self._at : self._end]
        size = max(_BUFFER_BYTES, self._packet_bytes() + 2 * _LEAST_ROOM, len(rest) + max(least, len(rest) // 2))
        if size != len(self._buffer):
            self._buffer = bytearray(size)
            self._view = memoryview(self._buffer)
        self._view[: len(rest)] = rest
        self._at, self._end = 0, len(rest)

    def _packet_bytes(self) -> int:
        """Return the size of the packet ahead with its header, as far as its header is here."""
        at, buffer = self._at, self._buffer
        if self._end - at < _HEADER_BYTES:
            return _HEADER_BYTES
        return (buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16) + _HEADER_BYTES

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

    def window(self) -> tuple[bytearray, int, int, int] | None:
        """Return what is here as (buffer, start, end, number of the next packet); None inside a split payload."""
        return None if self._parts is not None else (self._buffer, self._at, self._end, self._sequence)

    def skip_to(self, at: int, sequence: int) -> None:
        """Go on at ``at`` of the window, with the packet of this number: what stood before it was read there."""
        self._at, self._sequence = at, sequence

    def _next_packet(self) -> memoryview | None:
        at, buffer = self._at, self._buffer
        if self._end - at < _HEADER_BYTES:
            return None
        end = at + _HEADER_BYTES + (buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16)
        if self._end < end:
            return None
        if buffer[at + 3] != self._sequence:
            raise ChainError(f"packet {buffer[at + 3]} came where {self._sequence} was due: the connection lost bytes")
        self._sequence = self._sequence + 1 & 0xFF
        self._at = end
        return self._view[at + _HEADER_BYTES : end]

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
