"""What an election asks of the coordinator: take ``running`` with a new epoch, see whose it is, give it back.

Each is one attempt: it raises CoordinatorLostError when the link breaks, and is then done or not. Called by
`ha_canal.cluster.election`, which tries again.
"""

from __future__ import annotations

from contextlib import suppress

from ha_canal.cluster.coordinator import Check, ConflictError, Coordinator, Create, Delete, Operation, Set
from ha_canal.cluster.layout import InstancePaths, RunningNode, epoch_from_bytes, epoch_to_bytes


class Claim:
    """Our claim on the ``running`` of one instance, as ``node`` at ``address``."""

    def __init__(self, coordinator: Coordinator, paths: InstancePaths, *, address: str, node: str) -> None:
        self._coordinator = coordinator
        self._paths = paths
        self._address = address
        self._node = node

    async def take(self) -> tuple[int, int]:
        """Make ``running`` and raise the epoch in one commit; return the epoch and its node's version.

        Raises ConflictError when another was faster, UsageError for garbage in the epoch node.
        """
        node = await self._coordinator.read(self._paths.epoch)
        epoch = 1 if node is None else epoch_from_bytes(node.data, self._paths.epoch) + 1
        session = self._coordinator.session.id
        payload = RunningNode(self._address, self._node, session).to_json()
        number = epoch_to_bytes(epoch)
        raised: Operation = (
            Create(self._paths.epoch, number) if node is None else Set(self._paths.epoch, number, node.version)
        )
        await self._coordinator.commit([Create(self._paths.running, payload, ephemeral=True), raised])
        return epoch, 0 if node is None else node.version + 1

    async def owner(self) -> str:
        """Return the session that ``running`` belongs to, "" if there is none."""
        node = await self._coordinator.read(self._paths.running)
        return "" if node is None else node.owner

    async def give_back(self, session_id: str) -> str:
        """Delete ``running`` if it is this session's; the check of the epoch keeps us off a successor's."""
        epoch = await self._coordinator.read(self._paths.epoch)
        node = await self._coordinator.read(self._paths.running)
        if epoch is not None and node is not None and node.owner == session_id:
            with suppress(ConflictError):  # somebody else's by now
                await self._coordinator.commit([Check(self._paths.epoch, epoch.version), Delete(self._paths.running)])
        return session_id
