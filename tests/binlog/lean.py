"""What a lean entry is, taken from a whole one."""

from __future__ import annotations

from ha_canal.protos.entry_pb2 import Entry, RowChange


def leaner(encoded: bytes | None) -> Entry:
    """Return a whole entry of rows without what ``StreamRequest.Open`` in canal.proto allows to leave out."""
    entry = Entry.FromString(encoded or b"")
    change = RowChange.FromString(entry.storeValue)
    for row in change.rowDatas[1:]:
        for column in (*row.beforeColumns, *row.afterColumns):
            for field in ("name", "mysqlType", "isKey", "sqlType"):
                column.ClearField(field)
    entry.storeValue = change.SerializeToString()
    return entry
