"""A dumb reader of binlog files for tests: events one after the other, rows events with their plans."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ha_canal.binlog.table_map import TableMap, parse_table_map
from ha_canal.model.change import ChangeKind, Rows, Transaction
from ha_canal.model.table import RowPlan

TABLE_MAP = 19
PARTIAL_UPDATE = 39
_KINDS = {
    23: ChangeKind.INSERT, 24: ChangeKind.UPDATE, 25: ChangeKind.DELETE,
    30: ChangeKind.INSERT, 31: ChangeKind.UPDATE, 32: ChangeKind.DELETE, PARTIAL_UPDATE: ChangeKind.UPDATE,
}  # fmt: skip

TRANSACTION = Transaction(
    gtid="0-1-1", file="mysql-bin.000001", start_offset=4, server_uuid="", server_id=1, timestamp_s=1_700_000_000
)


def events(path: Path, start: int = 4) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, offset, body without header and checksum)."""
    data = path.read_bytes()
    offset = start
    while offset + 19 <= len(data):
        kind, size = data[offset + 4], struct.unpack_from("<I", data, offset + 9)[0]
        yield kind, offset, data[offset + 19 : offset + size - 4]
        offset += size


def rows_of(
    path: Path, start: int, schema: str, make_plan: Callable[[TableMap], RowPlan], *, mariadb: bool | None
) -> Iterator[Rows]:
    """Yield the rows events of a schema, with the plan that ``make_plan`` makes of each TABLE_MAP."""
    plans: dict[bytes, RowPlan] = {}
    for kind, offset, body in events(path, start):
        if kind == TABLE_MAP:
            table_map = parse_table_map(body, mariadb=mariadb)
            if table_map.schema == schema:
                plans[body[:6]] = make_plan(table_map)
        elif kind in _KINDS and body[:6] in plans:
            yield rows_event(kind, offset, body, plans[body[:6]])


def rows_event(kind: int, offset: int, body: bytes, plan: RowPlan) -> Rows:
    at = 8
    if kind >= 30:
        at += struct.unpack_from("<H", body, 8)[0]
    assert body[at] < 251, "tables of at most 250 columns"
    size = (body[at] + 7) // 8
    at += 1
    first = body[at : at + size]
    second = body[at + size : at + 2 * size] if _KINDS[kind] is ChangeKind.UPDATE else first
    at += 2 * size if _KINDS[kind] is ChangeKind.UPDATE else size
    return Rows(
        transaction=TRANSACTION,
        ordinal=0,
        offset=offset,
        event_length=len(body) + 23,
        timestamp_s=1_700_000_000,
        kind=_KINDS[kind],
        plan=plan,
        present_before=first,
        present_after=second,
        body=body[at:],
        partial_json=kind == PARTIAL_UPDATE,
    )
