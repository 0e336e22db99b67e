"""The place before all that is young, found in one file by headers alone."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.binlog.events import EventType
from ha_canal.binlog.packets import ServerError
from ha_canal.errors import SourceLostError
from ha_canal.source.boundaries import BoundaryScan
from tests.source.made import MadeFile

GTID, NONE = EventType.GTID, None
STARTS = pytest.mark.parametrize("start", [GTID, EventType.ANONYMOUS_GTID, EventType.MARIADB_GTID, NONE])


def scan(made: MadeFile, young_s: int, *, stop_at: int = 0, step: int = 1 << 20) -> BoundaryScan:
    found = BoundaryScan(young_s=young_s, stop_at=stop_at)
    for at in range(0, len(made.packets), step):
        if found.feed(bytes(made.packets[at : at + step])):
            break
    return found


@STARTS
@pytest.mark.parametrize("step", [1, 7, 64, 1 << 20])
def test_the_boundary_before_the_first_young_transaction(start: int | None, step: int) -> None:
    made = MadeFile()
    made.begin(90)
    starts = [made.transaction(start, second, second, second) for second in (100, 101, 103, 104)]
    assert scan(made, 103, step=step).found == starts[2]
    assert scan(made, 103, step=step).newest_before_s == 101
    assert scan(made, 102, step=step).found == starts[2]
    assert scan(made, 100, step=step).found == starts[0]


@STARTS
def test_a_transaction_that_was_open_for_longer_than_any_window_is_young_when_it_ends(start: int | None) -> None:
    made = MadeFile()
    made.begin(90)
    made.transaction(start, 100, 100, 100)
    long = made.transaction(start, 101, 101, 800)
    made.transaction(start, 700, 700, 700)
    assert scan(made, 650).found == long


@STARTS
def test_an_old_statement_behind_young_ones_does_not_hide_them(start: int | None) -> None:
    """A statement that ran for minutes carries the time of its beginning, and stands where it was committed."""
    made = MadeFile()
    made.begin(90)
    made.transaction(start, 100, 100, 100)
    young = made.transaction(start, 700, 700, 700)
    made.transaction(start, 101, 101, 101)
    made.transaction(start, 702, 702, 702)
    assert scan(made, 690).found == young


@STARTS
def test_nothing_beyond_the_end_that_was_seen_is_looked_at(start: int | None) -> None:
    made = MadeFile()
    made.begin(90)
    made.transaction(start, 100, 100, 100)
    end = made.offset
    made.transaction(start, 101, 101, 101)
    assert scan(made, 500, stop_at=end).found == end
    assert scan(made, 500, stop_at=end).newest_before_s == 100


@STARTS
def test_a_file_whose_events_are_all_old_ends_at_its_last_word(start: int | None) -> None:
    made = MadeFile()
    made.begin(90)
    made.transaction(start, 100, 100, 100)
    end = made.event(EventType.ROTATE, 101, struct.pack("<Q", 4) + b"bin.000002")
    assert scan(made, 500).found == end
    crashed = MadeFile()
    crashed.begin(90)
    crashed.transaction(start, 100, 100, 100)
    crashed.event(EventType.ROTATE, 0, struct.pack("<Q", 4) + b"bin.000002", artificial=True)
    assert scan(crashed, 500).found == crashed.offset


@STARTS
def test_a_compressed_transaction_begins_at_its_gtid_event_and_ddl_is_all_of_its_own(start: int | None) -> None:
    made = MadeFile()
    made.begin(90)
    if start is not None:
        first = made.event(start, 100, bytes(25))
        made.event(EventType.TRANSACTION_PAYLOAD, 100, bytes(5000))
        assert scan(made, 100).found == first
    old = made.event(start, 100, bytes(25)) if start is not None else made.offset
    made.statement(100, b"CREATE TABLE t (id INT)")
    young = made.event(start, 200, bytes(25)) if start is not None else made.offset
    made.statement(200, b"DROP TABLE t")
    made.transaction(start, 201, 201)
    assert old < young
    assert scan(made, 150).found == young


def test_an_empty_file_begins_behind_its_head() -> None:
    made = MadeFile()
    made.begin(90)
    made.event(EventType.PREVIOUS_GTIDS, 90, bytes(8))
    end = made.offset
    assert scan(made, 100, stop_at=end).found == end
    heartbeat = MadeFile(bytearray(made.packets), made.offset, made.sequence)
    first = heartbeat.transaction(GTID, 100, 100)
    assert scan(heartbeat, 100).found == first == end


def test_the_time_of_a_file_is_known_by_its_first_event() -> None:
    made = MadeFile()
    made.begin(90)
    found = BoundaryScan(young_s=0)
    assert found.feed(bytes(made.packets))
    assert found.created_s == 90


def test_large_events_are_stepped_over_in_bounded_memory() -> None:
    made = MadeFile()
    made.begin(90)
    made.event(GTID, 100, bytes(25))
    made.event(EventType.WRITE_ROWS, 100, bytes(40_000_000))
    made.event(EventType.XID, 100, bytes(8))
    young = made.transaction(GTID, 200, 200)
    found = BoundaryScan(young_s=200)
    packets = bytes(made.packets)
    at = next(at for at in range(0, len(packets), 65536) if found.feed(packets[at : at + 65536]))
    assert at > 39_000_000
    assert found.found == young


@pytest.mark.parametrize("step", [1, 1000])
def test_errors_of_the_server_come_out(step: int) -> None:
    made = MadeFile()
    made.begin(90)
    error = b"\xff" + (1236).to_bytes(2, "little") + b"#HY000gone"
    made.packets += len(error).to_bytes(3, "little") + b"\x07" + error
    with pytest.raises(ServerError, match="gone"):
        scan(made, 100, step=step)
    ended = MadeFile()
    ended.begin(90)
    ended.packets += b"\x05\0\0\x07\xfe\0\0\0\0"
    with pytest.raises(SourceLostError):
        scan(ended, 100, step=step)


@given(
    times=st.lists(st.lists(st.integers(100, 130), min_size=2, max_size=4), max_size=12),
    young_s=st.integers(95, 135),
    start=st.sampled_from([GTID, EventType.MARIADB_GTID, NONE]),
    step=st.sampled_from([1, 33, 500, 1 << 20]),
)
def test_it_is_what_a_look_at_all_events_says(
    times: list[list[int]], young_s: int, start: int | None, step: int
) -> None:
    made = MadeFile()
    made.begin(90)
    expected = None
    for transaction in times:
        begun = made.transaction(start, *transaction)
        if expected is None and max(transaction) >= young_s:
            expected = begun
    end = made.offset
    made.event(EventType.STOP, 131)
    assert scan(made, young_s, step=step).found == (end if expected is None else expected)
