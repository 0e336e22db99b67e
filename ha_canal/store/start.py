"""What a subscription had done before it began: which items of the ring lie at or before its start position.

The ring is filled from the earliest cursor of all clients, so most subscriptions begin with items that they have
acknowledged in an earlier life. ``start`` must belong to the server that fills the ring, or hold GTIDs: a file and an
offset mean nothing on another server.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from ha_canal.model.change import Transaction
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.position import Position, file_sequence


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

    File and offset decide until the first transaction that is not done; from there on nothing is passed over by
    offset, so that a source that begins to count its files anew loses nothing. MariaDB's sequence numbers are taken
    at their word up to the first transaction of their domain that is not done, for the same reason: outside its
    strict mode they may fall.
    """

    def __init__(self, position: Position) -> None:
        self._position = position
        self._key = (file_sequence(position.file), position.offset)
        self._gtids = parse_gtid_set(position.gtid_set) if position.gtid_set else None
        self._left_at = sys.maxsize
        self._domains_left_at: dict[str, int] = {}

    def done_of(self, transaction: Transaction, sequence: int) -> Done:
        """Return what is done of ``transaction``, which begins at ``sequence`` in the ring.

        The same question has the same answer, also after a rollback.
        """
        if self._gtids is not None and transaction.gtid:
            if self._has(transaction.gtid, sequence):
                return _ALL
        elif sequence < self._left_at:
            before = self._before(transaction)
            if before is not None:
                return before
        self._left_at = min(self._left_at, sequence)
        if (transaction.file, transaction.start_offset) == (self._position.file, self._position.offset):
            return Done(0, self._position.ordinal)
        return _NOTHING

    def _has(self, gtid: str, sequence: int) -> bool:
        assert self._gtids is not None
        domain = "" if ":" in gtid else gtid.partition("-")[0]
        if gtid in self._gtids and sequence < self._domains_left_at.get(domain, sys.maxsize):
            return True
        if domain:
            self._domains_left_at[domain] = min(sequence, self._domains_left_at.get(domain, sys.maxsize))
        return False

    def _before(self, transaction: Transaction) -> Done | None:
        here = file_sequence(transaction.file)
        if here < self._key[0]:
            return _ALL
        if here == self._key[0] and transaction.start_offset < self._key[1]:
            return Done(self._key[1], 0)
        return None
