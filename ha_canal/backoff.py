"""Trying again: how long to wait between attempts, and one loop that does it.

Every place that tries again after a `LinkError` or a retriable refusal uses `retry` (or takes its delays from
`Backoff`), so that pauses grow the same way everywhere and the log says each trouble once, not once per attempt.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ha_canal.errors import CanalError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: ``initial_s``, then ``factor`` times more each, at most ``max_s``.

    Each delay is then changed at random by up to ``jitter`` (a share of it) either way, so that many who lost the same
    server do not come back in step. Iterating gives the delays, without end; each iteration starts anew.
    """

    initial_s: float = 0.1
    max_s: float = 5.0
    factor: float = 2.0
    jitter: float = 0.2

    def __iter__(self) -> Iterator[float]:
        delay_s = self.initial_s
        while True:
            spread = random.uniform(-self.jitter, self.jitter)  # noqa: S311 (spreads load, guards no secret)
            yield min(delay_s, self.max_s) * (1 + spread)
            delay_s = min(delay_s * self.factor, self.max_s)


class Trouble:
    """Says in the log, once per state, that ``what`` does not work, and once that it works again."""

    def __init__(self, what: str, logger: logging.Logger = log) -> None:
        self._what = what
        self._log = logger
        self._seen: type[CanalError] | None = None

    def met(self, error: CanalError) -> None:
        """Note a failed attempt; logged when the kind of error is another one than last time."""
        if type(error) is not self._seen:
            self._seen = type(error)
            self._log.warning("%s does not work, trying again: %s", self._what, error)

    def over(self) -> None:
        """Note a success; logged when attempts had failed before."""
        if self._seen is not None:
            self._seen = None
            self._log.info("%s works again", self._what)


async def retry(
    attempt: Callable[[], Awaitable[T]],
    *,
    what: str,
    backoff: Backoff | None = None,
    limit_s: float | None = None,
    logger: logging.Logger = log,
) -> T:
    """Return what ``attempt`` returns, calling it again after each retriable `CanalError`.

    ``what`` names the work in the log ("connecting to ZooKeeper"). Without ``limit_s`` it tries for ever; with it,
    the last error is raised once the next attempt would start more than ``limit_s`` seconds after the first.
    An error which is not retriable is raised at once.
    """
    loop = asyncio.get_running_loop()
    give_up_at = None if limit_s is None else loop.time() + limit_s
    trouble = Trouble(what, logger)
    for delay_s in backoff or Backoff():
        try:
            result = await attempt()
        except CanalError as error:
            if not error.retriable or (give_up_at is not None and loop.time() + delay_s > give_up_at):
                raise
            trouble.met(error)
        else:
            trouble.over()
            return result
        await asyncio.sleep(delay_s)
    raise AssertionError("delays never end")
