"""One place in the ring, linked to the next: what a reader stands on while it walks.

A linked list, because each reader needs its own O(1) way forward while the oldest end is freed: a deque has no O(1)
middle. A reader keeps the slot it read last, not the next one, so that it sees what is put behind it; freeing a slot
therefore empties it, so that no reader keeps the bytes of a change alive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ha_canal.model.change import Commit
from ha_canal.model.gtid import GtidSet, MariadbGtidPosition, parse_gtid_set
from ha_canal.model.run import Parcel, Run


class Slot:
    """One item, a run, or a mark: empty transactions that share one slot.

    ``first`` and ``last`` are the sequence numbers the slot stands for: one, or one per transaction of the run or mark.
    A mark holds the last transaction's Commit, and in ``gtids`` all their GTIDs (None while it is a single one).
    """

    __slots__ = ("first", "gtids", "item", "last", "next", "size_bytes")

    def __init__(self, sequence: int, item: Parcel | None) -> None:
        self.first = sequence
        self.last = sequence
        self.item = item
        self.gtids: GtidSet | None = None
        self.next: Slot | None = None
        if isinstance(item, Run):
            self.last = sequence + item.packed.count - 1
            if item.is_empty:
                self.item, self.gtids = item.last_commit, item.gtids
        self.size_bytes = self.item.size_bytes if self.item else 0

    @property
    def is_mark(self) -> bool:
        return isinstance(self.item, Commit) and self.item.empty

    @property
    def ends(self) -> Collection[str]:
        """The GTID of the transaction that ends here; of MariaDB's in a mark, the last of each domain."""
        if isinstance(self.gtids, MariadbGtidPosition):
            return self.gtids.by_domain().values()
        return [self.item.transaction.gtid] if isinstance(self.item, Commit) else []

    def grow(self, commit: Commit) -> None:
        """Take in one more empty transaction: the same memory, whatever their number.

        Readers that passed the mark before see it again; adding GTIDs twice changes nothing.
        """
        gtid = commit.transaction.gtid
        self._grow(commit, parse_gtid_set(gtid) if gtid else None, 1)

    def grow_by(self, run: Run) -> None:
        """Take in the transactions of an empty run."""
        self._grow(run.last_commit, run.gtids, run.packed.count)

    def _grow(self, commit: Commit, gtids: GtidSet | None, count: int) -> None:
        assert isinstance(self.item, Commit)
        if self.gtids is None and self.item.transaction.gtid:
            self.gtids = parse_gtid_set(self.item.transaction.gtid)
        if self.gtids is None:
            self.gtids = gtids
        elif gtids is not None:
            self.gtids.update(gtids)
        self.item = commit
        self.last += count

    def clear(self) -> None:
        """Let go of what the slot holds: every subscription is done with it."""
        self.item = None
        self.gtids = None


def slots_from(slot: Slot | None) -> Iterator[Slot]:
    while slot is not None:
        yield slot
        slot = slot.next
