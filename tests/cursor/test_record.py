"""Cursor JSON: Canal's layout to the byte, our additions, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal import cursor
from ha_canal.cursor import cursor_from_json, cursor_to_json, remembered_from_json
from ha_canal.errors import CursorFormatError
from ha_canal.model.position import Position
from ha_canal.model.remembered import Remembered

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
FROM_CANAL = (
    b'{"@type":"com.alibaba.otter.canal.protocol.position.LogPosition","identity":{"slaveId":-1,"sourceAddress":'
    b'{"address":"10.0.0.9","port":3306}},"postion":{"gtid":"","included":false,"journalName":"mysql-bin.000001",'
    b'"position":4236,"serverId":1,"timestamp":1525570849000}}'
)

positions = st.builds(
    Position,
    file=st.text(min_size=1),
    offset=st.integers(0, 2**63),
    server_uuid=st.text(),
    server_id=st.integers(0, 2**32),
    timestamp_ms=st.integers(0, 2**53),
    gtid_set=st.sampled_from(["", f"{UUID}:1-5:7", "0-1-100,5-2-7"]),
    ordinal=st.integers(0, 2**40),
)


def encoded(position: Position) -> bytes:
    return cursor_to_json(position, source_host="db", source_port=3306, epoch=4)


def test_public_names() -> None:
    wanted = ["CursorStorage", "CursorWriter", "cursor_from_json", "cursor_to_json", "remembered_from_json"]
    assert cursor.__all__ == wanted


def test_the_layout_is_canals_with_additions() -> None:
    position = Position("mysql-bin.000001", 4236, UUID, 1, 1525570849000, f"{UUID}:1-5", 2)
    data = cursor_to_json(position, source_host="10.0.0.9", source_port=3306, epoch=4)
    assert data.decode() == (
        '{"@type":"com.alibaba.otter.canal.protocol.position.LogPosition","epoch":4,"identity":{"slaveId":-1,'
        '"sourceAddress":{"address":"10.0.0.9","port":3306}},"postion":{"gtid":"' + UUID + ':1-5","included":false,'
        '"journalName":"mysql-bin.000001","ordinal":2,"position":4236,"serverId":1,"serverUuid":"' + UUID + '",'
        '"timestamp":1525570849000}}'
    )


def test_a_cursor_inside_a_transaction_says_which_and_how_much_of_it() -> None:
    inside = Position("bin.000001", 4, gtid_set=f"{UUID}:1", ordinal=2, inside=f"{UUID}:2", inside_bytes=77)
    assert b'"included":false,"inside":"' + UUID.encode() + b':2","insideBytes":77,"journalName"' in encoded(inside)
    assert cursor_from_json(encoded(inside)) == inside


@given(positions)
def test_what_is_written_is_read(position: Position) -> None:
    assert cursor_from_json(encoded(position)) == position


@pytest.mark.parametrize("change", [{}, {"gtid": None, "serverId": None}, {"included": True}, {"unknown": [1]}])
def test_canals_own_cursors_are_read(change: dict[str, object]) -> None:
    record = json.loads(FROM_CANAL)
    record["postion"] |= change
    if not change:
        del record["postion"]["included"]
    expected = Position(
        "mysql-bin.000001", 4236, server_id=0 if "serverId" in change else 1, timestamp_ms=1525570849000
    )
    assert cursor_from_json(json.dumps(record).encode()) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"journalName": None},
        {"journalName": 5},
        {"position": None},
        {"position": -1},
        {"position": "4"},
        {"position": True},
        {"position": 1.5},
        {"gtid": "nonsense"},
        {"ordinal": []},
    ],
)
def test_wrong_members_are_refused(change: dict[str, object]) -> None:
    record = json.loads(FROM_CANAL)
    record["postion"] |= change
    with pytest.raises(CursorFormatError, match=next(iter(change)) if "gtid" not in change else "nonsense"):
        cursor_from_json(json.dumps(record).encode())


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_garbage_is_refused_clearly(data: bytes) -> None:
    with pytest.raises(CursorFormatError, match="Delete it"):
        cursor_from_json(data)


@given(st.integers(0, 300))
def test_a_truncated_cursor_is_refused(length: int) -> None:
    with pytest.raises(CursorFormatError):
        cursor_from_json(FROM_CANAL[: min(length, len(FROM_CANAL) - 1)])


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CursorFormatError):
        cursor_from_json(b"[" * 100_000)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=128), st.integers(1, 2**32 - 1))
def test_what_is_remembered_comes_back_and_does_not_touch_the_position(fingerprints: list[int], since_s: int) -> None:
    position = Position("mysql-bin.000001", 4236)
    kept = Remembered(tuple(fingerprints), since_s)
    data = cursor_to_json(position, source_host="db", source_port=3306, epoch=4, remembered=kept)
    assert cursor_from_json(data) == position
    assert remembered_from_json(data) == (kept if fingerprints else Remembered())
    assert len(data) < 1100


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"remembered":{"last":"!"}}', '{"remembered":{"last":"AAAA","since":1}}']
)
def test_what_cannot_be_read_is_not_remembered(text: str) -> None:
    assert remembered_from_json(text.encode()) == Remembered()
