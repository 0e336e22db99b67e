"""Serialized entries to changes.

`changes_of` reads with python-protobuf. It is the twin of the compiled ``_entries``: it says what an entry means,
serves where the extension is missing, and reads for it what is not as our nodes write it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError as ParseError

from ha_canal.client.change import Change, EventPosition, Kind, Row
from ha_canal.client.values import converter
from ha_canal.errors import DecodeError
from ha_canal.protos.entry_pb2 import ROWDATA, Entry, EventType, RowChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ha_canal.protos.entry_pb2 import Column, Header, RowData

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
    told: dict[int, Column] = {}
    for index, row_data in enumerate(row_change.rowDatas):
        _name_columns(row_data, told)
        event_id = f"{entry.header.eventId}.{index}" if several else entry.header.eventId
        yield _change(entry.header, event_id, row_data)


def _name_columns(row_data: RowData, told: dict[int, Column]) -> None:
    """Give nameless columns what earlier rows of the entry have told of them; ``told`` is by index, and grows.

    Entries that are lean do not say it twice: see ``StreamRequest.Open`` in ``canal.proto``.
    """
    columns = [*row_data.beforeColumns, *row_data.afterColumns]
    named = [column for column in columns if not _is_nameless(column)]
    for column in columns:
        if _is_nameless(column) and column.index in told:
            known = told[column.index]
            column.name, column.mysqlType, column.isKey = known.name, known.mysqlType, known.isKey
    told.update((column.index, column) for column in named)


def _is_nameless(column: Column) -> bool:
    return not (column.name or column.mysqlType or column.isKey)


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
