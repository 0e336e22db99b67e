"""What operators do with positions: look at them, look for one, and move a cursor, seeing beforehand what that does.

Everything goes through the leader, under its fence. A cursor is moved by ending the term: the next one begins with it,
and no ack that was on its way can write over it (`CursorOwner.replace_cursor`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

from ha_canal.config import InstanceSection
from ha_canal.errors import NotSubscribedError, UsageError
from ha_canal.instance.notices import Notice, notice_now
from ha_canal.instance.opening import look
from ha_canal.instance.records import Known, Records
from ha_canal.model.gtid import MysqlGtidSet, parse_gtid_set
from ha_canal.model.position import Position
from ha_canal.mysql.connection import Session, session
from ha_canal.protos import canal_pb2 as pb
from ha_canal.server.framing import place_of
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.binlog import Binlog
from ha_canal.source.places import checked_boundary, with_gtids
from ha_canal.source.position import is_same_server
from ha_canal.source.scan import Counting, scan
from ha_canal.source.search import BinlogSearch

_COUNT_LIMIT_S = 15.0
_FIRST_EVENT = 4


class CursorOwner(Protocol):
    """Who writes cursors."""

    async def replace_cursor(self, client_id: str, cursor: Position, notice: Notice) -> None:
        """Make ``cursor`` durable, with ``notice`` on record, and begin anew from it."""


class Moves:
    """The positions of one instance in one term."""

    def __init__(
        self, config: InstanceSection, records: Records, owner: CursorOwner, *, count_limit_s: float = _COUNT_LIMIT_S
    ) -> None:
        self._config = config
        self._records = records
        self._owner = owner
        self._count_limit_s = count_limit_s

    async def show(self) -> pb.PositionsReply:
        """Return what is stored, and from where to where the binlog goes. Raises our errors."""
        clients = await self._records.clients()
        first = await self._records.first_start()
        async with session(self._config.source) as db:
            binlog = await look(db, self._config)
        return pb.PositionsReply(
            clients=[
                pb.PositionsReply.Client(
                    client_id=client_id,
                    cursor=place_of(known.cursor),
                    remembered=len(known.remembered.fingerprints),
                )
                for client_id, known in sorted(clients.items())
            ],
            first_start=place_of(first) if first else None,
            oldest=place_of(binlog.oldest),
            end=place_of(binlog.end),
        )

    async def find(self, request: pb.FindPositionRequest) -> pb.FindPositionReply:
        """Return the place before a time, with its GTIDs."""
        async with session(self._config.source) as db:
            binlog = await look(db, self._config)
            search = self._search(binlog)
            found = await search.before(request.time_ms)
            if found is not None:
                found = await with_gtids(db, binlog, search, found)
        return pb.FindPositionReply(place=place_of(found) if found else None)

    async def move(self, request: pb.MovePositionRequest) -> pb.MovePositionReply:
        """Say what a move would do, and do it unless it is a dry run. Raises UsageError for a place that is none."""
        clients = await self._records.clients()
        known = clients.get(request.client_id)
        if known is None:
            raise NotSubscribedError(
                f"instance {self._config.name!r} knows no client {request.client_id[:200]!r}; it knows: "
                f"{', '.join(sorted(clients)) or 'none'}"
            )
        async with session(self._config.source) as db:
            binlog = await look(db, self._config)
            search = self._search(binlog)
            to = await self._target(request, known, db, binlog, search)
        reply = pb.MovePositionReply(cursor=place_of(known.cursor), to=place_of(to))
        await self._compare(known, to, binlog, search, reply)
        if not request.dry_run:
            text = f"an operator moved client {request.client_id!r} from {known.cursor} to {to}: {_words(reply)}"
            await self._owner.replace_cursor(request.client_id, to, notice_now("moved", text, request.client_id))
            reply.moved = True
        return reply

    def _search(self, binlog: Binlog) -> BinlogSearch:
        return BinlogSearch(self._config.source, binlog.info, [name for name, _ in binlog.files], binlog.end)

    async def _target(
        self, request: pb.MovePositionRequest, known: Known, db: Session, binlog: Binlog, search: BinlogSearch
    ) -> Position:
        match request.WhichOneof("to"):
            case "place":
                return await self._named(request.place, db, binlog, search)
            case "end" if request.end in ("earliest", "latest"):
                if request.end == "latest":
                    return replace(binlog.end, timestamp_ms=binlog.now_ms)
                return binlog.oldest
            case "time_ms":
                return await self._at_time(request.time_ms, db, binlog, search)
            case "back_s" if known.cursor.timestamp_ms and request.back_s > 0:
                before_ms = known.cursor.timestamp_ms - round(request.back_s * 1000)
                return await self._at_time(before_ms, db, binlog, search)
            case "back_s":
                raise UsageError(
                    f"the cursor of {request.client_id!r} has no time to go back from; name a place or a time"
                )
            case _:
                raise UsageError("say where to: a place, GTIDs, a time, 'earliest', 'latest', or how far back")

    async def _named(self, place: pb.Place, db: Session, binlog: Binlog, search: BinlogSearch) -> Position:
        if place.file:
            asked = Position(place.file, place.offset or _FIRST_EVENT)
            return await with_gtids(db, binlog, search, await checked_boundary(db, binlog, asked))
        if not binlog.info.gtids:
            raise UsageError(f"{binlog.info.address} has no GTIDs: name a file and an offset")
        try:
            gtids = parse_gtid_set(place.gtid_set)
        except ValueError as error:
            raise UsageError(f"that is no GTID set: {error}") from None
        if isinstance(gtids, MysqlGtidSet) is not (binlog.info.flavor == "mysql") or not gtids:
            raise UsageError(f"{binlog.info.address} is {binlog.info.flavor}: {place.gtid_set!r} is no GTID set of it")
        return Position(binlog.oldest.file, binlog.oldest.offset, gtid_set=str(gtids))  # of no server: GTIDs decide

    async def _at_time(self, before_ms: int, db: Session, binlog: Binlog, search: BinlogSearch) -> Position:
        found = await search.before(before_ms)
        if found is None:
            raise UsageError(
                f"all of the binlog of {binlog.info.address} is younger than that; 'earliest' is {binlog.oldest.file}"
            )
        return await with_gtids(db, binlog, search, found)

    async def _compare(
        self, known: Known, to: Position, binlog: Binlog, search: BinlogSearch, reply: pb.MovePositionReply
    ) -> None:
        """Count what lies between, where both are places in the binlog that is there."""
        start, end = sorted((known.cursor, to), key=lambda place: place.order)
        reply.effect, reply.transactions, reply.rows = "unknown", -1, -1
        if not all(is_same_server(place, binlog.info) for place in (start, end)) or start.order < binlog.oldest.order:
            return
        reply.effect = "repeat" if to.order < known.cursor.order else "miss"
        if start.order == end.order:
            reply.effect = "repeat" if known.cursor.ordinal else "none"
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._count_limit_s
        counting = Counting(end, lambda: loop.time() > until_s)
        if start.order < end.order:
            everybodys = TableFilter(self._config.filter, self._config.exclude)
            outer, inner = Sink(everybodys), Sink(TableFilter(known.pattern, accepted=True))
            await scan(
                search, binlog.info, start, end, counting,
                tables=everybodys, screen=lambda items: inner.pass_items(outer.pass_items(items)),
            )  # fmt: skip
        reply.transactions, reply.at_least = counting.transactions, counting.is_over()
        reply.rows = counting.rows if counting.can_count_rows else -1


def _words(reply: pb.MovePositionReply) -> str:
    if reply.effect == "none":
        return "it was there already"
    if reply.effect == "unknown":
        return "what that repeats or skips is not known"
    least = "at least " if reply.at_least else ""
    rows = f"{reply.rows} rows" if reply.rows >= 0 else "uncounted rows"
    verb = "come again" if reply.effect == "repeat" else "are skipped"
    return f"{least}{reply.transactions} transactions with {rows} {verb}"
