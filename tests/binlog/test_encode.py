"""Entries made without protobuf objects, read back with them: by the compiled encoder and by its twin in Python."""

from __future__ import annotations

from typing import Protocol

import pytest

from ha_canal.binlog.columns import ColumnVersion, TableVersion, compile_plan
from ha_canal.binlog.table_map import TableMap
from ha_canal.client.entries import changes_of
from ha_canal.errors import DecodeError
from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.table import RowPlan
from ha_canal.protos import entry_pb2


class Encoder(Protocol):
    """What both twins offer."""

    def encode_entry(self, item: Item, *, epoch: int) -> bytes | None: ...
    def encode_row_change(self, rows: Rows) -> bytes: ...


@pytest.fixture(params=("ha_canal.binlog._entry", "ha_canal.binlog.encode_twin"))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Each of the twins in turn."""
    found: Encoder = pytest.importorskip(request.param, reason="not compiled")
    return found


_TRANSACTION = Transaction(
    gtid="0-1-7",
    file="mysql-bin.000012",
    start_offset=4711,
    server_uuid="",
    server_id=5,
    timestamp_s=1_700_000_000,
    commit_timestamp_us=1_700_000_000_123_456,
)
_TABLE_MAP = TableMap(130, 1, "shop", "häuser", (3, 15, 1), (0, 40, 0), (False, True, True))
_VERSION = TableVersion(
    (
        ColumnVersion("id", "int(11)", "", True),
        ColumnVersion("name", "varchar(10)", "utf8mb4", False),
        ColumnVersion("n", "tinyint(4)", "", False),
    )
)


def _plan() -> RowPlan:
    return compile_plan(_TABLE_MAP, _VERSION)


def _rows(kind: ChangeKind, body: bytes, *, before: bytes = b"\x07", after: bytes = b"\x07") -> Rows:
    return Rows(_TRANSACTION, 3, 5000, 77, 1_700_000_001, kind, _plan(), before, after, body)


_ADA = b"\x00\x01\x00\x00\x00\x03Ada\xff"
_NULLS = b"\x06\x01\x00\x00\x00"


def test_row_change_is_byte_for_byte_protobufs(encoder: Encoder) -> None:
    encoded = encoder.encode_row_change(_rows(ChangeKind.UPDATE, _ADA + _NULLS + _NULLS + _ADA))
    change = entry_pb2.RowChange.FromString(encoded)
    assert change.SerializeToString(deterministic=True) == encoded
    assert (change.tableId, change.eventType, change.isDdl) == (130, entry_pb2.UPDATE, False)
    first, second = change.rowDatas
    assert [(c.index, c.sqlType, c.name, c.isKey, c.mysqlType) for c in first.beforeColumns] == [
        (0, 4, "id", True, "int(11)"),
        (1, 12, "name", False, "varchar(10)"),
        (2, -6, "n", False, "tinyint(4)"),
    ]
    assert [(c.value, c.isNull, c.updated) for c in first.beforeColumns] == [
        ("1", False, False),
        ("Ada", False, False),
        ("-1", False, False),
    ]
    assert [(c.value, c.isNull, c.updated) for c in first.afterColumns] == [
        ("1", False, False),
        ("", True, True),
        ("", True, True),
    ]
    assert [c.updated for c in second.afterColumns] == [False, True, True]


def test_all_columns_of_an_insert_are_updated_and_none_of_a_delete(encoder: Encoder) -> None:
    inserted = entry_pb2.RowChange.FromString(encoder.encode_row_change(_rows(ChangeKind.INSERT, _ADA + _NULLS)))
    assert [c.updated for row in inserted.rowDatas for c in row.afterColumns] == [True] * 6
    assert not any(row.beforeColumns for row in inserted.rowDatas)
    deleted = entry_pb2.RowChange.FromString(encoder.encode_row_change(_rows(ChangeKind.DELETE, _ADA)))
    assert [c.updated for row in deleted.rowDatas for c in row.beforeColumns] == [False] * 3
    assert not any(row.afterColumns for row in deleted.rowDatas)


def test_columns_that_the_image_lacks_are_left_out_and_count_as_updated(encoder: Encoder) -> None:
    body = b"\x00\x01\x00\x00\x00" + b"\x00\x03Ada"
    encoded = encoder.encode_row_change(_rows(ChangeKind.UPDATE, body, before=b"\x01", after=b"\x02"))
    (row,) = entry_pb2.RowChange.FromString(encoded).rowDatas
    assert [(c.index, c.value) for c in row.beforeColumns] == [(0, "1")]
    assert [(c.index, c.value, c.updated) for c in row.afterColumns] == [(1, "Ada", True)]


def test_rows_entry_header(encoder: Encoder) -> None:
    encoded = encoder.encode_entry(_rows(ChangeKind.INSERT, _ADA + _ADA), epoch=9)
    assert encoded is not None
    entry = entry_pb2.Entry.FromString(encoded)
    assert entry.SerializeToString(deterministic=True) == encoded
    header = entry.header
    assert entry.entryType == entry_pb2.ROWDATA
    assert (header.version, header.logfileName, header.logfileOffset, header.eventLength) == (
        1,
        "mysql-bin.000012",
        5000,
        77,
    )
    assert (header.serverId, header.serverenCode, header.sourceType) == (5, "UTF-8", entry_pb2.MYSQL)
    assert (header.schemaName, header.tableName, header.eventType) == ("shop", "häuser", entry_pb2.INSERT)
    assert (header.executeTime, header.commitTimestampUs) == (1_700_000_001_000, 1_700_000_000_123_456)
    assert (header.gtid, header.eventId, header.epoch) == ("0-1-7", "0-1-7#3", 9)
    assert [(pair.key, pair.value) for pair in header.props] == [("rowsCount", "2")]
    assert len(entry_pb2.RowChange.FromString(entry.storeValue).rowDatas) == 2


def test_begin_statement_and_commit_entries(encoder: Encoder) -> None:
    begin = entry_pb2.Entry.FromString(encoder.encode_entry(Begin(_TRANSACTION, 4711, 42, thread_id=8), epoch=1) or b"")
    assert (begin.entryType, begin.header.eventId) == (entry_pb2.TRANSACTIONBEGIN, "0-1-7#begin")
    assert entry_pb2.TransactionBegin.FromString(begin.storeValue).threadId == 8
    ddl = Statement(_TRANSACTION, 0, 4800, 90, 1_700_000_002, ChangeKind.ALTER, "ALTER TABLE t …", "s", "shop", "t")
    statement = entry_pb2.Entry.FromString(encoder.encode_entry(ddl, epoch=1) or b"")
    assert (statement.header.eventType, statement.header.tableName) == (entry_pb2.ALTER, "t")
    change = entry_pb2.RowChange.FromString(statement.storeValue)
    assert (change.isDdl, change.sql, change.ddlSchemaName, change.eventType) == (
        True,
        "ALTER TABLE t …",
        "s",
        entry_pb2.ALTER,
    )
    commit = Commit(_TRANSACTION, 5200, 31, 1_700_000_003, 5231, 1, xid=99)
    end = entry_pb2.Entry.FromString(encoder.encode_entry(commit, epoch=1) or b"")
    assert (end.entryType, end.header.eventId) == (entry_pb2.TRANSACTIONEND, "0-1-7#end")
    assert end.header.executeTime == 1_700_000_003_000
    assert entry_pb2.TransactionEnd.FromString(end.storeValue).transactionId == "99"


def test_nothing_is_made_of_an_empty_transaction(encoder: Encoder) -> None:
    assert encoder.encode_entry(Commit(_TRANSACTION, 5200, 31, 1_700_000_003, 5231, 0, empty=True), epoch=1) is None


def test_a_truncated_row_is_an_error_with_its_place(encoder: Encoder) -> None:
    with pytest.raises(DecodeError, match=r"shop\.häuser column 1 'name' .*mysql-bin\.000012:5000"):
        encoder.encode_row_change(_rows(ChangeKind.INSERT, _ADA[:-3]))


def test_bytes_of_no_character_set_do_not_break_the_message(encoder: Encoder) -> None:
    raw = b"ALTER TABLE `caf\xe9` COMMENT '\xff\xfe'"
    sql = raw.decode("utf-8", "surrogateescape")
    odd = "caf\udce9"
    statement = Statement(_TRANSACTION, 0, 5000, 77, 1_700_000_001, ChangeKind.ALTER, sql, odd, odd, odd)
    encoded = encoder.encode_entry(statement, epoch=1)
    assert encoded is not None
    entry = entry_pb2.Entry.FromString(encoded)
    assert (entry.header.schemaName, entry.header.tableName) == ("caf\ufffd", "caf\ufffd")
    change = entry_pb2.RowChange.FromString(entry.storeValue)
    assert change.sql == "ALTER TABLE `caf\ufffd` COMMENT '\ufffd\ufffd'"
    assert change.ddlSchemaName == "caf\ufffd"
    [seen] = changes_of([encoded])
    assert (seen.kind, seen.schema, seen.table, seen.sql) == ("alter", "caf\ufffd", "caf\ufffd", change.sql)


def test_large_values_are_byte_for_byte_protobufs_too(encoder: Encoder) -> None:
    table_map = TableMap(131, 1, "shop", "files", (3, 252), (0, 4), (False, True))
    columns = ColumnVersion("id", "int(11)", "", True), ColumnVersion("content", "longblob", "", False)
    plan = compile_plan(table_map, TableVersion(columns))
    content = bytes(range(256)) * 8192
    row = b"\x00\x01\x00\x00\x00" + len(content).to_bytes(4, "little") + content
    rows = Rows(_TRANSACTION, 3, 5000, 77, 1_700_000_001, ChangeKind.INSERT, plan, b"\x03", b"\x03", row + row)
    entry = entry_pb2.Entry.FromString(encoder.encode_entry(rows, epoch=7) or b"")
    change = entry_pb2.RowChange.FromString(entry.storeValue)
    assert change.SerializeToString(deterministic=True) == entry.storeValue
    assert [row_data.afterColumns[1].value.encode("latin-1") for row_data in change.rowDatas] == [content, content]
