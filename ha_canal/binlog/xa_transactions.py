"""What the events of XA transactions do to the stream: prepared rows are kept, delivered at the commit, or asked for.

A group that prepares begins with ``XA START`` (MySQL) or a GTID event that says so (MariaDB), and ends with an
XA_PREPARE event. ``XA COMMIT`` and ``XA ROLLBACK`` are groups of their own. Part of `ha_canal.binlog.stream`, which
owns this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ha_canal.binlog.events import Event
from ha_canal.binlog.query import Query
from ha_canal.binlog.transactions import Transactions
from ha_canal.binlog.xa import PreparedGroup, PreparedGroups, XaRows, Xid, parse_xa_prepare, parse_xid
from ha_canal.errors import ChainError, DecodeError
from ha_canal.model.change import Item, Transaction


@dataclass(frozen=True, slots=True)
class PreparedNeeded:
    """An XA transaction that ``commit`` commits, and whose rows are not kept.

    ``prepared`` is the group that holds them, or None where it lies before all that the stream has seen. (It is
    ``commit`` itself where a large transaction was prepared and committed in one phase.)
    """

    xid: Xid
    commit: Transaction
    prepared: Transaction | None


class XaTransactions:
    """``rows`` says what is done with what was prepared; ``needed`` is the question that `supply` answers."""

    __slots__ = ("_event", "_rows", "_transactions", "needed", "prepared")

    def __init__(self, transactions: Transactions, prepared: PreparedGroups, rows: XaRows) -> None:
        self._transactions = transactions
        self._rows = rows
        self._event: Event | None = None
        self.prepared = prepared
        self.needed: PreparedNeeded | None = None

    def begun(self) -> None:
        """Learn that the transaction which has begun is an XA one."""
        if self._rows is not XaRows.REPLAY:
            self._transactions.will_prepare()

    def statement(self, event: Event, file: str, query: Query, verb: str) -> None:
        """Take an XA statement; ``verb`` is its first two words."""
        match verb:
            case "XA START":
                self._transactions.begin(event, file, query.thread_id)
                self.begun()
            case "XA END":
                pass
            case "XA ROLLBACK":
                self._decide(query)
                self._transactions.rollback(event)
            case "XA COMMIT":
                self._commit(event, parse_xid(query.sql), self._decide(query))
            case _:
                raise DecodeError(f"a statement {verb} has no place in a binlog")

    def end_of_prepare(self, event: Event) -> None:
        """Take an XA_PREPARE event."""
        xid, one_phase = parse_xa_prepare(event.body)
        if self._rows is XaRows.REPLAY or (one_phase and not self._transactions.dropped):
            self._transactions.commit(event)
        elif one_phase:
            self._ask(event, xid, self._transactions.transaction)
        else:
            self.prepared.add(xid, self._transactions.prepare(event))

    def supply(self, needed: PreparedNeeded, items: Sequence[Item]) -> None:
        """See `ha_canal.binlog.stream.BinlogStream.supply_prepared`."""
        if self._event is None or self.needed is not needed:
            raise ValueError("these rows were not asked for")
        self._transactions.replay(self._event, items)
        if self._transactions.transaction is None:
            self.needed = self._event = None

    def _decide(self, query: Query) -> PreparedGroup | None:
        transaction = self._transactions.transaction
        if transaction is None or self._transactions.has_changes:
            raise ChainError("the end of an XA transaction is no group of its own")
        return self.prepared.decide(parse_xid(query.sql), transaction)

    def _commit(self, event: Event, xid: Xid, group: PreparedGroup | None) -> None:
        if group is not None and group.items is not None:
            self._transactions.replay(event, group.items)
            self._transactions.commit_prepared(event, group.count)
        elif self._rows in (XaRows.DROP, XaRows.FIND, XaRows.REPLAY):
            self._transactions.commit(event)
        else:
            self._ask(event, xid, group.transaction if group else None)

    def _ask(self, event: Event, xid: Xid, prepared: Transaction | None) -> None:
        transaction = self._transactions.transaction
        if transaction is None:
            raise ChainError("the commit of an XA transaction came without its start")
        if self._rows is not XaRows.ASK:
            why = (
                "are too many to be held until now: read this binlog through its server"
                if prepared
                else "were prepared before the place where reading began: begin before that"
            )
            raise DecodeError(f"XA COMMIT {xid}: the rows that it commits {why}")
        self._event = event
        self.needed = PreparedNeeded(xid, transaction, prepared)
