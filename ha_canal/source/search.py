"""Looking for places by time, on dump connections of its own; memory is bounded whatever the size of the binlog.

From the newest file backwards, files that were begun too late are skipped by the time in their first event; the one
that is left is looked through by its headers (`ha_canal.source.boundaries`). Nothing beyond the end that was seen when
the search began is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from ha_canal.binlog.stream import BinlogStream
from ha_canal.config import SourceSection
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo
from ha_canal.mysql.dump import LARGEST_OFFSET, BinlogSocket
from ha_canal.source.beside import BesideDumps
from ha_canal.source.boundaries import BoundaryScan
from ha_canal.source.refusal import server_errors_explained

log = logging.getLogger(__name__)

_FIRST_EVENT = 4


class BinlogSearch:
    """Questions about one server's binlog. ``files`` are its names, oldest first; the last one is ``end``'s.

    Each question opens connections of its own, under ids that are nobody else's, so that no reader is cut.
    """

    def __init__(self, source: SourceSection, info: ServerInfo, files: Sequence[str], end: Position) -> None:
        self._info = info
        self._files = list(files)
        self._end = end
        self._created_s: dict[str, int] = {}
        self._dumps = BesideDumps(source)

    async def before(self, before_ms: int) -> Position | None:
        """Return the last boundary such that everything before it is older than ``before_ms``.

        None: even the oldest file was begun later. Times are the server's own, in whole seconds; who asks for the
        middle of a second gets the boundary before all of it. Raises our errors.
        """
        young_s = before_ms // 1000
        file = await self._newest_begun_before(young_s)
        if file is None:
            return None
        scan = await self._scan(file, young_s)
        offset = min(scan.found or _FIRST_EVENT, LARGEST_OFFSET)
        found = Position(
            file, offset, self._info.server_uuid, self._info.server_id, timestamp_ms=scan.newest_before_s * 1000
        )
        log.info("%s: everything before %s is older than second %d", self._info.address, found, young_s)
        return found

    async def created_s(self, file: str) -> int:
        """Return when ``file`` was begun, by the server's clock, in seconds since 1970."""
        if file not in self._created_s:
            self._created_s[file] = (await self._scan(file, 0)).created_s
        return self._created_s[file]

    def dump(self, start: Position) -> AbstractAsyncContextManager[BinlogSocket]:
        """Return a dump connection from ``start``, by file and offset."""
        return self._dumps.dump(self._info, replace(start, gtid_set=""))

    async def _newest_begun_before(self, young_s: int) -> str | None:
        """Look back in growing strides, then halve the last one: few heads are read, and the newest ones first."""
        too_young, step = len(self._files), 1
        old_enough = -1
        while too_young > 0 and old_enough < 0:
            at = max(0, too_young - step)
            if await self.created_s(self._files[at]) < young_s:
                old_enough = at
            else:
                too_young, step = at, step * 2
        while 0 <= old_enough < too_young - 1:
            middle = (old_enough + too_young) // 2
            if await self.created_s(self._files[middle]) < young_s:
                old_enough = middle
            else:
                too_young = middle
        return self._files[old_enough] if old_enough >= 0 else None

    async def _scan(self, file: str, young_s: int) -> BoundaryScan:
        scan = BoundaryScan(young_s=young_s, stop_at=self._end.offset if file == self._end.file else 0)
        stream = BinlogStream(file=file, offset=_FIRST_EVENT, server_uuid=self._info.server_uuid)
        async with self.dump(Position(file, _FIRST_EVENT)) as socket:
            with server_errors_explained(self._info, stream):
                known = False
                while not known:
                    known = scan.feed(await socket.receive())
                    await asyncio.sleep(0)  # a fast source never makes us wait, and others share this loop
        return scan
