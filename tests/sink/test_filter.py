"""Filters: Canal's lists of regular expressions, and globs."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal import sink
from ha_canal.errors import FilterError
from ha_canal.sink import TableFilter, glob_to_filter


def test_public_names() -> None:
    assert sink.__all__ == ["Sink", "TableFilter", "glob_to_filter"]


@pytest.mark.parametrize(
    ("pattern", "black", "wanted", "unwanted"),
    [
        ("", "", ["a.b", "x.y"], []),
        (r".*\..*", r"mysql\.slave_.*", ["a.b", "mysql.user"], ["mysql.slave_status", "MySQL.SLAVE_x"]),
        (r"shop\..*", "", ["shop.a", "SHOP.A"], ["shopx.a", "xshop.a"]),
        (r" shop\.a , shop\.b ,,", "", ["shop.a", "shop.b"], ["shop.c", "shop.ab"]),
        (r"Shop\.a{1,2},x\.y", "", ["shop.a", "shop.aa", "x.y"], ["shop.aaa"]),
        (r"s\.(a,b|c),s\.[,\]d]", "", ["s.a,b", "s.c", "s.,", "s.]", "s.d"], ["s.a"]),
        (r"s\.a\,b", "", ["s.a,b"], ["s.a"]),
        (r"s\.a|t\.b", "", ["s.a", "t.b"], ["s.at.b"]),
        (r"s\.[(],s\.b", "", ["s.(", "s.b"], ["s.[(],s.b"]),
        (r".*\..*", "", ["a.b\nc", "a\n.b"], []),
        (r"(?!tmp_)[^.]*\.(?:(?!_old).)*", "", ["a.b"], ["tmp_a.b", "a.b_old", "a.b_old2"]),
    ],
)
def test_lists_of_regular_expressions(pattern: str, black: str, wanted: list[str], unwanted: list[str]) -> None:
    tables = TableFilter(pattern, black)
    for name in wanted + unwanted:
        schema, _, table = name.partition(".")
        assert tables.wants(schema, table) == tables.wants(schema, table) == (name in wanted)


@pytest.mark.parametrize("part", [r"s\.(a", "*.x", r"s\.[a", r"s\.a{2,1}", r"s\.a{99999999999999999999}", "(" * 5000])
def test_what_is_no_regular_expression_is_named(part: str) -> None:
    for pattern, black in ((rf"ok\.a,{part}", ""), ("", rf"ok\.a,{part}")):
        with pytest.raises(FilterError) as caught:
            TableFilter(pattern, black)
        assert repr(part) in str(caught.value)


@given(st.text(alphabet=r"ab.,*?()[]{}\|^$+1", max_size=20))
def test_any_text_is_a_filter_or_a_filter_error(pattern: str) -> None:
    with contextlib.suppress(FilterError):
        TableFilter(pattern).wants("a", "b")


@given(st.text(alphabet="abx.,*?()[]{}\\|^$+-129<>=!:#P&~Rpe ", max_size=30))
def test_the_same_with_all_that_means_something_to_the_library(pattern: str) -> None:
    with contextlib.suppress(FilterError):
        TableFilter(pattern).wants("a", "b")


CATASTROPHIC = [r"(a|aa)+$b", r"(a|b|ab)*c\.x", r"shop\.(t|t_|_|t_t)*x", "(((a{2,99}){2,99}){2,99}){2,99}"]


@pytest.mark.parametrize("part", CATASTROPHIC)
def test_what_takes_for_ever_is_refused_at_once(part: str) -> None:
    for pattern, black in ((rf"ok\.a,{part}", ""), ("", rf"ok\.a,{part}")):
        begun_s = time.thread_time()
        with pytest.raises(FilterError, match="takes too long") as caught:
            TableFilter(pattern, black)
        assert repr(part) in str(caught.value)
        assert time.thread_time() - begun_s < 1


def test_what_was_accepted_before_goes_on_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    slow = CATASTROPHIC[1]
    tables = [("ab" * 32, f"{'ab' * 25}c.x{number}") for number in range(50)]
    white = TableFilter(rf"{slow},x\.y", r"no\..*", accepted=True)
    black = TableFilter("", rf"{slow},no\..*", accepted=True)
    begun_s = time.thread_time()
    for tables_wanted in (white, black):
        assert all(tables_wanted.wants(*table) for table in tables)
        assert tables_wanted.slow_parts(tables) == [slow]
        assert not tables_wanted.wants("no", "x")
        assert slow not in tables_wanted.idle_parts(tables)
    assert white.wants("x", "y")
    assert time.thread_time() - begun_s < 10
    assert [repr(slow) in record.getMessage() for record in caplog.records] == [True, True], "once per filter"


def test_nothing_ordinary_is_slow() -> None:
    parts = [r".*\..*", r"(?!mysql\.).*", r"order_\d{6}\..*", r"(a+)+b\.x", r"[0-9a-f]{8}(_[0-9a-f]{4}){3}_.{12}\.x"]
    tables = TableFilter(",".join(parts), r"mysql\.slave_.*")
    assert tables.slow_parts([("s" * 64, "t" * 64), ("a" * 64, "a" * 64)] * 1000) == []
    many = TableFilter(",".join(rf"shop\.table_{number}" for number in range(500)))
    assert many.slow_parts([("shop", f"table_{number}") for number in range(5000)]) == []


@pytest.mark.parametrize(
    ("globs", "wanted", "unwanted"),
    [
        ("a.b*", ["a.b\nc"], ["a.c"]),
        ("shop.*", ["shop.a", "shop.b.c", "Shop.A"], ["shopx.a", "xshop.a"]),
        ("s?.t_*, u.v", ["s1.t_", "sx.t_abc", "u.v"], ["s.t_", "s1.t", "u.vw"]),
        ("*.orders", ["a.orders", "b.orders"], ["a.orders2"]),
        ("a+b.c(d)", ["a+b.c(d)"], ["aab.cd"]),
    ],
)
def test_globs(globs: str, wanted: list[str], unwanted: list[str]) -> None:
    test_lists_of_regular_expressions(glob_to_filter(globs), "", wanted, unwanted)


@pytest.mark.parametrize("glob", ["shop", "shop.", ".a", "a.b,c"])
def test_a_glob_names_schema_and_table(glob: str) -> None:
    with pytest.raises(FilterError, match=r"schema\.table"):
        glob_to_filter(glob)
