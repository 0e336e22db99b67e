"""Fingerprints of transactions: what they depend on, what they do not, and what a cursor has behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Statement, Transaction
from ha_canal.model.position import Position
from ha_canal.model.remembered import Remembered
from ha_canal.model.table import RowPlan
from ha_canal.source.fingerprint import MOST_REMEMBERED, REMEMBERED_S, Fingerprints, Memory

GOODS, ORDERS = RowPlan("shop", "goods", 1, ()), RowPlan("shop", "orders", 2, ())


def transaction(number: int, *, file: int = 1, time_s: int = 1000) -> Transaction:
    return Transaction("", f"bin.{file:06}", number * 100, "", 1, time_s)


def rows(body: bytes, of: Transaction, plan: RowPlan = GOODS, kind: ChangeKind = ChangeKind.INSERT) -> Rows:
    return Rows(of, 0, of.start_offset + 30, 30, of.timestamp_s, kind, plan, b"\1", b"\1", body)


def whole(of: Transaction, *inner: Item, empty: bool = False) -> list[Item]:
    end = Commit(of, of.start_offset + 80, 20, of.timestamp_s, of.start_offset + 100, len(inner), empty=empty)
    return [end] if empty else [Begin(of, of.start_offset, 30), *inner, end]


def one(number: int, body: bytes, *, file: int = 1, time_s: int = 1000) -> list[Item]:
    of = transaction(number, file=file, time_s=time_s)
    return whole(of, rows(body, of))


def print_of(items: Sequence[Item]) -> int:
    ((_, crc),) = Fingerprints().of(items)
    return crc


def place(number: int, *, file: int = 1, time_s: int = 1000) -> Position:
    """The place behind a transaction."""
    return Position(f"bin.{file:06}", number * 100 + 100, "", 1, time_s * 1000)


def test_places_times_servers_and_table_ids_do_not_matter() -> None:
    there = replace(transaction(77, file=9, time_s=5), server_id=3, server_uuid="x", gtid="0-1-1")
    other_ids = replace(GOODS, table_id=99)
    assert print_of(one(1, b"row")) == print_of(whole(there, rows(b"row", there, other_ids)))


def test_where_a_server_cuts_rows_events_does_not_matter() -> None:
    of = transaction(1)
    cut = whole(of, rows(b"one", of), rows(b"two", of))
    assert print_of(cut) == print_of(one(1, b"onetwo"))


def test_rows_tables_kinds_columns_order_and_statements_matter() -> None:
    of = transaction(1)
    kinds = [
        whole(of, rows(b"one", of)),
        whole(of, rows(b"two", of)),
        whole(of, rows(b"one", of, ORDERS)),
        whole(of, rows(b"one", of, kind=ChangeKind.DELETE)),
        whole(of, replace(rows(b"one", of), present_after=b"\3")),
        whole(of, rows(b"one", of), rows(b"", of, ORDERS)),
        whole(of, rows(b"", of, ORDERS), rows(b"one", of)),
        whole(of, Statement(of, 0, 1, 1, 1, ChangeKind.CREATE, "CREATE TABLE a (b INT)", "shop", "shop", "a")),
        whole(of, Statement(of, 0, 1, 1, 1, ChangeKind.CREATE, "CREATE TABLE b (b INT)", "shop", "shop", "b")),
    ]
    assert len({print_of(items) for items in kinds}) == len(kinds)


def test_pieces_of_any_size_give_the_same_and_empty_transactions_none() -> None:
    items = [*one(1, b"a"), *whole(transaction(2), empty=True), *one(3, b"b")]
    at_once = [crc for _, crc in Fingerprints().of(items)]
    singly = Fingerprints()
    assert [crc for item in items for _, crc in singly.of([item])] == at_once
    assert len(at_once) == 2


def test_a_cursor_recalls_what_ended_before_it() -> None:
    memory = Memory(place(0))
    for number in range(1, 6):
        memory.saw(one(number, b"%d" % number, time_s=1000 + number))
    assert memory.recall(place(3)) == Remembered(
        tuple(print_of(one(1, b"%d" % number)) for number in (1, 2, 3)), since_s=1001
    )
    assert memory.recall(replace(place(3), offset=450)).fingerprints == memory.recall(place(3)).fingerprints
    assert memory.recall(place(0)) == Remembered()


def test_what_was_known_before_comes_first() -> None:
    memory = Memory(place(5), Remembered((7, 8), since_s=990))
    assert memory.recall(place(5)) == Remembered((7, 8), since_s=990)
    memory.saw(one(6, b"x"))
    assert memory.recall(place(6)) == Remembered((7, 8, print_of(one(1, b"x"))), since_s=990)


def test_no_more_than_the_last_ones_and_nothing_old() -> None:
    memory = Memory(place(0))
    for number in range(1, 300):
        memory.saw(one(number, b"%d" % number))
    assert len(memory.recall(place(299)).fingerprints) == MOST_REMEMBERED
    memory.saw(one(300, b"new", time_s=1001 + REMEMBERED_S))
    assert len(memory.recall(place(300, time_s=1001 + REMEMBERED_S)).fingerprints) == 1


def test_memory_goes_on_over_files_and_lets_go_of_what_no_cursor_needs() -> None:
    memory = Memory(place(0))
    for file in range(1, 5):
        for number in range(1, 400):
            memory.saw(one(number, b"%d" % number, file=file))
    assert memory.transactions == 4 * 399
    early = memory.recall(place(10, file=3)).fingerprints
    memory.forget_before(place(10, file=3))
    assert memory.transactions < 4 * 399
    assert memory.recall(place(10, file=3)).fingerprints == early
    assert len(early) == MOST_REMEMBERED
    memory.forget_before(place(399, file=4))
    assert memory.transactions <= 2 * MOST_REMEMBERED
    assert len(memory.recall(place(399, file=4)).fingerprints) == MOST_REMEMBERED
