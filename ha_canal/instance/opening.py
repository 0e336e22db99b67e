"""What is asked before a term reads: who the server is, where each client is in its binlog, and where to begin.

Nothing is kept of an attempt that fails. What is decided here and must not be decided otherwise by the next term (a
first start, a client's place on a new server) is durable when `find_opening` returns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ha_canal.config import InstanceSection
from ha_canal.errors import PositionPurgedError, SourceRefusedError
from ha_canal.instance.records import Records
from ha_canal.model.position import Position
from ha_canal.mysql.connection import (
    ServerInfo,
    Session,
    end_of_binlog,
    has_gtids_before,
    inspect,
    session,
    start_of_binlog,
    visible_tables,
)
from ha_canal.source.position import ByTime, Start, StartRules, choose_start

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a term begins. ``clients`` are all that are known, with cursor and filter; ``why`` is a sentence."""

    at: Position
    why: str
    from_empty: bool
    visible: list[tuple[str, str]]
    clients: dict[str, tuple[Position, str]]


async def find_opening(config: InstanceSection, records: Records) -> Opening:
    """Find where to read from, and store that if it is new. Raises our errors."""
    clients = await records.clients()
    async with session(config.source) as db:
        info = await inspect(db, config.source)
        oldest, end = await start_of_binlog(db, info), await end_of_binlog(db, info)
        start = await _choose([cursor for cursor, _ in clients.values()], info, oldest, end, config, records)
        # What is read from here on is this server's, whoever wrote the cursors.
        at = replace(start.position, server_uuid=info.server_uuid, server_id=info.server_id)
        from_empty = await _counts_from_empty(db, info, at)
        return Opening(at, start.why, from_empty, await visible_tables(db), clients)


async def _counts_from_empty(db: Session, info: ServerInfo, at: Position) -> bool:
    return info.gtids and not at.gtid_set and not await has_gtids_before(db, info, at)


async def _choose(
    cursors: list[Position],
    info: ServerInfo,
    oldest: Position,
    end: Position,
    config: InstanceSection,
    records: Records,
) -> Start:
    """Choose the start. Without any client the stored first start counts; a new one is stored."""
    rules = StartRules(start=config.start)
    if cursors:
        return _known(choose_start(cursors, info, oldest=oldest, end=end, rules=rules))
    if checkpoint := await records.first_start():
        try:
            return _known(choose_start([checkpoint], info, oldest=oldest, end=end, rules=rules))
        except PositionPurgedError as error:
            log.warning("instance %s has no client, and its stored start is gone: %s", config.name, error)
    start = _known(choose_start([], info, oldest=oldest, end=end, rules=rules))
    await records.commit({records.paths.parse: records.encode(start.position)})
    return start


def _known(start: Start | ByTime) -> Start:
    if isinstance(start, ByTime):
        raise SourceRefusedError(start.why)
    return start
