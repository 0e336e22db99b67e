"""What an instance keeps in the coordinator: cursors, filters, the first start. Read at the start, written fenced.

All writes of a term go through one queue, so that what was given later is applied later: a lease by itself promises no
order to calls that run at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from ha_canal.cluster.coordinator import Tree
from ha_canal.cluster.layout import InstancePaths
from ha_canal.config import SourceSection
from ha_canal.cursor import cursor_from_json, cursor_to_json
from ha_canal.model.position import Position


class Term(Protocol):
    """What an instance needs of the lease under which it runs."""

    @property
    def epoch(self) -> int: ...
    def check(self) -> None: ...
    async def until_valid(self) -> None: ...
    async def write_fenced(self, values: Mapping[str, bytes], delete: Collection[str] = ()) -> None: ...


class Records:
    """The records of one instance in one term."""

    def __init__(self, term: Term, tree: Tree, paths: InstancePaths, source: SourceSection) -> None:
        self._term = term
        self._tree = tree
        self._source = source
        self._committing = asyncio.Lock()
        self.paths = paths

    async def clients(self) -> dict[str, tuple[Position, str]]:
        """Return cursor and filter of every client that has a cursor."""
        found = {}
        for client_id in self.paths.clients_of(await self._tree.children(self.paths.path)):
            paths = self.paths.client(client_id)
            if cursor := await self._position(paths.cursor):
                node = await self._tree.read(paths.filter)
                found[client_id] = cursor, node.data.decode() if node is not None else ""
        return found

    async def _position(self, path: str) -> Position | None:
        node = await self._tree.read(path)
        return cursor_from_json(node.data) if node is not None and node.data else None

    def encode(self, position: Position) -> bytes:
        """Return a position as a cursor node holds it."""
        source = self._source
        return cursor_to_json(position, source_host=source.host, source_port=source.port, epoch=self._term.epoch)

    async def first_start(self) -> Position | None:
        """Return where reading begins for the first client, if that was decided before."""
        return await self._position(self.paths.parse)

    async def commit(self, values: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """Write under the fence, one commit after the other: what was given later is applied later."""
        async with self._committing:
            await self._term.write_fenced(values, delete)
