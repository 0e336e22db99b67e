"""Binlog files of real servers, and the items that the stream must make of them.

Each ``captured/NAME.sql`` was run on the server that its first line names; ``NAME.binlog`` is the file which that
server wrote, byte for byte, and ``NAME.items`` the items, checked by eye against ``SHOW BINLOG EVENTS``.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.binlog.file import read_binlog_file
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream
from ha_canal.errors import DecodeError, SourceLostError, StreamError
from ha_canal.model.change import Begin, Commit, Rows, Statement
from tests.binlog.streams import (
    CAPTURED,
    captured,
    captured_from,
    describe,
    drain,
    new_stream,
    plan_for,
    read_all,
)

NAMES = ("mariadb", "mariadb_xa", "mysql", "mysql56", "mysql_xa")
BYTES = {name: b"".join(captured(name)) for name in NAMES}
EXPECTED = {name: (CAPTURED / f"{name}.items").read_text().splitlines() for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_captured_file_gives_its_items(name: str) -> None:
    stream = new_stream()
    items = read_all(captured(name), stream)
    assert [describe(item) for item in items] == EXPECTED[name]
    assert (stream.file, stream.offset) == ("mysql-bin.000002", 4)
    assert stream.at_transaction_boundary
    assert stream.pending_bytes == 0
    assert stream.transactions == sum(isinstance(item, Commit) for item in items)
    assert stream.last_event_timestamp_s > 1_600_000_000


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32), st.sampled_from((1, 3, 25, 300, 5000)), st.integers(1, 5))
def test_any_split_of_the_bytes_gives_the_same_items(name: str, seed: int, most: int, max_items: int) -> None:
    chance = random.Random(seed)
    stream = new_stream()
    items = []
    at = 0
    while at < len(BYTES[name]):
        size = chance.randint(1, most)
        stream.feed(BYTES[name][at : at + size])
        at += size
        items += drain(stream, max_items=max_items)
    assert [describe(item) for item in items] == EXPECTED[name]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 6000), st.binary(min_size=1, max_size=40))
def test_garbage_ends_in_an_error_of_ours_and_spoils_nothing_before(name: str, at: int, garbage: bytes) -> None:
    stream = new_stream()
    stream.feed(BYTES[name][:at] + garbage + BYTES[name][at + len(garbage) :])
    lines, error = _lines_until_error(stream)
    assert lines == EXPECTED[name][: len(lines)]  # checksums are on
    if error is not None:
        assert error.file == "mysql-bin.000001" if isinstance(error, StreamError) else True
        with pytest.raises(type(error)):
            stream.next_items()


def _lines_until_error(stream: BinlogStream) -> tuple[list[str], Exception | None]:
    lines: list[str] = []
    try:
        while got := stream.next_items(1):
            if isinstance(got, PlanNeeded):
                stream.supply_plan(got, plan_for(got))
            else:
                lines += map(describe, got)
    except (StreamError, ServerError, SourceLostError) as error:
        return lines, error
    return lines, None


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_stream_waits_for_more(name: str) -> None:
    stream = new_stream()
    stream.feed(BYTES[name][:-1])
    items = drain(stream)
    assert [describe(item) for item in items] == EXPECTED[name]  # the ROTATE event alone is missing
    assert stream.next_items() == []
    assert stream.pending_bytes > 0


@pytest.mark.parametrize("name", NAMES)
def test_unwanted_rows_are_dropped_and_counted(name: str) -> None:
    wanted = read_all(captured(name))
    unwanted = read_all(captured(name), planner=lambda _: None)
    assert unwanted == [item for item in wanted if not isinstance(item, Rows)]


def test_a_start_behind_transactions_gives_the_rest_as_it_was() -> None:
    items = read_all(captured("mysql"))
    first = next(item for item in items if isinstance(item, Commit) and item.count == 3)
    again = read_all(
        captured_from("mysql", first.transaction.start_offset), new_stream(offset=first.transaction.start_offset)
    )
    rest = [item for item in items if item.transaction.start_offset >= first.transaction.start_offset]
    assert isinstance(again[0], Begin)
    assert [describe(item) for item in again] == [describe(item) for item in rest]


def test_every_statement_asks_anew_for_plans() -> None:
    asked: list[PlanNeeded] = []

    def planner(needed: PlanNeeded) -> None:
        asked.append(needed)

    statements = sum(isinstance(item, Statement) for item in read_all(captured("mysql"), planner=planner))
    assert [(needed.table_map.table, needed.ddl_seen) for needed in asked] == [
        ("goods", 3),
        ("notes", 3),
        ("copied", 4),
        ("goods", 4),
    ]
    assert statements == 11


def test_an_answer_that_was_not_asked_for_is_refused() -> None:
    stream: BinlogStream = new_stream()
    stream.feed(BYTES["mysql"])
    question = None
    while not isinstance(question, PlanNeeded):
        question = stream.next_items()
    assert stream.next_items() is question
    stream.supply_plan(question, None)
    with pytest.raises(ValueError, match="not asked"):
        stream.supply_plan(question, None)


def test_a_file_that_is_no_binlog_is_refused() -> None:
    with pytest.raises(DecodeError):
        list(read_binlog_file(CAPTURED / "mysql.sql"))


def test_an_encrypted_file_is_read_through_its_server_alone() -> None:
    """MariaDB 10.11 with encrypt_binlog: the file, and what the server sent of it; one row was inserted."""
    with pytest.raises(DecodeError, match="encrypted: read it through its server") as caught:
        read_all(captured("mariadb_encrypted"))
    assert (caught.value.file, caught.value.offset) == ("mysql-bin.000001", 256)
    stream = new_stream()
    items = read_all([(CAPTURED / "mariadb_encrypted.dump").read_bytes()], stream)
    assert [item.body.hex() for item in items if isinstance(item, Rows)] == ["fe01000000"]
    assert stream.file == "mysql-bin.000002"
