"""`ha-canal decode --summary`: what binlog files hold, counted per table and kind of change. Needs no names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ha_canal.binlog.row_count import can_be_counted, count_rows
from ha_canal.binlog.table_map import TableMap
from ha_canal.model.change import ChangeKind, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.gtid import MysqlGtidSet

ROW_KINDS = (ChangeKind.INSERT, ChangeKind.UPDATE, ChangeKind.DELETE)


@dataclass(frozen=True, slots=True)
class Place:
    """When (seconds since 1970, as the source's clock said) and where an event or a transaction starts."""

    time_s: int
    file: str
    offset: int

    def to_json(self) -> dict[str, object]:
        return {"time": time_text(self.time_s), "file": self.file, "offset": self.offset}


@dataclass(slots=True)
class Count:
    """One table's changes of one kind. ``rows`` is None where they cannot be counted, ``bytes`` their images' size."""

    first: Place
    last: Place
    transactions: int = 0
    events: int = 0
    rows: int | None = 0
    bytes: int = 0
    last_transaction: Transaction | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "transactions": self.transactions,
            "events": self.events,
            "rows": self.rows,
            "bytes": self.bytes,
            "first": self.first.to_json(),
            "last": self.last.to_json(),
        }


class Gtids:
    """The GTIDs seen: MySQL's as a set; of MariaDB's domains the first and the last, in the order of the binlog."""

    __slots__ = ("_domains", "_set", "without")

    def __init__(self) -> None:
        self.without = 0
        self._set = MysqlGtidSet()
        self._domains: dict[str, tuple[str, str]] = {}

    def add(self, gtid: str) -> None:
        if not gtid:
            self.without += 1
        elif ":" in gtid:
            self._set.add(gtid)
        else:
            domain = gtid.partition("-")[0]
            first, _ = self._domains.get(domain, (gtid, gtid))
            self._domains[domain] = first, gtid

    def to_json(self) -> object:
        """Return the text of the set, or for MariaDB a list of first and last per domain."""
        if self._domains:
            return [{"first": first, "last": last} for first, last in self._domains.values()]
        return str(self._set)

    def __str__(self) -> str:
        ranges = [first if first == last else f"{first} to {last}" for first, last in self._domains.values()]
        text = ", ".join(ranges) or str(self._set)
        return text or "none"


@dataclass(slots=True)
class Summary:
    """Takes the items of a stream; memory grows with the number of tables, not with their changes.

    ``transactions`` holds something that was asked for, ``other_transactions`` do not. First and last are in the
    order of the binlog.
    """

    transactions: int = 0
    other_transactions: int = 0
    first: Place | None = None
    last: Place | None = None
    counts: dict[tuple[str, str, ChangeKind], Count] = field(default_factory=dict)
    gtids: Gtids = field(default_factory=Gtids)
    uncountable: set[tuple[str, str]] = field(default_factory=set)

    def met(self, table_map: TableMap, *, mariadb: bool) -> None:
        """Take note of a table's layout, before its rows come."""
        if not can_be_counted(table_map, mariadb=mariadb):
            self.uncountable.add((table_map.schema, table_map.table))

    def add(self, item: Item) -> None:
        match item:
            case Commit():
                self._add_transaction(item)
            case Rows():
                name = (item.plan.schema, item.plan.table)
                rows = None if name in self.uncountable else count_rows(item)
                self._add(item, (*name, item.kind), rows, len(item.body))
            case Statement():
                self._add(item, (item.schema, item.table, item.kind), 0, len(item.sql))
            case _:
                pass

    def _add_transaction(self, commit: Commit) -> None:
        transaction = commit.transaction
        place = Place(transaction.timestamp_s, transaction.file, transaction.start_offset)
        self.first = self.first or place
        self.last = place
        if commit.empty:
            self.other_transactions += 1
        else:
            self.transactions += 1
        self.gtids.add(transaction.gtid)

    def _add(self, item: Rows | Statement, key: tuple[str, str, ChangeKind], rows: int | None, size: int) -> None:
        place = Place(item.timestamp_s, item.transaction.file, item.offset)
        count = self.counts.get(key)
        if count is None:
            count = self.counts[key] = Count(place, place)
        count.last = place
        count.events += 1
        count.bytes += size
        count.rows = None if rows is None or count.rows is None else count.rows + rows
        if count.last_transaction is not item.transaction:
            count.last_transaction = item.transaction
            count.transactions += 1

    def in_order(self) -> Iterator[tuple[str, str, ChangeKind, Count]]:
        """Yield (schema, table, kind, count) by name and kind; what names no table comes first."""
        for (schema, table, kind), count in sorted(self.counts.items(), key=lambda entry: entry[0]):
            yield schema, table, kind, count

    def to_json(self) -> dict[str, object]:
        return {
            "transactions": self.transactions,
            "other_transactions": self.other_transactions,
            "rows": {kind.name.lower(): self._rows(kind) for kind in ROW_KINDS},
            "first": self.first.to_json() if self.first else None,
            "last": self.last.to_json() if self.last else None,
            "gtids": self.gtids.to_json(),
            "tables": [
                {"schema": schema, "table": table, "kind": kind_name(kind), **count.to_json()}
                for schema, table, kind, count in self.in_order()
            ],
        }

    def _rows(self, kind: ChangeKind) -> int:
        return sum(count.rows or 0 for (_, _, of_kind), count in self.counts.items() if of_kind is kind)


def kind_name(kind: ChangeKind) -> str:
    """Return the word that the SDK has for it."""
    return "drop" if kind is ChangeKind.ERASE else kind.name.lower()


def time_text(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()
