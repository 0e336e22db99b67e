"""One reader of the ring: hands out batches, and moves its cursor as they are acknowledged, oldest first.

Two places in the ring make a subscription: how far was given (get), and how far was acknowledged. What lies between
is in flight, and comes again after a rollback. The ring frees a slot when every subscription has acknowledged it, or
passed over it because of its filter. Single-threaded: all calls come from one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ha_canal.errors import NotOldestError, NotSubscribedError, UnknownBatchError, UsageError
from ha_canal.model.change import Begin, Item
from ha_canal.model.position import Position
from ha_canal.model.run import Part, Run
from ha_canal.store.gather import Gather
from ha_canal.store.slot import Slot
from ha_canal.store.start import Start
from ha_canal.store.track import Track
from ha_canal.store.walk import Walk, Wanted

_ROLLBACKS_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """What one get gave. ``position`` is where its ack moves the cursor; ``size_bytes`` is the sum of its items'.

    ``partial_transaction``: the last transaction goes on in the next batch.
    """

    batch_id: int
    items: tuple[Item | Part, ...]
    partial_transaction: bool
    position: Position
    size_bytes: int


class Source(Protocol):
    """What a subscription needs of its ring."""

    @property
    def put_waits(self) -> bool: ...
    @property
    def last_sequence(self) -> int: ...
    def release(self) -> None: ...
    def unsubscribe(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A batch that is not acknowledged, and the place and boundary before it."""

    batch_id: int
    walk: Walk
    boundary: Position


