"""The stream's rules, on events made by hand: what no server can be made to send at will."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.binlog.events import EventType
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream
from ha_canal.binlog.transactions import MOST_HELD_BYTES
from ha_canal.errors import ChainError, DecodeError, SourceLostError, StreamError
from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement
from tests.binlog.streams import Writer, drain, new_stream, plan_for, read_all


def started(*, offset: int = 4, checksum: bool = True, by_gtid: bool = False) -> tuple[Writer, BinlogStream]:
    """Return a writer and a stream that has read the head of a file."""
    writer = Writer(checksum=checksum)
    stream = new_stream("" if by_gtid else "mysql-bin.000001", offset, by_gtid=by_gtid)
    read_all([writer.rotate("mysql-bin.000001", offset), writer.format(log_pos=0 if offset > 4 else None)], stream)
    writer.offset = max(offset, writer.offset)
    return writer, stream


def kinds(items: list[Item]) -> list[str]:
    return [type(item).__name__ for item in items]


def error_of(stream: BinlogStream, packet: bytes) -> StreamError:
    with pytest.raises(StreamError) as caught:
        read_all([packet], stream)
    return caught.value


@pytest.mark.parametrize("checksum", [True, False])
def test_transactions_come_in_order_with_their_places(checksum: bool) -> None:
    writer, stream = started(checksum=checksum)
    start = writer.offset
    items = read_all([writer.one_row(1), writer.one_row(2)], stream)
    assert kinds(items) == ["Begin", "Rows", "Commit"] * 2
    first, last = items[0], items[-1]
    assert isinstance(first, Begin)
    assert isinstance(last, Commit)
    assert first.transaction.gtid == "00010203-0405-0607-0809-0a0b0c0d0e0f:1"
    assert first.transaction.start_offset == start
    assert first.thread_id == 7
    assert last.end_offset == writer.offset == stream.offset
    assert stream.transactions == 2


def test_rows_are_the_bytes_behind_the_bitmaps() -> None:
    writer, stream = started()
    rows = b"\0\1\0\0\0\0\2\0\0\0"
    parts = [
        writer.gtid(1),
        writer.query("BEGIN"),
        writer.table_map(),
        writer.rows(rows=rows, code=EventType.UPDATE_ROWS),
    ]
    items = read_all([*parts, writer.xid()], stream)
    assert isinstance(items[1], Rows)
    assert items[1].kind is ChangeKind.UPDATE
    assert (items[1].present_before, items[1].present_after, items[1].body) == (b"\xff", b"\xff", rows)


def test_an_event_larger_than_a_packet_is_joined() -> None:
    writer, stream = started()
    rows = bytes(0xFFFFFF + 70_000)
    packets = b"".join((writer.gtid(1), writer.query("BEGIN"), writer.table_map(), writer.rows(rows=rows)))
    items = read_all([packets[at : at + 256 * 1024] for at in range(0, len(packets), 256 * 1024)], stream)
    assert kinds(items) == ["Begin", "Rows"]
    assert isinstance(items[1], Rows)
    assert len(items[1].body) == len(rows)


def test_a_large_transaction_flows_before_its_end() -> None:
    writer, stream = started()
    read_all([writer.gtid(1), writer.query("BEGIN"), writer.table_map()], stream)
    assert read_all([writer.rows(rows=bytes(MOST_HELD_BYTES // 2))], stream) == []
    assert kinds(read_all([writer.rows(rows=bytes(MOST_HELD_BYTES // 2))], stream)) == ["Begin", "Rows", "Rows"]
    assert kinds(read_all([writer.rows()], stream)) == ["Rows"]
    assert "rolled back whole" in str(error_of(stream, writer.query("ROLLBACK")))


def test_what_was_rolled_back_is_not_delivered() -> None:
    writer, stream = started()
    head = [writer.gtid(1), writer.query("BEGIN"), writer.table_map()]
    items = read_all([*head, writer.rows(), writer.rows(), writer.query("ROLLBACK")], stream)
    assert kinds(items) == ["Commit"]
    assert isinstance(items[0], Commit)
    assert items[0].empty
    assert items[0].count == 2


def test_what_came_after_a_savepoint_is_dropped_when_it_is_gone_back_to() -> None:
    writer, stream = started()
    parts = [writer.gtid(1), writer.query("BEGIN"), writer.query("SAVEPOINT `A`"), writer.table_map(), writer.rows()]
    parts += [writer.query("SAVEPOINT b"), writer.rows(), writer.query("ROLLBACK TO a"), writer.rows()]
    items = read_all([*parts, writer.query("COMMIT")], stream)
    assert [item.ordinal for item in items if isinstance(item, Rows)] == [2]
    assert kinds(items) == ["Begin", "Rows", "Commit"]


def test_a_savepoint_that_is_gone_cannot_be_gone_back_to() -> None:
    writer, stream = started()
    parts = [writer.gtid(1), writer.query("BEGIN"), writer.query("SAVEPOINT a"), writer.query("SAVEPOINT b")]
    read_all([*parts, writer.query("ROLLBACK TO a")], stream)
    assert "savepoint 'b'" in str(error_of(stream, writer.query("ROLLBACK TO b")))


def test_ddl_is_a_transaction_of_its_own_with_and_without_gtids() -> None:
    writer, stream = started()
    start = writer.offset
    items = read_all([writer.gtid(1), writer.query("CREATE TABLE a (b INT)"), writer.query("DROP TABLE a")], stream)
    assert kinds(items) == ["Begin", "Statement", "Commit"] * 2
    assert items[0].transaction.start_offset == start
    assert items[3].transaction.gtid == ""
    assert items[3].transaction.start_offset == items[3].offset


def test_ddl_comes_before_the_question_for_the_table_that_it_made() -> None:
    writer, stream = started()
    stream.feed(writer.gtid(1) + writer.query("BEGIN") + writer.query("CREATE TABLE goods (id INT) START TRANSACTION"))
    stream.feed(writer.table_map() + writer.rows() + writer.xid())
    first = stream.next_items()
    assert isinstance(first, list)
    assert kinds(first) == ["Begin", "Statement"]
    needed = stream.next_items()
    assert isinstance(needed, PlanNeeded)
    assert needed.ddl_seen == 1
    stream.supply_plan(needed, plan_for(needed))
    assert kinds(drain(stream)) == ["Rows", "Commit"]


def test_a_transaction_without_rows_is_a_lone_empty_commit() -> None:
    writer, stream = started()
    items = read_all([writer.gtid(1), writer.query("BEGIN"), writer.query("COMMIT")], stream)
    assert kinds(items) == ["Commit"]
    assert isinstance(items[0], Commit)
    assert items[0].empty


def test_a_plan_is_asked_for_once_per_layout_until_ddl() -> None:
    writer, stream = started()
    asked: list[str] = []

    def planner(needed: PlanNeeded) -> None:
        asked.append(needed.table_map.table)

    read_all([writer.one_row(1), writer.one_row(2)], stream, planner)
    assert asked == ["goods"]
    read_all([writer.gtid(3), writer.query("ALTER TABLE other ADD b INT"), writer.one_row(4)], stream, planner)
    assert asked == ["goods", "goods"]


def test_a_start_inside_a_file_does_not_count_its_copied_head() -> None:
    writer, stream = started(offset=5000)
    assert stream.offset == 5000
    assert kinds(read_all([writer.one_row(9)], stream)) == ["Begin", "Rows", "Commit"]


def test_offsets_go_on_behind_four_gibibytes() -> None:
    offset = 2**32 - 100
    writer, stream = started(offset=offset)
    last = read_all([writer.one_row(1)], stream)[-1]
    assert isinstance(last, Commit)
    assert last.end_offset == writer.offset > 2**32


def test_a_missing_event_stops_the_stream_with_its_place() -> None:
    writer, stream = started()
    read_all([writer.one_row(1)], stream)
    end = stream.offset
    writer.offset += 77
    error = error_of(stream, writer.one_row(2))
    assert isinstance(error, ChainError)
    assert (error.file, error.offset) == ("mysql-bin.000001", end)
    assert "GTID event" in str(error)
    with pytest.raises(ChainError):
        stream.next_items()


def test_a_repeated_event_stops_the_stream() -> None:
    writer, stream = started()
    read_all([writer.one_row(1)], stream)
    writer.offset -= 31
    assert "came again" in str(error_of(stream, writer.xid()))


def test_by_gtid_the_server_may_leave_out_transactions_but_no_part_of_one() -> None:
    writer, stream = started(by_gtid=True)
    writer.offset += 1000
    items = read_all([writer.one_row(5), writer.gtid(6), writer.query("BEGIN")], stream)
    assert kinds(items) == ["Begin", "Rows", "Commit"]
    assert items[0].transaction.start_offset > 1000
    writer.offset += 1
    assert isinstance(error_of(stream, writer.table_map()), ChainError)


def test_heartbeats_confirm_the_place_or_move_it_by_gtid_alone() -> None:
    writer, stream = started()
    file = b"mysql-bin.000001"
    read_all([writer.event(EventType.HEARTBEAT, file, log_pos=stream.offset)], stream)
    beat = writer.event(EventType.HEARTBEAT, file, log_pos=stream.offset + 50)
    assert isinstance(error_of(stream, beat), ChainError)
    writer, stream = started(by_gtid=True)
    v2 = b"\x01\x10" + file + b"\x02\x03\xfc\x00\x10" + b"\x00"
    read_all([writer.event(EventType.HEARTBEAT_V2, v2, log_pos=0)], stream)
    assert stream.offset == 0x1000
    beat = writer.event(EventType.HEARTBEAT, b"mysql-bin.000002", log_pos=stream.offset)
    assert isinstance(error_of(stream, beat), ChainError)


def test_files_follow_each_other() -> None:
    writer, stream = started()
    end = [writer.rotate("mysql-bin.000002", artificial=False), writer.rotate("mysql-bin.000002")]
    items = read_all([*end, writer.format(), writer.one_row(1)], stream)
    assert stream.file == "mysql-bin.000002"
    assert items[0].transaction.file == "mysql-bin.000002"
    writer.offset = 4  # this file ends without a word, as in a crash
    read_all([writer.rotate("mysql-bin.000003"), writer.format(), writer.one_row(2)], stream)
    assert isinstance(error_of(stream, writer.rotate("mysql-bin.000005")), ChainError)


def test_the_millionth_file_follows() -> None:
    writer, stream = Writer(), new_stream("mysql-bin.999999")
    read_all([writer.rotate("mysql-bin.999999"), writer.format()], stream)
    writer.offset = 4
    read_all([writer.rotate("mysql-bin.1000000"), writer.format()], stream)
    assert stream.file == "mysql-bin.1000000"


def test_a_file_that_ends_inside_a_transaction_stops_the_stream() -> None:
    writer, stream = started()
    read_all([writer.gtid(1), writer.query("BEGIN")], stream)
    assert isinstance(error_of(stream, writer.rotate("mysql-bin.000002")), ChainError)


STOPS: list[tuple[str, Callable[[Writer], bytes]]] = [
    ("XA COMMIT", lambda w: w.gtid(1) + w.query("XA COMMIT X'61',X'',1")),
    ("binlog_format", lambda w: w.gtid(1) + w.query("BEGIN") + w.query("/* c */ INSERT INTO a VALUES ('secret')")),
    ("binlog_format", lambda w: w.event(EventType.EXECUTE_LOAD_QUERY, bytes(26))),
    ("lacks changes", lambda w: w.event(EventType.INCIDENT, b"\1\0\x04lost")),
    ("encrypted", lambda w: w.event(EventType.START_ENCRYPTION, bytes(17))),
    ("WRITE_ROWS_V0 event: rows events of MySQL 5.1.15", lambda w: w.event(EventType.WRITE_ROWS_V0, bytes(20))),
    ("unknown type 99", lambda w: w.event(99, b"?")),
    ("rows outside", lambda w: w.table_map() + w.rows()),
    ("no TABLE_MAP", lambda w: w.gtid(1) + w.query("BEGIN") + w.rows(table_id=5)),
    ("without its start", lambda w: w.xid()),
    ("before the last one", lambda w: w.gtid(1) + w.gtid(2)),
    ("BEGIN inside", lambda w: w.gtid(1) + w.query("BEGIN") + w.query("BEGIN")),
    ("artificial", lambda w: w.event(EventType.QUERY, b"", flags=0x20, log_pos=0)),
    ("without its GTID", lambda w: w.event(EventType.TRANSACTION_PAYLOAD, b"\0")),
]


@pytest.mark.parametrize(("word", "make"), STOPS, ids=[f"{i} {word}" for i, (word, _) in enumerate(STOPS)])
def test_what_cannot_be_delivered_stops_the_stream(word: str, make: Callable[[Writer], bytes]) -> None:
    writer, stream = started()
    error = error_of(stream, make(writer))
    assert word in str(error)
    assert "secret" not in str(error)
    assert error.file == "mysql-bin.000001"


def test_events_for_others_are_passed_over() -> None:
    writer, stream = started()
    others = [writer.event(99, b"?", flags=0x80), writer.event(EventType.ROWS_QUERY, b"\1x"), writer.event(28, b"")]
    others.append(writer.event(EventType.START_ENCRYPTION, bytes(17), flags=0x80))
    others += [writer.event(code, b"") for code in (EventType.INTVAR, EventType.RAND, EventType.USER_VAR)]
    others += [writer.event(code, b"") for code in (EventType.TRANSACTION_CONTEXT, EventType.VIEW_CHANGE)]
    others.append(writer.gtid(1) + writer.query("XA ROLLBACK X'61',X'',1"))
    assert kinds(read_all(others, stream)) == ["Commit"]
    assert stream.offset == writer.offset


def test_items_before_an_error_are_still_handed_out() -> None:
    writer, stream = started()
    stream.feed(writer.gtid(1) + writer.query("DROP TABLE a") + writer.event(99, b"?"))
    items = stream.next_items()
    assert isinstance(items, list)
    assert isinstance(items[1], Statement)
    with pytest.raises(DecodeError):
        stream.next_items()


def test_a_changed_byte_is_noticed() -> None:
    writer, stream = started()
    packet = bytearray(writer.gtid(1))
    packet[30] ^= 1
    assert "checksum" in str(error_of(stream, bytes(packet)))


def test_a_lost_packet_is_noticed() -> None:
    writer, stream = started()
    writer.gtid(1)
    assert "lost bytes" in str(error_of(stream, writer.query("BEGIN")))


def test_what_the_server_says_instead_of_events() -> None:
    writer, stream = started()
    stream.feed(writer.packet(b"\xff\xd4\x04#HY000Could not find first log file name"))
    with pytest.raises(ServerError) as caught:
        stream.next_items()
    assert (caught.value.code, caught.value.sqlstate) == (1236, "HY000")
    assert caught.value.message.startswith("Could not")
    writer, stream = started()
    stream.feed(writer.packet(b"\xfe\0\0\2\0"))
    with pytest.raises(SourceLostError):
        stream.next_items()


def payload(events: bytes, *, algorithm: int = 0, claimed: int | None = None) -> bytes:
    packed = zstandard.compress(events) if algorithm == 0 else events
    fields = b"\x02\x01\x00" if algorithm == 0 else b"\x02\x03\xfc\xff\x00"
    for kind, value in ((1, len(packed)), (3, len(events) if claimed is None else claimed)):
        fields += bytes((kind, 9, 0xFE)) + struct.pack("<Q", value)
    return fields + b"\0" + packed


def inner(*packets: bytes) -> bytes:
    """Return the events of packets without their frames."""
    return b"".join(packet[5:] for packet in packets)


@pytest.mark.parametrize("algorithm", [0, 255])
def test_a_compressed_transaction_is_read_in_pieces(algorithm: int) -> None:
    inside = Writer(checksum=False)
    rows = [inside.rows(rows=bytes(8000)) for _ in range(200)]
    events = inner(inside.query("BEGIN"), inside.table_map(), *rows, inside.xid(3))
    writer, stream = started()
    items = read_all(
        [writer.gtid(1), writer.event(EventType.TRANSACTION_PAYLOAD, payload(events, algorithm=algorithm))], stream
    )
    assert kinds(items) == ["Begin", *["Rows"] * 200, "Commit"]
    last = items[-1]
    assert isinstance(last, Commit)
    assert (last.count, last.xid, last.end_offset) == (200, 3, writer.offset)
    assert {item.offset for item in items} == {last.offset}


def test_what_is_compressed_comes_out_in_slices() -> None:
    inside = Writer(checksum=False)
    rows = [inside.rows(rows=bytes(1_000_000)) for _ in range(30)]
    events = inner(inside.query("BEGIN"), inside.table_map(), *rows, inside.xid(3))
    writer, stream = started()
    stream.feed(writer.gtid(1) + writer.event(EventType.TRANSACTION_PAYLOAD, payload(events)))
    slices: list[int] = []
    while got := stream.next_items():
        if isinstance(got, PlanNeeded):
            stream.supply_plan(got, plan_for(got))
        else:
            slices.append(sum(item.size_bytes for item in got))
    assert sum(slices) > 30_000_000
    assert max(slices) < MOST_HELD_BYTES + 2_000_000


@pytest.mark.parametrize("claimed", [0, 100, 10_000])
def test_a_payload_of_another_length_stops_the_stream(claimed: int) -> None:
    inside = Writer(checksum=False)
    events = inner(inside.query("BEGIN"), inside.table_map(), inside.rows(), inside.xid())
    writer, stream = started()
    broken = writer.gtid(1) + writer.event(EventType.TRANSACTION_PAYLOAD, payload(events, claimed=claimed))
    assert isinstance(error_of(stream, broken), DecodeError)


def test_a_payload_without_the_end_of_its_transaction_stops_the_stream() -> None:
    inside = Writer(checksum=False)
    writer, stream = started()
    events = inner(inside.query("BEGIN"), inside.table_map(), inside.rows())
    broken = writer.gtid(1) + writer.event(EventType.TRANSACTION_PAYLOAD, payload(events))
    assert "does not end in it" in str(error_of(stream, broken))


BODIES = st.one_of(st.binary(max_size=60), st.binary(max_size=8).map(lambda raw: bytes(8) + raw * 6))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*EventType, 200]), BODIES, st.sampled_from([0, 0x20, 0x80])), max_size=8))
def test_any_bodies_end_in_errors_of_ours(events: list[tuple[int, bytes, int]]) -> None:
    """Valid frames, checksums and places around bodies that are not."""
    writer, stream = started()
    packets = [writer.gtid(1), writer.query("BEGIN"), writer.table_map()]
    packets += [
        writer.event(code, body, flags=flags, log_pos=0 if flags == 0x20 else None) for code, body, flags in events
    ]
    with suppress(StreamError):
        read_all(packets, stream)
