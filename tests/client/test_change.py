"""Entries to changes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ha_canal.client.change import EventPosition, Row
from ha_canal.client.entries import changes_of, event_ids_of
from ha_canal.protos import entry_pb2 as pb


def column(name: str, mysql_type: str, value: str | None, *, key: bool = False, updated: bool = False) -> pb.Column:
    return pb.Column(
        name=name, mysqlType=mysql_type, value=value or "", isNull=value is None, isKey=key, updated=updated
    )


def entry(kind: pb.EventType, *rows: pb.RowData, sql: str = "") -> bytes:
    header = pb.Header(
        logfileName="bin.000001", logfileOffset=120, gtid="0-1-5", eventId="0-1-5#2", schemaName="shop",
        tableName="item", eventType=kind, executeTime=1_700_000_000_000, commitTimestampUs=1_700_000_000_123_456,
    )  # fmt: skip
    body = pb.RowChange(eventType=kind, rowDatas=rows, sql=sql, isDdl=bool(sql)).SerializeToString()
    return pb.Entry(header=header, entryType=pb.ROWDATA, storeValue=body).SerializeToString()


BEGIN = pb.Entry(header=pb.Header(eventId="0-1-5#begin"), entryType=pb.TRANSACTIONBEGIN).SerializeToString()
OLD = [column("id", "int", "1", key=True), column("price", "decimal(5,2)", "1.00"), column("note", "text", None)]
NEW = [
    column("id", "int", "1", key=True),
    column("price", "decimal(5,2)", "2.50", updated=True),
    column("note", "text", None),
]


def test_an_update() -> None:
    (change,) = changes_of([BEGIN, entry(pb.UPDATE, pb.RowData(beforeColumns=OLD, afterColumns=NEW))])
    assert (change.kind, change.schema, change.table) == ("update", "shop", "item")
    assert change.before == Row({"id": 1, "price": Decimal("1.00"), "note": None})
    assert change.after == Row({"id": 1, "price": Decimal("2.50"), "note": None})
    assert change.row is change.after
    assert (change.changed, change.key) == (("price",), ("id",))
    assert (change.event_id, change.transaction, change.gtid) == ("0-1-5#2", "0-1-5", "0-1-5")
    assert change.position == EventPosition("bin.000001", 120)
    assert change.commit_time == datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)


def test_several_rows_of_one_event_have_ids_of_their_own() -> None:
    deletes = entry(pb.DELETE, pb.RowData(beforeColumns=OLD), pb.RowData(beforeColumns=NEW))
    first, second = changes_of([deletes])
    assert [first.event_id, second.event_id] == ["0-1-5#2.0", "0-1-5#2.1"]
    assert first.after is None
    assert first.row["price"] == Decimal("1.00")
    assert first.key == ("id",)
    assert event_ids_of([BEGIN, deletes]) == ["0-1-5#2"]


def test_a_column_that_the_image_lacks_is_no_key() -> None:
    (change,) = changes_of([entry(pb.UPDATE, pb.RowData(beforeColumns=OLD[:1], afterColumns=NEW[1:2]))])
    assert change.before is not None
    assert "price" not in change.before
    assert dict(change.row) == {"price": Decimal("2.50")}


def test_a_row_without_columns_in_its_image_is_still_a_change() -> None:
    (change,) = changes_of([entry(pb.INSERT, pb.RowData())])
    assert (change.kind, change.before, change.after) == ("insert", None, Row({}))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(pb.CREATE, "create"), (pb.ERASE, "drop"), (pb.DINDEX, "drop_index"), (pb.QUERY, "query")],
)
def test_statements(kind: pb.EventType, name: str) -> None:
    (change,) = changes_of([entry(kind, sql="do it")])
    assert (change.kind, change.sql, change.before, change.after) == (name, "do it", None, None)
    with pytest.raises(LookupError, match="its statement is in sql"):
        _ = change.row
