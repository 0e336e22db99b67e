"""Acks in order, shared writes, rollbacks: against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ha_canal.errors import CanalError, NotOldestError, UnknownBatchError
from ha_canal.model.position import Position
from ha_canal.server.ledger import Due, Ledger


def at(number: int) -> Position:
    return Position("bin.000001", number)


def ledger_with(*batch_ids: int) -> Ledger:
    ledger = Ledger()
    for batch_id in batch_ids:
        ledger.hand_out(batch_id, at(batch_id))
    return ledger


def test_acks_that_wait_share_one_write() -> None:
    ledger = ledger_with(1, 2, 3)
    assert ledger.accept(1)
    assert ledger.accept(2)
    due = ledger.due()
    assert due == Due(at(2), (1, 2))
    ledger.accept(3)  # while the write is under way
    ledger.settle(due)
    assert ledger.due() == Due(at(3), (3,))
    assert not ledger.accept(1)  # durable already: nothing to do


def test_an_ack_out_of_order_and_an_unknown_one_are_refused() -> None:
    ledger = ledger_with(1, 2)
    with pytest.raises(NotOldestError, match="batch 2 cannot be acknowledged before batch 1"):
        ledger.accept(2)
    with pytest.raises(UnknownBatchError):
        ledger.accept(9)


def test_a_failed_write_leaves_its_batches_out() -> None:
    ledger = ledger_with(1, 2)
    ledger.accept(1)
    ledger.fail()
    assert ledger.due() is None
    assert ledger.holds(1)
    assert ledger.accept(1)


def test_silent_batches_ride_along() -> None:
    ledger = ledger_with(1, 2, 3, 4)
    for silent in (1, 3):
        ledger.silence(silent)
    assert ledger.due() == Due(at(1), (1,))
    assert ledger.accept(2)
    assert ledger.due() == Due(at(3), (1, 2, 3))
    assert not ledger_with(5).wanted


class AgainstAModel(RuleBasedStateMachine):
    """The model keeps every batch with its state."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.out: list[int] = []
        self.accepted: list[int] = []
        self.settled: set[int] = set()
        self.last = 0
        self.writing: Due | None = None

    @rule()
    def hand_out(self) -> None:
        self.last += 1
        self.ledger.hand_out(self.last, at(self.last))
        self.out.append(self.last)

    @rule(batch_id=st.integers(1, 40))
    def ack(self, batch_id: int) -> None:
        waiting = [number for number in self.out if number not in self.accepted]
        if batch_id in self.settled:
            assert not self.ledger.accept(batch_id)
        elif batch_id in self.accepted or (waiting and waiting[0] == batch_id):
            assert self.ledger.accept(batch_id)
            self.accepted = [*self.accepted, batch_id] if batch_id not in self.accepted else self.accepted
        else:
            with pytest.raises(CanalError):
                self.ledger.accept(batch_id)

    @precondition(lambda self: self.writing is None)
    @rule()
    def begin_write(self) -> None:
        self.writing = self.ledger.due()
        assert (self.writing.batch_ids if self.writing else ()) == tuple(self.accepted)

    @precondition(lambda self: self.writing is not None)
    @rule(durable=st.booleans())
    def end_write(self, durable: bool) -> None:
        assert self.writing
        if durable:
            self.ledger.settle(self.writing)
            done = set(self.writing.batch_ids)
            self.settled |= done
            self.out = [number for number in self.out if number not in done]
            self.accepted = [number for number in self.accepted if number not in done]
        else:
            self.ledger.fail()
            self.accepted = []
        self.writing = None

    @precondition(lambda self: self.writing is None)
    @rule(index=st.integers(0, 5))
    def roll_back(self, index: int) -> None:
        first = self.out[index] if index < len(self.out) else None
        self.ledger.roll_back(first)
        self.out = [number for number in self.out if first is not None and number < first]
        self.accepted = [number for number in self.accepted if number in self.out]

    @invariant()
    def same(self) -> None:
        assert len(self.ledger) == len(self.out)
        assert all(self.ledger.holds(number) for number in self.out)


AgainstAModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
