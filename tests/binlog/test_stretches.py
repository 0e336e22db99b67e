"""Stretches: what they hold, what they say of themselves, and where they stop; `test_runs` compares what is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.binlog.encode import encode_entry
from ha_canal.binlog.events import EventType
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.compiled import PURE
from ha_canal.errors import DecodeError, StreamError
from ha_canal.model.change import Item, Rows
from ha_canal.model.run import Parcel, unpacked
from ha_canal.model.stretch import Stretch, StretchPart
from ha_canal.protos.canal_pb2 import Messages
from ha_canal.protos.entry_pb2 import Entry
from tests.binlog.lean import leaner
from tests.binlog.streams import Writer, new_stream
from tests.binlog.test_runs import in_chunks, planner, read_with_runs, read_without, told

pytest.importorskip("ha_canal.binlog._rows_scan", reason="nothing is compiled here")
if PURE:
    pytest.skip("what is compiled is not wanted here", allow_module_level=True)

EVENTS = st.sampled_from(
    ["one", "many", "update", "other table", "unwanted", "dummy", "new table", "savepoint", "large"]
)


def large_transaction(events: list[str]) -> tuple[bytes, bytes]:
    """Return a transaction of more than a cut one may have, and its end."""
    writer = Writer()
    pieces = [writer.rotate("mysql-bin.000001"), writer.format(), writer.gtid(1), writer.query("BEGIN")]
    pieces += [writer.table_map(1), writer.table_map(2, "stock"), writer.table_map(3, "unwanted")]
    for number, event in enumerate(["many"] * 10 + events):
        match event:
            case "one":
                pieces.append(writer.rows(1))
            case "many":
                pieces.append(writer.rows(1, b"\0\1\0\0\0" * 1500))
            case "update":
                pieces.append(writer.rows(1, b"\0\1\0\0\0\0\2\0\0\0" * 3, EventType.UPDATE_ROWS))
            case "other table":
                pieces.append(writer.rows(2))
            case "unwanted":
                pieces.append(writer.rows(3))
            case "dummy":
                pieces.append(writer.rows(0xFFFFFF))
            case "new table":
                pieces += [writer.table_map(10 + number), writer.rows(10 + number), writer.table_map(1)]
            case "savepoint":
                pieces.append(writer.query("SAVEPOINT a"))
            case "large":
                pieces.append(writer.rows(1, b"\0\1\0\0\0" * 250_000))
    return b"".join(pieces), writer.xid(1)


def drained(stream: BinlogStream) -> list[Parcel]:
    parcels: list[Parcel] = []
    while got := stream.next_parcels():
        if isinstance(got, PlanNeeded):
            stream.supply_plan(got, planner(got))
        else:
            parcels += got
    return parcels


def stretches_of(events: list[str]) -> list[Stretch]:
    stream = new_stream()
    rows, end = large_transaction(events)
    stream.feed(rows)
    parcels = drained(stream)
    stream.feed(end)
    return [parcel for parcel in parcels + drained(stream) if isinstance(parcel, Stretch)]


@given(st.lists(EVENTS, max_size=20), st.sampled_from([999, 70_000, 1 << 20]))
@settings(deadline=None, max_examples=40)
def test_whatever_is_written_reads_the_same(events: list[str], chunk_bytes: int) -> None:
    chunks = in_chunks(b"".join(large_transaction(events)), chunk_bytes)
    parcels, end = read_with_runs(chunks, planner)
    plain, plain_end = read_without(chunks, planner)
    assert (told(parcels), end) == (told(plain), plain_end)


@given(st.lists(EVENTS, max_size=6), st.data())
@settings(deadline=None, max_examples=100)
def test_whatever_is_damaged_stops_at_the_same_place(events: list[str], data: st.DataObject) -> None:
    whole = bytearray(b"".join(large_transaction(events)))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    parcels, end = read_with_runs([bytes(whole)], planner)
    plain, plain_end = read_without([bytes(whole)], planner)
    assert (told(parcels), end) == (told(plain), plain_end)


def test_rows_that_follow_each_other_are_one_parcel() -> None:
    [stretch] = stretches_of(["one", "unwanted", "update", "other table", "new table", "dummy", "one"])
    rows = list(stretch.items())
    assert [item.ordinal for item in rows] == [*range(11), *range(12, 16)]
    assert (stretch.ordinal, stretch.last_ordinal, stretch.offset) == (0, 15, rows[0].offset)
    assert [plan.table for plan in stretch.packed.plans] == ["goods", "stock"]


def test_only_tables_with_rows_here_have_a_plan() -> None:
    [stretch] = stretches_of(["one"])  # another one is named, too
    assert [plan.table for plan in stretch.packed.plans] == ["goods"]


def test_a_statement_comes_between_two() -> None:
    first, second = stretches_of(["savepoint", "one"])
    assert (first.last_ordinal, second.ordinal) == (9, 10)


def test_a_large_event_stays_an_item() -> None:
    stream = new_stream()
    stream.feed(b"".join(large_transaction(["large", "one"])))
    parcels = drained(stream)
    assert [type(parcel).__name__ for parcel in parcels] == ["Begin", "Stretch", "Rows", "Stretch", "Commit"]
    assert [item.ordinal for item in unpacked(parcels) if isinstance(item, Rows)] == list(range(12))


@given(st.lists(EVENTS.filter(lambda event: event not in ("large", "savepoint")), max_size=12), st.data())
@settings(deadline=None, max_examples=40)
def test_a_stretch_says_of_itself_what_its_items_say(events: list[str], data: st.DataObject) -> None:
    [stretch] = stretches_of(events)
    packed, rows = stretch.packed, list(stretch.items())
    assert packed.rows_events == len(rows)
    assert [packed.ordinal(index) for index in range(len(rows))] == [item.ordinal for item in rows]
    assert [packed.offset(index) for index in range(len(rows))] == [item.offset for item in rows]
    first = data.draw(st.integers(0, len(rows) - 1))
    end, size = packed.cut_rows(first, data.draw(st.integers(0, 20)), data.draw(st.integers(0, 60_000)))
    part = rows[first:end]
    assert size == sum(item.size_bytes for item in part)
    assert packed.body_bytes(first, end) == sum(len(item.body) for item in part)
    assert entries_of(packed.encode_rows(first, end, 7)) == [encode_entry(item, epoch=7) for item in part]
    lean = entries_of(packed.encode_rows(first, end, 7, lean=True))
    assert list(map(Entry.FromString, lean)) == [leaner(encode_entry(item, epoch=7)) for item in part]
    pieces = list(StretchPart(packed, first, end, size).pieces(10_000))
    assert list(unpacked(pieces)) == part
    assert b"".join(piece.encoded(7) for piece in pieces) == packed.encode_rows(first, end, 7)


def entries_of(messages: bytes) -> list[bytes]:
    return list(Messages.FromString(messages).messages)


def test_what_a_stretch_does_not_hold_is_an_error() -> None:
    [stretch] = stretches_of([])
    for ask in (stretch.packed.item, stretch.packed.ordinal, stretch.packed.offset):
        for index in (-1, 10):
            with pytest.raises(IndexError):
                ask(index)
    with pytest.raises(IndexError):
        stretch.packed.encode_rows(0, 11, 7)


def test_rows_that_cannot_be_read_are_told_with_their_place() -> None:
    writer = Writer()
    head = [writer.rotate("mysql-bin.000001"), writer.format(), writer.gtid(1), writer.query("BEGIN")]
    rows = [writer.table_map(), *(writer.rows(1, b"\0\1\0\0\0" * 1500) for _ in range(10)), writer.rows(1, b"\0\1")]
    stream = new_stream()
    stream.feed(b"".join([*head, *rows, writer.xid(1)]))
    [stretch] = [parcel for parcel in drained(stream) if isinstance(parcel, Stretch)]
    *_, broken = stretch.items()
    with pytest.raises(DecodeError) as caught:
        stretch.packed.encode_rows(0, 11, 7)
    assert caught.value.offset == broken.offset
    assert str(caught.value) == str(_error_of(broken))


def _error_of(item: Item) -> StreamError:
    with pytest.raises(StreamError) as caught:
        encode_entry(item, epoch=7)
    return caught.value
