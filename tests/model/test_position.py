"""Positions: the order of file names, and what they look like in a log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.model.position import Position, file_sequence


def test_a_million_files() -> None:
    names = [f"mysql-bin.{number:06}" for number in (1, 2, 10, 999_998, 999_999, 1_000_000, 1_000_001, 10_000_000)]
    assert sorted(set(names), key=file_sequence) == names
    assert file_sequence("mysql-bin.999999") < file_sequence("mysql-bin.1000000")


@given(st.integers(1, 2**31), st.integers(1, 2**31))
def test_files_sort_as_their_numbers(left: int, right: int) -> None:
    names = f"db-1.bin.{left:06}", f"db-1.bin.{right:06}"
    assert (file_sequence(names[0]) < file_sequence(names[1])) == (left < right)


@pytest.mark.parametrize("name", ["", "binlog", "a.b", "mysql-bin.", "mysql-bin.²"])
def test_a_name_without_a_number_still_has_a_place(name: str) -> None:
    assert file_sequence(name) == (0, name)


def test_the_text_says_all_that_matters() -> None:
    position = Position("mysql-bin.000007", 120, gtid_set="0-1-5", ordinal=3)
    assert str(position) == "mysql-bin.000007:120+3 (0-1-5)"
    assert position.at_start_of_next() == replace(position, ordinal=0)
    assert str(Position("mysql-bin.000007", 4)) == "mysql-bin.000007:4"