class Subscription:
    """Made by `Ring.subscribe`; ends with `close`.

    ``freed`` is the newest slot that the ring let go of, ``begin`` that of the transaction it let go of in part.
    """

    def __init__(
        self,
        name: str,
        ring: Source,
        *,
        start: Start,
        wants: Callable[[str, str], bool],
        gtids_from_empty: bool,
        freed: Slot,
        begin: Begin | None,
    ) -> None:
        self.name = name
        self._ring = ring
        self._gtids_from_empty = gtids_from_empty
        self._start = start
        self._read = Walk(freed, start, Wanted(wants), begin=begin)
        self._track = self._track_from(start.position)
        self._flying: deque[_InFlight] = deque()
        self._last_batch_id = 0
        self._rolled_back: deque[range] = deque(maxlen=_ROLLBACKS_REMEMBERED)
        self._generation = 0
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order of their gets
        self._closed = False

    async def get(self, *, max_items: int = 1000, max_bytes: int = 1 << 20, timeout_s: float) -> Batch | None:
        """Return the next entries, or None if none came within ``timeout_s`` (0: what is there now).

        At most ``max_items`` entries of ``max_bytes`` in sum, but at least one. A batch ends with a transaction where
        it can; a part of one is given only if the limits or the ring hold no more of it, or if the rest did not come
        in time. A cancelled get has taken nothing; a batch that was made but did not reach the caller is in flight,
        and comes again after a rollback. Raises NotSubscribedError once the subscription is closed.
        """
        if max_items < 1:
            raise UsageError(f"get: max_items is {max_items}, and a batch has at least one entry: ask for 1 or more")
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        waited_out = timeout_s <= 0
        gather: Gather | None = None
        generation = self._generation
        while True:
            self._check_open()
            if gather is None or not gather.items or generation != self._generation:
                self.pass_over()
                generation = self._generation
                gather = Gather(self._read.fork(), max_items=max_items, max_bytes=max_bytes)
            gather.fill()
            if self._is_ready(gather, waited_out=waited_out):
                return self._give(gather)
            if waited_out:
                return None
            waited_out = not await self._woken_by(deadline_s)

    def _is_ready(self, gather: Gather, *, waited_out: bool) -> bool:
        """Whether to give what was gathered; cuts it at a transaction's end where it can."""
        if not gather.items:
            return False
        return gather.cut_at_transaction_end() or gather.limited or waited_out or self._ring.put_waits

    def _give(self, gather: Gather) -> Batch:
        before = _InFlight(self._last_batch_id + 1, self._read, self._track.position)
        self._settle(gather.walk)
        self._flying.append(before)
        self._last_batch_id += 1
        self._generation += 1
        position = self._read.position(self._track.position)
        return Batch(before.batch_id, tuple(gather.items), self._read.inside, position, gather.size_bytes)

    def ack(self, batch_id: int) -> Position | None:
        """Move the cursor behind ``batch_id``, the oldest in flight, and return it; None if that was acked before.

        Raises NotOldestError if an older batch is in flight, UnknownBatchError for an id that was never given, or
        was rolled back (of very old rollbacks the ids are forgotten, and pass as acknowledged).
        """
        self._check_open()
        if not self._flying or batch_id < self._flying[0].batch_id:
            self._check_was_acked(batch_id)
            return None
        oldest = self._flying[0].batch_id
        if batch_id != oldest:
            self._check_in_flight(batch_id)
            raise NotOldestError(
                f"subscription {self.name!r}: batch {batch_id} cannot be acknowledged before batch {oldest}, "
                "the oldest in flight: acknowledge in the order of get"
            )
        self._flying.popleft()
        cursor = self.cursor
        self._ring.release()
        return cursor

    def rollback(self, batch_id: int | None = None) -> None:
        """Take back ``batch_id`` and all later batches, or all in flight: they come again, under new ids.

        Raises UnknownBatchError for an id that is not in flight.
        """
        self._check_open()
        if batch_id is not None:
            self._check_in_flight(batch_id)
        elif not self._flying:
            return
        first = self._flying[0]
        while self._flying and (batch_id is None or self._flying[-1].batch_id >= batch_id):
            first = self._flying.pop()
        self._rolled_back.append(range(first.batch_id, self._last_batch_id + 1))
        self._read, self._track = first.walk, self._track_from(first.boundary)
        self._generation += 1
        self.wake()

    @property
    def cursor(self) -> Position:
        """Everything before it is acknowledged, or was passed over."""
        if self._flying:
            oldest = self._flying[0]
            return oldest.walk.position(oldest.boundary)
        self.pass_over()
        return self._read.position(self._track.position)

    @property
    def in_flight(self) -> int:
        """Batches given and neither acknowledged nor rolled back."""
        return len(self._flying)

    @property
    def behind_items(self) -> int:
        """Items in the ring (filtered ones too) which this subscription has not come to; a stretch counts as one."""
        return self._ring.last_sequence - self._read.sequence

    def close(self) -> None:
        """End the subscription: it holds nothing in the ring any more, and waiting gets raise. Idempotent."""
        if not self._closed:
            self._closed = True
            self._ring.unsubscribe(self.name)
            self.wake()

    @property
    def settled_sequence(self) -> int:
        """The last sequence number that this subscription needs no more. For the ring."""
        return self._flying[0].walk.sequence if self._flying else self._read.sequence

    def pass_over(self) -> None:
        """Step up to the next entry that is wanted, so that what is not wanted does not fill the ring."""
        if self._closed:
            return
        self._read.peek()
        self._settle(self._read)
        if not self._flying:
            self._ring.release()

    def saw(self, gtid: str, sequence: int) -> None:
        """Learn that the transaction ``gtid`` ends at ``sequence``. For the ring: it was put."""
        self._start.saw(gtid, sequence)

    def saw_run(self, run: Run, first: int) -> None:
        """Learn that the transactions of ``run`` have the sequence numbers from ``first`` on. For the ring."""
        self._start.saw_run(run, first)

    def wake(self) -> None:
        """Let waiting gets look again. For the ring: something was put, or a put waits."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _settle(self, walk: Walk) -> None:
        """Make ``walk`` the place up to which was given, and take what it left behind into the boundary."""
        for passed in walk.passed:
            self._track.add(passed)
        walk.passed.clear()
        self._read = walk

    def _track_from(self, boundary: Position) -> Track:
        return Track(boundary, server_id=self._start.server_id, gtids_from_empty=self._gtids_from_empty)

    async def _woken_by(self, deadline_s: float) -> bool:
        """Wait for `wake`. Return False if the deadline came first."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters[waiter] = None
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, deadline_s - loop.time()))
            return waiter.done()
        finally:
            del self._waiters[waiter]

    def _check_open(self) -> None:
        if self._closed:
            raise NotSubscribedError(f"subscription {self.name!r} has ended: subscribe again")

    def _check_was_acked(self, batch_id: int) -> None:
        given = 1 <= batch_id <= self._last_batch_id
        if not given or any(batch_id in ids for ids in self._rolled_back):
            raise self._unknown(batch_id)

    def _check_in_flight(self, batch_id: int) -> None:
        if all(flying.batch_id != batch_id for flying in self._flying):
            raise self._unknown(batch_id)

    def _unknown(self, batch_id: int) -> UnknownBatchError:
        return UnknownBatchError(
            f"subscription {self.name!r}: batch {batch_id} is not in flight: it was never given, or was rolled back; "
            "use the ids of the batches that get gave since"
        )
