"""XA transactions in the stream: what is kept, what is asked for, and that both give the same items."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.binlog.events import EventType
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.binlog.transactions import MOST_HELD_BYTES
from ha_canal.binlog.xa import MOST_KEPT_BYTES, PreparedGroup, PreparedGroups, XaRows, Xid, parse_xa_prepare, parse_xid
from ha_canal.binlog.xa_transactions import PreparedNeeded
from ha_canal.errors import ChainError, DecodeError, StreamError
from ha_canal.model.change import Begin, Commit, Item, Rows, Transaction
from ha_canal.model.position import Position
from tests.binlog.streams import Writer, captured, captured_from, describe, drain, plan_for, read_all

FILE = "mysql-bin.000001"
A = Xid(b"a", b"", 1)
NAMES = ("mariadb_xa", "mysql_xa")


def new_stream(offset: int, xa: XaRows, prepared: PreparedGroups | None = None) -> BinlogStream:
    return BinlogStream(file=FILE, offset=offset, server_uuid="", xa=xa, prepared=prepared)


def started(xa: XaRows = XaRows.HOLD) -> tuple[Writer, BinlogStream]:
    writer, stream = Writer(), new_stream(4, xa)
    read_all([writer.rotate(FILE), writer.format()], stream)
    return writer, stream


def prepare(writer: Writer, number: int, *rows: bytes, name: str = "61", one_phase: bool = False) -> bytes:
    """Return a group that inserts ``rows`` and ends with XA PREPARE."""
    events = [writer.gtid(number), writer.query(f"XA START X'{name}',X'',1"), writer.table_map()]
    events += [writer.rows(rows=row) for row in rows]
    events.append(writer.query(f"XA END X'{name}',X'',1"))
    body = struct.pack("<BIII", one_phase, 1, len(name) // 2, 0) + bytes.fromhex(name)
    return b"".join((*events, writer.event(EventType.XA_PREPARE, body)))


def decide(writer: Writer, number: int, verb: str = "COMMIT", name: str = "61") -> bytes:
    return writer.gtid(number) + writer.query(f"XA {verb} X'{name}',X'',1")


def row(number: int, size: int = 0) -> bytes:
    return b"\0" + number.to_bytes(4, "little") + bytes(size)


def numbers(items: Sequence[Item]) -> list[int]:
    return [int.from_bytes(item.body[1:5], "little") for item in items if isinstance(item, Rows)]


def answer(name: str, needed: PreparedNeeded, prepared: Transaction, piece: int) -> list[Sequence[Item]]:
    """Return what the group is, read again, in pieces."""
    stream = new_stream(prepared.start_offset, XaRows.REPLAY)
    items = read_all(captured_from(name, prepared.start_offset), stream)
    end = next(index for index, item in enumerate(items) if isinstance(item, Commit)) + 1
    assert items[0].transaction == prepared
    return [items[at : min(at + piece, end)] for at in range(0, end, piece)]


def test_what_is_prepared_counts_as_the_items_it_is_kept_as() -> None:
    writer, stream = started()
    rows = prepare(writer, 1, *(row(number) for number in range(20_000)))
    for at in range(0, len(rows), 100_000):  # in chunks, so that it is no part of a run
        stream.feed(rows[at : at + 100_000])
        while parcels := stream.next_parcels():
            if isinstance(parcels, PlanNeeded):
                stream.supply_plan(parcels, plan_for(parcels))
    group = stream.prepared.known()[A]
    assert group is not None
    assert group.items is not None
    assert len(group.items) == 1 + 20_000
    assert group.size_bytes == sum(item.size_bytes for item in group.items)


@pytest.mark.parametrize("name", NAMES)
def test_a_start_anywhere_gives_the_same_once_what_was_prepared_before_is_read_again(name: str) -> None:
    whole = read_all(captured(name))
    boundaries = [item.end_offset for item in whole if isinstance(item, Commit)]
    asked = 0
    for offset in boundaries[:-1]:
        before = PreparedGroups(before=Position(FILE, offset).order)
        read_all(captured(name), new_stream(4, XaRows.DROP, before))
        items: list[Item] = []
        stream = new_stream(offset, XaRows.ASK)
        for packet in captured_from(name, offset):
            stream.feed(packet)
            items += drain(stream)
            if (needed := stream.prepared_needed) is not None:
                group = before.known()[needed.xid]
                assert group is not None
                assert needed.prepared is None
                for piece in answer(name, needed, group.transaction, 1 + asked % 3):
                    stream.supply_prepared(needed, piece)
                    items += drain(stream)
                asked += 1
        rest = [item for item in whole if item.transaction.start_offset >= offset]
        assert [describe(item) for item in items] == [describe(item) for item in rest]
        assert items == rest
    assert asked > 3


@pytest.mark.parametrize("name", NAMES)
def test_who_wants_no_rows_gets_none(name: str) -> None:
    whole = read_all(captured(name), planner=lambda _: None)
    read = read_all(captured(name), new_stream(4, XaRows.DROP), planner=lambda _: None)
    assert [type(item) for item in read if isinstance(item, Commit)] == [Commit] * sum(
        isinstance(item, Commit) for item in whole
    )
    assert [item.transaction for item in read if isinstance(item, Commit)] == [
        item.transaction for item in whole if isinstance(item, Commit)
    ]


def test_a_name_is_used_again_after_each_decision() -> None:
    writer, stream = started()
    packets = [prepare(writer, 1, row(1)), decide(writer, 2), prepare(writer, 3, row(2)), decide(writer, 4, "ROLLBACK")]
    packets += [prepare(writer, 5, row(3)), prepare(writer, 6, row(4), name="6263"), decide(writer, 7, name="6263")]
    packets += [decide(writer, 8), writer.one_row(9)]
    items = read_all(packets, stream)
    assert numbers(items) == [1, 4, 3, 1]
    ends = [item for item in items if isinstance(item, Commit)]
    assert [item.transaction.gtid.rpartition(":")[2] for item in ends] == [str(number) for number in range(1, 10)]
    assert [item.empty for item in ends] == [True, False, True, True, True, True, False, False, False]
    assert stream.prepared.known() == {}


def test_a_commit_of_what_was_not_seen_stops_who_cannot_read_it_again() -> None:
    writer, stream = started()
    read_all([prepare(writer, 1, row(1)), decide(writer, 2)], stream)
    with pytest.raises(DecodeError, match=r"X'61',X'',1.*before the place"):
        read_all([decide(writer, 3)], stream)


@pytest.mark.parametrize("one_phase", [False, True])
def test_a_large_one_is_not_held_but_asked_for(*, one_phase: bool) -> None:
    writer, stream = started(XaRows.ASK)
    piece = MOST_HELD_BYTES // 3
    items = read_all([prepare(writer, 1, *(row(n, piece) for n in range(5)), one_phase=one_phase)], stream)
    if not one_phase:
        assert [type(item) for item in items] == [Commit]
        items = read_all([decide(writer, 2)], stream)
    assert items == []
    needed = stream.prepared_needed
    assert needed is not None
    assert needed.prepared is not None
    assert needed.prepared.gtid.endswith(":1")
    assert (needed.prepared == needed.commit) is one_phase
    again = Writer()
    group = [again.rotate(FILE), again.format(), prepare(again, 1, *(row(n, piece) for n in range(5)))]
    replay = new_stream(4, XaRows.REPLAY)
    supplied = read_all(group, replay)
    assert [type(item) for item in supplied] == [Begin, *[Rows] * 5, Commit]
    stream.feed(writer.one_row(3))
    for item in supplied:
        assert stream.prepared_needed is needed
        stream.supply_prepared(needed, [item])
        items += drain(stream)
    assert stream.prepared_needed is None
    assert numbers(items) == [0, 1, 2, 3, 4, 1]
    assert {item.transaction for item in items[:7]} == {needed.commit}
    with pytest.raises(ValueError, match="not asked for"):
        stream.supply_prepared(needed, [])


def test_a_large_one_stops_who_cannot_read_it_again() -> None:
    writer, stream = started()
    read_all([prepare(writer, 1, row(1, MOST_HELD_BYTES))], stream)
    with pytest.raises(DecodeError, match="too many to be held"):
        read_all([decide(writer, 2)], stream)


def test_what_many_undecided_ones_keep_is_bounded() -> None:
    writer, stream = started(XaRows.ASK)
    size = MOST_HELD_BYTES // 2
    count = 2 * MOST_KEPT_BYTES // size
    for number in range(count):
        read_all([prepare(writer, number + 1, row(number, size), name=f"{number:04x}")], stream)
        assert stream.prepared.kept_bytes <= MOST_KEPT_BYTES
    items = read_all([decide(writer, count + 1, name=f"{count - 1:04x}")], stream)
    assert numbers(items) == [count - 1]
    assert read_all([decide(writer, count + 2, name="0000")], stream) == []
    assert stream.prepared_needed is not None
    assert stream.prepared_needed.prepared is not None


def test_the_end_of_one_is_a_group_of_its_own() -> None:
    writer, stream = started()
    inside = writer.gtid(1) + writer.query("BEGIN") + writer.table_map() + writer.rows()
    with pytest.raises(ChainError, match="no group of its own"):
        read_all([inside + writer.query("XA COMMIT X'61',X'',1")], stream)


@pytest.mark.parametrize("sql", ["XA RECOVER", "XA COMMIT 'a'", "XA COMMIT X'6',X'',1", "XA COMMIT"])
def test_statements_that_no_server_logs_stop_the_stream(sql: str) -> None:
    writer, stream = started()
    with pytest.raises(StreamError) as caught:
        read_all([writer.gtid(1) + writer.query(sql)], stream)
    assert caught.value.file == FILE


def test_names() -> None:
    assert parse_xid("XA COMMIT X'00ff27',X'69742773',2147483647") == Xid(b"\0\xff'", b"it's", 2**31 - 1)
    assert parse_xid("XA ROLLBACK X'',X'',0") == Xid(b"", b"", 0)
    assert str(Xid(b"\0", b"q", 7)) == "X'00',X'71',7"


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 2**32 - 1), st.booleans())
def test_the_event_and_the_statement_name_the_same(gtrid: bytes, bqual: bytes, format_id: int, one_phase: bool) -> None:
    body = struct.pack("<BIII", one_phase, format_id, len(gtrid), len(bqual)) + gtrid + bqual
    assert parse_xa_prepare(body) == (Xid(gtrid, bqual, format_id), one_phase)
    assert parse_xid(f"XA COMMIT {Xid(gtrid, bqual, format_id)}") == Xid(gtrid, bqual, format_id)
    for size in range(len(body)):
        with pytest.raises(DecodeError):
            parse_xa_prepare(body[:size])


def test_looking_back_remembers_what_was_decided_and_stops_at_its_end() -> None:
    def group(offset: int) -> PreparedGroup:
        return PreparedGroup(Transaction("", FILE, offset, "", 1, 0), 1, None, 0)

    groups = PreparedGroups(before=Position(FILE, 100).order)
    groups.add(A, group(4))
    groups.add(Xid(b"b", b"", 1), group(50))
    assert groups.decide(A, group(60).transaction) == group(4)
    assert groups.decide(Xid(b"b", b"", 1), group(100).transaction) is None
    groups.add(A, group(200))
    assert groups.known() == {A: None, Xid(b"b", b"", 1): group(50)}


def test_who_looks_for_what_was_prepared_passes_over_what_nobody_could_deliver() -> None:
    groups = PreparedGroups(before=Position(FILE, 1 << 20).order)
    writer, stream = Writer(), new_stream(4, XaRows.FIND, groups)
    bad = [writer.rotate(FILE), writer.format(), writer.event(EventType.INCIDENT, b"\1\0\x04lost")]
    bad.append(writer.gtid(1) + writer.query("BEGIN") + writer.query("INSERT INTO a VALUES (1)") + writer.xid())
    bad.append(writer.gtid(2) + writer.query("INSERT INTO a VALUES (1)") + writer.event(99, b"?"))
    bad += [prepare(writer, 3, row(1)), decide(writer, 4, name="6263")]
    items = read_all(bad, stream)
    assert numbers(items) == []
    known = groups.known()
    assert known.pop(Xid(b"bc", b"", 1)) is None
    assert [(xid, group.transaction.gtid[-2:]) for xid, group in known.items() if group] == [(A, ":3")]
