"""A look at a source that may be read next: would the next term find there what is needed?

It asks what a term asks when it begins (`choose_start`, and `cross` where there are no GTIDs), and what only a change
of servers makes a question: is it another server at all, is what it replicates in its own binlog, has it applied what
was delivered already. Everything has its time; nothing is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from ha_canal.config import InstanceSection
from ha_canal.errors import CanalError, SourceRefusedError
from ha_canal.instance.crossing import cross
from ha_canal.instance.opening import look, moved_by, rules_of
from ha_canal.instance.records import Known
from ha_canal.model.position import Position, file_sequence
from ha_canal.mysql.connection import ServerInfo, Session, session
from ha_canal.source.failover import Finding
from ha_canal.source.inside import has_it, is_inside_elsewhere
from ha_canal.source.position import Start, choose_start, is_same_server

_ANSWER_LIMIT_S = 5.0
_PROBE_LIMIT_S = 20.0
_NO_SUCH_STATEMENT = "1064"


@dataclass(frozen=True, slots=True)
class Need:
    """What must be there. ``clients`` are all, or the stored first start in their place, or none.

    ``server_uuid`` and ``server_id`` are those of the server that is read now, empty and 0 where that is not known.
    ``exact``: that server lives, so a replica is waited for until it has applied what was delivered. ``accept_lost``:
    what was delivered and is not there is taken for lost.
    """

    clients: Mapping[str, Known] = field(default_factory=dict)
    server_uuid: str = ""
    server_id: int = 0
    exact: bool = False
    accept_lost: bool = False

    @property
    def cursors(self) -> list[Position]:
        return [known.cursor for known in self.clients.values()]

    def is_of(self, info: ServerInfo) -> bool:
        """Whether ``info`` is the server that is read now, under another name."""
        if info.server_uuid:
            return info.server_uuid == self.server_uuid
        return not self.server_uuid and info.server_id == self.server_id


@dataclass(frozen=True, slots=True)
class Probed:
    """``finding`` says whether it can be read, and why (not).

    Where a loss is accepted, ``gap`` says what was lost, and ``moved`` are the clients whose cursors change for it.
    """

    finding: Finding
    moved: Mapping[str, Known] = field(default_factory=dict)
    gap: str = ""


async def probe(config: InstanceSection, need: Need, threads: Executor) -> Probed:
    """Look at ``config.source``."""
    address = config.source.address
    try:
        async with asyncio.timeout(_PROBE_LIMIT_S):
            async with session(config.source, limit_s=_ANSWER_LIMIT_S, threads=threads) as db:
                return await _look_at(db, config, need)
    except TimeoutError:
        return Probed(Finding(address, fit=False, why=f"was not looked through within {_PROBE_LIMIT_S:g} s"))
    except CanalError as error:
        return Probed(Finding(address, fit=False, why=str(error)))


async def _look_at(db: Session, config: InstanceSection, need: Need) -> Probed:
    """Return why reading can go on there. Raises our errors where it cannot."""
    binlog = await look(db, config)
    info = binlog.info
    if need.is_of(info):
        raise SourceRefusedError(
            f"it is server {info.server_uuid or info.server_id}, the very one that is read already, under another name"
        )
    is_its_own = bool(need.cursors) and all(is_same_server(cursor, info) for cursor in need.cursors)
    if not is_its_own and not await _logs_what_it_replicates(db):
        raise SourceRefusedError(
            "what it replicates is not in its binlog: start it with log_replica_updates = ON (before MySQL 8.0.26 and "
            "on MariaDB: log_slave_updates)"
        )
    start = choose_start(
        need.cursors,
        info,
        oldest=binlog.oldest,
        end=binlog.end,
        rules=replace(rules_of(config), accept_lost=need.accept_lost),
        binlog_state=binlog.state,
    )
    for cursor in need.cursors:
        if not need.accept_lost and is_inside_elsewhere(cursor, binlog) and not has_it(cursor, binlog):
            raise SourceRefusedError(f"it lacks {cursor.inside}, of which a part was delivered already")
    if isinstance(start, Start):
        if start.gap and not need.accept_lost:
            raise SourceRefusedError(start.gap)
        moved = moved_by(start, need.clients) if start.gap else {}
        return Probed(Finding(info.address, fit=True, why=start.why), moved, start.gap)
    if not start.is_fallback:
        return Probed(Finding(info.address, fit=True, why=start.why))
    await _check_applied(db, info, need)
    crossing = await cross(config, binlog, start, need.clients)
    if crossing.gaps:
        raise SourceRefusedError("; ".join(crossing.gaps.values()))
    return Probed(Finding(info.address, fit=True, why=f"{start.why}; {crossing.what}"))


async def _logs_what_it_replicates(db: Session) -> bool:
    got = await db.variables("log_replica_updates", "log_slave_updates")
    return any(value in ("ON", "1") for value in got.values())


async def _check_applied(db: Session, info: ServerInfo, need: Need) -> None:
    """Raise SourceRefusedError while a replica of the server that was read has not applied what was delivered.

    Without GTIDs only its own word tells: how far it is in the binlog of its source.
    """
    for replica in await _replication(db, info):
        source_uuid, source_id = replica.get("Source_UUID", ""), replica.get("Source_Server_Id", "0")
        cursors = [one for one in need.cursors if (one.server_uuid, str(one.server_id)) == (source_uuid, source_id)]
        done = _place(replica, "Relay_Source_Log_File", "Exec_Source_Log_Pos")
        got = _place(replica, "Source_Log_File", "Read_Source_Log_Pos")
        runs = replica.get("Replica_SQL_Running", "") == "Yes"
        if any(cursor.order > done for cursor in cursors) and runs and (need.exact or done < got):
            where = f"{replica.get('Relay_Source_Log_File')}:{replica.get('Exec_Source_Log_Pos')}"
            raise SourceRefusedError(
                f"it has not applied yet what was delivered, up to {max(cursors, key=lambda one: one.order)}: it is at "
                f"{where} of the binlog of its source"
            )


def _place(replica: dict[str, str], file: str, offset: str) -> tuple[tuple[int, str], int]:
    return file_sequence(replica.get(file, "")), int(replica.get(offset) or 0)


async def _replication(db: Session, info: ServerInfo) -> list[dict[str, str]]:
    """Return how the server replicates, by MySQL's names; nothing where it does not, or we may not know."""
    statements = (
        ["SHOW ALL SLAVES STATUS"] if info.flavor == "mariadb" else ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"]
    )
    for statement in statements:
        try:
            rows = await db.named(statement)
        except SourceRefusedError as error:
            if _NO_SUCH_STATEMENT in str(error):
                continue
            return []
        return [{_name(name): value for name, value in row.items()} for row in rows]
    return []


def _name(name: str) -> str:
    return name.replace("Master", "Source").replace("Slave_", "Replica_")
