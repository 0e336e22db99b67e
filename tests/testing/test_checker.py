"""The judge finds what it is there to find: each way to break the promise, one by one."""

from __future__ import annotations

import pytest

from ha_canal.testing.checker import Checker, Delivery

_ROWS = [Delivery(f"id{number}", (1, number)) for number in range(1, 5)]
_TRUTH = [row.mark for row in _ROWS]


def test_all_delivered_once_in_order_holds() -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=1)
    checker.acknowledge(_ROWS, epoch=1)
    verdict = checker.verdict(_TRUTH)
    assert verdict.holds
    assert (verdict.committed, verdict.delivered, checker.acknowledged) == (4, 4, 4)


def test_a_run_that_did_nothing_proves_nothing() -> None:
    assert not Checker().verdict([]).holds


def test_what_was_never_given_is_lost() -> None:
    checker = Checker()
    checker.deliver(_ROWS[:3], epoch=1)
    assert checker.missing(_TRUTH) == {(1, 4)}
    assert (checker.verdict(_TRUTH).lost, checker.verdict(_TRUTH).holds) == (1, False)


def test_what_comes_again_before_its_ack_is_allowed() -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=1)
    checker.deliver(_ROWS, epoch=2)
    assert checker.verdict(_TRUTH).repeated == 4
    assert checker.verdict(_TRUTH).holds


@pytest.mark.parametrize("epoch", [1, 2])
def test_what_comes_again_after_its_ack_breaks_the_promise(epoch: int) -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=1)
    checker.acknowledge(_ROWS[:2], epoch=1)
    checker.deliver(_ROWS, epoch=epoch)
    assert checker.verdict(_TRUTH).redelivered_after_ack == 2
    assert not checker.verdict(_TRUTH).holds


def test_what_left_before_the_ack_is_no_redelivery() -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=2, client="quick")
    checker.acknowledge(_ROWS, epoch=2)
    checker.deliver(_ROWS, epoch=1, client="slow")
    assert checker.verdict(_TRUTH).holds


def test_a_change_out_of_order() -> None:
    checker = Checker()
    checker.deliver([_ROWS[0], _ROWS[2], _ROWS[1], _ROWS[3]], epoch=1)
    assert checker.verdict(_TRUTH).out_of_order == 1
    assert not checker.verdict(_TRUTH).holds


def test_one_that_was_never_committed_or_has_two_names() -> None:
    checker = Checker()
    checker.deliver([*_ROWS, Delivery("other", (9, 1)), Delivery("twin", (1, 1))], epoch=1)
    assert checker.verdict(_TRUTH).phantom == 2
    assert not checker.verdict(_TRUTH).holds


def test_a_client_that_is_given_batches_of_an_earlier_epoch() -> None:
    checker = Checker()
    checker.deliver(_ROWS[:1], epoch=2, client="one")
    checker.deliver(_ROWS[1:3], epoch=1, client="one")
    checker.deliver(_ROWS[3:], epoch=1, client="two")
    assert checker.verdict(_TRUTH).epoch_went_back == 1
    assert not checker.verdict(_TRUTH).holds
