"""Where transactions begin and end, the numbers of what is in them, and what of it did happen.

MySQL: GTID event, ``BEGIN``, rows, XID event or ``COMMIT``; DDL is a GTID event and its statement alone. MariaDB: the
GTID event is the beginning; a *standalone* one is followed by a single statement and no end. Without GTID events
``BEGIN`` or a lone statement starts a transaction.

A `Begin` is made when the first rows or statement are met, so that a transaction without any is a lone `Commit`.

**What was rolled back.** A server sends a transaction when it has ended, and still it may end in ``ROLLBACK``, or hold
a ``ROLLBACK TO`` a savepoint, behind rows that were undone: MariaDB 10.11 logs both where it could not cut its cache
(a temporary table was made in the transaction; a table without transactions was changed too, whose rows stand in a
group of their own, ended by ``COMMIT``). So items wait here until the end, which is on its way already, or until they
are too many: then they flow, and a roll-back of what has left is an error. DDL flows at once, since tables that follow
may need it, and a savepoint starts the waiting anew.

**What is prepared** (XA) is no change yet: `prepare` makes of it a group for its owner to keep, and a `Commit` without
changes. Of a group that is too large to wait here nothing but its place is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ha_canal.binlog.events import Event
from ha_canal.binlog.query import Query
from ha_canal.binlog.statement import Classified
from ha_canal.binlog.xa import PreparedGroup
from ha_canal.errors import ChainError, DecodeError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.run import unpacked
from ha_canal.model.stretch import PackedRows, Stretch

MOST_HELD_BYTES = 4 * 1024 * 1024
"""What waits for the end of its transaction, as `Item.size_bytes` counts; a larger transaction flows."""


class Transactions:
    """The open transaction, if there is one. Items come to the end of ``items``, which its owner empties."""

    __slots__ = (
        "_begin",
        "_begin_due",
        "_begun",
        "_dropped",
        "_held",
        "_held_bytes",
        "_left",
        "_prepares",
        "_savepoints",
        "_server_uuid",
        "_standalone",
        "_thread_id",
        "count",
        "items",
        "out_bytes",
        "transaction",
        "used",
    )

    def __init__(self, server_uuid: str) -> None:
        self.items: list[Item | Stretch] = []
        self.count = 0
        self.out_bytes = 0
        self.transaction: Transaction | None = None
        self.used = 0
        """Ordinals that were used in the open transaction."""
        self._server_uuid = server_uuid
        self._begun = False
        self._standalone = False
        self._begin: Event | None = None
        self._begin_due = True
        self._thread_id = 0
        self._held: list[Item | Stretch] | None = None
        self._held_bytes = 0
        self._left = False
        self._prepares = False
        self._dropped = False
        self._savepoints: dict[str, int] = {}

    def start(self, event: Event, file: str, gtid: str, commit_timestamp_us: int = 0) -> None:
        """A GTID event, or what starts a transaction where there is none."""
        if self.transaction is not None:
            raise ChainError("a transaction starts before the last one has ended")
        self.transaction = Transaction(
            gtid, file, event.offset, self._server_uuid, event.server_id, event.timestamp_s, commit_timestamp_us
        )
        self._begin = event
        self._begin_due = True
        self._thread_id = 0
        self.used = 0
        self._begun = self._standalone = False
        self._held = []
        self._held_bytes = 0
        self._left = False
        self._prepares = self._dropped = False
        self._savepoints.clear()

    def start_mariadb(self, event: Event, file: str, gtid: str, *, standalone: bool) -> None:
        self.start(event, file, gtid)
        self._begun = not standalone
        self._standalone = standalone

    def begin(self, event: Event, file: str, thread_id: int) -> None:
        """A ``BEGIN`` statement."""
        if self.transaction is None:
            self.start(event, file, "")
        elif self._begun or self._standalone:
            raise ChainError("BEGIN inside a transaction")
        self._begun = True
        self._begin = event
        self._thread_id = thread_id

    def will_prepare(self) -> None:
        """The open transaction will end in ``XA PREPARE``."""
        self._prepares = True

    @property
    def dropped(self) -> bool:
        """Whether the open transaction, which will be prepared, was too large to wait."""
        return self._dropped

    @property
    def has_changes(self) -> bool:
        """Whether the open transaction has used an ordinal."""
        return self.used > 0

    @property
    def takes_rows(self) -> bool:
        """Whether rows may come now, and packed: what is prepared is kept as items, and counted as such."""
        return self.transaction is not None and self._begun and not self._prepares

    def take_stretch(self, packed: PackedRows | None, used: int) -> None:
        """Take rows events, of which ``packed`` holds those that are kept; ``used`` is the ordinal behind the last."""
        if used > self.used:
            self._next_ordinal()
            self.used = used
        if packed is not None:
            self.put(Stretch(packed))

    def rows_ordinal(self) -> int:
        """Number the next rows event."""
        if self.transaction is None or not self._begun:
            raise ChainError("rows outside of a transaction")
        return self._next_ordinal()

    def _next_ordinal(self) -> int:
        ordinal = self.used
        self.used = ordinal + 1
        if self._begin_due and self.transaction is not None and self._begin is not None:
            self._begin_due = False
            self.put(Begin(self.transaction, self._begin.offset, self._begin.length, self._thread_id))
        return ordinal

    def put(self, item: Item | Stretch) -> None:
        """Take an item of the open transaction."""
        if self._dropped:
            return
        if self._held is None:
            self.items.append(item)
            self.out_bytes += item.size_bytes
            return
        self._held.append(item)
        self._held_bytes += item.size_bytes
        if self._held_bytes > MOST_HELD_BYTES:
            self._drop() if self._prepares else self._let_go()

    def _drop(self) -> None:
        self._held, self._held_bytes = [], 0
        self._dropped = True

    def _let_go(self) -> None:
        if self._held is not None:
            self._left = self._left or bool(self._held)
            self.items += self._held
            self.out_bytes += self._held_bytes
            self._held = None
            self._savepoints.clear()

    def statement(self, event: Event, file: str, query: Query, found: Classified) -> None:
        """A statement to deliver. Outside of BEGIN and the like it is a transaction of its own."""
        if self.transaction is None:
            self.start(event, file, "")
        if not self._begun:
            self._begin = event
            self._thread_id = query.thread_id
        ordinal = self._next_ordinal()
        if self.transaction is not None:
            self.put(
                Statement(
                    self.transaction,
                    ordinal,
                    event.offset,
                    event.length,
                    event.timestamp_s,
                    found.kind,
                    query.sql,
                    query.database,
                    found.schema,
                    found.table,
                )
            )
        if not self._prepares:
            self._let_go()
        self.end_if_single(event)

    def savepoint(self, name: str) -> None:
        if self._held is None:
            self._held = []
            self._held_bytes = 0
        self._savepoints.pop(name, None)  # set again, it is the last
        self._savepoints[name] = len(self._held)

    def rollback_to(self, name: str) -> None:
        """Forget what came since the savepoint, and the savepoints set since."""
        kept = self._savepoints.get(name)
        if self._held is None or kept is None:
            raise DecodeError(_undone(f"to the savepoint {name!r}"))
        if any(isinstance(item, Begin) for item in self._held[kept:]):
            self._begin_due = True
        del self._held[kept:]
        names = list(self._savepoints)
        for later in names[names.index(name) + 1 :]:
            del self._savepoints[later]

    def rollback(self, event: Event) -> None:
        """The end of a transaction of which nothing happened."""
        if self._left and self.used:
            raise DecodeError(_undone("whole"))
        self._held = []
        self._begin_due = True
        self.commit(event)

    def prepare(self, event: Event) -> PreparedGroup:
        """The end of a prepared transaction: nothing of it happens here."""
        if self.transaction is None or self._held is None:
            raise ChainError("the end of a prepared transaction came without its start")
        items = None if self._dropped else tuple(unpacked(self._held))
        group = PreparedGroup(self.transaction, self.used, items, self._held_bytes)
        self._held, self.used = [], 0
        self._begin_due = True
        self.commit(event)
        return group

    def replay(self, event: Event, items: Iterable[Item]) -> None:
        """Take changes that were prepared before as those of the open transaction; ``event`` commits them.

        Their own `Commit`, where it comes, is the end.
        """
        transaction = self.transaction
        if transaction is None:
            raise ChainError("the commit of a prepared transaction came without its start")
        self._dropped = False
        self._let_go()
        for item in items:
            match item:
                case Begin():
                    self._begin_due = False
                    self.put(Begin(transaction, event.offset, event.length, item.thread_id))
                case Rows() | Statement():
                    self.put(replace(item, transaction=transaction, offset=event.offset, event_length=event.length))
                case Commit():
                    self.commit_prepared(event, item.count)

    def commit_prepared(self, event: Event, count: int) -> None:
        """The end of a transaction whose ``count`` ordinals were used where it was prepared."""
        self.used = count
        self.commit(event)

    def end_if_single(self, event: Event) -> None:
        """A statement is also the end of its transaction, unless one has begun."""
        if self.transaction is not None and not self._begun:
            self.commit(event)

    def commit(self, event: Event, xid: int = 0) -> None:
        """The end of a transaction: an XID event, ``COMMIT``, or the statement that was all of it."""
        if self.transaction is None:
            raise ChainError("the end of a transaction came without its start")
        end = event.offset + event.length
        self._let_go()
        self.items.append(
            Commit(
                self.transaction,
                event.offset,
                event.length,
                event.timestamp_s,
                end,
                self.used,
                xid,
                empty=self._begin_due,
            )
        )
        self.count += 1
        self.transaction = None


def _undone(what: str) -> str:
    return (
        f"the transaction was rolled back {what}, after {MOST_HELD_BYTES >> 20} MiB of it or a part with DDL were "
        "handed out; start from a position behind it, and read the tables it changed anew"
    )
