"""`Row` and `Change`, compiled and in Python: the same to whoever uses them."""

from __future__ import annotations

import pickle
from collections.abc import ItemsView, Mapping, ValuesView
from datetime import UTC, datetime
from typing import Any

import pytest

from ha_canal.client import change as chosen
from ha_canal.client import change_twin
from ha_canal.client.change import EventPosition

rooms = pytest.mark.parametrize("room", {chosen, change_twin}, ids=lambda room: room.__name__.rpartition(".")[2])
VALUES = {"id": 7, "name": None, "price": "1.50"}


def change_of(room: Any, **other: Any) -> Any:
    fields = {
        "kind": "insert", "schema": "shop", "table": "item", "before": None, "after": room.Row(VALUES),
        "changed": ("id",), "key": ("id",), "event_id": "0-1-5#0", "position": EventPosition("bin.1", 4),
        "gtid": "0-1-5", "transaction": "0-1-5", "commit_time": datetime(2026, 1, 2, tzinfo=UTC),
    }  # fmt: skip
    return room.Change(**{**fields, **other})


@rooms
def test_a_row_is_a_mapping_in_the_order_of_its_columns(room: Any) -> None:
    row = room.Row(VALUES)
    assert isinstance(room.Row(VALUES), Mapping)
    assert list(row) == list(row.keys()) == ["id", "name", "price"]
    assert list(row.values()) == [*row.in_order()] == [7, None, "1.50"]
    assert dict(row) == dict(row.items()) == {**row} == VALUES
    assert (len(row), len(row.values()), len(row.items())) == (3, 3, 3)
    assert (row["name"], row.get("name"), row.get("name", 1), row.get("other"), row.get("other", 2)) == (
        None, None, None, None, 2,
    )  # fmt: skip
    assert "id" in row
    assert "other" not in row
    with pytest.raises(KeyError, match="other"):
        row["other"]


@rooms
def test_the_views_of_a_row_are_those_of_every_mapping(room: Any) -> None:
    row = room.Row(VALUES)
    assert isinstance(row.values(), ValuesView)
    assert isinstance(row.items(), ItemsView)
    assert None in row.values()
    assert 8 not in row.values()
    assert ("name", None) in row.items()
    assert ("name", 1) not in row.items()
    assert ("other", 1) not in row.items()
    assert row.items() & {("id", 7), ("id", 8)} == {("id", 7)}
    assert row.items() == set(VALUES.items())
    assert row.keys() & {"id", "other"} == {"id"}
    assert [list(row.items()), list(row.items())] == [list(VALUES.items())] * 2


@rooms
def test_rows_compare_like_mappings_and_cannot_be_changed(room: Any) -> None:
    row = room.Row(VALUES)
    assert row == room.Row(dict(reversed(VALUES.items()))) == VALUES
    assert row != {**VALUES, "id": 8}
    assert row != 7
    assert repr(row) == "Row({'id': 7, 'name': None, 'price': '1.50'})"
    with pytest.raises(TypeError):
        hash(row)
    with pytest.raises(TypeError):
        row["id"] = 8


@rooms
def test_a_change_is_what_it_was_made_of(room: Any) -> None:
    change = change_of(room)
    assert change == change_of(room)
    assert change != change_of(room, event_id="0-1-6#0")
    assert change != "change"
    assert change.row is change.after
    assert change_of(room, before=room.Row({}), after=None).row == {}
    with pytest.raises(LookupError, match="its statement is in sql"):
        change_of(room, kind="alter", after=None, sql="ALTER").row  # noqa: B018 - it raises
    with pytest.raises(AttributeError):
        change.kind = "delete"
    with pytest.raises(AttributeError):
        change.event_id = "0-1-6#0"
    assert len({change_of(room, after=None), change_of(room, after=None)}) == 1
    with pytest.raises(TypeError):
        hash(change)


def test_both_show_the_same() -> None:
    assert repr(change_of(chosen)) == repr(change_of(change_twin))
    assert chosen.Change.__match_args__ == change_twin.Change.__match_args__


@rooms
def test_changes_and_rows_pass_between_processes(room: Any) -> None:
    change = change_of(room)
    assert pickle.loads(pickle.dumps(change)) == change
    assert pickle.loads(pickle.dumps(change.after)) == VALUES


def test_what_was_not_made_whole_has_no_fields() -> None:
    change = chosen.Change.__new__(chosen.Change)
    with pytest.raises(AttributeError):
        _ = change.event_id
