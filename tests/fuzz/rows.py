"""Rows events with the TABLE_MAP they need, in one run of bytes, so that both are mutated; and what is made of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace

from ha_canal.binlog import encode_twin
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.columns import compile_plan
from ha_canal.binlog.compression import TransactionPayload, inflate_block
from ha_canal.binlog.encode import encode_entry
from ha_canal.binlog.row_count import can_be_counted, count_rows
from ha_canal.binlog.rows import decode_rows
from ha_canal.binlog.rows_events import ROWS_SHAPES, parse_rows_header
from ha_canal.binlog.table_map import TableMap, parse_table_map
from ha_canal.errors import DecodeError, SchemaMismatchError, StreamError
from ha_canal.model.change import Rows, Transaction
from ha_canal.model.table import RowPlan
from ha_canal.protos.entry_pb2 import Entry, RowChange
from tests.fuzz.seeds import HERE, RowsSeed, rows_seeds

TRANSACTION = Transaction("0-1-1", "mysql-bin.000001", 4, "", 1, 1_700_000_000)
_OFFSET = 1234
_CODES = tuple(ROWS_SHAPES)
_UTF8MB4 = 45


def packed(seed: RowsSeed) -> bytes:
    size = len(seed.table_map)
    return bytes((_CODES.index(seed.code), seed.mariadb)) + size.to_bytes(2, "big") + seed.table_map + seed.rows


SEEDS = tuple(map(packed, rows_seeds()))


def read(data: bytes) -> int:
    """Return the number of rows; the ways to find it, and to encode them, must agree."""
    if len(data) < 4:
        return 0
    code, mariadb, size = _CODES[data[0] % len(_CODES)], bool(data[1] & 1), int.from_bytes(data[2:4], "big")
    table_map = parse_table_map(data[4 : 4 + size], mariadb=mariadb)
    rows = _rows(code, compile_plan(named(table_map), None), data[4 + size :])
    if rows is None:
        return 0
    return check_rows(rows, countable=can_be_counted(table_map, mariadb=mariadb))


def check_rows(rows: Rows, *, countable: bool = True) -> int:
    """Decode, count and encode; raises StreamError, placed, where all of them do."""
    try:
        decoded = list(decode_rows(rows))
    except StreamError as error:
        _assert_placed(error)
        _assert_refused(rows)
        raise
    if countable:
        assert count_rows(rows) == len(decoded)
    encoded = encode_entry(rows, epoch=1) or b""
    assert encoded == encode_twin.encode_entry(rows, epoch=1)
    entry = Entry.FromString(encoded)
    change = RowChange.FromString(entry.storeValue)
    assert len(change.rowDatas) == len(decoded)
    lean = RowChange.FromString(Entry.FromString(encode_entry(rows, epoch=1, lean=True) or b"").storeValue)
    assert _values(lean) == _values(change)
    return len(decoded)


def _values(change: RowChange) -> list[tuple[object, ...]]:
    return [
        (column.index, column.updated, column.isNull, column.value)
        for row in change.rowDatas
        for column in (*row.beforeColumns, *row.afterColumns)
    ]


def _assert_placed(error: StreamError) -> None:
    assert (error.file, error.offset) == (TRANSACTION.file, _OFFSET), error


def _assert_refused(rows: Rows) -> None:
    try:
        encode_entry(rows, epoch=1)
    except StreamError as error:
        _assert_placed(error)
    else:
        raise AssertionError("encoded what cannot be decoded")


def named(table_map: TableMap) -> TableMap:
    """Return the map with what the server did not log, but the source knows."""
    names = table_map.names or tuple(f"c{index}" for index in range(len(table_map.type_codes)))
    collations = table_map.collations or (0,) * len(names)
    known = tuple(
        _UTF8MB4 if code in t.CHARACTER and not collation else collation
        for code, collation in zip(table_map.type_codes, collations, strict=True)
    )
    return replace(table_map, names=names, collations=known)


def _rows(code: int, plan: RowPlan, body: bytes) -> Rows | None:
    """Return the event as the stream makes it; None for a body that is none."""
    shape = ROWS_SHAPES[code]
    try:
        head = parse_rows_header(body, shape)
        images = body[head.rows_at :]
        block = inflate_block(images) if shape.compressed else images
    except DecodeError:
        return None
    if head.column_count != len(plan.columns):
        return None
    before, after = head.present_before, head.present_after
    return Rows(TRANSACTION, 0, _OFFSET, len(body), 1, shape.kind, plan, before, after, block, shape.partial_json)


def plan_of(table_map: TableMap) -> RowPlan | None:
    try:
        return compile_plan(named(table_map), None)
    except SchemaMismatchError:
        return None


def json_documents() -> Iterable[bytes]:
    """Binary documents that a MySQL server wrote."""
    return map(bytes.fromhex, (HERE / "captured/documents.hex").read_text(encoding="ascii").split())


def inner_events(payloads: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what is compressed in TRANSACTION_PAYLOAD bodies."""
    found = []
    for body in payloads:
        payload, inner = TransactionPayload(body), b""
        while (event := payload.next_event()) is not None:
            inner += bytes(event)
        found.append(inner)
    return tuple(found)


def compressed_block(seed: RowsSeed) -> bytes:
    return b"\x84" + len(seed.rows).to_bytes(4, "big") + zlib.compress(seed.rows)
