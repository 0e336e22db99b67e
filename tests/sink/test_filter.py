"""Filters: Canal's lists of regular expressions, and globs."""

from __future__ import annotations

import contextlib

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


@pytest.mark.parametrize(
    ("globs", "wanted", "unwanted"),
    [
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
