"""One term of office of one instance: source → ring → subscriptions, and the durable cursors behind them.

Made by the node when it wins the instance, gone when the term ends; nothing in here outlives the epoch. The clients'
cursors come from the coordinator and go back there fenced by the epoch, so a deposed term can change nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from ha_canal.backoff import Backoff
from ha_canal.cluster.coordinator import Tree
from ha_canal.cluster.layout import InstancePaths
from ha_canal.config import InstanceSection
from ha_canal.cursor import CursorWriter, cursor_from_json, cursor_to_json
from ha_canal.errors import CanalError, NotLeaderError, SourceBusyError, StartPassedError, StreamError
from ha_canal.model.position import Position
from ha_canal.mysql.connection import end_of_binlog, inspect, session, start_of_binlog, visible_tables
from ha_canal.protos import canal_pb2
from ha_canal.server.ports import Batch, LockBoard, Subscription
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.position import choose_start
from ha_canal.source.reader import Identity, Reader
from ha_canal.store.ring import Ring
from ha_canal.store.subscription import Subscription as RingSubscription

log = logging.getLogger(__name__)

_RETRY = Backoff(initial_s=0.1, max_s=5.0)
_STOPPED_RETRY_S = 30.0
"""An instance that stopped loudly looks again this often whether somebody mended the cause."""
_READY_LIMIT_S = 10.0
_IDLE_CURSOR_S = 2.0


class Term(Protocol):
    """What an instance needs of the lease under which it runs."""

    @property
    def epoch(self) -> int: ...
    def check(self) -> None: ...
    async def write_fenced(self, values: Mapping[str, bytes], delete: Collection[str] = ()) -> None: ...


class _Feed:
    """A subscription that tells its reader why nothing more comes, once it has given all there is."""

    def __init__(self, subscription: RingSubscription, instance: Instance) -> None:
        self.ring = subscription
        self._instance = instance
        self.pattern = ""

    async def get(self, *, max_items: int, max_bytes: int, timeout_s: float) -> Batch | None:
        batch = await self.ring.get(max_items=max_items, max_bytes=max_bytes, timeout_s=timeout_s)
        if batch is None and self._instance.failure is not None:
            raise self._instance.failure
        return batch

    def ack(self, batch_id: int) -> object:
        return self.ring.ack(batch_id)

    def rollback(self, batch_id: int | None) -> None:
        self.ring.rollback(batch_id)


class Instance:
    """Runs while `run` runs; serves gRPC (it is a `ha_canal.server.ports.ServedInstance`)."""

    def __init__(
        self, config: InstanceSection, term: Term, tree: Tree, paths: InstancePaths, *, root: str, board: LockBoard
    ) -> None:
        self._config = config
        self._term = term
        self._tree = tree
        self._paths = paths
        self._root = root
        self.board = board
        self.ended: asyncio.Future[CanalError] = asyncio.get_running_loop().create_future()
        self.failure: CanalError | None = None
        """Why reading stopped, when it did: an error that trying again at once cannot mend."""
        self._trouble = ""
        self._why = ""
        self._idle_note = ""
        self._visible: list[tuple[str, str]] = []
        self._filter = TableFilter(config.filter, config.exclude)
        self._ring = Ring(max_bytes=config.ring.max_bytes, max_items=config.ring.max_items)
        self._feeds: dict[str, _Feed] = {}
        self._written: dict[str, Position] = {}
        self._reader: Reader | None = None
        self._gtids_from_empty = False
        self._ready = asyncio.Event()
        self._has_readers = asyncio.Event()
        self._subscribing = asyncio.Lock()
        self._cursors = CursorWriter(self, encode=self._record)

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def epoch(self) -> int:
        return self._term.epoch

    def check_output(self) -> None:
        self._term.check()

    async def run(self) -> None:
        """Read the source and keep the cursors until cancelled; clients are told before anything is taken down.

        Raises StreamError when the stream cannot be trusted, some time after it has stopped: what is in memory may be
        half a transaction, and the next term begins anew from the cursors.
        """
        async with self._cursors:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(), name=f"source of {self.name}")
                    tasks.create_task(self._keep_idle_cursors(), name=f"idle cursors of {self.name}")
            except* StreamError:
                pass  # it is `failure`, and raised below as itself
            finally:
                self.ended.set_result(NotLeaderError(self.name))
        if self.failure is not None:
            raise self.failure

    async def flush(self) -> None:
        """Write every cursor that moved without an ack (filtered traffic), before a clean end."""
        for client_id, feed in self._feeds.items():
            cursor = feed.ring.cursor
            if feed.ring.in_flight == 0 and cursor != self._written.get(client_id):
                await self.acknowledged(client_id, cursor)

    # the source

    async def _read(self) -> None:
        delays = iter(_RETRY)
        while True:
            before = self._reader.progress.transactions if self._reader else 0
            try:
                reader = self._reader or await self._prepare()
                await self._has_readers.wait()
                self.failure = None
                await reader.read_until_it_breaks()
            except CanalError as error:
                if self._reader is not None and self._reader.progress.transactions > before:
                    delays, self._trouble = iter(_RETRY), ""
                self._note(error)
                await asyncio.sleep(next(delays) if error.retriable else _STOPPED_RETRY_S)
                if isinstance(error, StreamError):
                    raise

    def _note(self, error: CanalError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            if error.retriable:
                log.warning("instance %s: %s; trying again", self.name, error)
            else:
                log.error("instance %s stopped: %s", self.name, error)
        self.failure = None if error.retriable else error

    async def _prepare(self) -> Reader:
        """Find where to read from, store that if it is new, and open the subscriptions of all known clients."""
        cursors = await self._stored_cursors()
        checkpoint = await self._stored(self._paths.parse)
        source = self._config.source
        async with session(source) as db:
            info = await inspect(db, source)
            oldest, end = await start_of_binlog(db, info), await end_of_binlog(db, info)
            self._visible = await visible_tables(db)
        self._warn_of_idle(self._filter, "the instance's filter", self._visible)
        stored = list(cursors.values()) or ([checkpoint] if checkpoint else [])
        start = choose_start(stored, info, oldest=oldest, end=end, policy=self._config.start)
        at = start.position
        self._gtids_from_empty = info.gtids and not at.gtid_set and not oldest.gtid_set and at.file == oldest.file
        self._why = start.why
        log.info("instance %s, epoch %d: %s", self.name, self.epoch, start.why)
        if not stored:
            await self._term.write_fenced({self._paths.parse: self._record(start.position)})
        identity = Identity.of_instance(self.name, root=self._root, server_id=source.server_id)
        self._reader = Reader(source, identity, self._filter, Sink(self._filter), self._ring.put, start.position)
        for client_id, position in cursors.items():
            pattern = await self._stored_filter(client_id)
            self._open(client_id, position, pattern)
        self._ready.set()
        return self._reader

    def _warn_of_idle(self, tables: TableFilter, whose: str, visible: list[tuple[str, str]]) -> None:
        for part in tables.idle_parts(visible):
            note = (
                f"{whose} names {part!r}, and when we started the database showed no such table to our account: "
                "check the spelling and GRANT SELECT; a table created later is read all the same"
            )
            if note != self._idle_note:
                log.warning("instance %s: %s", self.name, note)
            self._idle_note = note

    # what is stored

    async def _stored_cursors(self) -> dict[str, Position]:
        clients = self._paths.clients_of(await self._tree.children(self._paths.path))
        found = {name: await self._stored(self._paths.client(name).cursor) for name in clients}
        return {name: cursor for name, cursor in found.items() if cursor is not None}

    async def _stored(self, path: str) -> Position | None:
        node = await self._tree.read(path)
        return cursor_from_json(node.data) if node is not None and node.data else None

    async def _stored_filter(self, client_id: str) -> str:
        node = await self._tree.read(self._paths.client(client_id).filter)
        return node.data.decode() if node is not None else ""

    def _record(self, position: Position) -> bytes:
        source = self._config.source
        return cursor_to_json(position, source_host=source.host, source_port=source.port, epoch=self.epoch)

    async def write_fenced(self, values: Mapping[str, bytes]) -> None:
        """Write these clients' cursors in one commit (this is the storage of the cursor writer)."""
        await self._term.write_fenced({self._paths.client(client).cursor: data for client, data in values.items()})

    async def _keep_idle_cursors(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_CURSOR_S)
            try:
                await self.flush()
            except CanalError as error:  # the term ends, or the link is down: the next round, or the next leader
                log.debug("instance %s: idle cursors were not written: %s", self.name, error)

    # clients

    async def subscribe(self, client_id: str, pattern: str | None) -> tuple[Subscription, str]:
        """See `ha_canal.server.ports.ServedInstance`. A new client begins where reading is now."""
        wanted = TableFilter(pattern) if pattern else None
        await self._until_ready()
        if wanted is not None:
            self._warn_of_idle(wanted, f"the filter of client {client_id!r}", self._visible)
        async with self._subscribing:
            feed = self._feeds.get(client_id)
            if wanted is not None and (feed is None or feed.pattern != pattern):
                await self._term.write_fenced({self._paths.client(client_id).filter: (pattern or "").encode()})
            if feed is None:
                feed = await self._begin(client_id, pattern or "")
            elif wanted is not None and feed.pattern != pattern:
                feed = self._reopen(client_id, feed, pattern or "")
            return feed, feed.pattern

    async def _begin(self, client_id: str, pattern: str) -> _Feed:
        assert self._reader is not None
        start = self._reader.progress.position
        try:
            feed = self._open(client_id, start, pattern)
        except StartPassedError:
            raise SourceBusyError(
                f"instance {self.name!r} is inside a large transaction; a new client can begin behind it: try again"
            ) from None
        await self.acknowledged(client_id, start)
        return feed

    def _reopen(self, client_id: str, feed: _Feed, pattern: str) -> _Feed:
        """Go on from the acknowledged place under another filter."""
        cursor = feed.ring.cursor
        self._ring.unsubscribe(client_id)
        del self._feeds[client_id]
        return self._open(client_id, cursor, pattern)

    def _open(self, client_id: str, start: Position, pattern: str) -> _Feed:
        wants = TableFilter(pattern).wants if pattern else _everything
        ring = self._ring.subscribe(client_id, start=start, wants=wants, gtids_from_empty=self._gtids_from_empty)
        feed = self._feeds[client_id] = _Feed(ring, self)
        feed.pattern = pattern
        self._has_readers.set()
        return feed

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_LIMIT_S):
                while not self._ready.is_set() and self.failure is None:
                    await asyncio.wait([asyncio.ensure_future(self._ready.wait())], timeout=0.2)
        except TimeoutError:
            raise SourceBusyError(
                f"instance {self.name!r} cannot reach its source yet: {self._trouble or 'still starting'}"
            ) from None
        if not self._ready.is_set() and self.failure is not None:
            raise self.failure

    async def acknowledged(self, client_id: str, position: Position) -> None:
        """Return when the cursor is durable."""
        self._term.check()
        await self._cursors.write(client_id, position)
        self._written[client_id] = position

    async def forget(self, client_id: str) -> None:
        """End the subscription; delete cursor and filter."""
        self._ring.unsubscribe(client_id)
        self._feeds.pop(client_id, None)
        self._written.pop(client_id, None)
        client = self._paths.client(client_id)
        await self._term.write_fenced({}, delete=[client.cursor, client.filter])

    # status

    @property
    def state(self) -> str:
        if self.failure is not None:
            return "stopped"
        if not self._ready.is_set():
            return "starting"
        if not self._has_readers.is_set():
            return "waiting"
        return "running" if self._reader and self._reader.connected_to else "connecting"

    def describe(self, holders: Mapping[str, str]) -> canal_pb2.Instance:
        """Return what `status` shows. ``holders``: client id → who holds its lock."""
        progress = self._reader.progress if self._reader else None
        detail = str(self.failure) if self.failure else self._trouble if self.state == "connecting" else self._why
        if self.state == "waiting":
            detail = f"no client has subscribed yet; {self._why}"
        return canal_pb2.Instance(
            name=self.name,
            epoch=self.epoch,
            state=self.state,
            detail="; ".join(filter(None, (detail or self._trouble, self._idle_note))),
            source=self._config.source.address,
            read_place=place_of(progress.position) if progress else None,
            lag_s=self._reader.lag_s() if self._reader else -1,
            ring_bytes=self._ring.used_bytes,
            ring_items=self._ring.items,
            transactions=progress.transactions if progress else 0,
            rows_events=progress.rows_events if progress else 0,
            clients=[
                canal_pb2.Subscriber(
                    client_id=client_id,
                    holder=holders.get(client_id, ""),
                    filter=feed.pattern,
                    cursor=place_of(feed.ring.cursor),
                    batches_in_flight=feed.ring.in_flight,
                    behind_items=feed.ring.behind_items,
                )
                for client_id, feed in sorted(self._feeds.items())
            ],
        )


def _everything(schema: str, table: str) -> bool:
    del schema, table
    return True


def place_of(position: Position) -> canal_pb2.Place:
    """Return the position as clients and operators see it."""
    return canal_pb2.Place(
        file=position.file,
        offset=position.offset,
        gtid_set=position.gtid_set,
        timestamp_ms=position.timestamp_ms,
        ordinal=position.ordinal,
        server_uuid=position.server_uuid,
        server_id=position.server_id,
    )
