"""How far reading has come, counted from the items that were handed on: pure, and the truth for reconnecting.

A connection may break anywhere, also inside a transaction of which a part is in the ring already. `Progress` knows
the clean boundary to dump from again and what of the next transaction is to be passed over, so that the ring sees
every item once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ha_canal.errors import ChainError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.position import Position


class Progress:
    """Follows the items of one source from ``start`` on."""

    def __init__(self, start: Position) -> None:
        self._boundary = replace(start, ordinal=0, gtid_set="")
        self._gtids = parse_gtid_set(start.gtid_set) if start.gtid_set else None
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
        """How many ordinals of the next transaction were handed on already."""
        return self._next_ordinal

    @property
    def timestamp_ms(self) -> int:
        return self._boundary.timestamp_ms

    def fresh(self, items: Iterable[Item]) -> list[Item]:
        """Return ``items``, read behind `position`, without what was handed on before the connection broke.

        Raises ChainError when the transaction that was read in part is not there any more.
        """
        kept: list[Item] = []
        for item in items:
            if self._open is not None and not kept:
                if item.transaction.event_id_prefix != self._open.event_id_prefix:
                    raise ChainError(
                        f"transaction {self._open.event_id_prefix} was read in part, and the source does not have it "
                        "any more: it lost its binlog in a crash",
                        file=item.transaction.file,
                        offset=item.transaction.start_offset,
                    )
                if isinstance(item, Begin):
                    continue
            kept.append(item)
        return kept

    def advance(self, items: Iterable[Item]) -> None:
        """Take note that ``items`` were handed on."""
        for item in items:
            match item:
                case Begin():
                    self._open, self._next_ordinal = item.transaction, 0
                case Rows() | Statement():
                    self._next_ordinal = item.ordinal + 1
                    self.rows_events += 1
                case Commit():
                    self._close(item)

    def _close(self, commit: Commit) -> None:
        transaction = commit.transaction
        self._open, self._next_ordinal = None, 0
        self.transactions += 1
        if transaction.gtid:
            if self._gtids is None:
                self._gtids = parse_gtid_set(transaction.gtid)
            else:
                self._gtids.add(transaction.gtid)
        self._boundary = replace(
            self._boundary,
            file=transaction.file,
            offset=commit.end_offset,
            server_uuid=transaction.server_uuid,
            timestamp_ms=transaction.timestamp_s * 1000,
        )
