"""What an instance keeps in the coordinator: cursors, filters, the first start. Read at the start, written fenced.

All writes of a term go through one queue, so that what was given later is applied later: a lease by itself promises no
order to calls that run at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ha_canal.cluster.coordinator import Tree
from ha_canal.cluster.layout import InstancePaths
from ha_canal.config import SourceSection
from ha_canal.cursor import cursor_from_json, cursor_to_json, remembered_from_json
from ha_canal.errors import NotLeaderError
from ha_canal.instance.notices import MOST_KEPT, Notice, notices_from_json, notices_to_json
from ha_canal.model.position import Position
from ha_canal.model.remembered import NOTHING_REMEMBERED, Remembered
from ha_canal.source.fingerprint import Memory


class Term(Protocol):
    """What an instance needs of the lease under which it runs."""

    @property
    def epoch(self) -> int: ...
    def check(self) -> None: ...
    async def until_valid(self) -> None: ...
    async def write_fenced(self, values: Mapping[str, bytes], delete: Collection[str] = ()) -> None: ...


@dataclass(frozen=True, slots=True)
class Known:
    """A client as the coordinator knows it. ``remembered``: its last transactions, where the source has no GTIDs."""

    cursor: Position
    pattern: str
    remembered: Remembered = NOTHING_REMEMBERED


class Records:
    """The records of one instance in one term. ``notices`` are those on record, once `load_notices` has read them."""

    def __init__(self, term: Term, tree: Tree, paths: InstancePaths, source: SourceSection) -> None:
        self._term = term
        self._tree = tree
        self._source = source
        self._committing = asyncio.Lock()
        self._closed = False
        self.paths = paths
        self.memory: Memory | None = None
        """What was read of a source without GTIDs: cursors are written with what they have behind them."""
        self.notices: tuple[Notice, ...] = ()

    async def clients(self) -> dict[str, Known]:
        """Return every client that has a cursor."""
        found = {}
        for client_id in self.paths.clients_of(await self._tree.children(self.paths.path)):
            paths = self.paths.client(client_id)
            cursor = await self._tree.read(paths.cursor)
            if cursor is not None and cursor.data:
                node = await self._tree.read(paths.filter)
                pattern = node.data.decode() if node is not None else ""
                found[client_id] = Known(cursor_from_json(cursor.data), pattern, remembered_from_json(cursor.data))
        return found

    def encode(self, position: Position, remembered: Remembered | None = None) -> bytes:
        """Return a position as a cursor node holds it, with what is remembered of the transactions before it."""
        source = self._source
        if remembered is None:
            remembered = self.memory.recall(position) if self.memory else NOTHING_REMEMBERED
        return cursor_to_json(
            position,
            source_host=source.host,
            source_port=source.port,
            epoch=self._term.epoch,
            remembered=remembered,
        )

    def forget_before(self, cursor: Position) -> None:
        """Let go of what no cursor at or behind ``cursor`` needs."""
        if self.memory is not None:
            self.memory.forget_before(cursor)

    async def first_start(self) -> Position | None:
        """Return where reading begins for the first client, if that was decided before."""
        node = await self._tree.read(self.paths.parse)
        return cursor_from_json(node.data) if node is not None and node.data else None

    async def load_notices(self) -> None:
        """Read what is on record."""
        node = await self._tree.read(self.paths.history)
        self.notices = tuple(notices_from_json(node.data)) if node is not None else ()

    async def commit(
        self, values: Mapping[str, bytes], delete: Collection[str] = (), *, notices: Sequence[Notice] = ()
    ) -> None:
        """Write under the fence, one commit after the other: what was given later is applied later.

        ``notices`` go on record in the same commit. Raises NotLeaderError when `close_with` has written the last one.
        """
        async with self._one_at_a_time():
            await self._write(values, delete, notices)

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Let nothing be written while the block runs but by `close_with`: cursors stay, and acks wait."""
        async with self._one_at_a_time():
            yield

    async def close_with(self, values: Mapping[str, bytes], notices: Sequence[Notice]) -> None:
        """Write the last commit of the term, inside of `frozen`: whoever waits behind it is refused."""
        await self._write(values, (), notices)
        self._closed = True

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        async with self._committing:
            if self._closed:
                raise NotLeaderError(self.paths.name)
            yield

    async def _write(self, values: Mapping[str, bytes], delete: Collection[str], notices: Sequence[Notice]) -> None:
        if not notices:
            await self._term.write_fenced(values, delete)
            return
        all_notices = (*self.notices, *notices)[-MOST_KEPT:]
        await self._term.write_fenced({**values, self.paths.history: notices_to_json(all_notices)}, delete)
        self.notices = all_notices
