"""Delivery to one client id under one term of office: its lock, its subscription, and its durable acks.

The rule of acks: durable first, then free. An ack is accepted in the ledger, the cursor is written, and only when
that is durable does the subscription free the batch and the ack count as answered. Acks that arrive during a write
share the next one. When a write fails, its acks fail with it and their batches stay out; nothing is lost.
Before the lock goes to another holder the write under way ends first, so what was answered is never handed out again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ha_canal.errors import NotSubscribedError, StaleEpochError
from ha_canal.model.run import Part
from ha_canal.server.framing import message_of
from ha_canal.server.ledger import Ledger
from ha_canal.server.locks import ClientLock, Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ha_canal.model.change import Item
    from ha_canal.model.position import Position
    from ha_canal.server.lock_queue import Claim
    from ha_canal.server.ports import Batch, Encode, ServedInstance, Subscription

_log = logging.getLogger(__name__)

_SILENT_DELAY_S = 0.1
"""How long batches without entries wait for an ack to share its write."""
_FAILED_DELAY_S = 1.0
"""How long until such batches try again when the cursor could not be written."""
_SLICE_S = 0.002
"""Encoding gives the loop a turn after this long."""
_PIECE_BYTES = 1 << 17
"""So much of what is packed is encoded at once."""
_GATHER_S = 0.005
"""Acks that came during a write are a stream of them: the next write waits this long for more."""
_LARGE_BYTES = 1 << 20
"""Larger items are encoded in a thread: a row of 100 MB takes a second, and a JSON document of that size minutes, in
which the loop must go on, or the watchdog ends the node."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that is out. ``messages`` are its entries, serialized as the fields of a ``Messages`` that hold them."""

    batch_id: int
    position: Position
    partial_transaction: bool
    messages: list[bytes]


