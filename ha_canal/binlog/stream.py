"""The binlog as a stream: bytes of a dump connection in, the items of transactions out. No I/O, no clock.

The source feeds what its socket gave and takes items until there are none; when a table is met whose layout has no
plan yet, it is asked for one (`PlanNeeded`), since names may have to come from the schema history. Rows stay bytes.
Large transactions are never held whole, small ones only until their end is read (see
`ha_canal.binlog.transactions`).

Fail closed: every event is checked (packet number, size, CRC32, place in its file) and either understood, known to
hold nothing for us, or marked by the server as ignorable. Anything else ends the stream with an error that says where;
items in front of it are still handed out, and every later call raises the same error.

Who calls: `ha_canal.source`, and `ha-canal decode` through `ha_canal.binlog.file`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ha_canal.binlog.chain import Chain
from ha_canal.binlog.compression import INSIDE_PAYLOADS, TransactionPayload, inflate_block
from ha_canal.binlog.event_reader import HEADER, EventReader
from ha_canal.binlog.events import (
    FLAG_IGNORABLE,
    HEADER_BYTES,
    Event,
    EventType,
    type_name,
)
from ha_canal.binlog.gtid_events import parse_gtid, parse_gtid_tagged, parse_mariadb_gtid
from ha_canal.binlog.layouts import Layouts, PlanNeeded
from ha_canal.binlog.other_events import LENIENT_RULES, OTHER_RULES, logged_as_statement
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.query import parse_query
from ha_canal.binlog.rows_events import NO_TABLE, ROWS_SHAPES, parse_rows_header
from ha_canal.binlog.scan import scan_for
from ha_canal.binlog.statement import StatementRole, classify
from ha_canal.binlog.transactions import Transactions
from ha_canal.binlog.xa import PreparedGroups, XaRows
from ha_canal.binlog.xa_transactions import PreparedNeeded, XaTransactions
from ha_canal.errors import ChainError, DecodeError, SourceLostError, StreamError
from ha_canal.model.change import Item, Rows
from ha_canal.model.run import Parcel, Run, unpacked
from ha_canal.model.table import RowPlan

if TYPE_CHECKING:
    from ha_canal.binlog._scan import Scan

_SLICE_BYTES = 1024 * 1024
"""A call of `BinlogStream.next_items` ends with so many bytes of items: what is compressed may hold a thousand times as
many as were fed."""
_MOST_CUT_BYTES = 64 * 1024
"""A transaction of which more is here is no part of a run."""
_MOST_ITEMS = 1024


class BinlogStream:
    """One dump connection, from its first packet on; a new connection needs a new stream.

    ``file`` and ``offset`` are what was asked for (with ``by_gtid`` they may be ``""`` and 4: the server says where it
    starts). ``checksum`` says whether the server was told to send checksums; None finds out. It matters for events
    that stand in no file; those in a file follow what their file says. ``xa`` says what is done with the rows of XA
    transactions: a stream that asks for them (`XaRows.ASK`) has its question in `prepared_needed`. ``prepared`` is
    where it notes what is prepared.
    """

    def __init__(
        self,
        *,
        file: str,
        offset: int,
        server_uuid: str,
        by_gtid: bool = False,
        checksum: bool | None = None,
        xa: XaRows = XaRows.HOLD,
        prepared: PreparedGroups | None = None,
    ) -> None:
        self.last_event_timestamp_s = 0
        self._chain = Chain(file, offset, by_gtid=by_gtid)
        self._reader = EventReader(self._chain, checksum=checksum)
        self._transactions = Transactions(server_uuid)
        self._xa = XaTransactions(self._transactions, prepared or PreparedGroups(), xa)
        self._payload: tuple[TransactionPayload, Event] | None = None
        self._layouts = Layouts()
        self._not_done = False
        self._error: Exception | None = None
        self._inner_code: int | None = None
        self._inner_events = 0
        self._is_lenient = xa is XaRows.FIND
        self._rules = self._make_rules()
        self._scan = scan_for(self._layouts.plans, server_uuid)

    @property
    def file(self) -> str:
        return self._chain.file

    @property
    def offset(self) -> int:
        """The end of the last complete event in ``file``, in bytes."""
        return self._chain.offset

    @property
    def at_transaction_boundary(self) -> bool:
        return self._transactions.transaction is None

    @property
    def transactions(self) -> int:
        """Transactions that have ended."""
        return self._transactions.count

    @property
    def events(self) -> int:
        """Events that were read, those inside compressed transactions included."""
        return self._reader.events + self._inner_events

    @property
    def server_version(self) -> str:
        """What the file says of the server that wrote it; ``""`` before the first event says so."""
        return self._reader.server_version

    @property
    def pending_bytes(self) -> int:
        """Bytes that were fed and are not worked on yet."""
        return self._reader.pending_bytes

    def feed(self, chunk: bytes) -> None:
        """Take what the connection gave, in pieces of any size."""
        self._reader.feed(chunk)

    def room(self) -> memoryview:
        """Return where what comes next may be put, instead of `feed`; `received` says how many bytes came."""
        return self._reader.packets.room()

    def received(self, size: int) -> None:
        self._reader.packets.received(size)

    def next_parcels(self) -> list[Parcel] | PlanNeeded:
        """Return what comes next as `next_items` does, but packed where it can be: as one run, or items and stretches.

        A small transaction of which only the beginning is here waits for the rest; `next_items` does not.
        """
        if self._scan is not None and self._is_clear_for_runs():
            if (packed := self._reader.next_run(self._scan)) is not None:
                self._transactions.count += packed.count
                self.last_event_timestamp_s = self._scan.timestamp_s or self.last_event_timestamp_s
                return [Run(packed)]
            if self._scan.is_cut and self.pending_bytes < _MOST_CUT_BYTES:
                return []
        return self._next(_MOST_ITEMS, most_ends=1, scan=self._scan)

    def next_items(self, max_items: int = _MOST_ITEMS) -> list[Item] | PlanNeeded:
        """Return the next items, or a question that `supply_plan` answers; ``[]``: feed more.

        They are at most ``max_items``, and about 1 MiB (4 MiB where a transaction was held, or one item).

        Raises:
            StreamError: the stream cannot be trusted from here on; with file and offset of the event.
            ServerError: the server sent an error.
            SourceLostError: the server ended the stream.
        """
        got = self._next(max_items, most_ends=max_items, scan=None)
        return got if isinstance(got, PlanNeeded) else list(unpacked(got))

    def _is_clear_for_runs(self) -> bool:
        return (
            self._error is None
            and self._payload is None
            and self._layouts.needed is None
            and self._xa.needed is None
            and not self._transactions.items
            and self.at_transaction_boundary
        )

    def _next(self, max_items: int, *, most_ends: int, scan: Scan | None) -> list[Parcel] | PlanNeeded:
        items = self._transactions.items
        if self._error is None:
            self._fill(max_items, most_ends, scan)
        if items:
            taken: list[Parcel] = [*items[:max_items]]
            del items[:max_items]
            return taken
        if self._error is not None:
            raise self._error
        return self._layouts.needed or []

    def supply_plan(self, needed: PlanNeeded, plan: RowPlan | None) -> None:
        """Answer the question that `next_items` returned. None: nobody wants the table, drop its rows unread."""
        self._layouts.supply(needed, plan)

    @property
    def prepared(self) -> PreparedGroups:
        """What is prepared and undecided, as far as this stream has seen."""
        return self._xa.prepared

    @property
    def prepared_needed(self) -> PreparedNeeded | None:
        """The question that `supply_prepared` answers; look here when `next_items` has nothing. None: feed more."""
        return self._xa.needed

    def supply_prepared(self, needed: PreparedNeeded, items: Sequence[Item]) -> None:
        """Answer `prepared_needed`, in pieces if there is much: its items, from `Begin` to `Commit`, which ends it.

        They are what another stream, with `XaRows.REPLAY`, made of the prepared group. Take the `next_items` between
        the pieces.
        """
        self._xa.supply(needed, items)

    def _fill(self, max_items: int, most_ends: int, scan: Scan | None) -> None:
        last = self._transactions.count + most_ends
        try:
            self._transactions.out_bytes = 0
            while self._wants_more(max_items, last):
                if self._payload is not None:
                    self._step_inside(*self._payload)
                elif scan is not None and self._take_stretch(scan):
                    pass
                elif (event := self._next_event()) is not None:
                    self._understand(event)
                else:
                    return
        except (ServerError, SourceLostError) as error:
            self._error = error
        except StreamError as error:
            self._error = self._place(type(error), error.what, error)
        except (struct.error, IndexError, ValueError) as error:
            self._error = self._place(DecodeError, f"{error} ({type(error).__name__})", error)

    def _wants_more(self, max_items: int, last: int) -> bool:
        waiting = self._transactions
        return (
            len(waiting.items) < max_items
            and waiting.out_bytes < _SLICE_BYTES
            and (waiting.count < last or not waiting.items)
            and self._layouts.needed is None
            and self._xa.needed is None
        )

    def _take_stretch(self, scan: Scan) -> bool:
        """Take the rows events that come next; return whether there were any, or tables."""
        transaction = self._transactions.transaction
        if transaction is None or not self._transactions.takes_rows:
            return False
        ordinal, named = self._transactions.used, self._layouts.plan_of_table_id
        taken = self._reader.next_stretch(scan, transaction=transaction, ordinal=ordinal, named=named)
        if taken is None:
            return False
        self.last_event_timestamp_s = scan.timestamp_s or self.last_event_timestamp_s
        self._transactions.take_stretch(*taken)
        return True

    def _next_event(self) -> Event | None:
        event = self._reader.next_event(between=self.at_transaction_boundary)
        if event is not None and event.timestamp_s:
            self.last_event_timestamp_s = event.timestamp_s
        return event

    def _place(self, kind: type[StreamError], what: str, cause: Exception) -> StreamError:
        code = self._reader.code if self._payload is None else self._inner_code
        subject = "the binlog stream" if code is None else type_name(code)
        placed = kind(f"{subject}: {what}", file=self.file, offset=self._reader.event_offset)
        placed.__cause__ = cause
        return placed

    def _understand(self, event: Event) -> None:
        rule = self._rules.get(event.type_code)
        if rule is not None:
            rule(event)
        elif not event.flags & FLAG_IGNORABLE and not self._is_lenient:
            raise DecodeError("what it means for the rows is not known; a newer version may know it")

    # Transactions.

    def _gtid(self, event: Event) -> None:
        if event.type_code == EventType.GTID_TAGGED:
            found = parse_gtid_tagged(event.body)
        else:
            found = parse_gtid(event.body, anonymous=event.type_code == EventType.ANONYMOUS_GTID)
        self._transactions.start(event, self.file, found.gtid, found.commit_timestamp_us)

    def _mariadb_gtid(self, event: Event) -> None:
        found = parse_mariadb_gtid(event.body, event.server_id)
        self._not_done = found.not_done
        self._transactions.start_mariadb(event, self.file, found.gtid, standalone=found.standalone)
        if found.prepared_xa:
            self._xa.begun()

    def _xid(self, event: Event) -> None:
        self._end(event, int.from_bytes(event.body[:8], "little"))

    def _end(self, event: Event, xid: int = 0) -> None:
        self._transactions.commit(event, xid)
        self._layouts.forget_table_ids()

    def _xa_prepare(self, event: Event) -> None:
        self._xa.end_of_prepare(event)
        self._layouts.forget_table_ids()

    def _query(self, event: Event) -> None:
        query = parse_query(event.body, compressed=event.type_code == EventType.QUERY_COMPRESSED)
        found = classify(query.sql, query.database)
        match found.role:
            case StatementRole.BEGIN:
                self._transactions.begin(event, self.file, query.thread_id)
            case StatementRole.COMMIT:
                self._end(event)
            case StatementRole.ROLLBACK:
                self._transactions.rollback(event)
            case StatementRole.SAVEPOINT:
                self._transactions.savepoint(found.savepoint)
            case StatementRole.ROLLBACK_TO:
                self._transactions.rollback_to(found.savepoint)
            case StatementRole.DDL if not self._not_done:
                self._layouts.forget_plans()
                self._transactions.statement(event, self.file, query, found)
            case StatementRole.CHANGED_ROWS if not self._is_lenient:
                raise logged_as_statement(found.verb)
            case StatementRole.DDL | StatementRole.NOTHING | StatementRole.CHANGED_ROWS:
                self._transactions.end_if_single(event)
            case StatementRole.XA:
                self._xa.statement(event, self.file, query, found.verb)

    # Rows.

    def _table_map(self, event: Event) -> None:
        self._layouts.name_table(bytes(event.body), mariadb=self._reader.is_mariadb)

    def _rows(self, event: Event) -> None:
        table_id = int.from_bytes(event.body[:6], "little")
        if table_id == NO_TABLE:
            return
        ordinal = self._transactions.rows_ordinal()
        plan = self._layouts.plan_of(table_id)
        transaction = self._transactions.transaction
        if plan is None or transaction is None:
            return
        shape = ROWS_SHAPES[event.type_code]
        head = parse_rows_header(event.body, shape)
        if head.column_count != len(plan.columns):
            raise DecodeError(f"rows of {head.column_count} columns, where the table has {len(plan.columns)}")
        rows = event.body[head.rows_at :]
        self._transactions.put(
            Rows(
                transaction,
                ordinal,
                event.offset,
                event.length,
                event.timestamp_s,
                shape.kind,
                plan,
                head.present_before,
                head.present_after,
                inflate_block(rows) if shape.compressed else bytes(rows),
                shape.partial_json,
            )
        )

    def _compressed_transaction(self, event: Event) -> None:
        if self.at_transaction_boundary:
            raise ChainError("a compressed transaction without its GTID event")
        self._payload = TransactionPayload(event.body), event

    def _step_inside(self, payload: TransactionPayload, outer: Event) -> None:
        self._inner_code = outer.type_code
        inner = payload.next_event()
        if inner is None:
            self._payload = None
            if not self.at_transaction_boundary:
                raise DecodeError("its transaction does not end in it")
            return
        timestamp_s, code, server_id, _, _, flags = HEADER.unpack_from(inner)
        self._inner_code = code
        self._inner_events += 1
        if code not in INSIDE_PAYLOADS:
            raise DecodeError("it has no place in a compressed transaction")
        self.last_event_timestamp_s = timestamp_s or self.last_event_timestamp_s
        self._understand(Event(code, timestamp_s, server_id, flags, outer.offset, outer.length, inner[HEADER_BYTES:]))

    def _make_rules(self) -> dict[int, Callable[[Event], None]]:
        rules: dict[int, Callable[[Event], None]] = {
            EventType.TABLE_MAP: self._table_map,
            EventType.QUERY: self._query,
            EventType.QUERY_COMPRESSED: self._query,
            EventType.XID: self._xid,
            EventType.GTID: self._gtid,
            EventType.ANONYMOUS_GTID: self._gtid,
            EventType.GTID_TAGGED: self._gtid,
            EventType.MARIADB_GTID: self._mariadb_gtid,
            EventType.TRANSACTION_PAYLOAD: self._compressed_transaction,
            EventType.XA_PREPARE: self._xa_prepare,
        }
        others = LENIENT_RULES if self._is_lenient else OTHER_RULES
        return rules | dict.fromkeys(ROWS_SHAPES, self._rows) | others
