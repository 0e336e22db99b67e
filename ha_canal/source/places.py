"""Places that people name: whether reading can begin there, and what was done before them in GTIDs."""

from __future__ import annotations

from dataclasses import replace

from ha_canal.errors import UsageError
from ha_canal.model.gtid import MysqlGtidSet
from ha_canal.model.position import Position
from ha_canal.mysql.connection import Session
from ha_canal.source.binlog import Binlog
from ha_canal.source.scan import GtidsBefore, NoTables, scan
from ha_canal.source.search import BinlogSearch

_FIRST_EVENT = 4
_HEAD_EVENTS = 8
_INSIDE = {
    "Table_map", "Write_rows", "Update_rows", "Delete_rows", "Write_rows_v1", "Update_rows_v1", "Delete_rows_v1", "Xid",
    "Transaction_payload", "Annotate_rows", "Rows_query", "Write_rows_compressed_v1", "Update_rows_compressed_v1",
    "Delete_rows_compressed_v1",
}  # fmt: skip
"""What `SHOW BINLOG EVENTS` calls events that a transaction never begins with."""


async def checked_boundary(db: Session, binlog: Binlog, place: Position) -> Position:
    """Return ``place`` as one of this server. Raises UsageError unless a transaction may begin there."""
    sizes = dict(binlog.files)
    if place.file not in sizes:
        raise UsageError(
            f"{binlog.info.address} has no binlog file {place.file!r}; it has {binlog.oldest.file} to {binlog.end.file}"
        )
    if place.order > binlog.end.order:
        raise UsageError(f"{place} lies behind the end of the binlog, {binlog.end.file}:{binlog.end.offset}")
    if place.offset not in (_FIRST_EVENT, sizes[place.file], binlog.end.offset):
        await _check_event(db, binlog, place)
    return replace(place, server_uuid=binlog.info.server_uuid, server_id=binlog.info.server_id)


async def _check_event(db: Session, binlog: Binlog, place: Position) -> None:
    head = await db.query(f"SHOW BINLOG EVENTS IN %s LIMIT {_HEAD_EVENTS}", (place.file,))
    marked = any("gtid" in kind.lower() for kind in {str(event[2]) for event in head} - {"Previous_gtids", "Gtid_list"})
    found = await db.query("SHOW BINLOG EVENTS IN %s FROM %s LIMIT 1", (place.file, place.offset))
    kind = str(found[0][2]) if found else ""
    inside = kind in _INSIDE or (kind == "Query" and (marked or str(found[0][5]) == "COMMIT"))
    if not found or int(found[0][1]) != place.offset or inside:
        raise UsageError(
            f"no transaction begins or ends at {place.file}:{place.offset}"
            + (f": a {kind} event stands there" if found else "")
            + f". On {binlog.info.address}, SHOW BINLOG EVENTS IN '{place.file}' lists the places"
        )


async def with_gtids(db: Session, binlog: Binlog, search: BinlogSearch, place: Position) -> Position:
    """Return ``place`` with the GTIDs that were done before it, where the server has GTIDs. Raises our errors.

    MySQL says what was done before a file, and the rest of the way is read; MariaDB is asked.
    """
    if not binlog.info.gtids:
        return replace(place, gtid_set="")
    if binlog.info.flavor == "mariadb":
        rows = await db.query("SELECT BINLOG_GTID_POS(%s, %s)", (place.file, place.offset))
        return replace(place, gtid_set=str(rows[0][0] or ""))
    head = await db.query(f"SHOW BINLOG EVENTS IN %s LIMIT {_HEAD_EVENTS}", (place.file,))
    before = next((str(event[5]) for event in head if event[2] == "Previous_gtids"), "")
    adding = GtidsBefore(MysqlGtidSet.parse(before.replace("\n", "")), place)
    if place.offset > _FIRST_EVENT:
        start = Position(place.file, _FIRST_EVENT)
        await scan(search, binlog.info, start, place, adding, tables=NoTables(), screen=list)
    return replace(place, gtid_set=str(adding.gtids))