class Delivery:
    """One client id's deliveries. `enter` makes a client the holder; every other call proves it by its lease."""

    def __init__(self, name: str, client_id: str, instance: ServedInstance, encode: Encode, lease_s: float) -> None:
        self._name = name
        self._client_id = client_id
        self._instance = instance
        self._encode = encode
        self._loop = asyncio.get_running_loop()
        self._subscription: Subscription | None = None
        self._ledger = Ledger()
        self._takes: set[asyncio.Task[Taken | None]] = set()
        self._durable: dict[int, asyncio.Future[None]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._silent_timer: asyncio.TimerHandle | None = None
        self.lock = ClientLock(name, client_id, lease_s=lease_s, board=instance.board)

    async def enter(self, claim: Claim, wait_s: float, pattern: str | None) -> tuple[Lease, str]:
        """Take the lock and begin at the oldest batch without an ack; returns the lease and the filter.

        Raises LockedError, FilterError, and whatever the instance raises; the lock is free again then.
        """
        lease = await self.lock.acquire(claim, wait_s)
        try:
            with self.lock.call(lease.token):
                return lease, await self._begin(pattern)
        except BaseException:
            self.lock.release(lease.token)
            raise

    async def _begin(self, pattern: str | None) -> str:
        await self._quiet()
        self._instance.check_output()
        subscription, stored = await self._instance.subscribe(self._client_id, pattern)
        if subscription is not self._subscription:
            self._subscription, self._ledger = subscription, Ledger()
        subscription.rollback(None)
        self._ledger.roll_back(None)
        return stored

    async def leave(self, token: str, *, forget: bool) -> None:
        """Give the lock to the next; with ``forget``, end the subscription and delete its cursor before."""
        self._subscribed(token)
        await self._quiet()
        if forget:
            await self._instance.forget(self._client_id)  # if it fails, unsubscribing can be tried again
            self._subscription = None
        self.lock.release(token)

    def close(self) -> None:
        """Stop the clocks of a term that is over; a write under way ends by itself."""
        self._subscription = None
        self.lock.close()
        if self._silent_timer:
            self._silent_timer.cancel()

    async def _quiet(self) -> None:
        """End what an earlier holder has under way: its gets hand out nothing more, its accepted acks are durable."""
        for take in self._takes:
            take.cancel()
        under_way = {*self._takes, *([self._writing] if self._writing else [])}
        if under_way:
            await asyncio.wait(under_way)

    def _subscribed(self, token: str) -> Subscription:
        self.lock.check(token)
        if self._subscription is None:
            raise NotSubscribedError(f"client id {self._client_id!r} of instance {self._name!r} has no subscription")
        return self._subscription

    async def take(
        self, token: str, *, max_items: int, max_bytes: int, timeout_s: float, lean: bool = False
    ) -> Taken | None:
        """Return the next batch that has something to say, or None when none came in time.

        ``lean``: as ``StreamRequest.Open`` in ``canal.proto`` tells, where that makes it cheaper.
        """
        subscription = self._subscribed(token)
        taking = self._loop.create_task(self._take(subscription, max_items, max_bytes, timeout_s, lean=lean))
        self._takes.add(taking)
        taking.add_done_callback(self._takes.discard)
        try:
            return await taking
        except asyncio.CancelledError:
            if taking.done() and not taking.cancelled() and (taken := taking.result()):
                self.take_back(taken.batch_id)
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            raise NotSubscribedError(  # not we are cancelled, but the take: by `_quiet`
                f"client id {self._client_id!r} of instance {self._name!r}: this session has ended"
            ) from None

    async def _take(
        self, subscription: Subscription, max_items: int, max_bytes: int, timeout_s: float, *, lean: bool
    ) -> Taken | None:
        deadline = self._loop.time() + timeout_s
        while True:
            left_s = max(0.0, deadline - self._loop.time())
            self._instance.check_output()
            batch = await subscription.get(max_items=max_items, max_bytes=max_bytes, timeout_s=left_s)
            if batch is None:
                return None
            if taken := await self._hand_out(batch, lean=lean):
                return taken

    async def _hand_out(self, batch: Batch, *, lean: bool) -> Taken | None:
        """Note the batch and encode it; when that fails it is taken back, so that the next get gives it again."""
        self._ledger.hand_out(batch.batch_id, batch.position)
        try:
            messages = await self._encoded(batch, lean=lean)
            self._instance.check_output()
        except BaseException:
            self.take_back(batch.batch_id)
            raise
        if messages:
            return Taken(batch.batch_id, batch.position, batch.partial_transaction, messages)
        self._ledger.silence(batch.batch_id)
        self._arm_silent_timer()
        return None

    async def _encoded(self, batch: Batch, *, lean: bool) -> list[bytes]:
        messages: list[bytes] = []
        epoch = self._instance.epoch
        pause_at = self._loop.time() + _SLICE_S
        for item in _pieces(batch.items):
            if isinstance(item, Part):
                messages.append(item.encoded(epoch, lean=lean))
            elif item.size_bytes > _LARGE_BYTES:
                entry = await asyncio.to_thread(self._encode, item, epoch=epoch, lean=lean)
                messages += message_of(entry)
            else:
                messages += message_of(self._encode(item, epoch=epoch, lean=lean))
            if self._loop.time() > pause_at:
                await asyncio.sleep(0)
                pause_at = self._loop.time() + _SLICE_S
        return messages

    def is_out(self, token: str, batch_id: int) -> bool:
        """Whether this batch may still leave for the holder of ``token``: it is not taken back meanwhile."""
        return self.lock.holds(token) and self._ledger.holds(batch_id)

    def take_back(self, batch_id: int) -> None:
        """Undo the hand-out of a batch which did not leave, and of all after it."""
        if self._ledger.holds(batch_id) and self._subscription is not None:
            self._ledger.roll_back(batch_id)
            self._subscription.rollback(batch_id)

    async def rollback(self, token: str, batch_id: int | None, epoch: int) -> None:
        """Take back ``batch_id`` and all after it (None: all), once the acks accepted so far are durable."""
        self._check(token, epoch)
        while self._writing:
            await asyncio.wait({self._writing})
        subscription = self._check(token, epoch)
        self._ledger.roll_back(batch_id)
        subscription.rollback(batch_id)

    def accept(self, token: str, batch_id: int, epoch: int) -> asyncio.Future[None]:
        """Take the ack of the oldest batch without one; the future is done when it is durable, or has failed.

        Raises StaleEpochError, UnknownBatchError, NotOldestError, and what `take` raises for a lost lock.
        """
        self._check(token, epoch)
        self._instance.check_output()
        if not self._ledger.accept(batch_id):
            done: asyncio.Future[None] = self._loop.create_future()
            done.set_result(None)
            return done
        if batch_id not in self._durable:
            self._durable[batch_id] = self._loop.create_future()
            self._durable[batch_id].add_done_callback(_retrieve)
        self._write_soon()
        return self._durable[batch_id]

    def _check(self, token: str, epoch: int) -> Subscription:
        if epoch not in (0, self._instance.epoch):
            raise StaleEpochError(
                f"instance {self._name!r}: this batch is of epoch {epoch}, which ended; now is epoch "
                f"{self._instance.epoch}: what was not acknowledged comes again"
            )
        return self._subscribed(token)

    def _arm_silent_timer(self, delay_s: float = _SILENT_DELAY_S) -> None:
        if self._silent_timer is None:
            self._silent_timer = self._loop.call_later(delay_s, self._settle_silent)

    def _settle_silent(self) -> None:
        self._silent_timer = None
        self._write_soon()

    def _write_soon(self) -> None:
        if self._writing is None and self._subscription is not None:
            work = self._write(self._subscription, self._ledger)
            self._writing = self._loop.create_task(work, name=f"cursor of {self._name}/{self._client_id}")

    async def _write(self, subscription: Subscription, ledger: Ledger) -> None:
        """Write the cursor for as long as accepted acks wait for it; whoever waits is told of a failure."""
        again_s = _SILENT_DELAY_S
        try:
            await self._write_due(subscription, ledger)
        except asyncio.CancelledError:
            self._fail(ledger, StaleEpochError(f"instance {self._name!r} stops on this node: the batch comes again"))
            raise
        except Exception as error:  # noqa: BLE001 - the edge of this task: it goes to the acks that wait for it
            _log.warning("the cursor of client id %r of %s was not written: %s", self._client_id, self._name, error)
            self._fail(ledger, error)
            again_s = _FAILED_DELAY_S
        finally:
            self._writing = None
        if ledger.due():
            self._arm_silent_timer(again_s)

    async def _write_due(self, subscription: Subscription, ledger: Ledger) -> None:
        while due := ledger.due():
            await self._instance.acknowledged(self._client_id, due.position)
            for batch_id in due.batch_ids:
                subscription.ack(batch_id)
            ledger.settle(due)
            self._answer(due.batch_ids)
            if not ledger.wanted:
                return
            await asyncio.sleep(_GATHER_S)

    def _answer(self, batch_ids: tuple[int, ...]) -> None:
        for batch_id in batch_ids:
            if (future := self._durable.pop(batch_id, None)) and not future.done():
                future.set_result(None)

    def _fail(self, ledger: Ledger, error: Exception) -> None:
        ledger.fail()
        futures, self._durable = self._durable, {}
        for future in futures.values():
            if not future.done():
                future.set_exception(error)


def _pieces(items: Iterable[Item | Part]) -> Iterator[Item | Part]:
    """Yield the items, what is packed in pieces: a slice's time of encoding each, if no column is left to Python."""
    for item in items:
        if isinstance(item, Part):
            yield from item.pieces(_PIECE_BYTES)
        else:
            yield item


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark the outcome as seen: whoever asked may be gone, and the client asks again."""
    if not future.cancelled():
        future.exception()
