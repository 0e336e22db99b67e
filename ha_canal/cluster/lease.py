"""A lease: the right to run one instance in one epoch, and the fence in front of everything that it writes.

A lease is handed out by `ha_canal.cluster.election`. Whoever runs the instance asks `Lease.valid` before each output
(synchronous and exact: link, session and deadline are read at that moment), and writes to the coordinator through
`Lease.write_fenced` alone: one atomic commit with a check of the epoch node, so that a deposed leader's late write
fails by itself, whatever it believes. (Not a check of ``running``: a node made anew starts at version 0 again.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from ha_canal.cluster.coordinator import (
    Check,
    ConflictError,
    Coordinator,
    Create,
    Delete,
    Operation,
    Set,
)
from ha_canal.cluster.layout import InstancePaths
from ha_canal.errors import CoordinatorLostError, StaleEpochError

ATTEMPTS = 5
"""How often a fenced write adapts to nodes that came or went meanwhile (by an operator's hand: nobody else writes)."""


class Lease:
    """The right to run ``instance`` in ``epoch``; ``lost`` is set when it has ended, ``reason`` then says why."""

    def __init__(
        self,
        coordinator: Coordinator,
        paths: InstancePaths,
        epoch: int,
        epoch_version: int,
        may_output: Callable[[], bool],
        doubt: Callable[[], None],
    ) -> None:
        self.instance = paths.name
        self.epoch = epoch
        self.session_id = coordinator.session.id
        self.lost = asyncio.Event()
        self.reason = ""
        self._coordinator = coordinator
        self._fence = Check(paths.epoch, epoch_version)
        self._may_output = may_output
        self._doubt = doubt
        self._recheck = asyncio.Event()
        self._known: set[str] = set()

    def valid(self) -> bool:
        """Return whether output is allowed at this very moment."""
        return not self.lost.is_set() and self._may_output()

    def check(self) -> None:
        """Raise StaleEpochError when the lease has ended, CoordinatorLostError while output is paused."""
        if self.lost.is_set():
            raise StaleEpochError(f"epoch {self.epoch} of instance {self.instance!r} has ended here: {self.reason}")
        if not self._may_output():
            raise CoordinatorLostError(
                f"instance {self.instance!r} pauses its output: the link to the coordinator is cut, or its word is old"
            )

    async def until_valid(self) -> None:
        """Return when output is allowed, at once if it is. Raises StaleEpochError when the lease has ended."""
        while not self.valid():
            if self.lost.is_set():
                self.check()
            self._recheck.clear()
            await self._recheck.wait()

    async def write_fenced(self, values: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """Write all values, and delete those nodes with all that is below them, in one durable commit of this epoch.

        Nodes that do not exist are made; deleting what does not exist is no error. Two calls under way at the same time
        may be applied in either order. Raises StaleEpochError when another epoch has begun, CoordinatorLostError when
        the link is cut (then the write may have been applied or not; to repeat it is right).
        """
        for attempt in range(1, ATTEMPTS + 1):
            self.check()
            operations = await self._writes(values) + await self._deletes(delete)
            try:
                await self.commit_fenced(operations)
            except ConflictError as error:
                self._known.discard(error.operation.path)
                if attempt == ATTEMPTS:
                    raise
            else:
                self._known.update(values)
                self._known -= {operation.path for operation in operations if isinstance(operation, Delete)}
                return

    async def commit_fenced(self, operations: Sequence[Operation]) -> None:
        """Commit the operations if this epoch still holds.

        Raises StaleEpochError, ConflictError (for one of the operations), CoordinatorLostError.
        """
        self.check()
        try:
            await self._coordinator.commit([self._fence, *operations])
        except ConflictError as error:
            if error.operation is not self._fence:
                raise
            self._doubt()
            raise StaleEpochError(
                f"instance {self.instance!r} runs in a later epoch than {self.epoch} by now: nothing was written"
            ) from error

    def end(self, reason: str) -> None:
        """End the lease: for the election alone."""
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()
        self.look_again()

    def look_again(self) -> None:
        """Let those who wait in `until_valid` look again: for the election alone."""
        self._recheck.set()

    async def _writes(self, values: Mapping[str, bytes]) -> list[Operation]:
        for path in values:
            if path not in self._known and await self._coordinator.read(path) is not None:
                self._known.add(path)
        return [Set(path, data) if path in self._known else Create(path, data) for path, data in values.items()]

    async def _deletes(self, roots: Collection[str]) -> list[Operation]:
        return [Delete(path) for root in roots for path in await self._below(root)]

    async def _below(self, path: str) -> list[str]:
        """Return the node and all below it, children first; nothing if it does not exist."""
        if await self._coordinator.read(path) is None:
            return []
        below = [await self._below(f"{path}/{name}") for name in await self._coordinator.children(path)]
        return [*(found for part in below for found in part), path]
