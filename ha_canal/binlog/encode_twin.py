"""Items of the ring to serialized ``Entry`` and ``RowChange`` messages of protos/entry.proto, in Python.

This is the contract of the compiled encoder (``_entry``, ``_rows``), which makes the same bytes; the two are tested
against each other. `ha_canal.binlog.encode` chooses between them. A change here is a change there, and the other way.

Bytes in, bytes out; no protobuf objects. What Canal's readers expect of each field is in the proto's comments; values
are the texts of `rows`. A column is ``updated`` in every after image of an INSERT, and in that of an UPDATE where the
before image lacks it or differs; before images are never.

Most rows are encoded by `bulk_rows`, a column at a time; `careful_pieces` does what that leaves, and defines the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, assert_never

from ha_canal.binlog import wire
from ha_canal.binlog.bulk_rows import encode_rows
from ha_canal.binlog.frames import column_frame
from ha_canal.binlog.rows import ABSENT, Value, decode_rows
from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.table import RowPlan

_TRANSACTION_BEGIN, _ROW_DATA, _TRANSACTION_END = 1, 2, 3
_SOURCE_MYSQL: Final = 2
_HEADER_VERSION: Final = wire.integer_field(1, 1)
_HEADER_ENCODING: Final = wire.text_field(5, "UTF-8")
_HEADER_SOURCE: Final = wire.integer_field(7, _SOURCE_MYSQL)
_BEFORE, _AFTER = b"\x0a", b"\x12"
_VALUE: Final = b"\x42"
_ROW_DATAS: Final = b"\x62"
_STORE_VALUE: Final = b"\x1a"
_ROWS_COUNT: Final = wire.text_field(1, "rowsCount")
_TRANSACTIONS_KEPT: Final = 16
_TABLES_KEPT: Final = 256
_LARGE_BYTES: Final = 1 << 20
"""Values and rows of more bytes are copied once only, into the entry; joining small ones early is faster."""


def encode_row_change(rows: Rows) -> bytes:
    """Return the serialized RowChange of a rows event. Raises DecodeError, placed at the event."""
    pieces, _ = row_change_pieces(rows)
    return b"".join(pieces)


def encode_entry(item: Item, *, epoch: int, lean: bool = False) -> bytes | None:
    """Return the serialized Entry of an item, None for the Commit of an empty transaction.

    ``epoch`` is that of the leader which delivers it. ``lean`` allows what ``StreamRequest.Open`` in ``canal.proto``
    tells: this twin makes no use of it. Raises DecodeError for rows that cannot be read.
    """
    match item:
        case Rows():
            return _rows_entry(item, epoch)
        case Statement():
            return _statement_entry(item, epoch)
        case Begin():
            begin = wire.integer_field(4, item.thread_id)
            header = _header(item, epoch, "begin", timestamp_s=item.transaction.timestamp_s)
            return _entry(header, _TRANSACTION_BEGIN, begin)
        case Commit():
            if item.empty:
                return None
            header = _header(item, epoch, "end", timestamp_s=item.timestamp_s)
            return _entry(header, _TRANSACTION_END, wire.text_field(2, str(item.xid)))
        case _:
            assert_never(item)


def _entry(header: bytes, entry_type: int, *store_value: bytes) -> bytes:
    """Join the parts of ``store_value`` into an entry: the one time that a large value is copied."""
    size = sum(map(len, store_value))
    tag = _STORE_VALUE + wire.varint(size) if size else b""
    return b"".join((wire.message_field(1, header), wire.integer_field(2, entry_type), tag, *store_value))


def _rows_entry(rows: Rows, epoch: int) -> bytes:
    pieces, count = row_change_pieces(rows)
    row_count = _ROWS_COUNT + wire.text_field(2, str(count))
    header = _header(
        rows,
        epoch,
        str(rows.ordinal),
        timestamp_s=rows.timestamp_s,
        names=_names(rows.plan.schema, rows.plan.table),
        kind=rows.kind,
        props=wire.message_field(12, row_count),
    )
    return _entry(header, _ROW_DATA, *pieces)


def _statement_entry(statement: Statement, epoch: int) -> bytes:
    header = _header(
        statement,
        epoch,
        str(statement.ordinal),
        timestamp_s=statement.timestamp_s,
        names=_names(statement.schema, statement.table),
        kind=statement.kind,
    )
    change = (
        wire.integer_field(2, statement.kind)
        + wire.integer_field(10, 1)
        + wire.text_field(11, statement.sql)
        + wire.text_field(14, statement.database)
    )
    return _entry(header, _ROW_DATA, change)


def _header(
    item: Item, epoch: int, place: str, *, timestamp_s: int, names: bytes = b"", kind: int = 0, props: bytes = b""
) -> bytes:
    head, source, gtid, id_prefix, end = _of_transaction(item.transaction, epoch)
    return b"".join(
        (
            head,
            wire.integer_field(3, item.offset),
            source,
            wire.integer_field(6, timestamp_s * 1000),
            _HEADER_SOURCE,
            names,
            wire.integer_field(10, item.event_length),
            wire.integer_field(11, kind),
            props,
            gtid,
            wire.text_field(50, f"{id_prefix}#{place}"),
            end,
        )
    )


@lru_cache(_TRANSACTIONS_KEPT)
def _of_transaction(transaction: Transaction, epoch: int) -> tuple[bytes, bytes, bytes, str, bytes]:
    """Return the parts of a header that all entries of the transaction share, in their order."""
    return (
        _HEADER_VERSION + wire.text_field(2, transaction.file),
        wire.integer_field(4, transaction.server_id) + _HEADER_ENCODING,
        wire.text_field(13, transaction.gtid),
        transaction.event_id_prefix,
        wire.integer_field(51, epoch) + wire.integer_field(52, transaction.commit_timestamp_us),
    )


@lru_cache(_TABLES_KEPT)
def _names(schema: str, table: str) -> bytes:
    return wire.text_field(8, schema) + wire.text_field(9, table)


def row_change_pieces(rows: Rows) -> tuple[list[bytes], int]:
    """Return the parts of the serialized RowChange, and the number of rows: those of `careful_pieces`, made sooner."""
    if (encoded := encode_rows(rows, column_frames(rows.plan))) is None:
        return careful_pieces(rows)
    row_datas, count = encoded
    return [*_change_start(rows), row_datas], count


def careful_pieces(rows: Rows) -> tuple[list[bytes], int]:
    """As `row_change_pieces`, value by value: what defines the bytes, and what says where a body is wrong."""
    pieces = _change_start(rows)
    may_be_large = len(rows.body) > _LARGE_BYTES
    count = 0
    for row in _row_datas(rows):
        count += 1
        if may_be_large and (size := sum(map(len, row))) > _LARGE_BYTES:
            pieces += (_ROW_DATAS, wire.varint(size), *row)
        else:
            row_data = b"".join(row)
            pieces += (_ROW_DATAS, wire.varint(len(row_data)), row_data)
    return pieces, count


def _change_start(rows: Rows) -> list[bytes]:
    return [wire.integer_field(1, rows.plan.table_id), wire.integer_field(2, rows.kind)]


def _row_datas(rows: Rows) -> Iterator[list[bytes]]:
    frames = column_frames(rows.plan)
    all_updated = rows.kind is ChangeKind.INSERT
    for before, after in decode_rows(rows):
        pieces: list[bytes] = []
        for frame, old in zip(frames, before, strict=False):
            _append_column(pieces, _BEFORE, frame, old, updated=False)
        for index, new in enumerate(after):
            updated = all_updated or before[index] is ABSENT or before[index] != new
            _append_column(pieces, _AFTER, frames[index], new, updated=updated)
        yield pieces


def column_frames(plan: RowPlan) -> tuple[tuple[bytes, ...], ...]:
    """Return one frame per column: the plan's own, or, for a plan made by hand, new ones."""
    return plan.frames or tuple(column_frame(index, column) for index, column in enumerate(plan.columns))


def _append_column(pieces: list[bytes], tag: bytes, frame: tuple[bytes, ...], value: Value, *, updated: bool) -> None:
    if value is ABSENT:
        return
    if value is None:
        pieces += (tag, frame[4] if updated else frame[3])
        return
    encoded = value.encode()
    head, tail = frame[1] if updated else frame[0], frame[2]
    if len(encoded) > _LARGE_BYTES:
        field = _VALUE + wire.varint(len(encoded))
        pieces += (tag, wire.varint(len(head) + len(field) + len(encoded) + len(tail)), head, field, encoded, tail)
        return
    field = _VALUE + wire.varint(len(encoded)) + encoded if encoded else b""
    pieces += (tag, wire.varint(len(head) + len(field) + len(tail)), head, field, tail)
