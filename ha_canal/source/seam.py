"""Where a client is on another server: its last transactions are looked for in what that server has, by fingerprint.

What proves that nothing lies unseen before a place: all that is remembered stands right in front of it, without a gap
and in the same order. Both servers commit in one order, so what precedes the first remembered transaction was done
before it, on the old server too (a standby that applies out of order does so over fewer transactions than are
remembered). The *first* such place is taken: a later one that looks the same could only be nearer to a loss. Where only
a beginning of what is remembered is there, the server lacks the rest: reading goes on behind that beginning.

Less than `LEAST_PROOF` transactions in a row prove nothing. Then the client begins where the search by time says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.row_count import counting_plan
from ha_canal.binlog.stream import BinlogStream, PlanNeeded
from ha_canal.model.change import Commit, Item
from ha_canal.model.position import Position
from ha_canal.model.remembered import Remembered
from ha_canal.model.run import Run
from ha_canal.mysql.connection import ServerInfo
from ha_canal.mysql.dump import BinlogSocket
from ha_canal.source.fingerprint import Fingerprints
from ha_canal.source.refusal import explain_server_error

LEAST_PROOF = 3


@dataclass(frozen=True, slots=True)
class Seam:
    """Where a client goes on. ``matched`` of its ``remembered`` transactions stand in front of ``place``, in order.

    ``place`` is None where that proves nothing.
    """

    place: Position | None
    matched: int
    remembered: int

    @property
    def is_proved(self) -> bool:
        return self.place is not None

    @property
    def lacking(self) -> int:
        """How many transactions that were delivered the server does not have, at least in that order."""
        return self.remembered - self.matched if self.is_proved else 0


class Matcher:
    """Looks for one client's transactions in a stream of fingerprints (Knuth, Morris and Pratt: no memory of it)."""

    def __init__(self, remembered: Remembered) -> None:
        self._wanted = remembered.fingerprints
        self._borders = _borders(self._wanted)
        self._length = 0
        self._best = 0
        self._place: Position | None = None

    def saw(self, fingerprint: int, place: Position) -> None:
        """Take the next transaction, which ends at ``place``."""
        if self.is_found:
            return
        length = self._length
        while length and self._wanted[length] != fingerprint:
            length = self._borders[length - 1]
        length += bool(self._wanted) and self._wanted[length] == fingerprint
        self._length = length
        if length > self._best:
            self._best, self._place = length, place

    @property
    def is_found(self) -> bool:
        """Whether all that is remembered was there: nothing later can be better."""
        return self._best == len(self._wanted)

    @property
    def seam(self) -> Seam:
        place = self._place if self._best >= LEAST_PROOF else None
        return Seam(place, self._best, len(self._wanted))


def _borders(wanted: Sequence[int]) -> list[int]:
    """Return, for each beginning of ``wanted``, the length of its longest proper end that is a beginning as well."""
    borders = [0] * len(wanted)
    length = 0
    for index in range(1, len(wanted)):
        while length and wanted[index] != wanted[length]:
            length = borders[length - 1]
        length += wanted[index] == wanted[length]
        borders[index] = length
    return borders


class Tables(Protocol):
    """Which tables anybody may read; the rows of others are dropped unread."""

    def wants(self, schema: str, table: str) -> bool: ...


class Scan:
    """Reads a dump from ``start`` to ``end`` as an instance would, and shows the transactions that pass its filter.

    ``saw`` is called with the end of each, its fingerprint, and the place behind it.
    """

    def __init__(
        self,
        info: ServerInfo,
        start: Position,
        *,
        tables: Tables,
        screen: Callable[[Sequence[Item | Run]], Iterable[Item | Run]],
        saw: Callable[[Commit, int, Position], None],
    ) -> None:
        self._info = info
        self._start = start
        self._tables = tables
        self._screen = screen
        self._saw = saw
        self._fingerprints = Fingerprints()
        self._stream = BinlogStream(file=start.file, offset=start.offset, server_uuid=info.server_uuid)

    async def run(self, socket: BinlogSocket, *, end: Position, is_enough: Callable[[], bool]) -> None:
        """Read until ``end`` or until it is enough. Raises our errors."""
        stream = self._stream
        try:
            while not is_enough() and (not stream.events or (Position(stream.file, stream.offset).order < end.order)):
                stream.feed(await socket.receive())
                self._take_all(is_enough)
                await asyncio.sleep(0)  # a fast source never makes us wait, and others share this loop
        except ServerError as error:
            raise explain_server_error(error, self._info, stream) from None

    def _take_all(self, is_enough: Callable[[], bool]) -> None:
        while (found := self._stream.next_items()) and not is_enough():
            if isinstance(found, PlanNeeded):
                table = found.table_map
                wanted = self._tables.wants(table.schema, table.table)
                self._stream.supply_plan(found, counting_plan(table) if wanted else None)
            else:
                self._show(found)

    def _show(self, items: Sequence[Item | Run]) -> None:
        for commit, crc in self._fingerprints.of(self._screen(items)):
            place = replace(
                self._start,
                file=commit.transaction.file,
                offset=commit.end_offset,
                timestamp_ms=commit.transaction.commit_timestamp_us // 1000 or commit.timestamp_s * 1000,
            )
            self._saw(commit, crc, place)


class SeamSearch:
    """Looks for all clients of an instance at once. ``until_s``: younger transactions cannot be remembered any more."""

    def __init__(self, remembered: Mapping[str, Remembered], *, until_s: int) -> None:
        self._matchers = {client_id: Matcher(one) for client_id, one in remembered.items()}
        self._until_s = until_s
        self._is_late = False

    def saw(self, commit: Commit, fingerprint: int, place: Position) -> None:
        self._is_late = self._is_late or commit.timestamp_s > self._until_s
        for matcher in self._matchers.values():
            matcher.saw(fingerprint, place)

    def is_over(self) -> bool:
        return self._is_late or all(matcher.is_found for matcher in self._matchers.values())

    @property
    def seams(self) -> dict[str, Seam]:
        return {client_id: matcher.seam for client_id, matcher in self._matchers.items()}
