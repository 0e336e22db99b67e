"""The compiled reader against its twin: the same changes, or the same error, whatever the bytes."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ha_canal.client import delivery as room
from ha_canal.client.change import Change, Row
from ha_canal.client.delivery import Delivery, pure_delivery
from ha_canal.compiled import PURE
from ha_canal.errors import DecodeError
from ha_canal.protos import entry_pb2 as pb
from tests.client.made import batch_of, columns, entries, make_nameless
from tests.client.test_change import NEW, OLD, entry
from tests.client.wire import Nested, shuffled

compiled = pytest.mark.skipif(not room.COMPILED, reason="nothing is compiled here")
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may share the machine

_PAIR = Nested({})
_COLUMN = Nested({7: _PAIR})
_ROW = Nested({1: _COLUMN, 2: _COLUMN, 3: _PAIR})
_ENTRY = Nested({1: Nested({12: _PAIR}), 3: Nested({12: _ROW, 13: _PAIR})})
_BATCH = Nested({2: _ENTRY, 52: Nested({})})


def told(read: Delivery) -> object:
    """Everything a delivery says, so that it can be compared: types too, and NaN with itself."""
    head = (read.batch_id, read.epoch, read.partial_transaction, read.count, read.place, list(read.messages))
    return head, [_told(change) for change in read.changes()]


def _told(change: Change) -> object:
    fields = [getattr(change, name) for name in Change.__match_args__ if name not in ("before", "after")]
    return repr(fields), [repr(list(row.items())) if row is not None else None for row in (change.before, change.after)]


def outcome(raw: bytes, read: object) -> object:
    assert callable(read)
    try:
        return told(read(raw))
    except DecodeError as wrong:
        return str(wrong)


def agree(raw: bytes) -> None:
    assert outcome(raw, room.delivery) == outcome(raw, pure_delivery)


def test_the_extension_is_loaded_unless_the_twin_is_wanted() -> None:
    if PURE:
        assert not room.COMPILED
    for wanted, said in (("1", "False"), ("", str(_is_built()))):
        code = "from ha_canal.client.delivery import COMPILED; print(COMPILED)"
        environment = {**os.environ, "HA_CANAL_PURE": wanted}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert (ended.stdout.strip(), ended.stderr) == (said, "")


def _is_built() -> bool:
    return room.COMPILED or (PURE and "ha_canal.client._entries" in _found())


def _found() -> list[str]:
    from importlib.util import find_spec

    return ["ha_canal.client._entries"] if find_spec("ha_canal.client._entries") else []


@compiled
@unhurried
@given(st.lists(entries(), max_size=4))
def test_what_protobuf_writes(raw_entries: list[bytes]) -> None:
    agree(batch_of(raw_entries))


@compiled
@unhurried
@given(st.data())
def test_columns_of_all_types(data: st.DataObject) -> None:
    """Many rows of one layout: what is kept from the rows before must not show in the next ones."""
    name = data.draw(st.sampled_from(["int(11)", "decimal(12,2)", "double", "date", "datetime(6)", "time(6)", "blob"]))
    pairs = data.draw(st.lists(st.tuples(columns(0, name), columns(0, name)), min_size=1, max_size=20))
    rows = [pb.RowData(beforeColumns=[old], afterColumns=[new]) for old, new in pairs]
    agree(batch_of([entry(pb.UPDATE, *rows)]))


_TYPES = ["int(11)", "decimal(12,2)", "varchar(20)", "datetime(6)", "json", "blob"]


@pytest.mark.parametrize("read", [room.delivery, pure_delivery])
@unhurried
@given(data=st.data())
def test_lean_entries_say_what_whole_ones_do(read: Callable[[bytes], Delivery], data: st.DataObject) -> None:
    whole: list[bytes] = []
    lean: list[bytes] = []
    for _ in range(data.draw(st.integers(1, 4), label="entries")):
        types = data.draw(st.lists(st.sampled_from(_TYPES), min_size=1, max_size=4))
        kind = data.draw(st.sampled_from([pb.INSERT, pb.UPDATE, pb.DELETE]))
        rows = [_row(data, types, kind) for _ in range(data.draw(st.integers(1, 4), label="rows"))]
        whole.append(entry(kind, *rows))
        told: set[int] = set()
        for row in rows:
            told_here = {column.index for column in (*row.beforeColumns, *row.afterColumns)}
            make_nameless(row, lambda column: column.index in told)  # noqa: B023 - called at once
            told |= told_here
        lean.append(entry(kind, *rows))
    assert _changes_told(read(batch_of(lean))) == _changes_told(read(batch_of(whole)))


def _row(data: st.DataObject, types: list[str], kind: pb.EventType) -> pb.RowData:
    """Return a row of any of these columns, in their order, as MINIMAL images are."""

    def image() -> list[pb.Column]:
        return [data.draw(columns(place, name)) for place, name in enumerate(types) if data.draw(st.integers(0, 3))]

    return pb.RowData(
        beforeColumns=image() if kind != pb.INSERT else [], afterColumns=image() if kind != pb.DELETE else []
    )


def _changes_told(read: Delivery) -> object:
    try:
        return [_told(change) for change in read.changes()]
    except DecodeError as wrong:
        return str(wrong)


def test_a_nameless_column_is_the_one_that_its_own_entry_has_told() -> None:
    def row(value: str, **said: str) -> pb.RowData:
        return pb.RowData(afterColumns=[pb.Column(index=3, value=value, **said)])  # type: ignore[arg-type] # texts

    first = entry(pb.INSERT, row("1", name="a", mysqlType="int"), row("2"))
    then = entry(
        pb.INSERT, row("x", name="b", mysqlType="text"), row("y"), row("z", name="c", mysqlType="text"), row("7")
    )
    stranger = entry(pb.INSERT, row("3"), row("4"))
    for read in (room.delivery, pure_delivery):
        changes = read(batch_of([first, then, stranger, first])).changes()
        found = [item for change in changes for item in change.row.items()]
        assert found == [
            *(("a", 1), ("a", 2), ("b", "x"), ("b", "y"), ("c", "z"), ("c", "7")),
            *(("", "3"), ("", "4"), ("a", 1), ("a", 2)),
        ]


@compiled
@unhurried
@given(st.lists(entries(), max_size=3), st.integers(0, 2**32))
def test_fields_in_any_order_and_unknown_ones(raw_entries: list[bytes], seed: int) -> None:
    agree(shuffled(batch_of(raw_entries), random.Random(seed), _BATCH))


@compiled
@unhurried
@given(st.lists(entries(), min_size=1, max_size=3), st.data())
def test_damage(raw_entries: list[bytes], data: st.DataObject) -> None:
    raw = bytearray(batch_of(raw_entries))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255) | st.sampled_from([0, 0x7F, 0x80, 0xFF]))
    agree(bytes(raw))


@compiled
@unhurried
@given(entries(), st.data())
def test_truncation(raw_entry: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(raw_entry)))
    agree(batch_of([raw_entry[:cut]]))
    agree(batch_of([raw_entry])[: cut + 2])


@compiled
@unhurried
@given(st.lists(st.binary(max_size=60), max_size=3))
@example([b"\x0a\x00\x0a\x00\x10\x02"])  # a header in two pieces
def test_garbage(raw_entries: list[bytes]) -> None:
    agree(batch_of(raw_entries))
    agree(b"".join(raw_entries))


@compiled
def test_every_cut_of_a_batch() -> None:
    raw = batch_of([entry(pb.UPDATE, pb.RowData(beforeColumns=OLD, afterColumns=NEW))])
    for end in range(len(raw)):
        agree(raw[:end])


@compiled
@pytest.mark.parametrize(
    "row",
    [
        pb.RowData(afterColumns=[NEW[0], NEW[0]]),  # a name twice
        pb.RowData(afterColumns=[pb.Column()]),
        pb.RowData(afterColumns=[NEW[0]] * 3000 + [pb.Column(name=f"c{place}") for place in range(3000)]),
        pb.RowData(afterColumns=[pb.Column(name=f"c{place}", mysqlType="int", value="1") for place in range(4000)]),
        pb.RowData(beforeColumns=NEW, afterColumns=list(reversed(NEW))),
    ],
)
def test_rows_of_odd_shapes(row: pb.RowData) -> None:
    agree(batch_of([entry(kind, row, row) for kind in (pb.INSERT, pb.UPDATE, pb.DELETE, pb.QUERY)]))


@compiled
@pytest.mark.parametrize("side", ["beforeColumns", "afterColumns"])
@pytest.mark.parametrize("kind", [pb.INSERT, pb.UPDATE, pb.DELETE, pb.QUERY])
def test_a_text_that_is_none_is_an_error_in_either_image(kind: pb.EventType, side: str) -> None:
    raw = entry(kind, pb.RowData(**{side: [pb.Column(name="a", value="é")]}))  # type: ignore[arg-type] # by name
    with pytest.raises(DecodeError):
        room.delivery(batch_of([raw.replace("é".encode(), b"\xff\xff")])).changes()


@compiled
def test_tables_that_change_and_alternate() -> None:
    """More tables, layouts and types than are remembered at one place."""
    batch = []
    for turn in range(300):
        chosen = [
            pb.Column(index=place, name=f"c{place}", mysqlType=("int", "text", "date")[(turn + place) % 3], value="1")
            for place in range(turn % 7)
        ]
        batch.append(entry(pb.INSERT, pb.RowData(afterColumns=chosen)))
    agree(batch_of(batch))


@compiled
def test_unchanged_values_are_shared_but_for_those_that_can_be_changed() -> None:
    old = [*OLD, pb.Column(name="j", mysqlType="json", value="[1]")]
    new = [*NEW, pb.Column(name="j", mysqlType="json", value="[1]")]
    (change,) = room.delivery(batch_of([entry(pb.UPDATE, pb.RowData(beforeColumns=old, afterColumns=new))])).changes()
    assert change.before is not None
    assert change.after is not None
    assert change.before["j"] == change.after["j"] == [1]
    assert change.before["j"] is not change.after["j"]
    assert (change.before["price"], change.after["price"]) == (Decimal("1.00"), Decimal("2.50"))


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_collection_is_left_as_it_was(collects: bool) -> None:
    good = room.delivery(batch_of([entry(pb.INSERT, pb.RowData(afterColumns=NEW))]))
    bad = room.delivery(batch_of([b"\xff"]))
    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        good.changes()
        assert gc.isenabled() is collects
        with pytest.raises(DecodeError, match="entry 0 of a batch cannot be read"):
            bad.changes()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if was else gc.disable)()


_MANY = [entry(pb.INSERT, *[pb.RowData(afterColumns=NEW)] * 300) for _ in range(20)]


def test_a_delivery_can_be_gone_through_without_keeping_it() -> None:
    raw = batch_of(_MANY)
    assert len(raw) > 4 * 64 * 1024  # several goes
    read = room.delivery(raw)
    assert list(read) == list(read) == list(read.changes()) == list(pure_delivery(raw))


@pytest.mark.parametrize("read", [room.delivery, pure_delivery])
def test_going_through_a_delivery_ends_at_what_cannot_be_read(read: Callable[[bytes], Delivery]) -> None:
    changes = iter(read(batch_of([*_MANY, b"\xff"])))
    found = [next(changes) for _ in range(300)]
    assert found[-1].event_id == f"{found[0].event_id.removesuffix('.0')}.299"
    with pytest.raises(DecodeError, match="entry 20 of a batch cannot be read"):
        found.extend(changes)
    assert list(changes) == []
    assert gc.isenabled()


def test_changes_are_whole_python_objects() -> None:
    raw = batch_of(
        [entry(pb.INSERT, pb.RowData(afterColumns=[*NEW, pb.Column(name="j", mysqlType="json", value="[]")]))]
    )
    (change,) = room.delivery(raw).changes()
    assert change == next(iter(pure_delivery(raw).changes()))
    assert change.commit_time == datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)
    assert isinstance(change.after, Row)
    assert {**change.after} == {"id": 1, "price": Decimal("2.50"), "note": None, "j": []}
    with pytest.raises(KeyError):
        change.after["nothing"]
    cycle = change.after["j"]
    assert isinstance(cycle, list)
    cycle.append(change)
    assert gc.is_tracked(change)  # so that the cycle can be collected


def test_threads_decode_at_the_same_time() -> None:
    rows = [pb.RowData(afterColumns=[*NEW, pb.Column(name="j", mysqlType="json", value=f"[{n}]")]) for n in range(200)]
    raw = batch_of([entry(pb.INSERT, *rows)])
    wanted = pure_delivery(raw).changes()
    same: list[bool] = []
    threads = [threading.Thread(target=lambda: same.append(room.delivery(raw).changes() == wanted)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 8
