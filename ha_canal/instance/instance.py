"""One term of office of one instance: source → ring → subscriptions, and the durable cursors behind them.

Made by the node when it wins the instance, gone when the term ends; nothing in here outlives the epoch. The clients'
cursors come from the coordinator and go back there fenced by the epoch, so a deposed term can change nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from ha_canal.backoff import Backoff
from ha_canal.cluster.coordinator import Tree
from ha_canal.cluster.layout import InstancePaths
from ha_canal.config import InstanceSection
from ha_canal.cursor import CursorWriter
from ha_canal.errors import (
    CanalError,
    NotLeaderError,
    NotSubscribedError,
    PositionPurgedError,
    SourceBusyError,
    SourceChangedError,
    StaleEpochError,
    StartPassedError,
    StreamError,
)
from ha_canal.instance.choice import Choice
from ha_canal.instance.feed import Feed
from ha_canal.instance.health import Health
from ha_canal.instance.misspelt import Misspelt
from ha_canal.instance.moves import Moves
from ha_canal.instance.notices import Notice
from ha_canal.instance.opening import find_opening
from ha_canal.instance.records import Records, Term
from ha_canal.instance.runway_watch import RunwayWatch
from ha_canal.instance.shown import notices_shown, runway_shown, show_reading, subscribers
from ha_canal.instance.sources import Sources
from ha_canal.model.position import Position
from ha_canal.model.remembered import NOTHING_REMEMBERED
from ha_canal.model.run import Parcel
from ha_canal.mysql.connection import Ready
from ha_canal.protos import canal_pb2
from ha_canal.server.ports import LockBoard, Subscription
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.fingerprint import Memory
from ha_canal.source.reader import Identity, Reader
from ha_canal.store.ring import Ring

log = logging.getLogger(__name__)

_RETRY = Backoff(initial_s=0.1, max_s=5.0)
_IDLE_CURSOR_S = 2.0
_LAST_FLUSH_S = 2.0
_LAST_ACKS_S = 0.1
_LAST_ACKS_POLL_S = 0.005


class Instance:
    """Runs while `run` runs; serves gRPC (it is a `ha_canal.server.ports.ServedInstance`).

    ``choice``: which of its sources is read; None: the primary. ``logins`` are to that one. ``stopped_retry_s``: an
    instance that stopped loudly looks again this often whether somebody mended the cause.
    """

    def __init__(
        self,
        config: InstanceSection,
        term: Term,
        tree: Tree,
        paths: InstancePaths,
        *,
        root: str,
        board: LockBoard,
        choice: Choice | None = None,
        stopped_retry_s: float = 30.0,
        logins: Ready | None = None,
    ) -> None:
        self.sources = Sources(config, choice, lambda: self._reader.heard if self._reader else 0)
        self._config = config = self.sources.config
        self._term = term
        self._records = Records(term, tree, paths, config.source)
        self._root = root
        self.board = board
        self._stopped_retry_s = stopped_retry_s
        self._logins = logins
        self.ended: asyncio.Future[CanalError] = asyncio.get_running_loop().create_future()
        self.leaving = False
        """Whether a planned hand-over is under way: nothing more is given out."""
        self._successor = ""
        self._health = Health(config.name)
        self._why = ""
        self._misspelt = Misspelt(config.name)
        self._filter = TableFilter(config.filter, config.exclude)
        self._ring = Ring(max_bytes=config.ring.max_bytes, max_items=config.ring.max_items)
        self._reader: Reader | None = None
        self._started_at: Position | None = None
        self._gtids_from_empty = False
        self._feeds: dict[str, Feed] = {}
        self._subscriptions = 0
        self._written: dict[str, Position] = {}
        self._has_readers = asyncio.Event()
        self._outdated = asyncio.Event()
        self._subscribing = asyncio.Lock()
        self._cursors = CursorWriter(self, encode=self._records.encode)
        self._runway_watch = RunwayWatch(config, self._slowest)
        self.moves = Moves(config, self._records, self)

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def epoch(self) -> int:
        return self._term.epoch

    @property
    def failure(self) -> CanalError | None:
        """Why reading stopped, when it did: an error that trying again at once cannot mend."""
        return None if self.sources.has_switched else self._health.failure

    def check_output(self) -> None:
        self._term.check()

    async def run(self) -> None:
        """Read the source and keep the cursors until cancelled; clients are told before anything is taken down.

        Raises StreamError when the stream cannot be trusted, some time after it has stopped: what is in memory may be
        half a transaction, and the next term begins anew from the cursors. Returns when nobody can begin with what is
        in memory: then too.
        """
        async with self._cursors:
            watching = (self._runway_watch.run(), self.sources.run(self._records))
            works = (self._read(), self._keep_idle_cursors(), self._outdated.wait(), *watching)
            tasks = [asyncio.create_task(work, name=f"{work} of {self.name}") for work in works]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.ended.set_result(self.failure or NotLeaderError(self.name, self._successor))
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                with contextlib.suppress(CanalError, TimeoutError):
                    async with asyncio.timeout(_LAST_FLUSH_S):
                        await self.flush()
        for task in done:
            task.result()

    async def hand_over(self, to: str = "") -> None:
        """Give out nothing more, and return when what is out was acknowledged, or after a moment; then cancel `run`.

        What was acknowledged the successor does not repeat. ``to``: its address, which clients are told.
        """
        self.leaving, self._successor = True, to
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_ACKS_S):
                while any(feed.ring.in_flight for feed in self._feeds.values()):  # noqa: ASYNC110 # no hook for every ack
                    await asyncio.sleep(_LAST_ACKS_POLL_S)

    async def flush(self) -> None:
        """Write every cursor that moved without an ack: what passed was filtered out."""
        await asyncio.gather(*map(self._flush, list(self._feeds)))

    async def _flush(self, client_id: str) -> None:
        # No pause between the look at the cursor and its place in the queue: an ack in between would be taken back.
        feed = self._feeds.get(client_id)
        if feed is not None and feed.ring.in_flight == 0 and feed.ring.cursor != self._written.get(client_id):
            await self.acknowledged(client_id, feed.ring.cursor)

    # the source

    async def _read(self) -> None:
        delays = iter(_RETRY)
        while True:
            before = self._reader.progress.transactions if self._reader else 0
            try:
                await self._term.until_valid()  # whoever was cut by another reader may be deposed by now
                reader = self._reader or await self._prepare()
                await self._has_readers.wait()
                self._health.is_well()
                await reader.read_until_it_breaks()
            except StaleEpochError:
                # Whoever holds the lease is told of its end, too, and ends this: nothing is wrong with the source.
                await asyncio.sleep(self._stopped_retry_s)
                raise
            except CanalError as error:
                if self._reader is not None and self._reader.progress.transactions > before:
                    delays, self._health.trouble = iter(_RETRY), ""
                self._health.note(error, may_heal=self.sources.may_heal)
                self.sources.broke(error)
                await asyncio.sleep(next(delays) if error.retriable else self._stopped_retry_s)
                if isinstance(error, StreamError):
                    raise
                if isinstance(error, SourceChangedError) or self._passes_over(error):
                    self._outdated.set()

    def _passes_over(self, error: CanalError) -> bool:
        """Whether the next term may go on behind what is gone: it chooses a start, and this one cannot."""
        return isinstance(error, PositionPurgedError) and self._config.on_purged != "stop" and self._reader is not None

    async def _prepare(self) -> Reader:
        """Find where to read from, and open the subscriptions of all known clients.

        Nothing is kept of an attempt that fails: everything is asked first, and set up without a pause after that.
        """
        opening = await find_opening(self._config, self._records, self._logins)
        clients, at = opening.clients, opening.at
        wants = {client_id: TableFilter(known.pattern, accepted=True) for client_id, known in clients.items()}
        source = self._config.source
        identity = Identity.of_instance(self.name, root=self._root, server_id=source.server_id)
        self._why, self._started_at, self._gtids_from_empty = opening.why, at, opening.from_empty
        log.info("instance %s, epoch %d: %s", self.name, self.epoch, opening.why)
        self._misspelt.begin(opening.visible)
        self._misspelt.look_at(self._filter, "the instance's filter")
        self._written.update({client_id: known.cursor for client_id, known in clients.items()})
        self._records.memory = Memory(at, opening.remembered) if opening.remembers else None
        limits = self._config.ring
        self._ring = Ring(max_bytes=limits.max_bytes, max_items=limits.max_items, filled_from=at)
        for client_id, known in clients.items():
            self._feeds[client_id] = self._open(client_id, known.cursor, known.pattern, wants[client_id])
            self._misspelt.look_at(wants[client_id], _filter_of(client_id))
        self._reader = Reader(source, identity, self._filter, Sink(self._filter), self._put, at, ready=self._logins)
        self._health.is_ready()
        self.sources.answers()
        return self._reader

    async def _put(self, items: Sequence[Parcel]) -> None:
        if self._records.memory is not None:
            self._records.memory.saw(items)
        await self._ring.put(items)

    # cursors

    async def write_fenced(self, values: Mapping[str, bytes]) -> None:
        """Write these clients' cursors in one commit (this is the storage of the cursor writer)."""
        known = {client_id: data for client_id, data in values.items() if client_id in self._feeds}
        await self._records.commit(
            {self._records.paths.client(client_id).cursor: data for client_id, data in known.items()}
        )

    async def _keep_idle_cursors(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_CURSOR_S)
            if (slowest := self._slowest()) is not None:
                self._records.forget_before(slowest)
            try:
                await self.flush()
            except CanalError as error:  # the term ends, or the link is down: the next round, or the next leader
                log.debug("instance %s: idle cursors were not written: %s", self.name, error)

    def _slowest(self) -> Position | None:
        return min((feed.ring.cursor for feed in self._feeds.values()), key=lambda cursor: cursor.order, default=None)

    # clients

    async def subscribe(self, client_id: str, pattern: str | None) -> tuple[Subscription, str]:
        """See `ha_canal.server.ports.ServedInstance`. A new client begins where reading is now."""
        wanted = TableFilter(pattern or "")
        await self._health.until_ready()
        if pattern:
            self._misspelt.refuse_slow(wanted, _filter_of(client_id))
        async with self._subscribing:
            feed = self._feeds.get(client_id)
            if feed is None:
                feed = await self._begin(client_id, pattern or "", wanted)
            elif pattern and feed.pattern != pattern:
                feed = await self._change_filter(client_id, feed, pattern, wanted)
            if pattern:
                self._misspelt.look_at(wanted, _filter_of(client_id))
            return feed, feed.pattern

    async def _begin(self, client_id: str, pattern: str, wanted: TableFilter) -> Feed:
        """Take in a new client: it is known as soon as its first cursor and its filter are durable."""
        assert self._reader is not None
        start = self._reader.progress.position
        try:
            feed = self._open(client_id, start, pattern, wanted)
        except StartPassedError:
            if not self._feeds:  # and without a reader nothing moves on: the next term begins before the transaction
                self._outdated.set()
            raise SourceBusyError(
                f"instance {self.name!r} is inside a large transaction; a new client can begin behind it: try again"
            ) from None
        paths = self._records.paths.client(client_id)
        try:
            await self._records.commit({paths.cursor: self._records.encode(start), paths.filter: pattern.encode()})
        except BaseException:
            self._ring.unsubscribe(feed.ring.name)
            raise
        self._feeds[client_id] = feed
        self._written[client_id] = start
        return feed

    async def _change_filter(self, client_id: str, old: Feed, pattern: str, wanted: TableFilter) -> Feed:
        """Go on from the acknowledged place under another filter; the old subscription holds the ring until then."""
        await self._records.commit({self._records.paths.client(client_id).filter: pattern.encode()})
        try:
            feed = self._open(client_id, old.ring.cursor, pattern, wanted)
        except StartPassedError:
            raise SourceBusyError(f"the filter of {client_id!r} cannot be changed just now: try again") from None
        self._feeds[client_id] = feed
        self._ring.unsubscribe(old.ring.name)
        return feed

    def _open(self, client_id: str, start: Position, pattern: str, wanted: TableFilter) -> Feed:
        # A cursor without GTIDs can count them only from where the whole instance does, whatever it has done behind it.
        first = self._started_at
        from_empty = self._gtids_from_empty and first is not None and start.order == first.order
        self._subscriptions += 1
        ring = self._ring.subscribe(
            f"{client_id}#{self._subscriptions}", start=start, wants=wanted.wants, gtids_from_empty=from_empty
        )
        self._has_readers.set()
        return Feed(ring, pattern, self)

    async def acknowledged(self, client_id: str, position: Position) -> None:
        """Return when the cursor is durable. Raises NotSubscribedError for a client that is gone, or goes meanwhile."""
        self._term.check()
        feed = self._feeds.get(client_id)
        if feed is not None:
            await self._cursors.write(client_id, position)
        if feed is None or self._feeds.get(client_id) is not feed:
            raise NotSubscribedError(f"client {client_id!r} of instance {self.name!r} has ended its subscription")
        self._written[client_id] = position

    async def forget(self, client_id: str) -> None:
        """End the subscription, delete cursor and filter; if nobody is left, the next client begins here."""
        async with self._subscribing:
            feed = self._feeds.pop(client_id, None)
            client = self._records.paths.client(client_id)
            left: dict[str, bytes] = {}
            if not self._feeds and self._reader is not None:
                left = {self._records.paths.parse: self._records.encode(self._reader.progress.position)}
            try:
                await self._records.commit(left, delete=[client.cursor, client.filter])
            except BaseException:
                if feed is not None:  # another object: a cursor that was on its way meanwhile was not written
                    self._feeds[client_id] = Feed(feed.ring, feed.pattern, self)
                raise
            self._written.pop(client_id, None)
            self._misspelt.forget(_filter_of(client_id))
            if feed is not None:
                self._ring.unsubscribe(feed.ring.name)

    async def replace_cursor(self, client_id: str, cursor: Position, notice: Notice) -> None:
        """See `ha_canal.instance.moves.CursorOwner`. Acks that are on their way are refused from here on."""
        async with self._subscribing:
            feed = self._feeds.pop(client_id, None)
            data = self._records.encode(cursor, NOTHING_REMEMBERED)
            try:
                await self._records.commit({self._records.paths.client(client_id).cursor: data}, notices=[notice])
            except BaseException:
                if feed is not None:
                    self._feeds[client_id] = Feed(feed.ring, feed.pattern, self)
                raise
            log.warning("instance %s: %s", self.name, notice.text)
            self._outdated.set()

    # status

    def notices_for(self, client_id: str) -> list[canal_pb2.Notice]:
        """Return what is on record that concerns a client."""
        return notices_shown(self._records.notices, client_id)

    @property
    def state(self) -> str:
        if self._health.failure is not None or not self._health.ready:
            return "stopped" if self._health.failure is not None else "starting"
        if not self._has_readers.is_set():
            return "waiting"
        return "running" if self._reader and self._reader.connected_to else "connecting"

    def describe(self, holders: Mapping[str, str]) -> canal_pb2.Instance:
        """Return what `status` shows. ``holders``: client id → who holds its lock."""
        detail = (self._health.detail(self.state, self._why), self.sources.text, self._misspelt.text)
        shown = canal_pb2.Instance(
            name=self.name,
            epoch=self.epoch,
            state=self.state,
            detail="; ".join(filter(None, detail)),
            source=self._config.source.address,
            ring_bytes=self._ring.used_bytes,
            ring_items=self._ring.items,
            clients=subscribers(self._feeds, holders),
            start=self._why,
            notices=notices_shown(self._records.notices),
            runway=runway_shown(self._runway_watch.runway),
            source_choice=self.sources.describe(),
        )
        show_reading(shown, self._reader)
        return shown


def _filter_of(client_id: str) -> str:
    return f"the filter of client {client_id!r}"
