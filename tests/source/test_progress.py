"""Progress: a connection that breaks anywhere, any number of times, and every item once and in order all the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.errors import ChainError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.position import Position
from ha_canal.model.run import unpacked
from ha_canal.source.progress import Progress
from tests.store.changes import UUID, Writer

FILE = "bin.000001"
FLAVORS = {"mysql": f"{UUID}:{{}}", "mariadb": "0-1-{}", "none": ""}
EMPTY_SET = {"mysql": "00000000-0000-0000-0000-000000000001:1", "mariadb": "9-9-9", "none": ""}
"""GTIDs that are done before the start, and are none of those that come."""


class Source:
    """Answers dumps from a list of items as a server does: from a boundary on, whole transactions, in order."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)

    def dump(self, start: Position) -> Iterator[Item]:
        done = parse_gtid_set(start.gtid_set) if start.gtid_set else None
        for item in self.items:
            at = item.transaction
            if (at.gtid not in done) if done is not None else (at.file, at.start_offset) >= (start.file, start.offset):
                yield item


def start_of(flavor: str) -> Position:
    return Position(FILE, 4, UUID, 7, gtid_set=EMPTY_SET[flavor])


def read(progress: Progress, source: Source, *, slices: Iterator[int], items: int | None = None) -> list[Item]:
    """Read one connection until it has given ``items`` items; return what was handed on."""
    handed: list[Item] = []
    stream = itertools.islice(source.dump(progress.position), items)
    while batch := list(itertools.islice(stream, next(slices))):
        fresh = list(unpacked(progress.fresh(batch)))
        progress.advance(fresh)
        handed += fresh
    return handed


def binlog(shapes: Sequence[str], flavor: str) -> list[Item]:
    """Write a transaction per shape: a letter is a row of that table, ``-`` one that nobody wants, ``!`` DDL."""
    writer = Writer(gtids=FLAVORS[flavor], file=FILE)
    for shape in shapes:
        if shape == "!":
            writer.ddl("a")
        elif shape == "|":
            writer.rotate()
        else:
            writer.transaction(*shape.replace("-", "d"))
    return [item for item in writer.written if not (isinstance(item, Rows) and item.plan.table == "d")]


shapes = st.lists(st.one_of(st.text("abc-", max_size=5), st.sampled_from("!|")), max_size=6)


@pytest.mark.parametrize("flavor", FLAVORS)
@given(shapes=shapes, cuts=st.lists(st.integers(0, 12), max_size=8), slices=st.lists(st.integers(1, 7), min_size=1))
def test_every_item_once_and_in_order(flavor: str, shapes: list[str], cuts: list[int], slices: list[int]) -> None:
    items = binlog(shapes, flavor)
    source, progress = Source(items), Progress(start_of(flavor))
    sizes = itertools.cycle(slices)
    handed: list[Item] = []
    for cut in [*cuts, None]:
        handed += read(progress, source, slices=sizes, items=cut)
    assert handed == items
    commits = [item for item in items if isinstance(item, Commit)]
    assert progress.transactions == len(commits)
    assert progress.rows_events == sum(isinstance(item, Rows) for item in items)
    assert progress.next_ordinal == 0
    if commits:
        last = commits[-1]
        assert (progress.position.file, progress.position.offset) == (last.transaction.file, last.end_offset)
        assert progress.timestamp_ms == last.transaction.timestamp_s * 1000


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_break_behind_each_item(flavor: str) -> None:
    items = binlog(["ab", "!", "", "a-bca", "|", "c"], flavor)
    for first in range(len(items) + 1):
        for second in range(len(items) + 1):
            source, progress = Source(items), Progress(start_of(flavor))
            handed = read(progress, source, slices=itertools.repeat(1), items=first)
            handed += read(progress, source, slices=itertools.repeat(3), items=second)
            handed += read(progress, source, slices=itertools.repeat(1000))
            assert handed == items, f"broken behind {first} and {second}"


