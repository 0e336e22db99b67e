"""Where reading starts: one pure choice, with its reason in a sentence.

The instance's log and `status` show the sentence; an operator who asks "why from there?" finds it. What needs to be
looked up in the binlog first is a value too (`ByTime`): whoever has a connection looks (`ha_canal.source.search`), puts
what was found in the place of the cursors it stands for, and asks again.
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
from ha_canal.source import purged

_Gtids = MysqlGtidSet | MariadbGtidPosition


@dataclass(frozen=True, slots=True)
class StartRules:
    """What the configuration says. ``at`` (a file and offset, or GTIDs alone) and ``at_time_ms`` go before ``start``.

    ``accept_lost``: transactions that were delivered, and that the server lacks, count as never done.
    ``fallback_interval_s`` is how far before a cursor's time to begin on another server that has no GTIDs.
    """

    start: Literal["latest", "earliest"] = "latest"
    at: Position | None = None
    at_time_ms: int = 0
    on_purged: Literal["stop", "earliest", "latest"] = "stop"
    fallback_interval_s: float = 60.0
    accept_lost: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """A chosen start. ``why`` is one sentence for people.

    ``cursors`` are the stored ones in their order, as places of this server; one that stays what it was is the very
    same. ``gap`` says what is missed where purged binlog is passed over, or a loss is accepted; else it is empty.
    """

    position: Position
    why: str
    cursors: tuple[Position, ...] = ()
    gap: str = ""


@dataclass(frozen=True, slots=True)
class ByTime:
    """The start has to be looked for: the last boundary such that all before it is older than ``before_ms``.

    ``cursors`` are the stored ones in their order, None where what is found takes their place. ``is_fallback``: they
    belong to another server, and what lies between what is found and the truth comes again.
    """

    before_ms: int
    why: str
    cursors: tuple[Position | None, ...] = ()
    is_fallback: bool = False


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
    rules: StartRules | None = None,
    binlog_state: str = "",
) -> Start | ByTime:
    """Choose where to read from on the server ``info``.

    ``stored`` are the cursors of all clients, or the stored first start; ``oldest`` and ``end`` are the ends of the
    server's binlog now; ``binlog_state`` is MariaDB's variable ``gtid_binlog_state``, where it is known. Raises
    PositionPurgedError when the binlog that is needed is gone, and SourceRefusedError when the server is not one that
    the cursors belong to; both say what is missing.
    """
    binlog = _Binlog(info, oldest, end, rules or StartRules(), binlog_state)
    if not stored:
        return _first_start(binlog)
    wanted = earliest_of(stored)  # also: are they of one kind at all
    if info.gtids and all(cursor.gtid_set for cursor in stored):
        return _together([binlog.by_gtid(cursor) for cursor in stored], wanted, binlog)
    elsewhere = [cursor for cursor in stored if not is_same_server(cursor, info)]
    if elsewhere:
        return _fall_back(stored, elsewhere, binlog)
    return _together([binlog.by_offset(cursor) for cursor in stored], wanted, binlog)


def is_same_server(place: Position, info: ServerInfo) -> bool:
    """Whether ``place`` was read on this server: by its uuid, or by its id where it has none (MariaDB)."""
    if info.server_uuid:
        return place.server_uuid == info.server_uuid
    return not place.server_uuid and place.server_id == info.server_id


@dataclass(frozen=True, slots=True)
class _Binlog:
    """What a server has, and what is to be done where that is not enough."""

    info: ServerInfo
    oldest: Position
    end: Position
    rules: StartRules
    state: str

    def by_gtid(self, cursor: Position) -> tuple[Position, str]:
        """Return where the cursor is here, and what is missed where that is not what it was."""
        done = parse_gtid_set(cursor.gtid_set)
        if isinstance(done, MariadbGtidPosition) is not (self.info.flavor == "mariadb"):
            raise SourceRefusedError(
                f"{self.info.address} is {self.info.flavor}, and the stored cursor is not ({cursor.gtid_set}): "
                "another server"
            )
        if isinstance(done, MariadbGtidPosition):
            if is_same_server(cursor, self.info):  # the binlog's order counts: sequence numbers may fall
                return self.by_offset(cursor)
            missing = purged.missing_mariadb(done, MariadbGtidPosition.parse(self.oldest.gtid_set))
            extra = purged.extra_mariadb(done, MariadbGtidPosition.parse(self.end.gtid_set), self.state)
        else:
            missing = purged.missing_mysql(done, MysqlGtidSet.parse(self.oldest.gtid_set))
            extra = purged.shown_mysql(done.difference(MysqlGtidSet.parse(self.end.gtid_set)))
        place = self._over_the_gap(cursor, missing) if missing else (cursor, "")
        return self._without_lost(*place, extra) if extra else place

    def _without_lost(self, cursor: Position, gap: str, extra: str) -> tuple[Position, str]:
        """Return the cursor without what the server lacks, and what that is."""
        what = f"{self.info.address} lacks transactions that were delivered already: {extra}"
        done, executed = parse_gtid_set(cursor.gtid_set), parse_gtid_set(self.end.gtid_set)
        kept: _Gtids | None = None
        if isinstance(done, MysqlGtidSet) and isinstance(executed, MysqlGtidSet):
            kept = done.intersection(executed)
        elif isinstance(done, MariadbGtidPosition) and isinstance(executed, MariadbGtidPosition):
            kept = purged.kept_mariadb(done, executed, self.state)
        if not kept or not self.rules.accept_lost:
            raise SourceRefusedError(
                f"{what}. It is behind, or another server, or it was restored from a backup: point the instance at a "
                "server that has them. If they are lost for good: ha-canal switch-source --accept-lost"
            )
        accepted = f"{what}; that is accepted, and what was done is {kept}"
        accepted = f"{what}; that is accepted, and what counts as done is {kept}"
        return replace(cursor, gtid_set=str(kept), ordinal=0), "; ".join(filter(None, (gap, accepted)))

    def by_offset(self, cursor: Position) -> tuple[Position, str]:
        """The same for a cursor of this very server."""
        if cursor.order > self.end.order:
            raise SourceRefusedError(
                f"{self.info.address} ends at {self.end.file}:{self.end.offset}, before the stored cursor {cursor}: "
                "its binlog was reset"
            )
        if file_sequence(cursor.file) < file_sequence(self.oldest.file):
            return self._over_the_gap(cursor, purged.missing_files(cursor, self.oldest))
        return cursor, ""

    def _over_the_gap(self, cursor: Position, missing: str) -> tuple[Position, str]:
        what = f"{self.info.address} has purged transactions that were not delivered yet: {missing}"
        if self.rules.on_purged == "stop":
            raise PositionPurgedError(
                f"{what}. Restore the binlog, point the instance at a server that still has them, or accept the gap: "
                "move the cursor, or set on_purged = 'earliest' or 'latest'"
            )
        to = self.oldest if self.rules.on_purged == "earliest" else self.end
        moved = replace(to, gtid_set=purged.joined(cursor.gtid_set, to.gtid_set) if cursor.gtid_set else "")
        return moved, f"{what}; by on_purged = {self.rules.on_purged!r} reading goes on at {to.file}:{to.offset}"

    def nothing_before(self, wanted: ByTime) -> tuple[Position, str]:
        """Return where to go on when all of the binlog is younger than what is wanted, and what may be missed."""
        return self._over_the_gap(
            replace(self.oldest, gtid_set=""),
            f"whatever is older than {self.oldest.file}, the oldest file; {wanted.why}, and nothing is that old",
        )


def _first_start(binlog: _Binlog) -> Start | ByTime:
    rules = binlog.rules
    if rules.at is not None and rules.at.file:
        place = replace(rules.at, server_uuid=binlog.info.server_uuid, server_id=binlog.info.server_id)
        place, gap = binlog.by_offset(place)
        return Start(place, f"no cursor is stored: from the configured place, {place}", gap=gap)
    if rules.at is not None:
        if not binlog.info.gtids:
            raise SourceRefusedError(f"{binlog.info.address} has no GTIDs to start from: configure a file or a time")
        configured = replace(rules.at, file=binlog.oldest.file, offset=binlog.oldest.offset)
        place, gap = binlog.by_gtid(configured)
        return Start(place, f"no cursor is stored: from the configured GTIDs, {place.gtid_set}", gap=gap)
    if rules.at_time_ms:
        return ByTime(rules.at_time_ms, "no cursor is stored: from the configured time")
    position = binlog.end if rules.start == "latest" else binlog.oldest
    return Start(position, f"no cursor is stored: from the {rules.start} position, {position}")


def _together(places: Sequence[tuple[Position, str]], wanted: Position, binlog: _Binlog) -> Start:
    cursors = tuple(place for place, _ in places)
    gap = "; ".join(dict.fromkeys(filter(None, (gap for _, gap in places))))
    by_gtid = binlog.info.gtids and all(cursor.gtid_set for cursor in cursors)
    position = earliest_of(cursors) if gap else wanted
    if gap:
        return Start(position, f"{gap}; from {position}", cursors, gap)
    if by_gtid:
        return Start(
            position, f"stored cursors: from the GTIDs that all clients have done, {position.gtid_set}", cursors
        )
    where = f"{position.file}:{position.offset}"
    return Start(replace(position, gtid_set=""), f"stored cursors: from {where} on the same server", cursors)


def _fall_back(stored: Sequence[Position], elsewhere: Sequence[Position], binlog: _Binlog) -> ByTime:
    info = binlog.info
    first = min(elsewhere, key=lambda cursor: cursor.timestamp_ms)
    if not first.timestamp_ms:
        raise SourceRefusedError(
            f"{info.address} is server {info.server_uuid or info.server_id}, and the stored cursor {first} belongs to "
            f"server {first.server_uuid or first.server_id} and has no time to look for; without GTIDs a file and "
            "offset mean nothing elsewhere. Move the cursor to a place on this server"
        )
    back_s = binlog.rules.fallback_interval_s
    cursors = tuple(None if cursor in elsewhere else binlog.by_offset(cursor)[0] for cursor in stored)
    return ByTime(
        first.timestamp_ms - round(back_s * 1000),
        f"{info.address} is server {info.server_uuid or info.server_id}, the stored cursor {first} belongs to server "
        f"{first.server_uuid or first.server_id}, and there are no GTIDs: from {back_s:g} s before the cursor's time",
        cursors,
        is_fallback=True,
    )


def place_found(
    wanted: ByTime,
    found: Position | None,
    info: ServerInfo,
    *,
    oldest: Position,
    end: Position,
    rules: StartRules | None = None,
) -> tuple[Position, str]:
    """Return where to go on after a search by time, and what may be missed there (``""``: nothing).

    ``found`` is None when the whole binlog is younger than ``wanted``. Then a first start takes all of it; a fallback
    follows the policy for purged binlog, and raises PositionPurgedError where that is ``stop``.
    """
    if found is not None:
        return found, ""
    if not wanted.is_fallback:
        return oldest, ""
    return _Binlog(info, oldest, end, rules or StartRules(), "").nothing_before(wanted)
