"""What a subscription had done before it began: which items of the ring lie at or before its start position.

The ring is filled from the earliest cursor of all clients, so most subscriptions begin with items that they have
acknowledged in an earlier life. ``start`` must belong to the server that fills the ring, or hold GTIDs: a file and an
offset mean nothing on another server.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from ha_canal.model.change import Commit, Transaction
from ha_canal.model.gtid import GtidSet, MariadbGtidPosition, MysqlGtidSet, parse_gtid_set
from ha_canal.model.position import Position, file_sequence
from ha_canal.model.run import Packed, Run
from ha_canal.store.domains import Domains
from ha_canal.store.slot import Slot, slots_from


class Done(NamedTuple):
    """What of a transaction was done before: items below ``offset`` in its file, and ordinals below ``ordinal``."""

    offset: int
    ordinal: int

    @property
    def whole(self) -> bool:
        return self.offset == sys.maxsize


_NOTHING = Done(0, 0)
_ALL = Done(sys.maxsize, 0)


class Start:
    """Answers, for the transactions of one ring, what ``position`` says of them.

    ``filled_from`` is where the source began to fill the ring, with the ids of the server that is read; ``before``
    holds MariaDB's GTIDs behind which the ring begins now. File and offset decide, where GTIDs do not, until the
    first transaction that is not done; from there on nothing is passed over by offset, so that a source that begins
    to count its files anew loses nothing.
    """

    def __init__(
        self,
        position: Position,
        *,
        filled_from: Position | None = None,
        before: MariadbGtidPosition | None = None,
    ) -> None:
        self.position = position
        self.key = (file_sequence(position.file), position.offset)
        self.server_id = filled_from.server_id if filled_from else position.server_id
        self.gtids = parse_gtid_set(position.gtid_set) if position.gtid_set else None
        self.is_of_server_read = filled_from is not None and _is_same_server(position, filled_from)
        self._is_elsewhere = filled_from is not None and not self.is_of_server_read
        self._left_at = sys.maxsize
        self._domains: Domains | None = None
        if isinstance(self.gtids, MariadbGtidPosition):
            is_beyond = self._is_beyond if self.is_of_server_read else None
            self._domains = Domains(self.gtids, before=before or MariadbGtidPosition(), is_beyond=is_beyond)

    def saw(self, gtid: str, sequence: int) -> None:
        """Learn that the transaction ``gtid`` ends at ``sequence`` in the ring."""
        if self._domains is not None:
            self._domains.saw(gtid, sequence)

    def saw_run(self, run: Run, first: int) -> None:
        """Learn that the transactions of ``run`` have the sequence numbers from ``first`` on."""
        if self._domains is None:
            return
        for gtid in self._domains.awaited:
            index = run.packed.index_of(gtid)
            if index >= 0:
                self._domains.saw(gtid, first + index)

    def look_through(self, first: Slot | None) -> None:
        """Learn of what is in the ring already, from its ``first`` slot on."""
        if self._domains is None:
            return
        for slot in slots_from(first):
            if isinstance(slot.item, Run):
                self.saw_run(slot.item, slot.first)
            for gtid in slot.ends:
                self._domains.saw(gtid, slot.last)
        if self._is_elsewhere:
            for slot in slots_from(first):
                if slot.gtids is not None:
                    self._domains.may_hide(slot.ends, slot.first)

    def done_of(self, transaction: Transaction, sequence: int) -> Done:
        """Return what is done of ``transaction``, which begins at ``sequence`` in the ring.

        The same question has the same answer, also after a rollback.
        """
        if self.gtids is not None and transaction.gtid:
            if self._has(transaction, sequence):
                return _ALL
        elif sequence < self._left_at:
            before = self._before(transaction)
            if before is not None:
                return before
        self._left_at = min(self._left_at, sequence)
        if (transaction.file, transaction.start_offset) == (self.position.file, self.position.offset):
            return Done(0, self.position.ordinal)
        return _NOTHING

    def is_clear_of(self, packed: Packed, index: int, sequence: int) -> bool:
        """Whether nothing was done of the transactions of ``packed`` from ``index`` on; that one is at ``sequence``.

        False may mean that it is not known yet: `done_of` tells, and from there on so does this.
        """
        if self.position.ordinal and sequence <= self._left_at:
            return False
        gtids = packed.gtids(index, packed.count) if self.gtids is not None else None
        if gtids is None:
            return sequence > self._left_at
        if isinstance(gtids, MariadbGtidPosition):
            return self._domains is not None and self._domains.are_left(gtids, sequence)
        if isinstance(gtids, MysqlGtidSet) and isinstance(self.gtids, MysqlGtidSet):
            return not gtids.intersection(self.gtids)
        return False

    def news_of(self, slot: Slot) -> GtidSet | None:
        """Return the GTIDs of a mark that were not done at the start; None where the mark is a single transaction."""
        if self._domains is None or slot.item is None or not isinstance(slot.gtids, MariadbGtidPosition):
            return slot.gtids
        if self.is_of_server_read and isinstance(slot.item, Commit) and self._is_beyond(slot.item.transaction):
            return slot.gtids
        return self._domains.news_of(slot.gtids, slot.last)

    def _has(self, transaction: Transaction, sequence: int) -> bool:
        if self._domains is not None:
            return self._domains.has(transaction, sequence)
        return self.gtids is not None and transaction.gtid in self.gtids

    def _before(self, transaction: Transaction) -> Done | None:
        here = file_sequence(transaction.file)
        if here < self.key[0]:
            return _ALL
        if here == self.key[0] and transaction.start_offset < self.key[1]:
            return Done(self.key[1], 0)
        return None

    def _is_beyond(self, transaction: Transaction) -> bool:
        return (file_sequence(transaction.file), transaction.start_offset) >= self.key


def _is_same_server(left: Position, right: Position) -> bool:
    return (left.server_uuid, left.server_id) == (right.server_uuid, right.server_id)
