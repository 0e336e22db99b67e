"""The judge of deliveries: what clients saw and acknowledged, held against what the database holds. Pure.

The demo, the tests of fail-over and the fault campaign all use this one judge. A workload marks every committed row
change with a (writer, sequence) pair, rising per writer; the database itself says at the end which pairs were
committed.
"""

from __future__ import annotations

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
    repeated: int
    phantom: int

    @property
    def holds(self) -> bool:
        """Whether the promise was kept, on a run that did something."""
        return self.committed > 0 and not (self.lost or self.redelivered_after_ack or self.out_of_order or self.phantom)

    def lines(self) -> list[str]:
        return [
            f"changes committed:              {self.committed}",
            f"changes delivered:              {self.delivered}",
            f"lost:                           {self.lost}",
            f"redelivered after ack:          {self.redelivered_after_ack}",
            f"delivered but never committed:  {self.phantom}",
            f"out of order:                   {self.out_of_order}",
            f"repeated before ack (allowed):  {self.repeated}",
        ]


class Checker:
    """Collects deliveries and acks of one client id, in the order in which they happened."""

    def __init__(self) -> None:
        self._seen: dict[str, Mark] = {}
        self._acked: set[str] = set()
        self._last_of_writer: dict[int, int] = {}
        self._redelivered = 0
        self._repeated = 0
        self._out_of_order = 0

    @property
    def delivered(self) -> int:
        """Distinct changes so far."""
        return len(self._seen)

    def deliver(self, deliveries: Iterable[Delivery]) -> None:
        """Take note of changes that a client was given."""
        for delivery in deliveries:
            if delivery.event_id in self._acked:
                self._redelivered += 1
            if delivery.event_id in self._seen:
                self._repeated += 1
                continue
            self._seen[delivery.event_id] = delivery.mark
            writer, sequence = delivery.mark
            if sequence <= self._last_of_writer.get(writer, 0):
                self._out_of_order += 1
            self._last_of_writer[writer] = max(sequence, self._last_of_writer.get(writer, 0))

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Take note that the server has answered the ack of these changes."""
        self._acked.update(delivery.event_id for delivery in deliveries)

    def missing(self, committed: Iterable[Mark]) -> set[Mark]:
        """Return what the database holds and no client was given yet."""
        return set(committed) - set(self._seen.values())

    def verdict(self, committed: Iterable[Mark]) -> Verdict:
        """Judge, against everything that the database says was committed."""
        marks = set(committed)
        seen = set(self._seen.values())
        return Verdict(
            committed=len(marks),
            delivered=len(self._seen),
            lost=len(marks - seen),
            redelivered_after_ack=self._redelivered,
            out_of_order=self._out_of_order,
            repeated=self._repeated,
            phantom=len(seen - marks) + len(self._seen) - len(seen),
        )
