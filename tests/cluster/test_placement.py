"""Placement as a pure choice: it converges, never flaps, moves no more than needed, and follows orders."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ha_canal.cluster.layout import Moved, NodeCard, Orders
from ha_canal.cluster.placement import Seat, Sight, assign, next_leader

NAMES = [f"i{number}" for number in range(12)]
ALL = frozenset(NAMES)
_nodes = st.lists(st.sampled_from(["a:1", "b:1", "c:1", "d:1", "e:1"]), min_size=1, unique=True)


def cluster(*addresses: str, leaders: dict[str, str] | None = None, unsettled: str = "", **orders: object) -> Sight:
    cards = {at: NodeCard(at.partition(":")[0], ALL, settled=at not in unsettled) for at in addresses}
    return Sight(cards, Orders(**orders), leaders or {})  # type: ignore[arg-type] # kept short for the tests


def seats(count: int, **options: object) -> list[Seat]:
    return [Seat(name, **options) for name in NAMES[:count]]  # type: ignore[arg-type] # as above


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Seat], Sight]:
    """Draw a cluster in any state: nodes of all kinds, leaders that may be gone, orders, weights, preferences."""
    addresses = draw(_nodes)
    cards = {
        at: NodeCard(at[0], draw(st.one_of(st.just(ALL), st.frozensets(st.sampled_from(NAMES)))), draw(st.booleans()))
        for at in addresses
    }
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    some = st.lists(st.sampled_from(["a", "b:1", "e"]), max_size=2, unique=True)
    made = [Seat(name, draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])), tuple(draw(some))) for name in names]
    leaders = {name: at for name in names if (at := draw(st.sampled_from(["", *addresses])))}
    moved = {name: Moved(draw(st.sampled_from(["a:1", "b:1"]))) for name in names if draw(st.integers(0, 5)) == 0}
    drained = draw(st.frozensets(st.sampled_from(["a:1", "b:1", "c:1"]), max_size=2))
    return made, Sight(cards, Orders(drained, moved), leaders)


@given(clusters())
def test_the_choice_is_a_fixed_point(drawn: tuple[list[Seat], Sight]) -> None:
    made, sight = drawn
    chosen = assign(made, sight)
    assert assign(made, replace(sight, leaders=chosen)) == chosen


@given(clusters(), st.randoms())
def test_one_move_at_a_time_in_any_order_comes_to_rest(drawn: tuple[list[Seat], Sight], random: object) -> None:
    made, sight = drawn
    moves = 0
    while True:
        chosen = assign(made, sight)
        going = sorted(name for name, to in chosen.items() if sight.leaders.get(name) != to)
        if not going:
            break
        name = random.choice(going)  # type: ignore[attr-defined] # hypothesis' own, as random.Random
        sight = replace(sight, leaders={**sight.leaders, name: chosen[name]})
        moves += 1
        assert moves <= 2 * len(made)


@given(clusters())
def test_only_live_nodes_that_have_the_instance_and_are_not_drained_are_given_anything(
    drawn: tuple[list[Seat], Sight],
) -> None:
    made, sight = drawn
    for name, to in assign(made, sight).items():
        assert to in sight.takers(name) or (to == sight.leaders.get(name) and not sight.takers(name))


@given(clusters())
def test_what_can_be_run_is_run(drawn: tuple[list[Seat], Sight]) -> None:
    made, sight = drawn
    assert {seat.name for seat in made if sight.takers(seat.name)} <= set(assign(made, sight))


@given(_nodes, st.lists(st.integers(0, 4), max_size=12))
def test_loads_become_even_with_as_few_moves_as_possible(addresses: list[str], where: list[int]) -> None:
    leaders = {name: addresses[at % len(addresses)] for name, at in zip(NAMES, where, strict=False)}
    chosen = assign(seats(len(where)), cluster(*addresses, leaders=leaders))
    before = sorted((list(leaders.values()).count(at) for at in addresses), reverse=True)
    after = [list(chosen.values()).count(at) for at in addresses]
    assert max(after) - min(after) <= 1
    share, more = divmod(len(where), len(addresses))
    needed = sum(max(0, count - share - (place < more)) for place, count in enumerate(before))
    assert sum(chosen[name] != at for name, at in leaders.items()) == needed


def test_a_restarted_node_gets_its_share_back_only_when_it_has_settled() -> None:
    leaders = {"i0": "a:1", "i1": "a:1", "i2": "b:1", "i3": "b:1"}
    assert assign(seats(4), cluster("a:1", "b:1", "c:1", leaders=leaders, unsettled="c:1")) == leaders
    chosen = assign(seats(4), cluster("a:1", "b:1", "c:1", leaders=leaders))
    assert sorted(chosen.values()).count("c:1") == 1


def test_a_node_that_has_only_just_come_takes_what_nobody_leads() -> None:
    assert assign(seats(1), cluster("a:1", unsettled="a:1")) == {"i0": "a:1"}


def test_weights_count() -> None:
    heavy = [Seat("i0", 3.0), *seats(4)[1:]]
    chosen = assign(heavy, cluster("a:1", "b:1"))
    assert {chosen[name] for name in ("i1", "i2", "i3")} == {"b:1"}
    assert chosen["i0"] == "a:1"


def test_a_preferred_node_is_called_by_name_or_address_and_the_first_live_one_counts() -> None:
    leaders = {"i0": "a:1"}
    for preferred in (("b",), ("b:1",), ("x", "b", "a")):
        assert assign([Seat("i0", 1.0, preferred)], cluster("a:1", "b:1", leaders=leaders)) == {"i0": "b:1"}
    assert assign([Seat("i0", 1.0, ("x",))], cluster("a:1", "b:1", leaders=leaders)) == leaders
    assert assign([Seat("i0", 1.0, ("b",))], cluster("a:1", "b:1", leaders=leaders, unsettled="b:1")) == leaders


def test_an_order_is_stronger_than_balance_and_preference_and_is_followed_at_once() -> None:
    cards = {at: NodeCard(at[0], ALL, session=f"of {at}") for at in ("a:1", "b:1")}
    orders = Orders(moved={"i0": Moved("b:1", "of b:1"), "i1": Moved("b:1", "of b:1")})
    sight = Sight(cards, orders, {"i0": "a:1", "i1": "a:1"})
    assert assign([Seat("i0", 1.0, ("a",)), Seat("i1")], sight) == {"i0": "b:1", "i1": "b:1"}


def test_after_a_restart_of_its_node_an_order_waits_until_that_has_settled() -> None:
    orders = Orders(moved={"i0": Moved("b:1", "an earlier session")})
    cards = {at: NodeCard(at[0], ALL) for at in ("a:1", "b:1")}
    assert assign(seats(1), Sight(cards, orders, {"i0": "a:1"})) == {"i0": "a:1"}
    assert assign(seats(1), Sight(cards, orders)) == {"i0": "b:1"}
    settled = {**cards, "b:1": replace(cards["b:1"], settled=True)}
    assert assign(seats(1), Sight(settled, orders, {"i0": "a:1"})) == {"i0": "b:1"}


def test_a_drained_node_gives_all_away_takes_nothing_and_keeps_what_nobody_else_can_take() -> None:
    drained = frozenset({"a:1"})
    leaders = {"i0": "a:1", "i1": "a:1"}
    assert set(assign(seats(2), cluster("a:1", "b:1", leaders=leaders, drained=drained)).values()) == {"b:1"}
    assert assign(seats(2), cluster("a:1", leaders=leaders, drained=drained)) == leaders
    assert assign(seats(2), cluster("a:1", drained=drained)) == {}


def test_the_next_leader_is_whom_the_leader_leaves_for_or_who_would_replace_it() -> None:
    leaders = {"i0": "a:1", "i1": "b:1"}
    assert next_leader(seats(2), cluster("a:1", "b:1", "c:1", leaders=leaders), "i0") == "c:1"
    moved = {"i0": Moved("b:1")}
    assert next_leader(seats(2), cluster("a:1", "b:1", "c:1", leaders=leaders, moved=moved), "i0") == "b:1"
    assert next_leader(seats(2), cluster("a:1", leaders=leaders), "i0") == ""
