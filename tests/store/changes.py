"""Makes transactions for tests: one-column tables, offsets that follow each other, MySQL's or MariaDB's GTIDs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement, Transaction
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
