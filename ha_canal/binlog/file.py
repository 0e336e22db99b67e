"""Binlog files as a dump connection would send them: each event in packets, so that `BinlogStream` reads both.

A file is the magic number ``fe bin`` and then events, one behind the other. How much of it there is to read is settled
when it is opened, so that a file which is still being written ends somewhere. Memory is bounded: events come in pieces
of about 256 KiB (a larger one as one piece per packet), and a length that says more than the file holds allocates
nothing.

Who calls: `ha_canal.binlog.files`, and tests.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path

from ha_canal.binlog.chain import FIRST_OFFSET
from ha_canal.binlog.checksum import crc_holds
from ha_canal.binlog.events import (
    CHECKSUM_BYTES,
    FLAG_BINLOG_IN_USE,
    HEADER_BYTES,
    EventType,
    type_name,
)
from ha_canal.errors import DecodeError

MAGIC = b"\xfebin"
ENCRYPTED = "the file is encrypted: read it through its server, which decrypts what it sends"

_MYSQL_ENCRYPTED_MAGIC = b"\xfdbin"
_FULL = 0xFFFFFF
_CHUNK_BYTES = 256 * 1024
_READ_AHEAD_BYTES = 1 << 20
_FLAG_RELAY_LOG = 0x40
_LOG_POS_AT, _FLAGS_AT = 13, 17


class BinlogFile:
    """One file, whose events `chunks` yields.

    ``sequence`` is the number of the next packet: a file is sent on where another one ended. Once all chunks were
    taken, ``end_offset`` is the end of the last whole event; ``torn`` says what is wrong with the rest of the file, and
    is ``""`` where there is none. ``in_use``: its server has not closed it.
    """

    __slots__ = ("_file", "_size", "end_offset", "in_use", "path", "sequence", "torn")

    def __init__(self, path: Path, *, sequence: int = 1) -> None:
        self.path = path
        self.sequence = sequence
        self.end_offset = 0
        self.in_use = False
        self.torn = ""
        self._file: BufferedReader[FileIO]
        self._size = 0

    def chunks(self, start_offset: int = FIRST_OFFSET) -> Iterator[bytes]:
        """Yield framed packets, of many events each: the head of the file, and what stands from ``start_offset`` on.

        Raises:
            DecodeError: it is no binlog file, is encrypted, or no event starts where one should.
            OSError: it cannot be read.
        """
        with BufferedReader(self.path.open("rb", buffering=0), _READ_AHEAD_BYTES) as file:
            self._file = file
            self._size = os.fstat(file.fileno()).st_size
            head = self._head()
            if start_offset == FIRST_OFFSET:
                yield self._framed(head)
            else:
                self._skip_to(start_offset)
                yield self._framed(self._copy_of(head))
            yield from _gathered(self._events())

    def _head(self) -> bytes:
        magic = self._file.read(len(MAGIC))
        if magic == _MYSQL_ENCRYPTED_MAGIC:
            raise self._error(ENCRYPTED, 0)
        if magic != MAGIC:
            raise self._error("it does not start as a binlog file does", 0)
        self.end_offset = FIRST_OFFSET
        header = self._header()
        if header is None:
            raise self._error(f"it holds no event: {self.torn or 'it ends behind its magic number'}", FIRST_OFFSET)
        size, code, flags = _size(header), header[4], header[_FLAGS_AT]
        if code != EventType.FORMAT_DESCRIPTION:
            raise self._error(f"it starts with a {type_name(code)} and not with its FORMAT_DESCRIPTION", FIRST_OFFSET)
        if flags & _FLAG_RELAY_LOG:
            raise self._error("it is a relay log, whose events say where they stand in another server's binlog", 0)
        self.in_use = bool(flags & FLAG_BINLOG_IN_USE)
        event = header + self._exactly(size - HEADER_BYTES)
        self.end_offset += size
        return event

    def _events(self) -> Iterator[bytes]:
        while header := self._header():
            size = _size(header)
            first = b"\0" + header + self._exactly(min(size, _FULL - 1) - HEADER_BYTES)
            yield self._packet(first)
            rest = size + 1 - len(first)
            while len(first) == _FULL:
                first = self._exactly(min(rest, _FULL))
                rest -= len(first)
                yield self._packet(first)
            self.end_offset += size

    def _header(self) -> bytes | None:
        """Return the header of the next event, if all of that is there; else ``torn`` says what is not."""
        header = self._file.read(min(HEADER_BYTES, self._size - self.end_offset))
        left = self._size - self.end_offset
        if not left:
            return None
        if not header.strip(b"\0"):
            self.torn = f"{left} bytes of nothing follow"
        elif len(header) < HEADER_BYTES:
            self.torn = f"{left} bytes follow, which are no whole event"
        elif _size(header) > left and self._may_be_torn(header):
            self.torn = f"{left} bytes follow of a {type_name(header[4])} of {_size(header)} bytes"
        elif not HEADER_BYTES <= _size(header) <= left:
            raise self._error(f"a {type_name(header[4])} that says it has {_size(header)} bytes", self.end_offset)
        else:
            return header
        return None

    def _may_be_torn(self, header: bytes) -> bool:
        """Whether it is a header that makes sense here: one that does not is damage, and no end of writing."""
        ends_at = int.from_bytes(header[_LOG_POS_AT:_FLAGS_AT], "little")
        return ends_at == 0 or ends_at == (self.end_offset + _size(header)) & 0xFFFFFFFF

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._error("it became shorter while it was read", self.end_offset)
        return data

    def _skip_to(self, offset: int) -> None:
        if self._file.peek(HEADER_BYTES)[4:5] == bytes((EventType.START_ENCRYPTION,)):
            raise self._error(ENCRYPTED, self.end_offset)
        if not self.end_offset <= offset <= self._size:
            raise self._error(f"nothing can be read from there: it holds events from {self.end_offset} on", offset)
        self._file.seek(offset)
        self.end_offset = offset
        header = self._file.read(HEADER_BYTES)
        if len(header) == HEADER_BYTES and not self._may_be_torn(header):
            raise self._error("no event starts there; SHOW BINLOG EVENTS lists where they do", offset)
        self._file.seek(offset)

    def _copy_of(self, head: bytes) -> bytes:
        """Return the file's first event as a server sends it for a dump that starts further on: it stands nowhere."""
        copy = bytearray(head)
        copy[_FLAGS_AT] &= ~FLAG_BINLOG_IN_USE & 0xFF
        if copy[-CHECKSUM_BYTES - 1] == 1 and not crc_holds(copy):
            raise self._error("its FORMAT_DESCRIPTION event has a wrong checksum", FIRST_OFFSET)
        copy[_LOG_POS_AT:_FLAGS_AT] = bytes(4)
        copy[-CHECKSUM_BYTES:] = zlib.crc32(copy[:-CHECKSUM_BYTES]).to_bytes(4, "little")
        return bytes(copy)

    def _framed(self, event: bytes) -> bytes:
        framed, self.sequence = frame_payload(b"\0" + event, self.sequence)
        return framed

    def _packet(self, payload: bytes) -> bytes:
        sequence, self.sequence = self.sequence, self.sequence + 1 & 0xFF
        return len(payload).to_bytes(3, "little") + bytes((sequence,)) + payload

    def _error(self, what: str, offset: int) -> DecodeError:
        return DecodeError(what, file=self.path.name, offset=offset)


