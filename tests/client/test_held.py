"""What became of each batch that the client gave out."""

from __future__ import annotations

import pytest

from ha_canal.client.batch import Batch
from ha_canal.client.delivery import PureDelivery
from ha_canal.client.held import Held
from ha_canal.errors import NotOldestError, StaleEpochError, UnknownBatchError
from ha_canal.protos.canal_pb2 import Messages


class Nobody:
    """An owner that is never asked."""

    def ack(self, batch: Batch, *, wait: bool = True) -> None: ...
    def rollback(self, batch: Batch) -> None: ...


def held_with(count: int) -> Held:
    held = Held()
    for number in range(count):
        held.hand(Nobody(), PureDelivery(Messages(batch_id=100 + number)))
    return held


def test_acks_in_order_until_they_are_answered() -> None:
    held = held_with(3)
    assert held.take_ack(1) is not None
    assert held.take_ack(2) is not None
    held.answered(100)
    assert [batch.batch_id for batch in held.unanswered] == [2]
    assert held.take_ack(1) is None  # again: nothing to do
    with pytest.raises(UnknownBatchError):
        held.take_ack(4)


def test_only_the_oldest() -> None:
    with pytest.raises(NotOldestError, match="batch 2 cannot be acknowledged before batch 1"):
        held_with(2).take_ack(2)


def test_after_a_new_beginning_old_batches_are_gone_and_ids_go_on() -> None:
    held = held_with(2)
    held.take_ack(1)
    held.begin("")
    with pytest.raises(StaleEpochError, match="its changes come again"):
        held.take_ack(2)
    assert [batch.batch_id for batch in held.unanswered] == [1]
    assert held.hand(Nobody(), PureDelivery(Messages(batch_id=1))).batch_id == 3


@pytest.mark.parametrize("durable", [True, False])
def test_how_unanswered_acks_end(durable: bool) -> None:
    held = held_with(1)
    held.take_ack(1)
    held.settle(durable=durable)
    assert not held.unanswered
    if durable:
        assert held.take_ack(1) is None
    else:
        with pytest.raises(StaleEpochError):
            held.take_ack(1)


def test_giving_back() -> None:
    held = held_with(3)
    first = held.give_back(2)
    assert first is not None
    assert first.server_id == 101
    assert held.give_back(3) is None
    with pytest.raises(StaleEpochError):
        held.take_ack(3)
    assert held.take_ack(1) is not None
