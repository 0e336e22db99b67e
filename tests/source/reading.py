"""A reader on a real server, kept reading over breaks as an instance does, and what came out of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from ha_canal.binlog.rows import decode_rows
from ha_canal.config import SourceSection
from ha_canal.errors import CanalError
from ha_canal.model.change import ChangeKind, Item, Rows, Statement
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, unpacked
from ha_canal.mysql.connection import end_of_binlog, inspect, session, start_of_binlog
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.reader import Identity, Reader
from ha_canal.testing.eventually import eventually
from tests.mysql.sources import REPLICA_UUID, SERVER_ID

IDENTITY = Identity(SERVER_ID, REPLICA_UUID)
_PAUSE_S = 0.02

OnPut = Callable[[Sequence[Item]], Awaitable[None]]


class Reading:
    """What a reader has handed on so far, and the errors with which its connections ended."""

    def __init__(self, source: SourceSection, start: Position, tables: str, on_put: OnPut | None = None) -> None:
        self.items: list[Item] = []
        self.ids: list[int] = []
        """The first column of all rows, in order."""
        self.errors: list[CanalError] = []
        self._on_put = on_put
        wanted = TableFilter(tables)
        self.reader = Reader(source, IDENTITY, wanted, Sink(wanted), self._put, start)

    async def _put(self, got: Sequence[Parcel]) -> None:
        items = list(unpacked(got))
        self.items += items
        self.ids += [int(row[0]) for item in items if isinstance(item, Rows) for row in images(item)]
        if self._on_put is not None:
            await self._on_put(items)

    @property
    def statements(self) -> list[str]:
        return [item.sql for item in self.items if isinstance(item, Statement)]

    async def run(self) -> None:
        """Read until an error that trying again cannot mend; raises that."""
        while True:
            try:
                await self.reader.read_until_it_breaks()
            except CanalError as error:
                self.errors.append(error)
                if not error.retriable:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def until_ids(self, wanted: int, *, within_s: float = 30) -> None:
        await eventually(lambda: len(self.ids) >= wanted, within_s=within_s, what=f"{wanted} rows are read")


def images(item: Rows) -> list[tuple[str, ...]]:
    """Return the values of each row: after the change, or, for a delete, before it."""
    which = 0 if item.kind is ChangeKind.DELETE else 1
    return [tuple(str(value) for value in pair[which]) for pair in decode_rows(item)]


@contextlib.asynccontextmanager
async def reading(
    source: SourceSection, start: Position, tables: str, on_put: OnPut | None = None
) -> AsyncIterator[Reading]:
    """Read as long as the block runs. An error that ends the reading stays in ``errors`` and in the task."""
    held = Reading(source, start, tables, on_put)
    task = asyncio.create_task(held.run(), name="reading")
    try:
        yield held
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, CanalError):
            await task


async def end_of_reading(source: SourceSection, start: Position, tables: str = "") -> CanalError:
    """Read until an error that trying again cannot mend, and return it."""
    held = Reading(source, start, tables)
    try:
        async with asyncio.timeout(30):
            await held.run()
    except CanalError as error:
        return error
    raise AssertionError("reading does not end")


async def binlog_ends(source: SourceSection) -> tuple[Position, Position]:
    """Return where the server's binlog starts and ends now."""
    async with session(source) as db:
        info = await inspect(db, source)
        return await start_of_binlog(db, info), await end_of_binlog(db, info)
