"""The judge of deliveries: what clients saw and acknowledged, held against what the database holds. Pure.

The demo, the tests of fail-over and the fault campaign all use this one judge. A workload marks every committed row
change with a (writer, sequence) pair, rising per writer; the database itself says at the end which pairs were
committed. Several clients of one client id, of which one holds the lock at a time, share one checker: its methods may
be called from any thread.

Order is judged by when batches were *given*, which their epoch and, within it, their id tell: both only rise. When the
application is handed one says less, as a client that was stopped in between still holds what left its node long ago.
So a change was redelivered after its ack if it was in a batch that is later than all that anybody had been handed when
the ack was answered; one that comes late in an earlier batch only waited in a client's memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Mark = tuple[int, int]
"""(writer, sequence): names one committed row."""

_Turn = tuple[int, int]
"""Epoch and batch."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One change as a client saw it."""

    event_id: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Repeat:
    """A client was handed ``changes`` changes at ``at_s`` that had been given out before."""

    at_s: float
    changes: int


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
    two_in_one_epoch: int = 0

    @property
    def holds(self) -> bool:
        """Whether the promise was kept, on a run that did something."""
        broken = self.lost or self.redelivered_after_ack or self.out_of_order or self.epoch_went_back or self.phantom
        return self.committed > 0 and not broken and not self.two_in_one_epoch

    def lines(self) -> list[str]:
        return [
            f"changes committed:              {self.committed}",
            f"changes delivered:              {self.delivered}",
            f"lost:                           {self.lost}",
            f"redelivered after ack:          {self.redelivered_after_ack}",
            f"delivered but never committed:  {self.phantom}",
            f"out of order:                   {self.out_of_order}",
            f"batches of an earlier epoch:    {self.epoch_went_back}",
            f"two batches of the same id:     {self.two_in_one_epoch}",
            f"repeated before ack (allowed):  {self.repeated}",
        ]


@dataclass(frozen=True, slots=True)
class _Given:
    at: tuple[float, int]
    turn: _Turn
    client: str
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class _Acked:
    at: tuple[float, int]
    turn: _Turn
    marks: tuple[Mark, ...]


class Checker:
    """Collects deliveries and acks of one client id, in the order in which they happened.

    ``renamed``: changes may come again under other event ids, as those of a source without GTIDs do when it is
    replaced; otherwise that counts as a change that nobody committed.
    """

    def __init__(self, *, renamed: bool = False) -> None:
        self._busy = threading.Lock()
        self._renamed = renamed
        self._given: list[_Given] = []
        self._acked: list[_Acked] = []
        self._seen: set[Mark] = set()
        self._answered: set[Mark] = set()

    @property
    def delivered(self) -> int:
        """Distinct changes so far."""
        return len(self._seen)

    @property
    def acknowledged(self) -> int:
        """Changes whose ack was answered."""
        return len(self._answered)

    def deliver(
        self, deliveries: Iterable[Delivery], *, epoch: int = 0, batch: int = 0, client: str = "", at_s: float = 0.0
    ) -> None:
        """Take note of a batch of ``epoch`` that ``client`` was handed. ``batch`` is the id that its node gave it.

        ``at_s`` is for those who tell it later, or not in the order of time.
        """
        with self._busy:
            given = _Given((at_s, self._told), (epoch, batch), client, tuple(deliveries))
            self._given.append(given)
            self._seen.update(delivery.mark for delivery in given.deliveries)

    def acknowledge(self, deliveries: Iterable[Delivery], *, epoch: int = 0, batch: int = 0, at_s: float = 0.0) -> None:
        """Take note that the server has answered the ack of these changes, given in ``batch`` of ``epoch``."""
        with self._busy:
            acked = _Acked((at_s, self._told), (epoch, batch), tuple(delivery.mark for delivery in deliveries))
            self._acked.append(acked)
            self._answered.update(acked.marks)

    @property
    def _told(self) -> int:
        return len(self._given) + len(self._acked)

    def missing(self, committed: Iterable[Mark]) -> set[Mark]:
        """Return what the database holds and no client was given yet."""
        with self._busy:
            return set(committed) - self._seen

    def repeats(self) -> list[Repeat]:
        """Return when changes came that had been given out before, the earliest first."""
        seen: set[Mark] = set()
        found = []
        for given in self._by_turn():
            marks = {delivery.mark for delivery in given.deliveries}
            if again := len(marks & seen):
                found.append(Repeat(given.at[0], again))
            seen |= marks
        return sorted(found, key=lambda repeat: repeat.at_s)

    def _by_turn(self) -> list[_Given]:
        with self._busy:
            return sorted(self._given, key=lambda given: (given.turn, given.at))

    def verdict(self, committed: Iterable[Mark]) -> Verdict:
        """Judge, against everything that the database says was committed."""
        marks = set(committed)
        given = self._by_turn()
        seen = {delivery.mark for one in given for delivery in one.deliveries}
        return Verdict(
            committed=len(marks),
            delivered=len(seen),
            lost=len(marks - seen),
            redelivered_after_ack=len(self.redelivered()),
            out_of_order=_out_of_order(given),
            epoch_went_back=_went_back(given),
            repeated=sum(len(one.deliveries) for one in given) - len(seen),
            phantom=len(seen - marks) + (0 if self._renamed else _names(given) - len(seen)),
            two_in_one_epoch=_contradictions(given),
        )

    def redelivered(self) -> list[tuple[float, Mark]]:
        """Return what was given again after its ack had been answered, and when."""
        with self._busy:
            events: list[_Given | _Acked] = [*self._given, *self._acked]
        events.sort(key=lambda event: event.at)
        newest: _Turn = (0, 0)
        acked: dict[Mark, _Turn] = {}
        found = []
        for event in events:
            newest = max(newest, event.turn)
            if isinstance(event, _Acked):
                for mark in event.marks:
                    acked.setdefault(mark, newest)
                continue
            later = event.turn if event.turn[1] else (event.turn[0], 1)  # without ids it is the epoch that counts
            found += [(event.at[0], one.mark) for one in event.deliveries if later > acked.get(one.mark, later)]
        return found


def _out_of_order(given: Sequence[_Given]) -> int:
    """Count changes that were first given after a later one of their writer."""
    count = 0
    seen: set[Mark] = set()
    last: dict[int, int] = {}
    for one in given:
        for writer, sequence in (delivery.mark for delivery in one.deliveries):
            if (writer, sequence) not in seen:
                count += sequence <= last.get(writer, 0)
                last[writer] = max(sequence, last.get(writer, 0))
                seen.add((writer, sequence))
    return count


def _went_back(given: Sequence[_Given]) -> int:
    """Count batches that a client was handed after one of a later epoch."""
    count = 0
    newest: dict[str, int] = {}
    for one in sorted(given, key=lambda given: given.at):
        count += one.turn[0] < newest.get(one.client, 0)
        newest[one.client] = one.turn[0]
    return count


def _names(given: Sequence[_Given]) -> int:
    return len({(delivery.mark, delivery.event_id) for one in given for delivery in one.deliveries})


def _contradictions(given: Sequence[_Given]) -> int:
    """Count batches of one epoch and id that are not the same: only two nodes, both leading, make such."""
    count = 0
    first: dict[tuple[int, int], tuple[Delivery, ...]] = {}
    for one in given:
        epoch, batch = one.turn
        count += batch > 0 and first.setdefault((epoch, batch), one.deliveries) != one.deliveries
    return count
