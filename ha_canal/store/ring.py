"""The ring: an ordered buffer of items, bounded by bytes and by number, between one source and its subscriptions.

Back-pressure is an awaited put: nothing is ever dropped. A slot is freed when every subscription has acknowledged it
or passed over it. Without any subscription nothing is freed either, so the source waits for the first reader instead
of running past it. Invariant: ``used_bytes`` exceeds ``max_bytes`` only by a single item, alone in the ring, that is
larger by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ha_canal.errors import StartPassedError, UsageError
from ha_canal.model.change import Commit
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, Run
from ha_canal.store.past import Past
from ha_canal.store.slot import Slot
from ha_canal.store.start import Start
from ha_canal.store.subscription import Subscription


class Ring:
    """Items get sequence numbers from 1 on, in the order of put; a `Run` gets one per transaction, a `Stretch` one.

    Empty transactions at the end (a lone Commit each) share one slot, whatever their number: traffic that the source
    filters out does not fill the ring. Their GTIDs are kept.

    ``filled_from`` is the position behind which the source begins to fill the ring, with the ids of the server that
    it reads (its file and offset do not matter). Without it MariaDB's sequence numbers are taken at their word, up to
    the start's own GTID or the first higher number.
    """

    def __init__(
        self, *, max_bytes: int = 64 << 20, max_items: int = 100_000, filled_from: Position | None = None
    ) -> None:
        if max_bytes < 1 or max_items < 1:
            raise UsageError(f"a ring of {max_bytes} bytes and {max_items} items holds nothing: both must be 1 or more")
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._subscriptions: dict[str, Subscription] = {}
        self._freed = self._tail = Slot(0, None)
        self._filled_from = filled_from
        self._past = Past(parse_gtid_set(filled_from.gtid_set) if filled_from and filled_from.gtid_set else None)
        self._items = 0
        self._used_bytes = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    @property
    def items(self) -> int:
        """Slots in use: items, a run, a stretch or a row of empty transactions counting as one."""
        return self._items

    @property
    def first_sequence(self) -> int:
        """The oldest sequence number in the ring; one above `last_sequence` when it is empty."""
        return self._freed.last + 1

    @property
    def last_sequence(self) -> int:
        return self._tail.last

    @property
    def put_waits(self) -> bool:
        """Whether a put waits for room."""
        return self._room is not None

    async def put(self, items: Sequence[Parcel]) -> None:
        """Append ``items`` in order, and wait while there is no room: returns when the last one is in.

        A list larger than the ring goes in as room is made. If cancelled, what was put stays; `last_sequence` has
        risen by their number. One put at a time: an instance has one source.
        """
        if self._room is not None:
            raise UsageError("two puts at once would mix two streams: an instance has one source")
        try:
            for item in items:
                if not self._merges(item) and not self._has_room(item):
                    await self._wait_for_room(item)
                self._append(item)
        finally:
            self._wake_readers()

    def subscribe(
        self, name: str, *, start: Position, wants: Callable[[str, str], bool], gtids_from_empty: bool = False
    ) -> Subscription:
        """Return a new subscription which has done everything up to ``start``, and wants the tables ``wants`` names.

        ``start`` must not lie before the place from which the source began to fill the ring: the ring cannot tell in
        all cases. A start without GTIDs yields positions without GTIDs, unless ``gtids_from_empty`` says that the empty
        set is all that the source had executed there. Raises UsageError if the name is taken, StartPassedError if the
        ring has freed something behind ``start``, which then must be read from the source again.
        """
        if name in self._subscriptions:
            raise UsageError(f"subscription {name!r} exists already: one reader per name")
        begin = self._start_at(start)
        if not self._past.is_done_at(begin):
            raise StartPassedError(
                f"subscription {name!r} starts at {start}, and the ring holds only what follows later: "
                "read the source again from there"
            )
        subscription = self._subscriptions[name] = Subscription(
            name,
            self,
            start=begin,
            wants=wants,
            gtids_from_empty=gtids_from_empty,
            freed=self._freed,
            begin=self._past.begin,
        )
        return subscription

    def _start_at(self, position: Position) -> Start:
        start = Start(position, filled_from=self._filled_from, before=self._past.mariadb_gtids)
        start.look_through(self._freed.next)
        return start

    def unsubscribe(self, name: str) -> None:
        """End the subscription ``name``; nothing happens if there is none. What only it held is freed."""
        if (subscription := self._subscriptions.pop(name, None)) is not None:
            subscription.close()
            self.release()

    def release(self) -> None:
        """Free what no subscription needs any more. For subscriptions, when their cursor has moved."""
        if not self._subscriptions:
            return
        settled = min(subscription.settled_sequence for subscription in self._subscriptions.values())
        freed = self._freed
        while (slot := self._freed.next) is not None and slot.last <= settled:
            self._free(slot)
        if self._freed is not freed and self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _free(self, slot: Slot) -> None:
        self._past.add(slot)
        self._items -= 1
        self._used_bytes -= slot.size_bytes
        slot.clear()
        self._freed = slot

    def _merges(self, item: Parcel) -> bool:
        """Whether ``item`` joins the empty transactions at the end, for which there is always room."""
        if isinstance(item, Run):
            return item.is_empty and self._tail.is_mark
        return isinstance(item, Commit) and item.empty and self._tail.is_mark

    def _has_room(self, item: Parcel) -> bool:
        if not self._items:
            return True
        return self._items < self._max_items and self._used_bytes + item.size_bytes <= self._max_bytes

    def _append(self, item: Parcel) -> None:
        self._place(item)
        if isinstance(item, Run):
            for subscription in self._subscriptions.values():
                subscription.saw_run(item, self._tail.last - item.packed.count + 1)
        elif isinstance(item, Commit) and item.transaction.gtid:
            for subscription in self._subscriptions.values():
                subscription.saw(item.transaction.gtid, self._tail.last)

    def _place(self, item: Parcel) -> None:
        if self._merges(item):
            if isinstance(item, Run):
                self._tail.grow_by(item)
            elif isinstance(item, Commit):
                self._tail.grow(item)
            return
        slot = Slot(self._tail.last + 1, item)
        self._tail.next = slot
        self._tail = slot
        self._items += 1
        self._used_bytes += slot.size_bytes

    async def _wait_for_room(self, item: Parcel) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.pass_over()
        while not self._has_room(item):
            self._room = asyncio.get_running_loop().create_future()
            try:
                self._wake_readers()
                await self._room
            finally:
                self._room = None

    def _wake_readers(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.wake()
