"""Which node next, when, and when to give up; time is a number."""

from __future__ import annotations

import pytest

from ha_canal.client.route import Route
from ha_canal.errors import (
    FilterError,
    LinkError,
    LockedError,
    NotLeaderError,
    NotSubscribedError,
    SchemaMismatchError,
    StaleEpochError,
    UnknownInstanceError,
    UsageError,
)

DOWN = LinkError("down")


def route(*servers: str, retry_for_s: float | None = None) -> Route:
    return Route(servers or ("a", "b", "c"), retry_for_s=retry_for_s, delays=[2.0**step for step in range(64)])


def test_every_node_is_asked_in_turn_and_a_pause_comes_after_each_round() -> None:
    way = route()
    steps = [(way.server, way.failed(DOWN, 0.0)) for _ in range(7)]
    assert steps == [("a", 0.0), ("b", 0.0), ("c", 1.0), ("a", 0.0), ("b", 0.0), ("c", 2.0), ("a", 0.0)]


def test_a_success_starts_the_pauses_anew() -> None:
    way = route("a")
    assert [way.failed(DOWN, 0.0), way.failed(DOWN, 0.0)] == [1.0, 2.0]
    way.succeeded()
    assert way.failed(DOWN, 0.0) == 1.0


def test_the_leader_that_a_node_names_is_asked_at_once_even_if_it_was_not_given() -> None:
    way = route()
    assert way.failed(NotLeaderError("shop", "z"), 0.0) == 0.0
    assert way.server == "z"
    assert way.failed(DOWN, 0.0) == 0.0
    assert way.server == "b"


def test_nodes_that_send_us_in_a_circle_are_not_followed_for_ever() -> None:
    way = route("a", "b")
    pauses = [way.failed(NotLeaderError("shop", "b" if way.server == "a" else "a"), 0.0) for _ in range(40)]
    assert sum(pause > 0 for pause in pauses) >= 5


def test_without_a_leader_the_next_node_is_asked() -> None:
    way = route("a", "b")
    assert [way.failed(NotLeaderError("shop"), 0.0), way.failed(NotLeaderError("shop"), 0.0)] == [0.0, 1.0]


def test_it_gives_up_when_the_time_is_over_and_not_before() -> None:
    way = route("a", retry_for_s=5.0)
    assert way.failed(DOWN, 100.0) == 1.0
    assert way.failed(DOWN, 101.0) == 2.0
    with pytest.raises(LinkError):
        way.failed(DOWN, 104.0)
    way.succeeded()
    assert way.failed(DOWN, 200.0) == 1.0


def test_no_retries_at_all() -> None:
    with pytest.raises(LinkError):
        route("a", retry_for_s=0.0).failed(DOWN, 0.0)


@pytest.mark.parametrize("error", [FilterError("("), SchemaMismatchError("3 columns"), UsageError("no")])
def test_what_no_other_node_can_mend_is_raised(error: UsageError | SchemaMismatchError) -> None:
    with pytest.raises(type(error)):
        route().failed(error, 0.0)


def test_an_unknown_instance_is_believed_when_all_say_so() -> None:
    way = route("a", "b")
    assert way.failed(UnknownInstanceError("no such"), 0.0) == 0.0
    with pytest.raises(UnknownInstanceError):
        way.failed(UnknownInstanceError("no such"), 0.0)


def test_the_lock_and_the_lease_do_not_change_the_node() -> None:
    way = route(retry_for_s=3.0)
    for second in range(5):
        assert way.failed(LockedError("shop", "1", "x"), second * 10.0) > 0
    assert way.server == "a"
    way.succeeded()
    assert way.failed(NotSubscribedError("lease over"), 0.0) == 0.0
    assert way.server == "a"


def test_a_deposed_leader_is_left() -> None:
    way = route()
    way.failed(StaleEpochError("deposed"), 0.0)
    assert way.server == "b"


def test_no_nodes() -> None:
    with pytest.raises(UsageError, match="at least one node"):
        Route((), retry_for_s=None, delays=())


def test_the_next_node_hears_which_leader_has_refused_us() -> None:
    way = route()
    way.failed(NotLeaderError("shop"), 0.0)
    assert (way.server, way.failed_leader) == ("b", "a")
    way.failed(NotLeaderError("shop", "c"), 0.0)
    assert (way.server, way.failed_leader) == ("c", "")


def test_a_link_that_broke_once_says_nothing_about_its_node_and_one_that_cannot_be_made_again_does() -> None:
    way = route()
    way.failed(DOWN, 0.0)
    assert (way.server, way.failed_leader) == ("b", "")
    way.failed(NotLeaderError("shop", "a"), 0.0)
    way.failed(DOWN, 0.0)
    assert (way.server, way.failed_leader) == ("c", "a")
    way.succeeded()
    assert way.failed_leader == ""
