"""Who holds the lock, in every order of events that matters; time is a number."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ha_canal.server.lock_queue import Claim, Granted, LockQueue, Outcome, Refused, Revoked

A = Claim("a", "10.0.0.1:1")
B = Claim("b", "10.0.0.2:1")
C = Claim("c", "10.0.0.3:1")


def queue() -> LockQueue:
    numbers = itertools.count(1)
    return LockQueue(10.0, lambda: f"lease {next(numbers)}")


def test_the_first_has_it_and_the_second_is_told_who_holds_it() -> None:
    lock = queue()
    assert lock.ask(A, 0.0, 0.0) == (1, [Granted(1, "lease 1")])
    assert lock.ask(B, 1.0, 0.0) == (2, [Refused(2, "a (10.0.0.1:1)")])


def test_waiters_are_served_in_order_when_it_is_released() -> None:
    lock = queue()
    lock.ask(A, 0.0, 0.0)
    assert lock.ask(B, 1.0, 60.0) == (2, [])
    assert lock.ask(C, 2.0, 60.0) == (3, [])
    assert lock.release("lease 1", 3.0) == [Granted(2, "lease 2")]
    assert lock.release("lease 2", 4.0) == [Granted(3, "lease 3")]
    assert lock.release("lease 3", 5.0) == []
    assert lock.idle


def test_a_lease_runs_out_only_when_no_call_is_in_progress() -> None:
    lock = queue()
    lock.ask(A, 0.0, 0.0)
    lock.ask(B, 0.0, 1000.0)
    assert lock.call_begins("lease 1", 9.9)
    assert lock.tick(500.0) == []
    lock.call_ends("lease 1", 500.0)
    assert lock.next_tick_at() == 510.0
    assert lock.tick(509.9) == []
    assert lock.tick(510.0) == [Revoked("lease 1"), Granted(2, "lease 2")]
    assert not lock.call_begins("lease 1", 510.0)


def test_who_waits_too_long_is_refused_and_who_went_is_skipped() -> None:
    lock = queue()
    lock.ask(A, 0.0, 0.0)
    gone, _ = lock.ask(B, 0.0, 60.0)
    lock.ask(C, 0.0, 5.0)
    assert lock.tick(5.0) == [Refused(3, "a (10.0.0.1:1)")]
    lock.withdraw(gone)
    assert lock.release("lease 1", 6.0) == []


def test_a_client_that_lost_its_link_has_the_lock_back_at_once_ahead_of_waiters() -> None:
    lock = queue()
    lock.ask(A, 0.0, 0.0)
    lock.call_begins("lease 1", 0.0)
    lock.ask(B, 1.0, 60.0)
    again = Claim("a", "10.0.0.1:2", "lease 1")
    assert lock.ask(again, 2.0, 0.0) == (3, [Revoked("lease 1"), Granted(3, "lease 2")])
    lock.call_ends("lease 1", 3.0)  # the broken stream ends late: it must not start the new lease's clock
    assert lock.holds("lease 2", 11.9)
    assert lock.holder == "a (10.0.0.1:2)"


def test_a_stolen_name_or_an_old_lease_alone_is_not_enough() -> None:
    lock = queue()
    lock.ask(A, 0.0, 0.0)
    for claim in (Claim("a", "x"), Claim("b", "x", "lease 1"), Claim("a", "x", "lease 0")):
        _, outcomes = lock.ask(claim, 1.0, 0.0)
        assert [type(outcome) for outcome in outcomes] == [Refused]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "release", "begin", "end", "tick"]), st.integers(0, 3), st.integers(0, 12)),
        max_size=60,
    )
)
def test_never_two_holders_and_every_ticket_is_answered_once(events: list[tuple[str, int, int]]) -> None:
    lock, now, holder, answered = queue(), 0.0, "", set[int]()

    def follow(outcomes: list[Outcome]) -> str:
        current = holder
        for outcome in outcomes:
            match outcome:
                case Revoked(lease):
                    assert lease == current
                    current = ""
                case Granted(ticket, lease):
                    assert current == ""
                    assert ticket not in answered
                    answered.add(ticket)
                    current = lease
                case Refused(ticket):
                    assert ticket not in answered
                    answered.add(ticket)
        return current

    for kind, who, step in events:
        now += step
        match kind:
            case "ask":
                holder = follow(lock.ask(Claim(f"client {who}", "x", holder if who == 0 else ""), now, who * 5.0)[1])
            case "begin":
                lock.call_begins(holder, now)
            case "end":
                lock.call_ends(holder, now)
            case _:
                if kind == "release" and holder:
                    released, holder = holder, ""
                    holder = follow(lock.release(released, now))
                else:
                    holder = follow(lock.tick(now))
