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


def test_a_late_answer_to_an_ack_accuses_nobody_of_what_was_given_before_it() -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=1, batch=7, client="one", at_s=1.0)
    checker.deliver(_ROWS, epoch=2, batch=1, client="two", at_s=2.0)
    checker.acknowledge(_ROWS, epoch=2, batch=1, at_s=3.0)
    checker.acknowledge(_ROWS, epoch=1, batch=7, at_s=4.0)  # under the next leader, for which it was done already
    assert checker.verdict(_TRUTH).holds


def test_what_a_client_held_while_it_stood_still_is_no_redelivery_but_the_next_batch_is() -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=1, batch=8, client="quick", at_s=2.0)
    checker.acknowledge(_ROWS, epoch=1, batch=8, at_s=3.0)
    checker.deliver(_ROWS, epoch=1, batch=7, client="slow", at_s=4.0)
    assert checker.verdict(_TRUTH).holds
    checker.deliver(_ROWS[:1], epoch=1, batch=9, client="slow", at_s=5.0)
    assert checker.redelivered() == [(5.0, (1, 1))]


def test_order_is_that_of_batches_whenever_clients_tell_of_them() -> None:
    checker = Checker()
    checker.deliver(_ROWS[2:], epoch=1, batch=2, client="quick", at_s=1.0)
    checker.deliver(_ROWS[:2], epoch=1, batch=1, client="slow", at_s=2.0)
    assert checker.verdict(_TRUTH).holds
    checker = Checker()
    checker.deliver(_ROWS[2:], epoch=1, batch=1, at_s=1.0)
    checker.deliver(_ROWS[:2], epoch=1, batch=2, at_s=2.0)
    assert checker.verdict(_TRUTH).out_of_order == 2


def test_two_nodes_that_give_different_batches_under_one_epoch_and_id() -> None:
    checker = Checker()
    checker.deliver(_ROWS[:2], epoch=1, batch=1, client="one")
    checker.deliver(_ROWS[:2], epoch=1, batch=1, client="two")
    assert checker.verdict(_TRUTH[:2]).holds
    checker.deliver(_ROWS[2:], epoch=1, batch=1, client="two")
    assert checker.verdict(_TRUTH).two_in_one_epoch == 1
    assert not checker.verdict(_TRUTH).holds


def test_other_names_are_only_allowed_where_the_source_has_no_gtids() -> None:
    for renamed in (False, True):
        checker = Checker(renamed=renamed)
        checker.deliver(_ROWS, epoch=1, batch=1)
        checker.deliver([Delivery("other", (1, 4))], epoch=2, batch=1)
        assert checker.verdict(_TRUTH).holds is renamed


def test_repeats_say_when_they_came() -> None:
    checker = Checker()
    checker.deliver(_ROWS, epoch=1, batch=1, at_s=1.0)
    checker.deliver(_ROWS[:3], epoch=2, batch=1, at_s=9.0)
    assert [(one.at_s, one.changes) for one in checker.repeats()] == [(9.0, 3)]
