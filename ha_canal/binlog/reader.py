"""A cursor over bytes for the parts of events that are read once per table, not once per row."""

from __future__ import annotations

from ha_canal.errors import DecodeError

_LENENC_BYTES = {0xFC: 2, 0xFD: 3, 0xFE: 8}


class ByteReader:
    """Reads little-endian integers, length-encoded ones, and runs of bytes; never beyond the end.

    ``base`` is where ``data`` starts in the body that error messages speak of.
    """

    __slots__ = ("_base", "_data", "_offset", "_what")

    def __init__(self, data: bytes, what: str, base: int = 0) -> None:
        self._data = data
        self._what = what
        self._base = base
        self._offset = 0

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return len(self._data) - self._offset

    def copy(self) -> ByteReader:
        """A reader of the same bytes, from their start on."""
        return ByteReader(self._data, self._what, self._base)

    def error(self, why: str) -> DecodeError:
        return DecodeError(f"{self._what}, byte {self._base + self._offset}: {why}")

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise self.error(f"{count} bytes are wanted, {self.left} are left")
        piece = self._data[self._offset : self._offset + count]
        self._offset += count
        return piece

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def lenenc(self) -> int:
        """A length-encoded integer (protocol documentation, "Integer Types")."""
        first = self.integer(1)
        if first < 0xFB:
            return first
        if first not in _LENENC_BYTES:
            raise self.error(f"0x{first:02x} does not start a length-encoded integer")
        return self.integer(_LENENC_BYTES[first])

    def string(self) -> bytes:
        return self.take(self.lenenc())

    def sub_reader(self) -> ByteReader:
        """A reader of the length-encoded string that comes next; this one moves behind it."""
        length = self.lenenc()
        base = self._base + self._offset
        return ByteReader(self.take(length), self._what, base)
