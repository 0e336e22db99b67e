"""Terms of office on a real database, one after the other over one in-memory coordination service; and clients.

The election, its lease and its fence are the real ones. `Link` stands between them and the instance, and fails or
holds what a test tells it to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from ha_canal.binlog.rows import decode_rows
from ha_canal.cluster.coordinator import Coordinator, Node, Operation, Watched
from ha_canal.cluster.election import campaign
from ha_canal.cluster.layout import Layout
from ha_canal.cluster.lease import Lease
from ha_canal.cluster.lock_board import ClientLockBoard
from ha_canal.config import InstanceSection
from ha_canal.cursor import cursor_from_json
from ha_canal.errors import CoordinatorLostError
from ha_canal.instance import Instance
from ha_canal.instance.choice import stored_choice
from ha_canal.instance.feed import Feed
from ha_canal.model.change import Rows, Statement
from ha_canal.model.position import Position
from ha_canal.model.run import unpacked
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import source_of

PATHS = Layout("/otter/canal").instance("shop")


class Link:
    """A lease and its tree; its faults are for the instance alone, the election never sees them."""

    def __init__(self, coordinator: Coordinator, lease: Lease) -> None:
        self.failing_writes = 0
        self.failing_reads: dict[str, int] = {}
        self.held: asyncio.Event | None = None
        """While it is there, writes wait for it, and so does the look at who is known."""
        self.waiting_writes = 0
        self._coordinator = coordinator
        self._lease = lease

    @property
    def epoch(self) -> int:
        return self._lease.epoch

    def check(self) -> None:
        self._lease.check()

    async def until_valid(self) -> None:
        await self._lease.until_valid()

    async def write_fenced(self, values: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        if self.held is not None:
            self.waiting_writes += 1
            await self.held.wait()
            self.waiting_writes -= 1
        if self.failing_writes:
            self.failing_writes -= 1
            raise CoordinatorLostError("the link is cut, and nothing was written")
        await self._lease.write_fenced(values, delete)

    async def read(self, path: str) -> Node | None:
        if self.failing_reads.get(path, 0):
            self.failing_reads[path] -= 1
            raise CoordinatorLostError(f"the link is cut in reading {path}")
        return await self._coordinator.read(path)

    async def children(self, path: str) -> list[str]:
        if self.held is not None:
            await self.held.wait()
        return await self._coordinator.children(path)

    async def commit(self, operations: Sequence[Operation]) -> None:
        await self._coordinator.commit(operations)

    async def watch(self, path: str) -> Watched:
        return await self._coordinator.watch(path)


class Client:
    """Reads one feed in order, and remembers the first column of all rows."""

    def __init__(self, instance: Instance, client_id: str, feed: Feed) -> None:
        self.feed = feed
        self.ids: list[int] = []
        self.statements: list[str] = []
        self._instance = instance
        self._client_id = client_id

    async def read(self, until: int, *, ack: bool = True, max_items: int = 1000) -> list[int]:
        """Read until the row ``until`` has come, and return all ids so far. Ack each batch, as the service does."""
        while until not in self.ids:
            batch = await self.feed.get(max_items=max_items, max_bytes=1 << 20, timeout_s=20.0)
            assert batch is not None, f"{self._client_id} waits for row {until}, and has {self.ids[-10:]}"
            for item in unpacked(batch.items):
                if isinstance(item, Rows):
                    self.ids += [int(str(after[0])) for _, after in decode_rows(item)]
                elif isinstance(item, Statement):
                    self.statements.append(item.sql)
            if ack:
                await self._instance.acknowledged(self._client_id, batch.position)
                self.feed.ack(batch.batch_id)
        return self.ids

    @property
    def cursor(self) -> Position:
        return self.feed.ring.cursor


class Term:
    """One term of office that runs."""

    def __init__(self, instance: Instance, link: Link, running: asyncio.Task[None]) -> None:
        self.instance = instance
        self.link = link
        self.running = running

    async def client(self, client_id: str, pattern: str | None = None) -> Client:
        feed, _ = await self.instance.subscribe(client_id, pattern)
        assert isinstance(feed, Feed)
        return Client(self.instance, client_id, feed)

    @property
    def detail(self) -> str:
        return self.instance.describe({}).detail


def section_of(tables: Database | DatabaseServer | FaultProxy, **settings: object) -> InstanceSection:
    """Return an instance that reads ``tables``: those of one database, or the whole server."""
    source = source_of(tables.server if isinstance(tables, Database) else tables)
    wanted = rf"{tables.name}\..*" if isinstance(tables, Database) else r".*\..*"
    return InstanceSection.model_validate({"name": "shop", "source": source, "filter": wanted} | settings)


@contextlib.asynccontextmanager
async def term(
    ensemble: MemoryEnsemble, section: InstanceSection, *, stopped_retry_s: float = 30.0
) -> AsyncIterator[Term]:
    """Win the election, and run the instance while the block runs; what ends it by itself stays in its task."""
    coordinator = ensemble.session()
    try:
        async with campaign(coordinator, PATHS, address="node:1", node="node") as contest, contest.lease() as lease:
            link = Link(coordinator, lease)
            board = ClientLockBoard(coordinator, PATHS, lease)
            choice = await stored_choice(coordinator, PATHS, section)
            instance = Instance(
                section,
                link,
                link,
                PATHS,
                root="/otter/canal",
                board=board,
                choice=choice,
                stopped_retry_s=stopped_retry_s,
            )
            running = asyncio.create_task(instance.run(), name="term")
            try:
                yield Term(instance, link, running)
            finally:
                running.cancel()
                await asyncio.wait([running])
    finally:
        coordinator.close()


def stored(ensemble: MemoryEnsemble, path: str) -> bytes | None:
    """Return what the coordination service holds at ``path``."""
    node = ensemble.tree.read(path)
    return None if node is None else node.data


def stored_cursor(ensemble: MemoryEnsemble, client_id: str) -> Position | None:
    data = stored(ensemble, PATHS.client(client_id).cursor)
    return None if data is None else cursor_from_json(data)


async def insert(database: Database, *ids: int) -> None:
    """Insert rows into ``goods``, each in a transaction of its own."""
    for number in ids:
        await database.execute("INSERT INTO goods VALUES (%s)", number)
