"""What is asked before a term reads: who the server is, where each client is in its binlog, and where to begin.

Nothing is kept of an attempt that fails. What is decided here and must not be decided otherwise by the next term (a
first start, a client's place on a new server, a gap that is accepted) is durable when `find_opening` returns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ha_canal.config import InstanceSection
from ha_canal.errors import PositionPurgedError
from ha_canal.instance.crossing import Crossing, cross
from ha_canal.instance.notices import Notice, notice_now
from ha_canal.instance.records import Known, Records
from ha_canal.model.position import Position
from ha_canal.model.remembered import NOTHING_REMEMBERED, Remembered
from ha_canal.mysql.connection import (
    Ready,
    Session,
    binlog_files,
    binlog_state,
    end_of_binlog,
    has_gtids_before,
    inspect,
    server_time_ms,
    session,
    start_of_binlog,
    visible_tables,
)
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.binlog import Binlog
from ha_canal.source.inside import is_inside_elsewhere, place_inside
from ha_canal.source.places import checked_boundary, with_gtids
from ha_canal.source.position import ByTime, Start, StartRules, choose_start, is_same_server, place_found
from ha_canal.source.search import BinlogSearch

log = logging.getLogger(__name__)

FIRST = ""
"""In the place of a client id: the stored first start, which stands for whoever comes first."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a term begins. ``clients`` are all that are known, as of this server; ``why`` is a sentence.

    ``remembers``: the source has no GTIDs to go by, so that transactions have to be known by fingerprint;
    ``remembered`` are those before ``at``.
    """

    at: Position
    why: str
    from_empty: bool
    visible: list[tuple[str, str]]
    clients: dict[str, Known]
    remembers: bool
    remembered: Remembered


def rules_of(config: InstanceSection) -> StartRules:
    """Return what the section says of starting."""
    at = config.start_at
    return StartRules(
        start=config.start,
        at=Position(at.file, at.offset, gtid_set=at.gtid_set) if at and (at.file or at.gtid_set) else None,
        at_time_ms=round(at.time.timestamp() * 1000) if at and at.time else 0,
        on_purged=config.on_purged,
        fallback_interval_s=config.fallback_interval_s,
    )


async def find_opening(config: InstanceSection, records: Records, ready: Ready | None = None) -> Opening:
    """Find where to read from, and store that if it is new. Raises our errors."""
    clients = await records.clients()
    await records.load_notices()
    async with session(config.source, ready) as db:
        binlog = await look(db, config)
        start, clients = await _start(db, config, binlog, clients, records)
        clients = {client_id: await _inside_here(config, binlog, known) for client_id, known in clients.items()}
        info, at = binlog.info, _place_here(start.position, binlog)
        from_empty = info.gtids and not at.gtid_set and not await has_gtids_before(db, info, at)
        visible = await visible_tables(db)
    first = min(clients.values(), key=lambda known: known.cursor.order, default=None)
    return Opening(
        at,
        start.why,
        from_empty,
        visible,
        clients,
        remembers=not at.gtid_set and not from_empty,
        remembered=first.remembered if first else NOTHING_REMEMBERED,
    )


def _place_here(position: Position, binlog: Binlog) -> Position:
    """Return ``position`` as one of this server, whoever wrote the cursors: what is read from here on is its own.

    By GTIDs alone it may have come from elsewhere. Then its file and offset are no place of this binlog: the end is,
    if nothing is left to read, and else the beginning, behind which all the rest lies.
    """
    here = replace(position, server_uuid=binlog.info.server_uuid, server_id=binlog.info.server_id)
    if not position.gtid_set or is_same_server(position, binlog.info):
        return here
    place = binlog.end if position.gtid_set == binlog.end.gtid_set else binlog.oldest
    return replace(here, file=place.file, offset=place.offset).at_start_of_next()


async def _inside_here(config: InstanceSection, binlog: Binlog, known: Known) -> Known:
    """Return a client with its cursor, which may be inside a transaction of another server, as a place of this one."""
    if not is_inside_elsewhere(known.cursor, binlog):
        return known
    tables = TableFilter(config.filter, config.exclude)
    cursor = await place_inside(config.source, binlog, known.cursor, tables=tables, screen=Sink(tables).pass_items)
    return replace(known, cursor=cursor)


async def look(db: Session, config: InstanceSection) -> Binlog:
    """Ask what the source has now. The time is asked first: whatever is behind the end is younger."""
    info = await inspect(db, config.source)
    now_ms = await server_time_ms(db)
    files = await binlog_files(db)
    oldest, end = await start_of_binlog(db, info), await end_of_binlog(db, info)
    return Binlog(info, tuple(files), oldest, end, await binlog_state(db, info), now_ms)


async def _start(
    db: Session, config: InstanceSection, binlog: Binlog, clients: dict[str, Known], records: Records
) -> tuple[Start, dict[str, Known]]:
    """Choose the start. Without any client the stored first start counts; a new one is stored."""
    if clients:
        return await _go_on(config, binlog, clients, records)
    if checkpoint := await records.first_start():
        try:
            start, _ = await _go_on(config, binlog, {FIRST: Known(checkpoint, "")}, records)
        except PositionPurgedError as error:
            log.warning("instance %s has no client, and its stored start is gone: %s", config.name, error)
        else:
            return start, {}
    return await _begin(db, config, binlog, records), {}


async def _begin(db: Session, config: InstanceSection, binlog: Binlog, records: Records) -> Start:
    """Choose and store a first start."""
    search = BinlogSearch(config.source, binlog.info, [name for name, _ in binlog.files], binlog.end)
    chosen = _choose(config, binlog, [])
    if isinstance(chosen, ByTime):
        found = await search.before(chosen.before_ms)
        position, _ = place_found(chosen, found, binlog.info, oldest=binlog.oldest, end=binlog.end)
        chosen = Start(position, f"{chosen.why}, which is at {position.file}:{position.offset}")
    start, position = chosen, chosen.position
    if not position.gtid_set and position not in (binlog.oldest, binlog.end):
        position = await with_gtids(db, binlog, search, await checked_boundary(db, binlog, position))
    if not position.timestamp_ms and position.order == binlog.end.order:
        position = replace(position, timestamp_ms=binlog.now_ms)  # so that another server can be searched by it
    notices = [notice_now("gap", start.gap)] if start.gap else []
    await records.commit({records.paths.parse: records.encode(position)}, notices=notices)
    return replace(start, position=position)


async def _go_on(
    config: InstanceSection, binlog: Binlog, clients: dict[str, Known], records: Records
) -> tuple[Start, dict[str, Known]]:
    """Find every client's place on this server, and make durable what of it is new."""
    chosen = _choose(config, binlog, [known.cursor for known in clients.values()])
    if isinstance(chosen, Start):
        moved = moved_by(chosen, clients)
        notices = [notice_now("gap", chosen.gap)] if chosen.gap else []
        why = chosen.why
    else:
        crossing = await cross(config, binlog, chosen, clients)
        moved, notices, why = crossing.cursors, _notices(crossing), f"{chosen.why}; {crossing.what}"
    if moved:
        await _store(records, moved, notices)
    clients = clients | moved
    final = _choose(config, binlog, [known.cursor for known in clients.values()])
    assert isinstance(final, Start)  # all cursors are of this server now
    return replace(final, why=why), clients


