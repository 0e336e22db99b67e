"""What a client reads: its subscription of the ring, and the bad news behind it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ha_canal.errors import CanalError
from ha_canal.server.ports import Batch
from ha_canal.store.subscription import Subscription

_FAILURE_TOLD_S = 2.0
"""A waiting client is told this soon that reading has stopped."""


class Source(Protocol):
    """Says why nothing more comes, if that is so."""

    leaving: bool

    @property
    def failure(self) -> CanalError | None: ...


class Feed:
    """A client's subscription, which tells its reader why nothing more comes, once it has given all there is."""

    def __init__(self, subscription: Subscription, pattern: str, source: Source) -> None:
        self.ring = subscription
        self.pattern = pattern
        self._source = source

    async def get(self, *, max_items: int, max_bytes: int, timeout_s: float) -> Batch | None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            left_s = max(0.0, min(deadline_s - loop.time(), _FAILURE_TOLD_S))
            batch = await self.ring.get(max_items=max_items, max_bytes=max_bytes, timeout_s=left_s)
            if batch is not None and not self._source.leaving:
                return batch
            if batch is not None:  # it comes from the next leader: one that leaves waits only for what is out
                self.ring.rollback(batch.batch_id)
                await asyncio.sleep(max(0.0, deadline_s - loop.time()))
            if self._source.failure is not None:
                raise self._source.failure
            if loop.time() >= deadline_s:
                return None

    def ack(self, batch_id: int) -> object:
        return self.ring.ack(batch_id)

    def rollback(self, batch_id: int | None) -> None:
        self.ring.rollback(batch_id)
