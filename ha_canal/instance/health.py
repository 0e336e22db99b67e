"""Whether an instance can serve: what troubles its reading, whether that is for good, and who waits for the answer."""

from __future__ import annotations

import asyncio
import logging

from ha_canal.errors import CanalError, SourceBusyError, SourceRefusedError, StaleEpochError

log = logging.getLogger(__name__)

_READY_LIMIT_S = 10.0


class Health:
    """``failure`` is an error that trying again at once cannot mend; ``trouble`` the last one of any kind."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready_or_failed = asyncio.Event()
        self.failure: CanalError | None = None
        self.trouble = ""
        self.ready = False

    def is_ready(self) -> None:
        """Learn that subscriptions can be opened from here on."""
        self.ready = True
        self._ready_or_failed.set()

    def is_well(self) -> None:
        """Learn that nothing stands in the way of reading now."""
        self._set_failure(None)

    def note(self, error: CanalError, *, may_heal: bool = False) -> None:
        """Learn of an error; it is logged when it is news. ``may_heal``: another source may do what this one cannot.

        That the term is over is no trouble: whoever holds the lease says so, and ends the instance.
        """
        if isinstance(error, StaleEpochError):
            return
        may_heal = error.retriable or (may_heal and isinstance(error, SourceRefusedError))
        if str(error) != self.trouble:
            self.trouble = str(error)
            if may_heal:
                log.warning("instance %s: %s; trying again", self._name, error)
            else:
                log.error("instance %s stopped: %s", self._name, error)
        self._set_failure(None if may_heal else error)

    def _set_failure(self, failure: CanalError | None) -> None:
        self.failure = failure
        if failure is not None or self.ready:
            self._ready_or_failed.set()
        else:
            self._ready_or_failed.clear()

    async def until_ready(self) -> None:
        """Return when subscriptions can be opened. Raises the failure, or SourceBusyError after some seconds."""
        try:
            async with asyncio.timeout(_READY_LIMIT_S):
                await self._ready_or_failed.wait()
        except TimeoutError:
            raise SourceBusyError(
                f"instance {self._name!r} cannot reach its source yet: {self.trouble or 'still starting'}"
            ) from None
        if not self.ready and self.failure is not None:
            raise self.failure

    def detail(self, state: str, why: str) -> str:
        """Return why the instance is in ``state``; ``why`` is where it began."""
        if self.failure is not None:
            return str(self.failure)
        if state == "waiting":
            return f"no client has subscribed yet; {why}"
        return (self.trouble or why) if state == "connecting" else (why or self.trouble)
