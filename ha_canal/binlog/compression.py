"""Compressed events: MySQL's whole-transaction payload, and MariaDB's single events of `log_bin_compress`.

A payload is decompressed in pieces, so that a transaction of many gigabytes passes through bounded memory; one event
is held at a time. MariaDB compresses each event by itself, and those are held whole anyway.
"""

from __future__ import annotations

import zlib

import zstandard

from ha_canal.binlog.events import HEADER_BYTES, Bytes, EventType, read_lenenc, take
from ha_canal.binlog.rows_events import ROWS_SHAPES
from ha_canal.errors import DecodeError

MOST_EVENT_BYTES = (1 << 30) + (1 << 20)
"""What any event is smaller than: servers refuse packets of more than 1 GiB. Lengths of more are damage, or a bomb."""

_PIECE_BYTES = 256 * 1024
_MOST_DEFLATED = 1032
"""Bytes that one byte of a zlib stream can stand for, at most (zlib's "Technical Details")."""
_END_OF_FIELDS, _PAYLOAD_BYTES, _ALGORITHM, _PLAIN_BYTES = 0, 1, 2, 3
_ZSTD, _NONE = 0, 255

INSIDE_PAYLOADS = frozenset(
    {
        *ROWS_SHAPES,
        EventType.QUERY,
        EventType.TABLE_MAP,
        EventType.XID,
        EventType.XA_PREPARE,
        EventType.ROWS_QUERY,
        EventType.INTVAR,
        EventType.RAND,
        EventType.USER_VAR,
    }
)
"""What a whole transaction is made of, behind its GTID event."""


class TransactionPayload:
    """The events inside one TRANSACTION_PAYLOAD event, one after the other.

    The body is fields of (type, length, value), where type 0 stands alone and ends them; the payload follows. Events
    inside have no checksum (MySQL: compression in Payload_event_buffer_istream.h, transaction_payload_codecs).
    """

    __slots__ = ("_at", "_buffer", "_plain_bytes", "_read_bytes", "_source")

    def __init__(self, body: Bytes) -> None:
        fields, at = _read_fields(body)
        payload = body[at:]
        if fields.get(_PAYLOAD_BYTES) != len(payload):
            raise DecodeError(f"{len(payload)} bytes of payload where {fields.get(_PAYLOAD_BYTES)} were announced")
        algorithm = fields.get(_ALGORITHM)
        self._plain_bytes = fields.get(_PLAIN_BYTES, len(payload) if algorithm == _NONE else -1)
        self._source: zstandard.ZstdDecompressionReader | None = None
        if algorithm == _ZSTD:
            self._source = zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=True)
            self._buffer = b""
        elif algorithm == _NONE:
            self._buffer = bytes(payload)
        else:
            raise DecodeError(f"compression algorithm {algorithm} is not known")
        self._at = 0
        self._read_bytes = len(self._buffer)

    def next_event(self) -> memoryview | None:
        """Return the next event, or None behind the last one."""
        if not self._have(HEADER_BYTES):
            if self._at != len(self._buffer) or self._read_bytes != self._plain_bytes:
                raise DecodeError(f"its payload ends after {self._read_bytes} of {self._plain_bytes} bytes")
            return None
        size = int.from_bytes(self._buffer[self._at + 9 : self._at + 13], "little")
        still_to_come = self._plain_bytes - self._read_bytes + len(self._buffer) - self._at
        if not HEADER_BYTES <= size <= min(still_to_come, MOST_EVENT_BYTES) or not self._have(size):
            raise DecodeError(f"an event of {size} bytes does not fit into its payload")
        start = self._at
        self._at += size
        return memoryview(self._buffer)[start : self._at]

    def _have(self, size: int) -> bool:
        """Read on until ``size`` bytes are there; return whether they are."""
        rest = len(self._buffer) - self._at
        if rest >= size:
            return True
        pieces = [self._buffer[self._at :]]
        while rest < size and (piece := self._piece()):
            pieces.append(piece)
            rest += len(piece)
        self._buffer = b"".join(pieces)
        self._at = 0
        return rest >= size

    def _piece(self) -> bytes:
        if self._source is None:
            return b""
        try:
            piece = self._source.read(_PIECE_BYTES)
        except zstandard.ZstdError as error:
            raise DecodeError(f"its payload cannot be decompressed: {error}") from error
        self._read_bytes += len(piece)
        if self._read_bytes > self._plain_bytes:
            raise DecodeError(f"its payload is longer than the {self._plain_bytes} bytes that were announced")
        return piece


def _read_fields(body: Bytes) -> tuple[dict[int, int], int]:
    fields: dict[int, int] = {}
    at = 0
    while True:
        kind, at = read_lenenc(body, at)
        if kind == _END_OF_FIELDS:
            return fields, at
        size, at = read_lenenc(body, at)
        fields[kind], _ = read_lenenc(take(body, at, size), 0)
        at += size


def inflate_block(block: Bytes) -> bytes:
    """Decompress what MariaDB's `log_bin_compress` makes of rows or of a statement.

    One byte (0x80, algorithm in bits 4 to 6, number of length bytes in bits 0 to 2), the original length big-endian,
    a zlib stream (MariaDB: log_event.cc, binlog_buf_compress).
    """
    first = take(block, 0, 1)[0]
    length_bytes = first & 0x07
    if first & 0xF0 != 0x80 or not 1 <= length_bytes <= 4:
        raise DecodeError(f"0x{first:02x} starts no compressed block")
    length = int.from_bytes(take(block, 1, length_bytes), "big")
    if length > min(MOST_EVENT_BYTES, _MOST_DEFLATED * len(block)):
        raise DecodeError(f"its block of {len(block)} bytes cannot hold the {length} bytes that it announces")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(block[1 + length_bytes :], length + 1)
    except zlib.error as error:
        raise DecodeError(f"its block cannot be decompressed: {error}") from error
    if len(plain) != length or not inflater.eof or inflater.unused_data:
        raise DecodeError(f"its block does not hold the {length} bytes that it announces")
    return plain
