"""How far reading has come, counted from the items that were handed on: pure, and the truth for reconnecting.

A connection may break anywhere, also inside a transaction of which a part is in the ring already. `Progress` knows
the clean boundary to dump from again, and passes over what it has handed on of the transaction behind it, so that the
ring sees every item once. It looks at each item's own transaction and ordinal: a source that sends another
transaction first (a server that took over, with MariaDB's domains in another order) stops the reading here, and can
neither skip nor repeat a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ha_canal.errors import ChainError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.gtid import GtidSet, parse_gtid_set
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, Run, unpacked
from ha_canal.model.stretch import Stretch


class Progress:
    """Follows the items of one source from ``start`` on.

    A start without GTIDs stays without: a set that lacks what was done before it would make the source send all of
    that again. `count_gtids_from_empty` says that nothing was.
    """

    def __init__(self, start: Position) -> None:
        self._boundary = replace(start, ordinal=0, gtid_set="")
        self._gtids: GtidSet | None = parse_gtid_set(start.gtid_set) if start.gtid_set else None
        self._from_empty = False
        self._open: Transaction | None = None
        self._next_ordinal = 0
        self.transactions = 0
        self.rows_events = 0

    @property
    def position(self) -> Position:
        """The clean boundary behind the last transaction that was handed on whole."""
        return replace(self._boundary, gtid_set=str(self._gtids) if self._gtids else "")

    @property
    def next_ordinal(self) -> int:
        """The first ordinal of the next transaction that was not handed on; 0 between transactions."""
        return self._next_ordinal

    @property
    def timestamp_ms(self) -> int:
        return self._boundary.timestamp_ms

    def count_gtids_from_empty(self) -> None:
        """Learn that the source had executed nothing with a GTID before the start."""
        self._from_empty = True

    def fresh(self, items: Sequence[Parcel]) -> Sequence[Parcel]:
        """Return ``items``, read on or read again behind `position`, without what was handed on before.

        Raises ChainError when the transaction that was read in part is not there any more, or is not what it was.
        """
        if self._open is None or not items or self._goes_on(self._open, items[0]):
            return items
        singly = list(unpacked(items))
        for index, item in enumerate(singly):
            self._check_goes_on(self._open, item)
            if not self._was_handed_on(item):
                return singly[index:]
        return []

    def _goes_on(self, opened: Transaction, first: Parcel) -> bool:
        """Whether ``first`` is the rest of the open transaction, or its end, and was not handed on."""
        if isinstance(first, Run):
            return False
        if isinstance(first, Stretch):
            return _is_same(opened, first.transaction) and first.ordinal >= self._next_ordinal
        self._check_goes_on(opened, first)
        return not self._was_handed_on(first)

    def _check_goes_on(self, opened: Transaction, item: Item) -> None:
        now = item.transaction
        if _is_same(opened, now):
            if not isinstance(item, Commit) or (not item.empty and item.count >= self._next_ordinal):
                return
            what = f"now ends after {item.count} of the {self._next_ordinal} events that were read of it"
        else:
            what = f"is not what the source sends now: that is {now.event_id_prefix}"
        raise ChainError(
            f"transaction {opened.event_id_prefix} was read in part, and {what}. The source lost the end of its binlog "
            "in a crash, or it is another server, which committed in another order. The instance begins anew from what "
            "its clients have acknowledged",
            file=now.file,
            offset=now.start_offset,
        )

    def _was_handed_on(self, item: Item) -> bool:
        match item:
            case Begin():
                return True
            case Rows() | Statement():
                return item.ordinal < self._next_ordinal
            case Commit():
                return False

    def advance(self, items: Iterable[Parcel]) -> None:
        """Take note that ``items`` were handed on."""
        for item in items:
            match item:
                case Begin():
                    self._open, self._next_ordinal = item.transaction, 0
                case Rows() | Statement():
                    self._next_ordinal = item.ordinal + 1
                    self.rows_events += isinstance(item, Rows)
                case Stretch():
                    self._next_ordinal = item.last_ordinal + 1
                    self.rows_events += item.packed.rows_events
                case Commit():
                    self._close(item, parse_gtid_set(item.transaction.gtid) if item.transaction.gtid else None)
                case Run():
                    self.rows_events += item.packed.rows_events
                    self.transactions += item.packed.count - 1
                    self._close(item.last_commit, item.gtids)

    def _close(self, commit: Commit, gtids: GtidSet | None) -> None:
        transaction = commit.transaction
        self._open, self._next_ordinal = None, 0
        self.transactions += 1
        if gtids is not None:
            self._add_gtids(gtids)
        self._boundary = replace(
            self._boundary,
            file=transaction.file,
            offset=commit.end_offset,
            server_uuid=transaction.server_uuid,
            timestamp_ms=transaction.timestamp_s * 1000,
        )

    def _add_gtids(self, gtids: GtidSet) -> None:
        if self._gtids is not None:
            self._gtids.update(gtids)
        elif self._from_empty:
            self._gtids = gtids


def _is_same(opened: Transaction, now: Transaction) -> bool:
    """Whether both are one transaction: by GTID or place and, at one place of one server, by its times too.

    A server that lost its last transactions in a crash gives their GTIDs and offsets to others.
    """
    if opened.event_id_prefix != now.event_id_prefix:
        return False
    places = [(t.server_uuid, t.file, t.start_offset) for t in (opened, now)]
    return places[0] != places[1] or opened == now
