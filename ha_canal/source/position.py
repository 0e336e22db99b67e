"""Where reading starts: one pure choice, with its reason in a sentence.

The instance's log and `status` show the sentence; an operator who asks "why from there?" finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

from ha_canal.errors import PositionPurgedError, SourceRefusedError
from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet, parse_gtid_set
from ha_canal.model.position import Position, file_sequence
from ha_canal.mysql.connection import ServerInfo


@dataclass(frozen=True, slots=True)
class Start:
    """A chosen start. ``why`` is one sentence for people."""

    position: Position
    why: str


def earliest_of(positions: Sequence[Position]) -> Position:
    """Return the position from which every reader finds all that it has not done: never empty.

    GTID sets are intersected; without them the first in the order of the binlog counts.
    """
    first = min(positions, key=lambda place: (file_sequence(place.file), place.offset, place.ordinal))
    if all(place.gtid_set for place in positions):
        sets = [parse_gtid_set(place.gtid_set) for place in positions]
        common = reduce(lambda left, right: left.intersection(right), sets)  # type: ignore[arg-type] # one flavour: all come from one source
        return replace(first, gtid_set=str(common), ordinal=0)
    return replace(first, gtid_set="", ordinal=0)


def choose_start(
    stored: Sequence[Position],
    info: ServerInfo,
    *,
    oldest: Position,
    end: Position,
    policy: Literal["latest", "earliest"],
) -> Start:
    """Choose where to read from on the server ``info``.

    ``stored`` are the cursors of all clients, or the stored first start; ``oldest`` and ``end`` are the ends of the
    server's binlog now. Raises PositionPurgedError when the binlog that is needed is gone, and SourceRefusedError
    when the server is not the one that the cursors belong to; both say what is missing.
    """
    if not stored:
        position = end if policy == "latest" else oldest
        return Start(position, f"no cursor is stored: from the {policy} position, {position}")
    wanted = earliest_of(stored)
    if wanted.gtid_set and info.gtids:
        return _by_gtid(wanted, info, oldest=oldest, end=end)
    return _by_offset(wanted, info, oldest=oldest, end=end)


def _by_gtid(wanted: Position, info: ServerInfo, *, oldest: Position, end: Position) -> Start:
    done, executed, purged = (parse_gtid_set(text) for text in (wanted.gtid_set, end.gtid_set, oldest.gtid_set))
    if isinstance(done, MysqlGtidSet) and isinstance(executed, MysqlGtidSet) and isinstance(purged, MysqlGtidSet):
        if missing := purged.difference(done):
            raise PositionPurgedError(
                f"{info.address} has purged transactions that were not delivered yet: {missing}. Restore the binlog, "
                "point the instance at a server that still has them, or move the cursor and accept the gap"
            )
        if extra := done.difference(executed):
            raise SourceRefusedError(
                f"{info.address} lacks transactions that were delivered already: {extra}. It is another server, or it "
                "was restored from a backup: point the instance at a server that has them"
            )
    elif isinstance(done, MariadbGtidPosition) is not isinstance(executed, MariadbGtidPosition) and end.gtid_set:
        raise SourceRefusedError(
            f"{info.address} is {info.flavor}, and the stored cursor is not ({wanted.gtid_set}): another server"
        )
    return Start(wanted, f"stored cursors: from the GTIDs that all clients have done, {wanted.gtid_set}")


def _by_offset(wanted: Position, info: ServerInfo, *, oldest: Position, end: Position) -> Start:
    if (wanted.server_uuid, wanted.server_id) != (info.server_uuid, info.server_id):
        raise SourceRefusedError(
            f"{info.address} is server {info.server_uuid or info.server_id}, and the stored cursor {wanted} belongs to "
            f"server {wanted.server_uuid or wanted.server_id}; without GTIDs a file and offset mean nothing elsewhere"
        )
    if file_sequence(wanted.file) < file_sequence(oldest.file):
        raise PositionPurgedError(
            f"{info.address} has purged {wanted.file}, which is needed from offset {wanted.offset} on; its oldest file "
            f"is {oldest.file}. Move the cursor and accept the gap"
        )
    if (file_sequence(wanted.file), wanted.offset) > (file_sequence(end.file), end.offset):
        raise SourceRefusedError(
            f"{info.address} ends at {end.file}:{end.offset}, before the stored cursor {wanted}: its binlog was reset"
        )
    return Start(replace(wanted, gtid_set=""), f"stored cursors: from {wanted.file}:{wanted.offset} on the same server")
