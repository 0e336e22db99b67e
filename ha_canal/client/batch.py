"""A batch in the application's hands."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from ha_canal.client.entries import event_ids_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ha_canal.client.change import Change
    from ha_canal.client.delivery import Delivery
    from ha_canal.protos.canal_pb2 import Place


class Owner(Protocol):
    """Who gave the batch."""

    def ack(self, batch: Batch, *, wait: bool = True) -> None: ...
    def rollback(self, batch: Batch) -> None: ...


class Batch:
    """Changes to be acknowledged together.

    ``batch_id`` is unique in the life of its client. ``partial_transaction``: the last transaction goes on in the
    next batch. A batch that nobody looks into is never decoded.
    """

    __slots__ = ("_changes", "_delivery", "_owner", "batch_id", "epoch", "partial_transaction", "server_id")

    def __init__(self, owner: Owner, batch_id: int, delivery: Delivery) -> None:
        self._owner = owner
        self._delivery = delivery
        self._changes: tuple[Change, ...] | None = None
        self.batch_id = batch_id
        self.server_id = delivery.batch_id
        """The batch's id under its leader; means nothing under another one."""
        self.epoch = delivery.epoch
        self.partial_transaction = delivery.partial_transaction

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes, in commit order; decoded at the first use, and again behind the ack. Raises DecodeError."""
        if self._changes is None:
            self._changes = self._delivery.changes()
        return self._changes

    def __iter__(self) -> Iterator[Change]:
        """Go through the changes, decoding a few at a time: faster than `changes`, and in less memory.

        Raises DecodeError where it comes to what cannot be read.
        """
        return iter(self._delivery if self._changes is None else self._changes)

    def forget_changes(self) -> None:
        """Keep the bytes alone: the batch may wait a while for the answer to its ack."""
        self._changes = None

    @property
    def entries(self) -> Sequence[bytes]:
        """The serialized ``Entry`` messages, as they came: lean if the client is iterated without ``whole_entries``."""
        return self._delivery.messages

    @property
    def place(self) -> Place:
        """Where an ack of this batch moves the cursor."""
        return self._delivery.place

    def transactions(self) -> list[tuple[Change, ...]]:
        """Return the changes, grouped by transaction."""
        return [tuple(changes) for _, changes in groupby(self.changes, key=attrgetter("transaction"))]

    def event_ids(self) -> list[str]:
        """Return the ids of the entries that hold changes: without those of single rows."""
        return event_ids_of(self.entries)

    def ack(self, *, wait: bool = True) -> None:
        """Acknowledge this batch, the oldest that has no ack yet.

        Returns when that is durable: it never comes again. When the node dies in between, this waits for the next
        leader and acknowledges there. With ``wait=False`` it returns at once, and acks are pipelined: an ack that is
        lost with its node is repeated under the next leader before anything is read from that.
        Raises StaleEpochError when that cannot be: the lock was lost, or the client already began anew under another
        leader; then the batch comes again. Raises NotOldestError when an older batch waits for its ack.
        """
        self._owner.ack(self, wait=wait)

    def rollback(self) -> None:
        """Give this batch and all after it back; they come again, as new batches."""
        self._owner.rollback(self)

    def __repr__(self) -> str:
        return f"<Batch {self.batch_id}: {self._delivery.count} entries, epoch {self.epoch}>"
