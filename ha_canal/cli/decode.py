"""`ha-canal decode`: the changes of binlog files, offline, on the way that a node reads them too.

Files go through `BinlogStream`, the table filter and the encoder of entries, and come out as the SDK's changes. A
transaction is printed when its end was read, or, when it is large, as it comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ha_canal.binlog.chain import FIRST_OFFSET
from ha_canal.binlog.encode import encode_entry
from ha_canal.binlog.files import BinlogFiles, Planner, Unfinished
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.row_count import counting_plan
from ha_canal.cli.decode_names import NamesOfToday, PlansOfFiles
from ha_canal.cli.decode_summary import Place, Summary, kind_name, time_text
from ha_canal.cli.json_line import json_line
from ha_canal.client.entries import changes_of
from ha_canal.config import source_from_url
from ha_canal.errors import FilterError, StreamError
from ha_canal.model.change import Item, Rows, Statement, Transaction
from ha_canal.model.position import Position
from ha_canal.model.run import unpacked
from ha_canal.model.table import RowPlan
from ha_canal.schema.ddl import Ddl
from ha_canal.sink import Sink, TableFilter, glob_to_filter

_WIDTH = 250


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the files is asked for: transactions by where and when they start, and tables.

    ``start_offset`` belongs to the first file, ``stop_offset`` (the first that is not wanted) to the last one. Times
    have a zone; ``stop_time`` is the first that is not wanted.
    """

    paths: tuple[Path, ...]
    tables: tuple[str, ...] = ()
    start_offset: int = FIRST_OFFSET
    stop_offset: int | None = None
    start_time: datetime | None = None
    stop_time: datetime | None = None

    def is_behind(self, transaction: Transaction) -> bool:
        return (
            self.stop_offset is not None
            and transaction.file == self.paths[-1].name
            and transaction.start_offset >= self.stop_offset
        )

    def is_in_time(self, transaction: Transaction) -> bool:
        time_s = transaction.commit_timestamp_us / 1e6 or transaction.timestamp_s
        if self.start_time is not None and time_s < self.start_time.timestamp():
            return False
        return self.stop_time is None or time_s < self.stop_time.timestamp()

    def filter(self) -> TableFilter:
        """Raises FilterError for a pattern that names no table."""
        patterns = [glob_to_filter(table) for table in self.tables]
        if not all(patterns):
            raise FilterError("an empty --table names no table: write schema.table, such as 'shop.orders' or 'shop.*'")
        return TableFilter(",".join(patterns))


class _Reading:
    """One pass over the files."""

    def __init__(self, wanted: Wanted) -> None:
        self.files = BinlogFiles(wanted.paths, start_offset=wanted.start_offset)
        self._wanted = wanted
        self._filter = wanted.filter()

    def wants(self, needed: PlanNeeded) -> bool:
        return self._filter.wants(needed.table_map.schema, needed.table_map.table)

    def slices(self, plan: Planner) -> Iterator[list[Item]]:
        """Yield what is wanted; ``plan`` answers for tables that are. Raises StreamError and OSError."""
        sink = Sink(self._filter)
        for items in self.files.items(lambda needed: plan(needed) if self.wants(needed) else None):
            kept = [item for item in items if not self._wanted.is_behind(item.transaction)]
            passed = unpacked(sink.pass_items(kept))
            yield [item for item in passed if self._wanted.is_in_time(item.transaction)]
            if len(kept) < len(items):
                return


def print_changes(wanted: Wanted, schema_url: str | None, write: Callable[[bytes], object]) -> list[Unfinished]:
    """Write one line of JSON per change; return what could not be read to its end.

    Raises:
        StreamError: with file, offset and event type; what came before was written.
        CanalError: the server of ``schema_url`` cannot be asked, or a pattern names no table.
        OSError: a file cannot be read.
    """
    reading = _Reading(wanted)
    with ExitStack() as stack:
        names = stack.enter_context(NamesOfToday(source_from_url(schema_url))) if schema_url else None
        plans = PlansOfFiles(names, lambda here: _ddl_behind(wanted, here))
        for items in reading.slices(plans.placeholder):
            for line in _lines(items, plans):
                write(line)
    return reading.files.unfinished