def read_binlog_file(path: Path) -> Iterator[bytes]:
    """Yield the file's events as framed packets, one event at a time.

    Raises:
        DecodeError: it is no binlog file, or it ends inside an event.
    """
    file = BinlogFile(path)
    for chunk in file.chunks():
        at = 0
        while at < len(chunk):
            end = at + 4 + int.from_bytes(chunk[at : at + 3], "little")
            yield chunk[at:end]
            at = end
    if file.torn:
        raise DecodeError(f"it ends inside an event: {file.torn}", file=path.name, offset=file.end_offset)


def frame_payload(payload: bytes, sequence: int) -> tuple[bytes, int]:
    """Return ``payload`` as packets that count from ``sequence`` on, and the number of the next packet."""
    packets: list[bytes] = []
    for at in range(0, len(payload) + 1, _FULL):
        part = payload[at : at + _FULL]
        packets += (len(part).to_bytes(3, "little"), bytes((sequence,)), part)
        sequence = sequence + 1 & 0xFF
    return b"".join(packets), sequence


def _size(header: bytes) -> int:
    return int.from_bytes(header[9:13], "little")


def _gathered(packets: Iterator[bytes]) -> Iterator[bytes]:
    """Join small packets to chunks."""
    chunk: list[bytes] = []
    size = 0
    try:
        for packet in packets:
            chunk.append(packet)
            size += len(packet)
            if size >= _CHUNK_BYTES:
                yield b"".join(chunk)
                chunk.clear()
                size = 0
    except DecodeError:
        yield b"".join(chunk)  # what came before is as good as ever
        raise
    if chunk:
        yield b"".join(chunk)
