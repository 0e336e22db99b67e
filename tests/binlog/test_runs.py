"""Runs against the event by event path: the same transactions, entries, positions and errors, however bytes come."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.binlog.encode import encode_entry
from ha_canal.binlog.events import EventType
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream
from ha_canal.compiled import PURE
from ha_canal.errors import SourceLostError, StreamError
from ha_canal.model.change import Item, Rows
from ha_canal.model.gtid import GtidSet, parse_gtid_set
from ha_canal.model.run import Parcel, Run, RunPart, unpacked
from ha_canal.model.table import RowPlan
from ha_canal.protos.canal_pb2 import Messages
from ha_canal.protos.entry_pb2 import Entry
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from tests.binlog.lean import leaner
from tests.binlog.streams import Planner, Writer, captured, describe, new_stream, plan_for

_crc = pytest.importorskip("ha_canal.binlog._crc", reason="nothing is compiled here")
if PURE:
    pytest.skip("what is compiled is not wanted here", allow_module_level=True)

EVERYTHING = TableFilter(".*\\..*")


def read_with_runs(chunks: Sequence[bytes], planner: Planner = plan_for) -> tuple[list[Parcel], str]:
    """Return what a stream gives that is asked for runs, and its error."""
    stream = new_stream()
    got: list[Parcel] = []
    try:
        for chunk in chunks:
            stream.feed(chunk)
            while piece := _next_piece(stream, planner):
                got += piece
        while piece := _next_piece(stream, planner, last=True):
            got += piece
    except (StreamError, ServerError, SourceLostError) as error:
        return got, str(error)
    return got, f"at {stream.file}:{stream.offset} after {stream.transactions} and {stream.events} events"


def _next_piece(stream: BinlogStream, planner: Planner, *, last: bool = False) -> Sequence[Parcel]:
    """Return what comes next, nothing if more is to be fed; ``last``: what is cut is read as far as it goes."""
    while True:
        got = stream.next_items() if last else stream.next_parcels()
        if not isinstance(got, PlanNeeded):
            return got
        stream.supply_plan(got, planner(got))


def read_without(chunks: Sequence[bytes], planner: Planner = plan_for) -> tuple[list[Item], str]:
    stream = new_stream()
    items: list[Item] = []
    try:
        for chunk in chunks:
            stream.feed(chunk)
            while got := stream.next_items():
                if isinstance(got, PlanNeeded):
                    stream.supply_plan(got, planner(got))
                else:
                    items += got
    except (StreamError, ServerError, SourceLostError) as error:
        return items, str(error)
    return items, f"at {stream.file}:{stream.offset} after {stream.transactions} and {stream.events} events"


def told(items: Sequence[Parcel]) -> list[str]:
    """Return what readers of the ring are told, line by line."""
    lines: list[str] = []
    sink = Sink(EVERYTHING)
    for item in items:
        if isinstance(item, Run):
            lines += [describe(one) for one in item.items()]
        else:
            lines += [describe(one) for one in unpacked(sink.pass_items([item]))]
    return lines


def in_chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
@pytest.mark.parametrize("chunk_bytes", [100, 5_000, 1 << 20])
def test_captured_binlogs_read_the_same(name: str, chunk_bytes: int) -> None:
    chunks = in_chunks(b"".join(captured(name)), chunk_bytes)
    items, end = read_with_runs(chunks)
    plain, plain_end = read_without(chunks)
    assert (told(items), end) == (told(plain), plain_end)


STEPS = st.sampled_from(
    ["row", "row", "row", "two tables", "dropped", "mixed", "empty", "ddl", "update", "commit", "dummy", "lower", "big"]
)


def written(steps: Sequence[str]) -> bytes:
    """Return a binlog with one transaction per step."""
    writer = Writer()
    pieces = [writer.rotate("mysql-bin.000001"), writer.format()]
    for number, step in enumerate(steps, 1):
        pieces += [writer.gtid(number), writer.query("begin" if step == "lower" else "BEGIN")]
        match step:
            case "ddl":
                pieces[-1] = writer.query("ALTER TABLE goods COMMENT 'new'")
                continue
            case "row" | "lower" | "commit":
                pieces += [writer.table_map(), writer.rows()]
            case "two tables":
                pieces += [writer.table_map(1), writer.table_map(2, "stock"), writer.rows(2), writer.rows(1)]
            case "dropped":
                pieces += [writer.table_map(3, "unwanted"), writer.rows(3)]
            case "mixed":
                pieces += [writer.table_map(3, "unwanted"), writer.rows(3), writer.table_map(1), writer.rows(1)]
            case "update":
                rows = b"\0\1\0\0\0\0\2\0\0\0" * 3
                pieces += [writer.table_map(), writer.rows(1, rows, EventType.UPDATE_ROWS)]
            case "dummy":
                pieces += [writer.table_map(), writer.rows(), writer.rows(0xFFFFFF)]
            case "big":
                pieces += [writer.table_map(), *(writer.rows(1, b"\0\1\0\0\0" * 1500) for _ in range(3))]
        pieces.append(writer.query("COMMIT") if step == "commit" else writer.xid(number))
    return b"".join(pieces)


def planner(needed: PlanNeeded) -> RowPlan | None:
    return None if needed.table_map.table == "unwanted" else plan_for(needed)


@given(st.lists(STEPS, max_size=20), st.sampled_from([50, 333, 4_000, 1 << 20]))
@settings(deadline=None)
def test_whatever_is_written_reads_the_same(steps: list[str], chunk_bytes: int) -> None:
    chunks = in_chunks(written(steps), chunk_bytes)
    items, end = read_with_runs(chunks, planner)
    plain, plain_end = read_without(chunks, planner)
    assert (told(items), end) == (told(plain), plain_end)


@given(st.lists(STEPS, min_size=1, max_size=8), st.data())
@settings(deadline=None, max_examples=300)
def test_whatever_is_damaged_stops_at_the_same_place(steps: list[str], data: st.DataObject) -> None:
    whole = bytearray(written(steps))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    items, end = read_with_runs([bytes(whole)], planner)
    plain, plain_end = read_without([bytes(whole)], planner)
    assert (told(items), end) == (told(plain), plain_end)


def test_a_damaged_file_without_checksums_is_read_no_further_than_item_by_item() -> None:
    writer = Writer(checksum=False)
    head = writer.rotate("mysql-bin.000001") + writer.format()
    good = b"".join([writer.gtid(1), writer.query("BEGIN"), writer.table_map(), writer.rows(), writer.xid()])
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 0x41
        items, end = read_with_runs([head, good[:0] + bytes(damaged)])
        plain, plain_end = read_without([head, bytes(damaged)])
        assert (told(items), end) == (told(plain), plain_end), at


def one_run(steps: Sequence[str]) -> tuple[Run, list[list[Item]]]:
    """Return a run of these transactions, and each one as items; the tables were met before."""
    before = ["row", "two tables", "dropped"]
    head, whole = written(before), written([*before, *steps])
    stream = new_stream()
    stream.feed(head)
    while got := stream.next_items():
        if isinstance(got, PlanNeeded):
            stream.supply_plan(got, planner(got))
    stream.feed(whole[len(head) :])
    parcels = stream.next_parcels()
    assert isinstance(parcels, list)
    [run] = parcels
    assert isinstance(run, Run)
    return run, [run.packed.items(index) for index in range(run.packed.count)]


PLAIN = st.sampled_from(["row", "two tables", "dropped", "mixed", "empty", "update", "commit", "big"])


@given(st.lists(PLAIN, min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_a_run_says_of_itself_what_its_items_say(steps: list[str], data: st.DataObject) -> None:
    run, transactions = one_run(steps)
    packed = run.packed
    assert packed.count == len(steps)
    ends = [items[-1] for items in transactions]
    assert [packed.commit(index) for index in range(packed.count)] == ends
    assert packed.rows_events == sum(isinstance(item, Rows) for items in transactions for item in items)
    first = data.draw(st.integers(0, packed.count - 1))
    end = data.draw(st.integers(first, packed.count))
    assert packed.gtids(first, end) == _gtids([item.transaction.gtid for item in ends[first:end]])
    for index, item in enumerate(ends):
        assert packed.index_of(item.transaction.gtid) == index
    assert packed.index_of("00010203-0405-0607-0809-0a0b0c0d0eff:1") == -1


def _gtids(texts: list[str]) -> GtidSet | None:
    return parse_gtid_set(",".join(texts)) if texts else None


@given(st.lists(PLAIN, min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_a_part_of_a_run_has_the_entries_of_its_wanted_items(steps: list[str], data: st.DataObject) -> None:
    run, _ = one_run(steps)
    packed = run.packed
    wanted = bytes(data.draw(st.lists(st.booleans(), min_size=len(packed.plans), max_size=len(packed.plans))))
    first = data.draw(st.integers(0, packed.count))
    entries, size = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 20_000))
    end, count, size_bytes = packed.cut(first, wanted, entries, size)
    part = RunPart(packed, first, end, wanted, count, size_bytes)
    items = list(part.items())
    assert len(items) == count <= entries
    assert sum(item.size_bytes for item in items) == size_bytes <= size
    encoded = Messages.FromString(packed.encode(first, end, wanted, 7)).messages
    assert list(encoded) == [encode_entry(item, epoch=7) for item in items]
    lean = Messages.FromString(packed.encode(first, end, wanted, 7, lean=True)).messages
    assert list(map(Entry.FromString, lean)) == [
        leaner(encode_entry(item, epoch=7)) for item in items if isinstance(item, Rows)
    ]
    more = list(RunPart(packed, first, min(end + 1, packed.count), wanted, 0, 0).items())
    assert end == packed.count or len(more) > entries or sum(item.size_bytes for item in more) > size
    having = [
        index for index in range(first, packed.count) if list(RunPart(packed, index, index + 1, wanted, 0, 0).items())
    ]
    assert packed.next_wanted(first, wanted) == (having[0] if having else packed.count)


def test_what_a_run_does_not_hold_is_an_error() -> None:
    run, _ = one_run(["row"])
    for end, wanted in ((1, b""), (2, b"\1")):
        with pytest.raises(IndexError):
            run.packed.encode(0, end, wanted, 7)
    with pytest.raises(IndexError):
        run.packed.commit(1)


@given(st.binary(max_size=2000))
def test_checksums_are_those_of_zlib(data: bytes) -> None:
    assert _crc.checksum_of(data) == zlib.crc32(data)
