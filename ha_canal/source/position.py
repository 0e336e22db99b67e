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

_Gtids = MysqlGtidSet | MariadbGtidPosition


@dataclass(frozen=True, slots=True)
class Start:
    """A chosen start. ``why`` is one sentence for people."""

    position: Position
    why: str


def earliest_of(positions: Sequence[Position]) -> Position:
    """Return the position from which every reader finds all that it has not done: never empty.

    GTID sets are intersected; without them the first in the order of the binlog counts. Raises SourceRefusedError for
    GTIDs of both MySQL and MariaDB, which cannot be of one source.
    """
    first = min(positions, key=lambda place: (file_sequence(place.file), place.offset, place.ordinal))
    if all(place.gtid_set for place in positions):
        sets = [parse_gtid_set(place.gtid_set) for place in positions]
        of_mariadb = all(isinstance(gtids, MariadbGtidPosition) for gtids in sets)
        if of_mariadb and len({place.server_id for place in positions}) == 1:
            # On one server the binlog's order counts: outside the strict mode sequence numbers may fall.
            return replace(first, ordinal=0)
        return replace(first, gtid_set=str(reduce(_common, sets)), ordinal=0)
    return replace(first, gtid_set="", ordinal=0)


def _common(left: _Gtids, right: _Gtids) -> _Gtids:
    if isinstance(left, MysqlGtidSet) and isinstance(right, MysqlGtidSet):
        return left.intersection(right)
    if isinstance(left, MariadbGtidPosition) and isinstance(right, MariadbGtidPosition):
        return left.intersection(right)
    raise SourceRefusedError(
        f"the stored cursors belong to different servers: {left} is of one flavour, {right} of another. Delete those "
        "of the source that the instance does not read any more"
    )


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
    done = parse_gtid_set(wanted.gtid_set)
    if isinstance(done, MariadbGtidPosition) is not (info.flavor == "mariadb"):
        raise SourceRefusedError(
            f"{info.address} is {info.flavor}, and the stored cursor is not ({wanted.gtid_set}): another server"
        )
    if isinstance(done, MariadbGtidPosition):
        if is_same_server(wanted, info):  # the binlog's order counts: sequence numbers may fall
            _check_within(wanted, info, oldest=oldest, end=end)
            return _from_gtids(wanted)
        purged, executed = MariadbGtidPosition.parse(oldest.gtid_set), MariadbGtidPosition.parse(end.gtid_set)
        missing = "" if purged.issubset(done) else f"what lies between {done} and {purged}"
        extra = "" if done.issubset(executed) else f"it ends at {executed or 'nothing'}, they at {done}"
    else:
        missing = str(MysqlGtidSet.parse(oldest.gtid_set).difference(done))
        extra = str(done.difference(MysqlGtidSet.parse(end.gtid_set)))
    if missing:
        raise PositionPurgedError(
            f"{info.address} has purged transactions that were not delivered yet: {missing}. Restore the binlog, "
            "point the instance at a server that still has them, or move the cursor and accept the gap"
        )
    if extra:
        raise SourceRefusedError(
            f"{info.address} lacks transactions that were delivered already: {extra}. It is another server, or it "
            "was restored from a backup: point the instance at a server that has them"
        )
    return _from_gtids(wanted)


def _from_gtids(wanted: Position) -> Start:
    return Start(wanted, f"stored cursors: from the GTIDs that all clients have done, {wanted.gtid_set}")


def is_same_server(place: Position, info: ServerInfo) -> bool:
    """Whether ``place`` was read on this server: by its uuid, or by its id where it has none (MariaDB)."""
    if info.server_uuid:
        return place.server_uuid == info.server_uuid
    return not place.server_uuid and place.server_id == info.server_id


def _by_offset(wanted: Position, info: ServerInfo, *, oldest: Position, end: Position) -> Start:
    if not is_same_server(wanted, info):
        raise SourceRefusedError(
            f"{info.address} is server {info.server_uuid or info.server_id}, and the stored cursor {wanted} belongs to "
            f"server {wanted.server_uuid or wanted.server_id}; without GTIDs a file and offset mean nothing elsewhere"
        )
    _check_within(wanted, info, oldest=oldest, end=end)
    return Start(replace(wanted, gtid_set=""), f"stored cursors: from {wanted.file}:{wanted.offset} on the same server")


def _check_within(wanted: Position, info: ServerInfo, *, oldest: Position, end: Position) -> None:
    if file_sequence(wanted.file) < file_sequence(oldest.file):
        raise PositionPurgedError(
            f"{info.address} has purged {wanted.file}, which is needed from offset {wanted.offset} on; its oldest file "
            f"is {oldest.file}. Move the cursor and accept the gap"
        )
    if (file_sequence(wanted.file), wanted.offset) > (file_sequence(end.file), end.offset):
        raise SourceRefusedError(
            f"{info.address} ends at {end.file}:{end.offset}, before the stored cursor {wanted}: its binlog was reset"
        )