def _lines(items: Iterable[Item], plans: PlansOfFiles) -> Iterator[bytes]:
    for item in items:
        try:
            entry = encode_entry(plans.with_names(item) if isinstance(item, Rows) else item, epoch=0)
        except StreamError as error:
            raise _of_event(error, item) from error
        if entry is not None:
            for change in changes_of((entry,)):
                yield f"{json_line(change)}\n".encode()


def _of_event(error: StreamError, item: Item) -> StreamError:
    """Return the error with the kind of event in front; one of the stream itself names it already."""
    kind = f"{item.kind.name} rows event: " if isinstance(item, Rows) else ""
    return type(error)(f"{kind}{error.what}", file=error.file, offset=error.offset)


def _ddl_behind(wanted: Wanted, here: Position) -> list[Ddl]:
    """Return the DDL that stands in the files from the file of ``here`` on, as far as they can be read."""
    paths = wanted.paths[[path.name for path in wanted.paths].index(here.file) :]
    start_offset = wanted.start_offset if len(paths) == len(wanted.paths) else FIRST_OFFSET
    found: list[Ddl] = []
    try:
        for items in BinlogFiles(paths, start_offset=start_offset).items(lambda _: None):
            found += [Ddl.of(item) for item in items if isinstance(item, Statement)]
    except StreamError:
        pass  # the reading itself comes to it, and says it
    return [ddl for ddl in found if ddl.can_change_columns()]


def summarize(wanted: Wanted) -> tuple[Summary, list[Unfinished]]:
    """Count what is wanted. Raises as `print_changes` does."""
    reading = _Reading(wanted)
    summary = Summary()

    def plan(needed: PlanNeeded) -> RowPlan:
        summary.met(needed.table_map, mariadb="mariadb" in reading.files.server_version.lower())
        return counting_plan(needed.table_map)

    for items in reading.slices(plan):
        for item in items:
            try:
                summary.add(item)
            except StreamError as error:
                raise _of_event(error, item) from error
    return summary, reading.files.unfinished


def summary_as_json(summary: Summary) -> str:
    return json.dumps(summary.to_json(), ensure_ascii=False)


def summary_as_text(summary: Summary) -> str:
    """Return a few lines and a table, for people."""
    console = Console(width=_WIDTH, color_system=None)
    with console.capture() as captured:
        for line in _head_lines(summary):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if summary.counts:
            console.print(_table(summary))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _head_lines(summary: Summary) -> Iterator[str]:
    others = f"{summary.other_transactions:,} without a change that was asked for"
    yield f"{summary.transactions:,} transactions, and {others}"
    if summary.first and summary.last:
        yield f"first: {_place(summary.first)}"
        yield f"last:  {_place(summary.last)}"
    yield f"GTIDs: {summary.gtids}" + (f", and {summary.gtids.without:,} without" if summary.gtids.without else "")


def _table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("table", "kind"):
        table.add_column(name, overflow="fold")
    for name in ("transactions", "events", "rows", "bytes"):
        table.add_column(name, justify="right")
    for name in ("first", "last"):
        table.add_column(name, overflow="fold")
    for schema, name, kind, count in summary.in_order():
        table.add_row(
            Text(f"{schema}.{name}" if name else schema or "-"),
            kind_name(kind),
            f"{count.transactions:,}",
            f"{count.events:,}",
            "?" if count.rows is None else f"{count.rows:,}",
            f"{count.bytes:,}",
            _place(count.first),
            _place(count.last),
        )
    return table


def _place(place: Place) -> str:
    return f"{time_text(place.time_s)} {place.file}:{place.offset}"
