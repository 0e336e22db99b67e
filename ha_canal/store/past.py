"""What the ring has let go of: enough to tell whether a new subscription would miss any of it.

Called by the ring only. The GTIDs of freed transactions are kept as one set, which stays small.
"""

from __future__ import annotations

from ha_canal.model.change import Begin, Commit, Rows, Statement
from ha_canal.model.gtid import GtidSet, MariadbGtidPosition, parse_gtid_set
from ha_canal.model.position import file_sequence
from ha_canal.model.run import Run
from ha_canal.model.stretch import Stretch
from ha_canal.store.slot import Slot
from ha_canal.store.start import Start


class Past:
    """``begin`` is that of the transaction which is freed in part, None between transactions.

    ``filled_from`` holds the GTIDs behind which the ring began, as far as they are known.
    """

    def __init__(self, filled_from: GtidSet | None = None) -> None:
        self._filled_from = filled_from
        self.begin: Begin | None = None
        self._freed_ordinals = 0
        self._last: Commit | None = None
        self._gtids: GtidSet | None = None

    def add(self, slot: Slot) -> None:
        match slot.item:
            case Begin() as begin:
                self.begin, self._freed_ordinals = begin, 0
            case Rows() | Statement() as entry:
                self._freed_ordinals = entry.ordinal + 1
            case Stretch() as stretch:
                self._freed_ordinals = stretch.last_ordinal + 1
            case Commit() as commit:
                self.begin, self._last = None, commit
                self._add_gtids(commit.transaction.gtid, slot.gtids)
            case Run() as run:
                self.begin, self._last = None, run.last_commit
                self._add_gtids("", run.gtids)
            case None:
                raise AssertionError("a slot was freed twice")

    def _add_gtids(self, gtid: str, mark: GtidSet | None) -> None:
        if mark is not None and self._gtids is not None:
            self._gtids.update(mark)
        elif mark is not None:
            self._gtids = mark.copy()
        elif gtid and self._gtids is not None:
            self._gtids.add(gtid)
        elif gtid:
            self._gtids = parse_gtid_set(gtid)

    @property
    def mariadb_gtids(self) -> MariadbGtidPosition:
        """Per domain the GTID behind which the ring begins now; empty for MySQL."""
        gtids = MariadbGtidPosition()
        for done in (self._filled_from, self._gtids):
            if isinstance(done, MariadbGtidPosition):
                gtids.update(done)
        return gtids

    def is_done_at(self, start: Start) -> bool:
        """Whether everything that was freed lies at or before ``start``."""
        return self._transactions_done_at(start) and self._open_part_done_at(start)

    def _transactions_done_at(self, start: Start) -> bool:
        if self._last is None:
            return True
        has_places = start.is_of_server_read and isinstance(self._gtids, MariadbGtidPosition)
        if self._gtids is not None and start.gtids is not None and not has_places:
            return self._gtids.issubset(start.gtids)
        return (file_sequence(self._last.transaction.file), self._last.end_offset) <= start.key

    def _open_part_done_at(self, start: Start) -> bool:
        if self.begin is None:
            return True
        done = start.done_of(self.begin.transaction, 0)
        return done.whole or done.ordinal >= self._freed_ordinals
