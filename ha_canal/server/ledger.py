"""Which batches of one client are out, which of them it has acknowledged, and which acks are durable: pure.

A batch is *handed* to the client, *accepted* when the client acknowledges it, and *settled* when the cursor behind
it is durable. Accepted batches are always the oldest ones; the cursor is written for the newest of them, so that
acks that arrive while a write is under way share the next one. A *silent* batch holds nothing for the client: it
needs no ack, and is settled together with what stands before it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ha_canal.errors import NotOldestError, UnknownBatchError

if TYPE_CHECKING:
    from ha_canal.model.position import Position

_MOST_RUNS = 1_000
"""Runs of settled ids to remember (a new run starts only after a rollback)."""


@dataclass(frozen=True, slots=True)
class Handed:
    batch_id: int
    position: Position
    silent: bool


@dataclass(frozen=True, slots=True)
class Due:
    """The cursor to write next, and the batches, oldest first, that it settles."""

    position: Position
    batch_ids: tuple[int, ...]


class Ledger:
    """The batches of one subscription. Nothing here waits or knows the time."""

    __slots__ = ("_accepted", "_handed", "_runs")

    def __init__(self) -> None:
        self._handed: deque[Handed] = deque()
        self._accepted = 0  # how many of them, from the oldest on, are accepted
        self._runs: deque[range] = deque(maxlen=_MOST_RUNS)  # the ids that are settled

    def __len__(self) -> int:
        return len(self._handed)

    @property
    def wanted(self) -> bool:
        """Whether an accepted ack waits for a write."""
        return self._accepted > 0

    def hand_out(self, batch_id: int, position: Position) -> None:
        self._handed.append(Handed(batch_id, position, silent=False))

    def silence(self, batch_id: int) -> None:
        """Note that the batch holds nothing for the client, which will never see it."""
        self._handed = deque(
            replace(handed, silent=True) if handed.batch_id == batch_id else handed for handed in self._handed
        )

    def holds(self, batch_id: int) -> bool:
        """Whether the batch is out: neither settled nor rolled back."""
        return any(handed.batch_id == batch_id for handed in self._handed)

    def accept(self, batch_id: int) -> bool:
        """Take the client's ack. False: it is durable already, there is nothing to do.

        Raises UnknownBatchError for an id that was never handed out or was rolled back, and NotOldestError when
        an older batch has no ack yet.
        """
        if self._is_settled(batch_id):
            return False
        for index, handed in enumerate(self._handed):
            if handed.batch_id == batch_id:
                self._accepted = max(self._accepted, index + 1)
                return True
            if index >= self._accepted and not handed.silent:
                self._refuse(batch_id, oldest=handed.batch_id)
        raise _unknown(batch_id)

    def _refuse(self, batch_id: int, *, oldest: int) -> None:
        if not self.holds(batch_id):
            raise _unknown(batch_id)
        raise NotOldestError(f"batch {batch_id} cannot be acknowledged before batch {oldest}: acknowledge in order")

    def due(self) -> Due | None:
        """Return the write that settles all that can be settled now."""
        batch_ids = []
        position = None
        for index, handed in enumerate(self._handed):
            if index >= self._accepted and not handed.silent:
                break
            batch_ids.append(handed.batch_id)
            position = handed.position
        return Due(position, tuple(batch_ids)) if position is not None else None

    def settle(self, due: Due) -> None:
        """Note that the write of ``due`` is durable."""
        for batch_id in due.batch_ids:
            handed = self._handed.popleft()
            assert handed.batch_id == batch_id, "batches settle in the order in which they were handed out"
            self._note_settled(batch_id)
        self._accepted = max(0, self._accepted - len(due.batch_ids))

    def fail(self) -> None:
        """Note that the write failed: no ack that waited for it is accepted any more."""
        self._accepted = 0

    def roll_back(self, batch_id: int | None) -> None:
        """Take back ``batch_id`` and all after it (None: all). No write may be under way."""
        if batch_id is not None and not self.holds(batch_id):
            raise _unknown(batch_id)
        while self._handed and (batch_id is None or self._handed[-1].batch_id >= batch_id):
            self._handed.pop()
        self._accepted = min(self._accepted, len(self._handed))

    def _is_settled(self, batch_id: int) -> bool:
        return any(batch_id in run for run in reversed(self._runs))

    def _note_settled(self, batch_id: int) -> None:
        if self._runs and self._runs[-1].stop == batch_id:
            self._runs[-1] = range(self._runs[-1].start, batch_id + 1)
        else:
            self._runs.append(range(batch_id, batch_id + 1))


def _unknown(batch_id: int) -> UnknownBatchError:
    return UnknownBatchError(
        f"batch {batch_id} is not out: it was never handed out under this subscription, or was rolled back"
    )
