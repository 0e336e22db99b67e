"""A small cluster on the virtual clock: nodes that contend for one instance on the in-memory coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ha_canal.cluster.election import Campaign, campaign
from ha_canal.cluster.layout import InstancePaths, Layout
from ha_canal.cluster.lease import Lease
from ha_canal.errors import CoordinatorLostError, StaleEpochError
from ha_canal.testing.coordinator import MemoryCoordinator, MemoryEnsemble

TIMEOUT_S = 10.0
SHOP: InstancePaths = Layout().instance("shop")
CURSOR = SHOP.client("search").cursor


class Candidate:
    """One node: it runs the instance whenever it can, and writes its epoch and a count under the fence."""

    def __init__(self, name: str, coordinator: MemoryCoordinator, stop_takes_s: float = 0.0) -> None:
        self.name = name
        self.coordinator = coordinator
        self.stop_takes_s = stop_takes_s
        self.lease: Lease | None = None
        self.leases: list[Lease] = []
        self.written: list[tuple[int, int]] = []
        self.contest: Campaign | None = None

    @property
    def outputs(self) -> bool:
        return self.lease is not None and self.lease.valid()

    async def live(self) -> None:
        async with campaign(self.coordinator, SHOP, address=f"{self.name}:1", node=self.name) as self.contest:
            while True:
                async with self.contest.lease() as self.lease:
                    self.leases.append(self.lease)
                    await self._run(self.lease)

    async def _run(self, lease: Lease) -> None:
        try:
            for count in range(1_000_000):
                try:
                    await lease.until_valid()
                    await lease.write_fenced({CURSOR: b"%d %d" % (lease.epoch, count)})
                    self.written.append((lease.epoch, count))
                except (StaleEpochError, CoordinatorLostError):
                    pass
                await asyncio.sleep(0.3)
        finally:
            if self.stop_takes_s:
                await asyncio.sleep(self.stop_takes_s)


@asynccontextmanager
async def cluster(*names: str, stop_takes_s: float = 0.0) -> AsyncIterator[list[Candidate]]:
    """Run candidates; each ends cleanly with the block."""
    ensemble = MemoryEnsemble()
    candidates = [Candidate(name, ensemble.session(timeout_s=TIMEOUT_S), stop_takes_s) for name in names]
    tasks = [asyncio.create_task(candidate.live(), name=candidate.name) for candidate in candidates]
    try:
        yield candidates
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for candidate in candidates:
            candidate.coordinator.close()
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