@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_position_inside_a_transaction_is_before_it(flavor: str) -> None:
    items = binlog(["a", "abc"], flavor)
    progress = Progress(start_of(flavor))
    progress.advance(items[:5])
    assert isinstance(items[4], Rows)
    assert progress.next_ordinal == 1
    assert isinstance(items[2], Commit)
    assert progress.position.offset == items[2].end_offset
    assert progress.position.ordinal == 0


def half_read(items: Sequence[Item], flavor: str = "mysql", handed_on: int = 3) -> Progress:
    progress = Progress(start_of(flavor))
    progress.advance(items[:handed_on])
    return progress


def error_of(progress: Progress, items: Sequence[Item]) -> str:
    before = (progress.position, progress.next_ordinal)
    with pytest.raises(ChainError) as caught:
        progress.fresh(items)
    assert (caught.value.file, caught.value.offset) == (FILE, items[0].transaction.start_offset)
    assert (progress.position, progress.next_ordinal) == before
    return caught.value.what


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_transaction_that_was_read_in_part_and_is_gone(flavor: str) -> None:
    items = binlog(["abc", "ab"], flavor)
    other = [item for item in items if item.transaction != items[0].transaction]
    what = error_of(half_read(items, flavor), other)
    assert items[0].transaction.event_id_prefix in what
    assert other[0].transaction.event_id_prefix in what
    assert "lost the end of its binlog in a crash" in what


def test_another_domain_first_neither_skips_nor_repeats() -> None:
    big = binlog(["abc"], "mariadb")
    other = [replace(item, transaction=replace(item.transaction, gtid="5-2-7")) for item in binlog(["ccc"], "mariadb")]
    progress = half_read(big, "mariadb")
    assert "5-2-7" in error_of(progress, [*other, *big])
    assert "5-2-7" in error_of(progress, [other[-1]])  # filtered down to its end
    assert progress.fresh(big) == big[3:]


def test_a_transaction_that_took_over_the_gtid_and_the_place() -> None:
    items = binlog(["abc"], "mysql")
    later = replace(items[0].transaction, timestamp_s=items[0].transaction.timestamp_s + 1)
    others = [replace(item, transaction=later) for item in items]
    assert "is not what the source sends now" in error_of(half_read(items), others)


def test_the_same_transaction_at_another_server() -> None:
    items = binlog(["abc"], "mysql")
    moved = replace(items[0].transaction, file="other.000009", start_offset=77, server_uuid="x")
    there = [replace(item, transaction=moved) for item in items]
    assert half_read(items).fresh(there) == there[3:]


def test_a_transaction_that_is_shorter_than_what_was_read_of_it() -> None:
    items = binlog(["abc"], "mysql")
    end = items[-1]
    assert isinstance(end, Commit)
    short = [*items[:2], replace(end, count=1)]
    assert "now ends after 1 of the 2 events" in error_of(half_read(items), short)


def test_a_transaction_that_has_become_empty() -> None:
    items = binlog(["abc"], "mysql")
    end = items[-1]
    assert isinstance(end, Commit)
    assert "was read in part" in error_of(half_read(items), [replace(end, empty=True)])


def test_statements_are_passed_over_like_rows() -> None:
    ddl = binlog(["!"], "mysql")
    rows = binlog(["abc"], "mysql")
    statement = ddl[1]
    assert isinstance(statement, Statement)
    both = [rows[0], replace(statement, transaction=rows[0].transaction), *rows[2:]]  # CREATE TABLE … SELECT
    progress = half_read(both, handed_on=2)
    assert progress.rows_events == 0
    assert progress.fresh(both) == both[2:]
    assert isinstance(both[0], Begin)


@pytest.mark.parametrize(("flavor", "counted"), [("mysql", f"{UUID}:1-2"), ("mariadb", "0-1-2"), ("none", "")])
def test_gtids_are_counted_only_from_a_known_start(flavor: str, counted: str) -> None:
    items = binlog(["a", "b"], flavor)
    for from_empty in (False, True):
        progress = Progress(Position(FILE, 4))
        if from_empty:
            progress.count_gtids_from_empty()
        progress.advance(items)
        assert progress.position.gtid_set == (counted if from_empty else "")
