"""The judge of deliveries: what clients saw and acknowledged, held against what the database holds. Pure.

The demo, the tests of fail-over and the fault campaign all use this one judge. A workload marks every committed row
change with a (writer, sequence) pair, rising per writer; the database itself says at the end which pairs were
committed. Several clients of one client id, of which one holds the lock at a time, share one checker: its methods may
be called from any thread.

A change that was acknowledged in one epoch and is handed to an application later in an *earlier* epoch left its node
before the ack: it waited in that client's memory while another client went on. That is no redelivery.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

Mark = tuple[int, int]
"""(writer, sequence): names one committed row."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One change as a client saw it."""

    event_id: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge counted. ``repeated`` are deliveries that came again *unacknowledged*, which is allowed."""

    committed: int
    delivered: int
    lost: int
    redelivered_after_ack: int
    out_of_order: int
    epoch_went_back: int
    repeated: int
    phantom: int

    @property
    def holds(self) -> bool:
        """Whether the promise was kept, on a run that did something."""
        broken = self.lost or self.redelivered_after_ack or self.out_of_order or self.epoch_went_back or self.phantom
        return self.committed > 0 and not broken

    def lines(self) -> list[str]:
        return [
            f"changes committed:              {self.committed}",
            f"changes delivered:              {self.delivered}",
            f"lost:                           {self.lost}",
            f"redelivered after ack:          {self.redelivered_after_ack}",
            f"delivered but never committed:  {self.phantom}",
            f"out of order:                   {self.out_of_order}",
            f"batches of an earlier epoch:    {self.epoch_went_back}",
            f"repeated before ack (allowed):  {self.repeated}",
        ]


class Checker:
    """Collects deliveries and acks of one client id, in the order in which they happened."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._seen: dict[str, Mark] = {}
        self._acked: dict[str, int] = {}
        self._last_of_writer: dict[int, int] = {}
        self._epoch_of_client: dict[str, int] = {}
        self._redelivered = 0
        self._repeated = 0
        self._out_of_order = 0
        self._epoch_went_back = 0

    @property
    def delivered(self) -> int:
        """Distinct changes so far."""
        return len(self._seen)

    @property
    def acknowledged(self) -> int:
        """Changes whose ack was answered."""
        return len(self._acked)

    def deliver(self, deliveries: Iterable[Delivery], *, epoch: int = 0, client: str = "") -> None:
        """Take note of a batch of ``epoch`` that ``client`` was given."""
        with self._busy:
            self._epoch_went_back += epoch < self._epoch_of_client.get(client, 0)
            self._epoch_of_client[client] = epoch
            for delivery in deliveries:
                self._deliver(delivery, epoch)

    def _deliver(self, delivery: Delivery, epoch: int) -> None:
        if delivery.event_id in self._acked and epoch >= self._acked[delivery.event_id]:
            self._redelivered += 1
        if delivery.event_id in self._seen:
            self._repeated += 1
            return
        self._seen[delivery.event_id] = delivery.mark
        writer, sequence = delivery.mark
        if sequence <= self._last_of_writer.get(writer, 0):
            self._out_of_order += 1
        self._last_of_writer[writer] = max(sequence, self._last_of_writer.get(writer, 0))

    def acknowledge(self, deliveries: Iterable[Delivery], *, epoch: int = 0) -> None:
        """Take note that the server has answered the ack of these changes, given in ``epoch``."""
        with self._busy:
            for delivery in deliveries:
                self._acked.setdefault(delivery.event_id, epoch)

    def missing(self, committed: Iterable[Mark]) -> set[Mark]:
        """Return what the database holds and no client was given yet."""
        with self._busy:
            return set(committed) - set(self._seen.values())

    def verdict(self, committed: Iterable[Mark]) -> Verdict:
        """Judge, against everything that the database says was committed."""
        marks = set(committed)
        with self._busy:
            seen = set(self._seen.values())
            return Verdict(
                committed=len(marks),
                delivered=len(self._seen),
                lost=len(marks - seen),
                redelivered_after_ack=self._redelivered,
                out_of_order=self._out_of_order,
                epoch_went_back=self._epoch_went_back,
                repeated=self._repeated,
                phantom=len(seen - marks) + len(self._seen) - len(seen),
            )
