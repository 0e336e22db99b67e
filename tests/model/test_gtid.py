"""GTID sets against plain Python sets of transactions, and MariaDB's positions against a plain dict."""

from __future__ import annotations

from itertools import groupby, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ha_canal.model.gtid import GtidSet, MariadbGtidPosition, MysqlGtidSet, parse_gtid_set

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "93274629-1234-1234-8567-000000000042"
"""A uuid of digits alone: its first three groups look like a GTID of MariaDB."""

Members = frozenset[tuple[str, str, int]]

members = st.frozensets(
    st.tuples(st.sampled_from([A, B]), st.sampled_from(["", "", "blue", "_x9"]), st.integers(1, 12)), max_size=20
)


def text_of(gtid: tuple[str, str, int]) -> str:
    uuid, tag, number = gtid
    return f"{uuid}:{tag}:{number}" if tag else f"{uuid}:{number}"


def built(plain: Members) -> MysqlGtidSet:
    gtids = MysqlGtidSet()
    for gtid in plain:  # in no particular order
        gtids.add(text_of(gtid))
    return gtids


def plain_of(gtids: MysqlGtidSet) -> Members:
    found = [
        (uuid, tag, number)
        for uuid, tag, intervals in gtids.items()
        for first, last in intervals
        for number in range(first, last + 1)
    ]
    assert len(found) == len(set(found)), "an interval overlaps another"
    return frozenset(found)


@given(members)
def test_intervals_are_disjoint_in_rising_order_and_as_few_as_can_be(plain: Members) -> None:
    gtids = built(plain)
    assert plain_of(gtids) == plain
    assert bool(gtids) == bool(plain)
    for _, _, intervals in gtids.items():
        assert intervals == sorted(intervals)
        assert all(later - last > 1 for (_, last), (later, _) in pairwise(intervals))


@given(members, members)
def test_sets_are_sets(left: Members, right: Members) -> None:
    a, b = built(left), built(right)
    assert plain_of(a.intersection(b)) == left & right
    assert plain_of(a.difference(b)) == left - right
    assert a.issubset(b) == (left <= right)
    assert (a == b) == (left == right)
    both = a.copy()
    both.update(b)
    assert plain_of(both) == left | right
    assert (plain_of(a), plain_of(b)) == (left, right), "an operation changed what it was asked about"


@given(members, st.tuples(st.sampled_from([A, B]), st.sampled_from(["", "blue"]), st.integers(1, 14)))
def test_membership(plain: Members, gtid: tuple[str, str, int]) -> None:
    assert (text_of(gtid) in built(plain)) == (gtid in plain)


@given(members)
@example(frozenset({(B, "", 1)}))
@example(frozenset({(A, "blue", 3), (A, "", 1), (A, "_x9", 7)}))
def test_what_is_printed_is_read(plain: Members) -> None:
    gtids = built(plain)
    again = parse_gtid_set(str(gtids))
    assert isinstance(again, MysqlGtidSet)
    assert again == gtids
    assert str(again) == str(gtids)


@given(st.lists(st.tuples(st.sampled_from(["", "blue"]), st.integers(1, 20), st.integers(0, 8)), max_size=8))
def test_texts_with_overlaps_and_tags_that_come_back_are_read(parts: list[tuple[str, int, int]]) -> None:
    ordered = [part for _, group in groupby(sorted(parts, key=lambda part: part[0])) for part in group]
    pieces: list[str] = []
    for tag, first, more in ordered:
        pieces += [tag] if tag else []
        pieces.append(f"{first}-{first + more}")
    text = ":".join([A, *pieces]) if pieces else ""
    expected = {(A, tag, number) for tag, first, more in parts for number in range(first, first + more + 1)}
    assert plain_of(MysqlGtidSet.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        (f"{A}:1-5:7", f"{A}:1-5:7"),
        (f" {A.upper()}:7:1-5:6 ,\n{B}:3", f"{A}:1-7,{B}:3"),
        (f"{A}:1-3:Blue:4:_x:5-6", f"{A}:1-3:_x:5-6:blue:4"),
        (f"{A.replace('-', '')}:1", f"{A}:1"),
        (f"{B}:1-5", f"{B}:1-5"),
        ("0-1-100,5-2-7", "0-1-100,5-2-7"),
        (" 5-2-7, 0-1-100\n", "0-1-100,5-2-7"),
    ],
)
def test_the_servers_texts(text: str, printed: str) -> None:
    assert str(parse_gtid_set(text)) == printed


@pytest.mark.parametrize(
    "text", [A, f"{A}:", f"{A}:0", f"{A}:5-4", f"{A}:x y", f"{A}:-1", "0-1", "0-1-2,x", f"0-1-2,{A}:1", f"{A}:1,0-1-2"]
)
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_gtid_set(text)


def test_sets_are_no_keys() -> None:
    for mutable in (MysqlGtidSet(), MariadbGtidPosition()):
        with pytest.raises(TypeError):
            hash(mutable)


Domains = dict[int, int]
domains = st.dictionaries(st.integers(0, 3), st.integers(1, 9), max_size=4)


def position_of(plain: Domains) -> MariadbGtidPosition:
    return MariadbGtidPosition.parse(",".join(f"{domain}-1-{sequence}" for domain, sequence in plain.items()))


@given(domains, domains)
def test_mariadb_positions_are_what_is_done_per_domain(left: Domains, right: Domains) -> None:
    a, b = position_of(left), position_of(right)
    assert a.intersection(b) == position_of({d: min(left[d], right[d]) for d in left.keys() & right.keys()})
    assert a.issubset(b) == all(left[d] <= right.get(d, 0) for d in left)
    both = a.copy()
    both.update(b)
    assert both == position_of(left | right), "adding follows the stream, whatever the numbers"
    assert (a, b) == (position_of(left), position_of(right))
    assert bool(a) == bool(left)


@given(domains, st.integers(0, 3), st.integers(1, 9))
def test_mariadb_membership(plain: Domains, domain: int, sequence: int) -> None:
    assert (f"{domain}-77-{sequence}" in position_of(plain)) == (sequence <= plain.get(domain, 0))


@given(domains)
def test_mariadb_positions_are_read_as_printed(plain: Domains) -> None:
    position = position_of(plain)
    assert MariadbGtidPosition.parse(str(position)) == position
    if plain:
        assert parse_gtid_set(str(position)) == position


def test_the_last_transaction_of_a_mariadb_domain_counts_whoever_wrote_it() -> None:
    position = MariadbGtidPosition.parse("0-1-5")
    position.add("0-2-6")
    assert str(position) == "0-2-6"


def test_of_two_servers_with_one_number_nobody_knows_which_came_first() -> None:
    left, right = MariadbGtidPosition.parse("0-1-6,1-1-3"), MariadbGtidPosition.parse("0-2-6,1-2-4")
    assert str(left.intersection(right)) == str(right.intersection(left)) == "1-1-3"


def test_mariadb_domains_can_be_told_apart() -> None:
    position = MariadbGtidPosition.parse("0-1-6,12-1-3")
    assert position.by_domain() == {"0": "0-1-6", "12": "12-1-3"}
    assert str(position.without({"12", "1"})) == "0-1-6"


def test_both_flavours_have_one_face() -> None:
    both: list[GtidSet] = [MysqlGtidSet(), MariadbGtidPosition()]
    assert [str(gtids) for gtids in both] == ["", ""]
