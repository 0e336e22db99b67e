"""A change as an application sees it, and how it is read from a serialized ``Entry``.

`changes_of` reads with python-protobuf. It is the twin of the compiled ``_entries``: it says what an entry means,
serves where the extension is missing, and reads for it what is not as our nodes write it.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from google.protobuf.message import DecodeError as ParseError

from ha_canal.client.values import Value, converter
from ha_canal.errors import DecodeError
from ha_canal.protos.entry_pb2 import ROWDATA, Entry, EventType, RowChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ha_canal.protos.entry_pb2 import Column, Header, RowData

Kind = Literal[
    "insert", "update", "delete",
    "create", "alter", "drop", "truncate", "rename", "create_index", "drop_index", "query", "xa_commit", "xa_rollback",
]  # fmt: skip
"""The first three change rows; the others are statements, in ``sql``. ``query`` is any other statement."""

KINDS: dict[int, Kind] = {
    EventType.INSERT: "insert",
    EventType.UPDATE: "update",
    EventType.DELETE: "delete",
    EventType.CREATE: "create",
    EventType.ALTER: "alter",
    EventType.ERASE: "drop",
    EventType.TRUNCATE: "truncate",
    EventType.RENAME: "rename",
    EventType.CINDEX: "create_index",
    EventType.DINDEX: "drop_index",
    EventType.XACOMMIT: "xa_commit",
    EventType.XAROLLBACK: "xa_rollback",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(Mapping[str, Value]):
    """Column names to typed values (see `ha_canal.client.values`), in the table's order.

    NULL is None. A column that the binlog's image does not hold (``binlog_row_image`` MINIMAL or NOBLOB) is no key.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._places = {name: place for place, name in enumerate(values)}
        """Where each column stands in ``_values``. Rows of one table share it: never changed."""
        self._values = tuple(values.values())

    def __getitem__(self, name: str) -> Value:
        return self._values[self._places[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._values)

    def values(self) -> ValuesView[Value]:
        return _RowValues(self)

    def items(self) -> ItemsView[str, Value]:
        return _RowItems(self)

    def in_order(self) -> tuple[Value, ...]:
        """Return the values in the order of the columns."""
        return self._values

    def __repr__(self) -> str:
        return f"Row({dict(zip(self._places, self._values, strict=True))!r})"


class _RowValues(ValuesView[Value]):
    """Goes through the values without looking each one up by its name."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self._row = row

    def __iter__(self) -> Iterator[Value]:
        return iter(self._row.in_order())


class _RowItems(ItemsView[str, Value]):
    """As `_RowValues`, with the names."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self._row = row

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return zip(self._row, self._row.in_order(), strict=True)


class EventPosition(NamedTuple):
    """Where the event of a change starts in the source's binlog; ``offset`` in bytes."""

    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row, or one statement.

    ``before`` is None for inserts, ``after`` for deletes, both for statements. ``changed`` names the columns that
    an update changed (all of them for an insert). ``key`` names the primary key's columns. ``event_id`` is the same
    on replay and after a fail-over: the entry's own, and behind a dot the row's number where an event holds several
    rows (``3e11fa47-…:23#0.1``). ``transaction`` is the part of it that all changes of a transaction share.
    ``commit_time`` is in UTC, to the microsecond where the source says so, else to the second. ``sql`` is the text
    of a statement.
    """

    kind: Kind
    schema: str
    table: str
    before: Row | None
    after: Row | None
    changed: tuple[str, ...]
    key: tuple[str, ...]
    event_id: str
    position: EventPosition
    gtid: str
    transaction: str
    commit_time: datetime
    sql: str = ""

    @property
    def row(self) -> Row:
        """The row after the change, or, for a delete, before it. Raises LookupError for a statement."""
        row = self.after if self.after is not None else self.before
        if row is None:
            raise LookupError(f"a change of kind {self.kind!r} has no row; its statement is in sql")
        return row


def changes_of(entries: Iterable[bytes], *, first: int = 0) -> Iterator[Change]:
    """Decode serialized entries; the starts and ends of transactions are no changes.

    Raises DecodeError for an entry that is none, naming its place in the batch, where ``first`` is that of the first.
    """
    for place, raw in enumerate(entries, first):
        try:
            entry = Entry.FromString(raw)
            changes = list(_changes(entry)) if entry.entryType == ROWDATA else []
        except (ParseError, OverflowError) as wrong:
            raise _unreadable(place, wrong) from None
        yield from changes


def event_ids_of(entries: Iterable[bytes]) -> list[str]:
    """Return the event ids of all entries that hold changes. Raises DecodeError."""
    ids = []
    for place, raw in enumerate(entries):
        try:
            entry = Entry.FromString(raw)
        except ParseError as wrong:
            raise _unreadable(place, wrong) from None
        if entry.entryType == ROWDATA:
            ids.append(entry.header.eventId)
    return ids


def _unreadable(place: int, wrong: Exception) -> DecodeError:
    return DecodeError(
        f"entry {place} of a batch cannot be read ({wrong}): it was damaged on its way, or its node speaks another "
        "protocol; look at the versions of both"
    )


def _changes(entry: Entry) -> Iterator[Change]:
    row_change = RowChange.FromString(entry.storeValue)
    if not row_change.rowDatas:
        yield _change(entry.header, entry.header.eventId, None, sql=row_change.sql)
        return
    several = len(row_change.rowDatas) > 1
    for index, row_data in enumerate(row_change.rowDatas):
        event_id = f"{entry.header.eventId}.{index}" if several else entry.header.eventId
        yield _change(entry.header, event_id, row_data)


def _change(header: Header, event_id: str, row_data: RowData | None, *, sql: str = "") -> Change:
    before = row_data.beforeColumns if row_data else ()
    after = row_data.afterColumns if row_data else ()
    kind = KINDS.get(header.eventType, "query")
    return Change(
        kind=kind,
        schema=header.schemaName,
        table=header.tableName,
        before=_row(before) if row_data is not None and kind in ("update", "delete") else None,
        after=_row(after) if row_data is not None and kind in ("insert", "update") else None,
        changed=tuple(column.name for column in after if column.updated),
        key=tuple(column.name for column in after or before if column.isKey),
        event_id=event_id,
        position=EventPosition(header.logfileName, header.logfileOffset),
        gtid=header.gtid,
        transaction=header.eventId.rpartition("#")[0],
        commit_time=_commit_time(header),
        sql=sql,
    )


def _row(columns: Sequence[Column]) -> Row:
    return Row(
        {column.name: None if column.isNull else converter(column.mysqlType)(column.value) for column in columns}
    )


def _commit_time(header: Header) -> datetime:
    return _EPOCH + timedelta(microseconds=header.commitTimestampUs or header.executeTime * 1000)
