"""Shows at ``…/<clientId>/running`` which client holds the lock of its client id.

For operators and old clients to look at: the lock itself is kept by the instance, in memory. Written under the fence of
the instance's lease, and ephemeral, so that nothing is shown longer than the node's session lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ha_canal.cluster.coordinator import ConflictError, Coordinator, Create, Delete, Operation, Set
from ha_canal.cluster.layout import InstancePaths, RunningClient
from ha_canal.cluster.lease import ATTEMPTS, Lease


class ClientLockBoard:
    """The display of all client locks of one instance, for as long as its lease lasts."""

    def __init__(self, coordinator: Coordinator, paths: InstancePaths, lease: Lease) -> None:
        self._coordinator = coordinator
        self._paths = paths
        self._lease = lease

    async def show(self, client_id: str, holder: str) -> None:
        """Show the holder, as it named itself (``host:port``), in place of what stood there: ours, or a dead session's.

        Raises StaleEpochError or CoordinatorLostError, as all fenced writes do.
        """
        path = self._paths.client(client_id).running
        payload = RunningClient(address=holder, client_id=client_id, epoch=self._lease.epoch).to_json()
        await self._until_agreed(lambda: self._showing(path, payload))

    async def clear(self, client_id: str) -> None:
        """Show that nobody holds the lock. Raises as `show` does."""
        path = self._paths.client(client_id).running
        await self._until_agreed(lambda: self._clearing(path))

    async def _showing(self, path: str, payload: bytes) -> list[Operation]:
        node = await self._coordinator.read(path)
        if node is None:
            return [Create(path, payload, ephemeral=True)]
        if node.owner == self._lease.session_id:
            return [Set(path, payload)]
        return [Delete(path, node.version), Create(path, payload, ephemeral=True)]

    async def _clearing(self, path: str) -> list[Operation]:
        node = await self._coordinator.read(path)
        return [] if node is None else [Delete(path, node.version)]

    async def _until_agreed(self, plan: Callable[[], Awaitable[list[Operation]]]) -> None:
        """Commit what is planned; when a node came or went in between (a dead session's end), plan again."""
        for attempt in range(1, ATTEMPTS + 1):
            self._lease.check()
            try:
                await self._lease.commit_fenced(await plan())
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
            else:
                return
