"""Stretches: rows events of one transaction that follow each other, kept packed as one item of the ring.

What runs are to small transactions (`ha_canal.model.run`), stretches are to large ones: the stream hands out the rows
of a transaction that it cannot take whole as `Stretch` where it can (`ha_canal.binlog._rows_scan`), between its Begin
and its Commit. Each room treats a stretch as a whole, and asks for its items where it has to look inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from ha_canal.model.change import Rows, Transaction
from ha_canal.model.table import RowPlan


class PackedRows(Protocol):
    """The rows events of a stretch, one at least. Indexes count them from 0; ranges exclude their end."""

    @property
    def transaction(self) -> Transaction: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def rows_events(self) -> int: ...
    @property
    def plans(self) -> tuple[RowPlan, ...]:
        """The plans of all rows."""

    def item(self, index: int) -> Rows: ...
    def ordinal(self, index: int) -> int: ...
    def offset(self, index: int) -> int:
        """Return where the event starts in its file."""

    def body_bytes(self, first: int, end: int) -> int:
        """Return the sum of the events' bodies, as `ha_canal.model.size` counts them."""

    def cut_rows(self, index: int, most_events: int, most_bytes: int) -> tuple[int, int]:
        """Return (end, bytes) of the events from ``index`` on that fit; none: end is ``index``."""

    def encode_rows(self, first: int, end: int, epoch: int, *, lean: bool = False) -> bytes:
        """Return the entries as serialized ``messages`` fields of a ``Messages``. Raises DecodeError.

        ``lean``: as ``StreamRequest.Open`` in ``canal.proto`` tells.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """One item of the stream and of the ring that stands for ``packed.rows_events`` items."""

    packed: PackedRows

    @property
    def transaction(self) -> Transaction:
        return self.packed.transaction

    @property
    def size_bytes(self) -> int:
        return self.packed.size_bytes

    @property
    def offset(self) -> int:
        """Where its first event starts in the file."""
        return self.packed.offset(0)

    @property
    def ordinal(self) -> int:
        """That of its first event."""
        return self.packed.ordinal(0)

    @property
    def last_ordinal(self) -> int:
        return self.packed.ordinal(self.packed.rows_events - 1)

    def items(self) -> Iterator[Rows]:
        """Yield its events as items."""
        for index in range(self.packed.rows_events):
            yield self.packed.item(index)


def ranges(first: int, end: int, size_bytes: int, about_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ``first`` to ``end``, which have ``size_bytes``, in ranges of about so many bytes, of one at least."""
    step = max(1, (end - first) * about_bytes // max(1, size_bytes))
    for start in range(first, end, step):
        yield start, min(start + step, end)


@dataclass(frozen=True, slots=True, eq=False)
class StretchPart:
    """What a reader takes of a stretch at once: events ``first`` to ``end`` (exclusive)."""

    packed: PackedRows
    first: int
    end: int
    size_bytes: int

    def items(self) -> Iterator[Rows]:
        """Yield the entries as items."""
        for index in range(self.first, self.end):
            yield self.packed.item(index)

    def pieces(self, about_bytes: int) -> Iterator[StretchPart]:
        """Yield the part in parts of about so many bytes, an event at least; their ``size_bytes`` is 0."""
        for first, end in ranges(self.first, self.end, self.size_bytes, about_bytes):
            yield replace(self, first=first, end=end, size_bytes=0)

    def encoded(self, epoch: int, *, lean: bool = False) -> bytes:
        """Return the entries as serialized ``messages`` fields of a ``Messages``. See `PackedRows.encode_rows`."""
        return self.packed.encode_rows(self.first, self.end, epoch, lean=lean)
