"""Makes transactions for tests: one-column tables, offsets that follow each other, MySQL's or MariaDB's GTIDs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.gtid import GtidSet, MariadbGtidPosition, MysqlGtidSet, parse_gtid_set
from ha_canal.model.table import RowPlan

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
EVENT_BYTES = 10

PLANS = {name: RowPlan("shop", name, number, ()) for number, name in enumerate("abcd", start=1)}


def wants(*tables: str) -> Wants:
    return Wants(frozenset(tables))


@dataclass(frozen=True)
class Wants:
    tables: frozenset[str]

    def __call__(self, schema: str, table: str) -> bool:
        return schema == "shop" and table in self.tables


def everything(schema: str, table: str) -> bool:
    return True


@dataclass
class Writer:
    """Writes one binlog: each call appends a transaction and returns its items."""

    gtids: str = UUID + ":{}"
    file: str = "bin.000001"
    offset: int = 4
    number: int = 0
    server_uuid: str = UUID
    written: list[Item] = field(default_factory=list)

    def transaction(self, *tables: str, body: bytes = b"") -> list[Item]:
        """Rows of ``tables`` in turn; none at all: an empty transaction."""
        shared = self._shared()
        items: list[Item] = []
        start = self._event()
        if tables:
            items.append(Begin(shared, start, EVENT_BYTES))
        items += [self._rows(shared, ordinal, table, body) for ordinal, table in enumerate(tables)]
        items.append(self._commit(shared, len(tables)))
        self.written += items
        return items

    def ddl(self, table: str, sql: str = "alter table t add x int") -> list[Item]:
        shared = self._shared()
        begin = Begin(shared, self._event(), EVENT_BYTES)
        statement = Statement(shared, 0, self._event(), EVENT_BYTES, 100, ChangeKind.ALTER, sql, "shop", "shop", table)
        items: list[Item] = [begin, statement, self._commit(shared, 1)]
        self.written += items
        return items

    def rotate(self) -> None:
        self.file = f"bin.{int(self.file[-6:]) + 1:06}"
        self.offset = 4

    def _shared(self) -> Transaction:
        self.number += 1
        gtid = self.gtids.format(self.number) if self.gtids else ""
        return Transaction(gtid, self.file, self.offset, self.server_uuid, 7, 1000 + self.number)

    def _rows(self, shared: Transaction, ordinal: int, table: str, body: bytes) -> Rows:
        plan = PLANS[table]
        return Rows(shared, ordinal, self._event(), EVENT_BYTES, 100, ChangeKind.INSERT, plan, b"", b"\x01", body)

    def _commit(self, shared: Transaction, count: int) -> Commit:
        offset = self._event()
        seconds = shared.timestamp_s
        return Commit(shared, offset, EVENT_BYTES, seconds, self.offset, count, empty=count == 0)

    def _event(self) -> int:
        self.offset += EVENT_BYTES
        return self.offset - EVENT_BYTES


def flat(items: list[list[Item]]) -> list[Item]:
    return [item for part in items for item in part]


@dataclass
class Listed:
    """What a run stands on, as lists of items: the plain twin of the compiled `Packed`."""

    transactions: Sequence[list[Item]]

    @property
    def count(self) -> int:
        return len(self.transactions)

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for items in self.transactions for item in items)

    @property
    def rows_events(self) -> int:
        return sum(isinstance(item, Rows) for items in self.transactions for item in items)

    @property
    def plans(self) -> tuple[RowPlan, ...]:
        plans = [item.plan for items in self.transactions for item in items if isinstance(item, Rows)]
        return tuple({id(plan): plan for plan in plans}.values())

    def commit(self, index: int) -> Commit:
        end = self.transactions[index][-1]
        assert isinstance(end, Commit)
        return end

    def items(self, index: int) -> list[Item]:
        return list(self.transactions[index])

    def gtids(self, first: int, end: int) -> GtidSet | None:
        gtids: MysqlGtidSet | MariadbGtidPosition | None = None
        for items in self.transactions[first:end]:
            gtid = items[-1].transaction.gtid
            if gtid and gtids is None:
                gtids = parse_gtid_set(gtid)
            elif gtid and gtids is not None:
                gtids.add(gtid)
        return gtids

    def index_of(self, gtid: str) -> int:
        gtids = [items[-1].transaction.gtid for items in self.transactions]
        return gtids.index(gtid) if gtid in gtids else -1

    def wanted_items(self, index: int, wanted: bytes) -> list[Item]:
        plans = self.plans
        kept = [
            item
            for item in self.transactions[index]
            if not isinstance(item, Rows) or wanted[next(at for at, plan in enumerate(plans) if plan is item.plan)]
        ]
        return kept if any(isinstance(item, Rows) for item in kept) else []

    def next_wanted(self, index: int, wanted: bytes) -> int:
        return next((at for at in range(index, self.count) if self.wanted_items(at, wanted)), self.count)

    def cut(self, index: int, wanted: bytes, most_entries: int, most_bytes: int) -> tuple[int, int, int]:
        entries = size = 0
        while index < self.count:
            items = self.wanted_items(index, wanted)
            more = sum(item.size_bytes for item in items)
            if items and (entries + len(items) > most_entries or size + more > most_bytes):
                break
            entries, size, index = entries + len(items), size + more, index + 1
        return index, entries, size

    def encode(self, first: int, end: int, wanted: bytes, epoch: int, *, lean: bool = False) -> bytes:
        raise NotImplementedError  # rings do not encode


@dataclass
class ListedRows:
    """What a stretch stands on, as a list of items: the plain twin of the compiled `PackedRows`."""

    rows: Sequence[Rows]

    @property
    def transaction(self) -> Transaction:
        return self.rows[0].transaction

    @property
    def size_bytes(self) -> int:
        return sum(rows.size_bytes for rows in self.rows)

    @property
    def rows_events(self) -> int:
        return len(self.rows)

    @property
    def plans(self) -> tuple[RowPlan, ...]:
        return tuple({id(rows.plan): rows.plan for rows in self.rows}.values())

    def item(self, index: int) -> Rows:
        return self.rows[index]

    def ordinal(self, index: int) -> int:
        return self.rows[index].ordinal

    def offset(self, index: int) -> int:
        return self.rows[index].offset

    def body_bytes(self, first: int, end: int) -> int:
        return sum(len(rows.body) for rows in self.rows[first:end])

    def cut_rows(self, index: int, most_events: int, most_bytes: int) -> tuple[int, int]:
        end, size = index, 0
        for rows in self.rows[index : index + most_events]:
            if size + rows.size_bytes > most_bytes:
                break
            end, size = end + 1, size + rows.size_bytes
        return end, size

    def encode_rows(self, first: int, end: int, epoch: int, *, lean: bool = False) -> bytes:
        raise NotImplementedError  # rings do not encode
