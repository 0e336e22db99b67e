"""Runs: small plain transactions, back to back, kept packed as one item of the ring.

What costs time and memory at thousands of transactions a second is an object per event. So the stream hands out such
transactions as one `Run` where it can (`ha_canal.binlog._scan`), and each room treats it as a whole; where it has to
look inside (a reader that had done a part, a filter that wants some), it asks for the items of one transaction. A run
holds whole transactions only, each with a GTID event or of a server without GTIDs, and no DDL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from ha_canal.model.change import Commit, Item, Rows
from ha_canal.model.gtid import GtidSet
from ha_canal.model.stretch import Stretch, StretchPart, ranges
from ha_canal.model.table import RowPlan


class Packed(Protocol):
    """The transactions of a run. Indexes count them from 0; ranges exclude their end.

    ``wanted`` is a reader's filter: a byte per plan, not 0 where its rows are wanted. A transaction without wanted rows
    has no entries; others have a Begin, their wanted rows, and an end.
    """

    @property
    def count(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def rows_events(self) -> int: ...
    @property
    def plans(self) -> tuple[RowPlan, ...]:
        """The plans of all rows that are kept; none: all transactions are empty."""

    def commit(self, index: int) -> Commit: ...
    def items(self, index: int) -> list[Item]:
        """Return a transaction as items: ``Begin, Rows…, Commit``, or a lone empty Commit."""

    def gtids(self, first: int, end: int) -> GtidSet | None:
        """Return the GTIDs of these transactions; None if they have none. Of MariaDB's the last of each domain."""

    def index_of(self, gtid: str) -> int:
        """Return which transaction has this GTID; -1: none."""

    def next_wanted(self, index: int, wanted: bytes) -> int:
        """Return the first transaction from ``index`` on that has wanted rows; ``count``: none."""

    def cut(self, index: int, wanted: bytes, most_entries: int, most_bytes: int) -> tuple[int, int, int]:
        """Return (end, entries, bytes) of the transactions from ``index`` on that fit whole; none: end is ``index``."""

    def encode(self, first: int, end: int, wanted: bytes, epoch: int, *, lean: bool = False) -> bytes:
        """Return the entries as serialized ``messages`` fields of a ``Messages``. Raises DecodeError.

        ``lean``: as ``StreamRequest.Open`` in ``canal.proto`` tells.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One item of the stream and of the ring that stands for ``packed.count`` transactions."""

    packed: Packed

    @property
    def size_bytes(self) -> int:
        return self.packed.size_bytes

    @property
    def is_empty(self) -> bool:
        """Whether no transaction has rows that are kept."""
        return not self.packed.plans

    @property
    def last_commit(self) -> Commit:
        return self.packed.commit(self.packed.count - 1)

    @property
    def gtids(self) -> GtidSet | None:
        return self.packed.gtids(0, self.packed.count)

    def items(self) -> Iterator[Item]:
        """Yield all transactions as items."""
        for index in range(self.packed.count):
            yield from self.packed.items(index)


@dataclass(frozen=True, slots=True, eq=False)
class RunPart:
    """What a reader takes of a run at once: transactions ``first`` to ``end`` (exclusive), as ``entries`` entries."""

    packed: Packed
    first: int
    end: int
    wanted: bytes
    entries: int
    size_bytes: int

    def items(self) -> Iterator[Item]:
        """Yield the entries as items."""
        for index in range(self.first, self.end):
            items = self.packed.items(index)
            kept = [item for item in items if not isinstance(item, Rows) or self._wants(item)]
            if any(isinstance(item, Rows) for item in kept):
                yield from kept

    def pieces(self, about_bytes: int) -> Iterator[RunPart]:
        """Yield the part in parts of about so many bytes, a transaction at least; their ``entries`` are not counted."""
        for first, end in ranges(self.first, self.end, self.size_bytes, about_bytes):
            yield replace(self, first=first, end=end, entries=0, size_bytes=0)

    def encoded(self, epoch: int, *, lean: bool = False) -> bytes:
        """Return the entries as serialized ``messages`` fields of a ``Messages``. See `Packed.encode`."""
        return self.packed.encode(self.first, self.end, self.wanted, epoch, lean=lean)

    def _wants(self, rows: Rows) -> bool:
        plans = self.packed.plans
        return any(self.wanted[index] and plan is rows.plan for index, plan in enumerate(plans))


Parcel = Item | Run | Stretch
"""What the stream hands out and the ring holds: an item, or many that are packed."""

Part = RunPart | StretchPart
"""What a reader takes of what is packed."""


def unpacked(items: Iterable[Parcel | Part]) -> Iterator[Item]:
    """Yield ``items`` one by one, what is packed as what it holds."""
    for item in items:
        if isinstance(item, Item):
            yield item
        else:
            yield from item.items()
