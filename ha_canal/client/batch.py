"""A batch in the application's hands."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from ha_canal.client.change import Change, changes_of, event_ids_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_canal.protos.canal_pb2 import Messages, Place


class Owner(Protocol):
    """Who gave the batch."""

    def ack(self, batch: Batch, *, wait: bool = True) -> None: ...
    def rollback(self, batch: Batch) -> None: ...


class Batch:
    """Changes to be acknowledged together.

    ``batch_id`` is unique in the life of its client. ``entries`` are the original serialized ``Entry`` messages.
    ``partial_transaction``: the last transaction goes on in the next batch.
    """

    __slots__ = ("_changes", "_owner", "batch_id", "entries", "epoch", "partial_transaction", "place", "server_id")

    def __init__(self, owner: Owner, batch_id: int, message: Messages) -> None:
        self._owner = owner
        self._changes: tuple[Change, ...] | None = None
        self.batch_id = batch_id
        self.server_id = message.batch_id
        """The batch's id under its leader; means nothing under another one."""
        self.epoch = message.epoch
        self.entries: Sequence[bytes] = message.messages
        self.partial_transaction = message.partial_transaction
        self.place: Place = message.place

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes, in commit order; decoded at the first use."""
        if self._changes is None:
            self._changes = tuple(changes_of(self.entries))
        return self._changes

    def transactions(self) -> list[tuple[Change, ...]]:
        """Return the changes, grouped by transaction."""
        return [tuple(changes) for _, changes in groupby(self.changes, key=lambda change: change.transaction)]

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
        return f"<Batch {self.batch_id}: {len(self.entries)} entries, epoch {self.epoch}>"
