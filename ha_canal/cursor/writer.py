"""Group commit for cursors: acks that come together share one write, and each returns when its cursor is durable.

One task writes, one write at a time, so no write overtakes another and a cursor never goes back to what was acked
earlier. While a write is under way, the acks that come meanwhile gather for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from ha_canal.errors import CanalError, CoordinatorLostError
from ha_canal.model.position import Position


class CursorStorage(Protocol):
    """Where cursors are kept, under the fence of our epoch."""

    async def write_fenced(self, values: Mapping[str, bytes]) -> None:
        """Make the cursors of all clients in ``values`` durable in one transaction, or none of them.

        Raises StaleEpochError if another leader has begun since, LinkError if it is not known to be durable. Must
        end by itself within a time: the end of the writer waits for it.
        """


class _Group:
    """The cursors that one write takes along, and the word for those who wait for it."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self.ended = asyncio.Event()
        self.error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.ended.set()


class CursorWriter:
    """Use it as ``async with CursorWriter(...)``: it runs inside, and has written all it was given at the end.

    ``encode`` turns a position into the stored bytes. After an error of the storage the next write is tried anew.
    """

    def __init__(self, storage: CursorStorage, *, encode: Callable[[Position], bytes]) -> None:
        self._storage = storage
        self._encode = encode
        self._next = _Group()
        self._work = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="cursor writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._closing = True
        self._work.set()
        await self._task

    async def write(self, client_id: str, position: Position) -> None:
        """Return when ``position``, or a later one of the client, is durable.

        Later means: given later. Raises what the storage raised for the write that took it along; then the cursor may
        or may not be durable. A cancelled write may still become durable.
        """
        if self._task is None or self._task.done() or self._closing:
            raise CoordinatorLostError("the term is ending here, no cursor is written any more; ask the next leader")
        group = self._next
        group.positions[client_id] = position
        self._work.set()
        await group.ended.wait()
        if group.error is not None:
            raise group.error

    async def _run(self) -> None:
        group = self._next
        try:
            while await self._has_work():
                group, self._next = self._next, _Group()
                await self._write(group)
        finally:
            for unwritten in (group, self._next):
                if not unwritten.ended.is_set():
                    unwritten.end(CoordinatorLostError("the cursor writer was stopped before the cursor was written"))

    async def _has_work(self) -> bool:
        await self._work.wait()
        self._work.clear()
        if self._closing:
            self._work.set()
        return bool(self._next.positions)

    async def _write(self, group: _Group) -> None:
        values = {client_id: self._encode(position) for client_id, position in group.positions.items()}
        try:
            await self._storage.write_fenced(values)
        except CanalError as error:
            group.end(error)
        else:
            group.end()
