"""The batches in the application's hands, and those whose acks are on their way: pure bookkeeping of the SDK.

Ids here are the client's own: they rise for as long as it lives, whatever leader gave the batch. A batch is *held*
until its ack, *unanswered* until that is known to be durable, and *gone* when it was given back, or when the client
began anew (under another leader, or after the lock was lost): then its changes come again in a new batch.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ha_canal.client.batch import Batch, Owner
from ha_canal.errors import NotOldestError, StaleEpochError, UnknownBatchError

if TYPE_CHECKING:
    from ha_canal.client.delivery import Delivery


class Held:
    """What became of every batch that this client gave out. ``filter`` is the one they were read with."""

    def __init__(self) -> None:
        self.filter = ""
        self.unanswered: deque[Batch] = deque()
        self.gone: set[int] = set()
        self._held: deque[Batch] = deque()
        self._last_id = 0

    def begin(self, filter: str) -> None:  # noqa: A002 - the field's word
        """Note that a session began: all that has no ack comes again."""
        self.filter = filter
        self.gone.update(batch.batch_id for batch in self._held)
        self._held.clear()

    def renew(self) -> None:
        """Forget the acks that were not answered, too."""
        self.settle(durable=False)
        self.begin(self.filter)

    def hand(self, owner: Owner, delivery: Delivery) -> Batch:
        self._last_id += 1
        batch = Batch(owner, self._last_id, delivery)
        self._held.append(batch)
        return batch

    def take_ack(self, batch_id: int) -> Batch | None:
        """Move the oldest held batch to the unanswered ones. None: it was acknowledged before.

        Raises NotOldestError, StaleEpochError for a batch that is gone, UnknownBatchError for one that never was.
        """
        if not 1 <= batch_id <= self._last_id:
            raise UnknownBatchError(f"batch {batch_id} was never given by this client")
        if batch_id in self.gone:
            raise self.superseded(batch_id)
        if not self._held or batch_id < self._held[0].batch_id:
            return None
        if batch_id != self._held[0].batch_id:
            raise NotOldestError(f"batch {batch_id} cannot be acknowledged before batch {self._held[0].batch_id}")
        batch = self._held.popleft()
        batch.forget_changes()
        self.unanswered.append(batch)
        return batch

    def answered(self, server_id: int) -> None:
        """Note that the acks up to the batch which its leader calls ``server_id`` are durable."""
        while self.unanswered and self.unanswered[0].server_id <= server_id:
            self.unanswered.popleft()

    def settle(self, durable: bool) -> None:
        """End the wait of all unanswered acks: they are durable, or they count as not given."""
        if not durable:
            self.gone.update(batch.batch_id for batch in self.unanswered)
        self.unanswered.clear()

    def unanswered_event_ids(self) -> list[str]:
        return [event_id for batch in self.unanswered for event_id in batch.event_ids()]

    def give_back(self, batch_id: int | None) -> Batch | None:
        """Let go of the batch and all after it (None: all); returns the first of them, None when it is not held."""
        first = None
        if batch_id is not None and all(batch.batch_id != batch_id for batch in self._held):
            return None
        while self._held and (batch_id is None or self._held[-1].batch_id >= batch_id):
            first = self._held.pop()
            self.gone.add(first.batch_id)
        return first

    def superseded(self, batch_id: int) -> StaleEpochError:
        return StaleEpochError(
            f"batch {batch_id} cannot be acknowledged any more: the session that gave it has ended (a fail-over, "
            "a lost lock or a rollback); its changes come again"
        )
