"""The sink: what passes, whatever the cuts between its calls."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.errors import ChainError
from ha_canal.model.change import Commit, Item, Statement
from ha_canal.model.run import unpacked
from ha_canal.sink import Sink, TableFilter
from tests.store.changes import Writer, flat

FILTER = r"shop\.[ab]"


def emptied(items: list[Item]) -> Item:
    commit = items[-1]
    assert isinstance(commit, Commit)
    return replace(commit, empty=True)


def test_drops_what_is_not_wanted_and_keeps_positions() -> None:
    writer = Writer()
    mixed, unwanted, empty = writer.transaction("a", "c", "b"), writer.transaction("c", "d"), writer.transaction()
    ddl, other_ddl, unnamed = writer.ddl("a"), writer.ddl("c"), writer.ddl("")
    passed = Sink(TableFilter(FILTER)).pass_items(writer.written)
    assert passed == [
        *(mixed[0], mixed[1], mixed[3], mixed[4]),
        emptied(unwanted),
        *empty,
        *ddl,
        emptied(other_ddl),
        *unnamed,
    ]
    assert [item.count for item in passed if isinstance(item, Commit)] == [3, 2, 0, 1, 1, 1]


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=5), max_size=6), st.lists(st.integers(0, 40), max_size=8))
def test_cuts_between_calls_change_nothing(transactions: list[list[str]], cuts: list[int]) -> None:
    writer = Writer()
    items = flat([writer.transaction(*tables) for tables in transactions])
    edges = [0, *sorted(min(cut, len(items)) for cut in cuts), len(items)]
    sink = Sink(TableFilter(FILTER))
    parts = [list(unpacked(sink.pass_items(items[start:end]))) for start, end in pairwise(edges)]
    assert flat(parts) == Sink(TableFilter(FILTER)).pass_items(items)


def test_a_broken_sequence_is_not_passed_on() -> None:
    items = Writer().transaction("a", "b")
    for broken in ([items[0], items[0]], items[1:2]):
        with pytest.raises(ChainError):
            Sink(TableFilter()).pass_items(broken)


@pytest.mark.parametrize(
    ("sql", "passes"),
    [
        ("GRANT SELECT ON shop.* TO reader", False),
        ("/* by hand */ create user reader IDENTIFIED BY PASSWORD '*0A'", False),
        ("SET PASSWORD FOR reader = '*0A'", False),
        ("DROP ROLE readers", False),
        ("CREATE DATABASE shop", True),
        ("ALTER something unknown", True),
    ],
)
def test_statements_about_accounts_do_not_reach_readers(sql: str, passes: bool) -> None:
    begin, statement, commit = Writer().ddl("")
    assert isinstance(statement, Statement)
    passed = Sink(TableFilter(FILTER)).pass_items([begin, replace(statement, sql=sql), commit])
    assert (len(passed) == 3) is passes
