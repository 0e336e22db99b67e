"""Looks now and then how much binlog is left before the source deletes what is needed next; warns when it is little.

On a connection of its own, within a bounded time; a look that fails changes nothing, and the next one comes soon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ha_canal.config import InstanceSection
from ha_canal.errors import CanalError
from ha_canal.instance.opening import look
from ha_canal.model.position import Position
from ha_canal.mysql.connection import session
from ha_canal.source.position import is_same_server
from ha_canal.source.runway import Expiry, Runway, file_after, runway_of
from ha_canal.source.search import BinlogSearch

log = logging.getLogger(__name__)

_EVERY_S = 60.0
_LIMIT_S = 20.0


class RunwayWatch:
    """``runway`` is the last figure, None before the first. ``needed`` returns the slowest cursor, None: nobody's."""

    def __init__(
        self, config: InstanceSection, needed: Callable[[], Position | None], *, every_s: float = _EVERY_S
    ) -> None:
        self._config = config
        self._needed = needed
        self._every_s = every_s
        self._created_s: dict[str, int] = {}
        self._has_warned = False
        self.runway: Runway | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LIMIT_S):
                    await self._look()
            except (CanalError, TimeoutError) as error:
                log.debug("instance %s: its runway is not known: %s", self._config.name, error)
            await asyncio.sleep(self._every_s)

    async def _look(self) -> None:
        cursor = self._needed()
        if cursor is None:
            return
        async with session(self._config.source) as db:
            binlog = await look(db, self._config)
            expiry = Expiry.of(await db.variables(*Expiry.VARIABLES))
        if not is_same_server(cursor, binlog.info):
            self.runway = None  # a place elsewhere, known by GTIDs
            return
        following = file_after(cursor, binlog.files)
        if following and following not in self._created_s:
            names = [name for name, _ in binlog.files]
            search = BinlogSearch(self._config.source, binlog.info, names, binlog.end)
            self._created_s = {following: await search.created_s(following)}
        self.runway = runway_of(
            cursor,
            binlog.files,
            expiry,
            next_created_s=self._created_s.get(following, 0),
            now_s=binlog.now_ms / 1000,
        )
        self._warn(self.runway, cursor)

    def _warn(self, runway: Runway, cursor: Position) -> None:
        is_short = runway.is_gone or runway.bytes_left == 0
        is_short = is_short or (runway.seconds is not None and runway.seconds < self._config.runway_warning_s)
        is_short = is_short and (runway.bytes_behind > 0 or runway.is_gone)
        if is_short and not self._has_warned:
            log.warning(
                "instance %s: the source may soon delete binlog that is needed from %s on: %s. Let its slowest client "
                "catch up, or have the source keep binlog for longer (binlog_expire_logs_seconds, expire_logs_days)",
                *(self._config.name, cursor, runway),
            )
        self._has_warned = is_short