def _choose(config: InstanceSection, binlog: Binlog, cursors: Sequence[Position]) -> Start | ByTime:
    return choose_start(
        cursors,
        binlog.info,
        oldest=binlog.oldest,
        end=binlog.end,
        rules=rules_of(config),
        binlog_state=binlog.state,
    )


def moved_by(start: Start, clients: Mapping[str, Known]) -> dict[str, Known]:
    """Return the clients whose cursor is another one now: what they remember ends before the gap."""
    return {
        client_id: Known(cursor, known.pattern)
        for (client_id, known), cursor in zip(clients.items(), start.cursors, strict=True)
        if cursor is not known.cursor
    }


def _notices(crossing: Crossing) -> list[Notice]:
    gaps = [notice_now("gap", gap, client_id) for client_id, gap in crossing.gaps.items()]
    return [notice_now("seam", crossing.what), *gaps]


async def _store(records: Records, moved: Mapping[str, Known], notices: Sequence[Notice]) -> None:
    await records.commit(cursors_to_store(records, moved), notices=notices)


def cursors_to_store(records: Records, moved: Mapping[str, Known]) -> dict[str, bytes]:
    """Return what to write, by its path. The client ``FIRST`` stands for the stored first start."""
    paths = records.paths
    return {
        paths.parse if client_id == FIRST else paths.client(client_id).cursor: records.encode(
            known.cursor, known.remembered
        )
        for client_id, known in moved.items()
    }
