"""Compares what was read of the binlog with what the server showed: every image, column by column, in order.

Each table is judged by itself. A row of an event must be one that its table's next statement changed; what is left
over in the end was lost. For a share of the events, the serialized entry is read back as clients do it.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from ha_canal.binlog.encode import encode_entry
from ha_canal.binlog.rows import ABSENT, Image, Value, decode_rows
from ha_canal.client.change import Change
from ha_canal.client.delivery import delivery
from ha_canal.errors import CanalError
from ha_canal.model.change import ChangeKind, Item, Rows
from ha_canal.protos.canal_pb2 import Messages
from ha_canal.testing.fidelity_case import Difference
from ha_canal.testing.fidelity_expect import BYTES, Expected, Recorder, RowTexts, Shown, shortest_float32

_MOST_DIFFERENCES: Final = 3
"""Of one table; what follows a first difference is seldom news."""
_TYPED: Final = BYTES | {
    "tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit", "decimal", "float", "double", "vector",
}  # fmt: skip
_DIGITS: Final = re.compile(r"\((\d)\)")


class TableJudge:
    """Judges the events of one table."""

    def __init__(self, recorder: Recorder, rng: random.Random, share_of_entries: float) -> None:
        self._recorder = recorder
        self._table = recorder.case.table
        self._columns = recorder.columns
        self._names = [column.name for column in recorder.columns]
        self._waiting = deque(recorder.expected)
        self._now = Counter[RowTexts]()
        self._remaining: dict[str | None, tuple[RowTexts, RowTexts]] = {}
        self._rng = rng
        self._share = share_of_entries
        self._given_up = False
        self.differences: list[Difference] = []
        self.images = 0
        self.values = 0
        self.entries = 0
        self.partial = 0
        if self._waiting:
            self._open(self._waiting[0])

    def take(self, rows: Rows) -> None:
        """Judge one rows event."""
        if self._given_up or not self._same_table(rows):
            return
        changes: list[Change] | None = None
        self.partial += rows.partial_json
        try:
            pairs = list(decode_rows(rows))
            if self._rng.random() < self._share:
                changes = list(_as_clients_read(rows))
                if repr(changes) != repr(list(_as_clients_read(rows, lean=True))):
                    self._report("the lean entry says something else")
                self.entries += 1
        except CanalError as error:
            self._report("cannot be decoded", got=str(error))
            self._given_up = True
            return
        if changes is not None and len(changes) != len(pairs):
            self._report("the entry has another number of rows", expected=str(len(pairs)), got=str(len(changes)))
            changes = None
        for index, (before, after) in enumerate(pairs):
            self._row(rows.kind, before, after, changes[index] if changes else None)

    def end(self) -> list[Difference]:
        """Return all differences, once everything was read."""
        while not self._given_up and self._waiting:
            lost = [pair for pair in self._remaining.values() if not _may_be_missing(self._table.judging, pair)]
            if lost:
                self._report("not in the binlog", expected=repr(lost[0])[:500])
                break
            self._check_snapshot()
            self._next()
        return self.differences

    def _same_table(self, rows: Rows) -> bool:
        names = [column.name for column in rows.plan.columns]
        keys = {column.name for column in rows.plan.columns if column.is_key}
        wanted = {column.name for column in self._columns if column.is_key}
        if self._table.judging == "history":  # the end of a version is in the key, and is not shown in it
            keys &= wanted
        if names == self._names and keys == wanted:
            return True
        self._report("has other columns or another key", expected=f"{self._names} {wanted}", got=f"{names} {keys}")
        self._given_up = True
        return False

    def _row(self, kind: ChangeKind, before: Image, after: Image, change: Change | None) -> None:
        if self._given_up:
            return
        pair = self._replayed(before, after) if self._table.judging == "history" else self._matching(before, after)
        if pair is None:
            self._report(
                f"a row of {kind.name} that was not expected",
                expected=repr(list(self._remaining.values()))[:500],
                got=repr((before, after))[:500],
            )
            self._given_up = True
            return
        if bool(pair[0]) != bool(before) or bool(pair[1]) != bool(after):
            self._report(f"of the wrong kind, {kind.name}", expected=repr(pair)[:500])
            return
        step = self._waiting[0].step
        for which, image in enumerate((before, after)):
            if image:
                self._image(which, image, pair, step.image)
        if change is not None:
            self._entry(change, (before, after), pair)

    def _open(self, expected: Expected) -> None:
        key = self._names.index(self._table.row_key) if self._table.row_key in self._names else 0
        self._remaining = {(before or after)[key]: (before, after) for before, after in expected.pairs}

    def _next(self) -> None:
        self._waiting.popleft()
        self._remaining = {}
        if self._waiting:
            self._open(self._waiting[0])

    def _matching(self, before: Image, after: Image) -> tuple[RowTexts, RowTexts] | None:
        key = self._names.index(self._table.row_key) if self._table.row_key in self._names else 0
        wanted = (before or after)[key]
        while self._waiting:
            if isinstance(wanted, str | None) and wanted in self._remaining:
                pair = self._remaining.pop(wanted)
                if pair[0] != pair[1] or (_fits(before, pair[0]) and _fits(after, pair[1])):
                    return pair
            elif not all(_may_be_missing(self._table.judging, pair) for pair in self._remaining.values()):
                return None
            self._next()
        return None

    def _replayed(self, before: Image, after: Image) -> tuple[RowTexts, RowTexts] | None:
        """Apply the row to what earlier ones made; the whole is compared once it is what a statement left behind."""
        while self._waiting and self._now == self._snapshot():
            self._next()
        if before and not self._now[_texts(before)]:
            return None
        if before:
            self._now -= Counter([_texts(before)])
        if after:
            self._now[_texts(after)] += 1
        return (_texts(before), _texts(after)) if self._waiting else None

    def _check_snapshot(self) -> None:
        if self._table.judging == "history" and self._now != self._snapshot():
            self._report(
                "replayed, the table is another",
                expected=repr(list((self._snapshot() - self._now).elements()))[:600],
                got=repr(list((self._now - self._snapshot()).elements()))[:600],
            )
            self._given_up = True

    def _snapshot(self) -> Counter[RowTexts]:
        return Counter(map(_shown, self._waiting[0].snapshot))

    def _image(self, which: int, image: Image, pair: tuple[RowTexts, RowTexts], mode: str) -> None:
        self.images += 1
        self.values += len(image)
        for index, (got, wanted) in enumerate(zip(image, pair[which], strict=True)):
            if got != wanted and not _agree(got, wanted) and not self._may_be_absent(which, index, got, pair, mode):
                self._report(
                    f"another value in the {('before', 'after')[which]} image", self._columns[index], wanted, got
                )

    def _may_be_absent(self, which: int, index: int, got: Value, pair: tuple[RowTexts, RowTexts], mode: str) -> bool:
        if got is not ABSENT or mode == "FULL":
            return False
        before, after = pair
        if which == 0:
            return not self._columns[index].is_key
        if self._columns[index].virtual:
            return True
        if not before:
            return self._names[index] not in self._waiting[0].step.columns
        return before[index] == after[index]

    def _entry(self, change: Change, images: tuple[Image, Image], pair: tuple[RowTexts, RowTexts]) -> None:
        for which, row in enumerate((change.before, change.after)):
            present = [index for index, value in enumerate(images[which]) if value is not ABSENT]
            if list(row or ()) != [self._names[index] for index in present]:
                self._report("the client's row has other columns", got=repr(list(row or ()))[:500])
                continue
            for index in present if row is not None else ():
                self._typed(row, self._columns[index], pair[which][index])

    def _typed(self, row: Mapping[str, Any] | None, column: Shown, wanted: str | None) -> None:
        value = row[column.name] if row else None
        if not same_value(value, wanted, column):
            self._report("another value at the client", column, wanted, repr(value))

    def _report(self, what: str, column: Shown | None = None, expected: object = "", got: object = "") -> None:
        if len(self.differences) >= _MOST_DIFFERENCES:
            return
        current = self._waiting[0] if self._waiting else None
        self.differences.append(
            Difference(
                self._recorder.case,
                what,
                current.sql if current else "",
                ids=current.step.ids if current else (),
                column=column.name if column else "",
                column_type=column.column_type if column else "",
                expected=str(expected),
                got=str(got),
            )
        )


def judge(
    recorders: Sequence[Recorder], items: Iterable[Item], rng: random.Random, share_of_entries: float
) -> list[TableJudge]:
    """Judge all tables of a schema."""
    judges = {recorder.case.table.name: TableJudge(recorder, rng, share_of_entries) for recorder in recorders}
    for item in items:
        if isinstance(item, Rows) and item.plan.table in judges:
            judges[item.plan.table].take(item)
    for table in judges.values():
        table.end()
    return list(judges.values())


def _may_be_missing(judging: str, pair: tuple[RowTexts, RowTexts]) -> bool:
    """An UPDATE that leaves a row as it was is not logged; nor is a value that a sequence took out of its cache."""
    return pair[0] == pair[1] or judging == "sequence"


def _texts(image: Image) -> RowTexts:
    return _shown(value if isinstance(value, str) else None for value in image)


def _shown(row: Iterable[str | None]) -> RowTexts:
    """A row of a table with system versioning: there, U+FFFD is a question mark, so that rows can be looked up."""
    return tuple(value and value.replace("\ufffd", "?") for value in row)


def _fits(image: Image, row: RowTexts) -> bool:
    if len(image) != len(row):
        return False
    return all(got in (wanted, ABSENT) or _agree(got, wanted) for got, wanted in zip(image, row, strict=True))


def _agree(got: Value, wanted: str | None) -> bool:
    """Where bytes stand for no character, the server shows a question mark, and we U+FFFD."""
    if not isinstance(got, str) or wanted is None or len(got) != len(wanted) or "\ufffd" not in got:
        return False
    return all(a == b or (a == "\ufffd" and b == "?") for a, b in zip(got, wanted, strict=True))


def same_value(value: Any, wanted: str | None, column: Shown) -> bool:
    """Whether a client's typed value is what the server showed as ``wanted``."""
    if value is None or wanted is None:
        return value is None and (wanted is None or column.data_type == "json")
    if column.data_type in ("json", "vector"):
        return bool(value == json.loads(wanted) or value == wanted)
    if column.data_type == "set":
        texts = set(wanted.split(",")) if wanted else set()
        return isinstance(value, frozenset) and (value == texts or _agree(",".join(sorted(value)), wanted))
    if isinstance(value, str):
        return column.data_type not in _TYPED and (value == wanted or _agree(value, wanted))
    return next(_texts_of(value, column)) == wanted


def _texts_of(value: Any, column: Shown) -> Iterator[str]:
    """The server's text of a typed value."""
    found = _DIGITS.search(column.column_type)
    digits = int(found[1]) if found else 0
    match value:
        case bytes():
            yield value.decode("latin-1")
        case datetime():
            day = f"{value.year:04}-{value.month:02}-{value.day:02} {value.hour:02}:{value.minute:02}:{value.second:02}"
            yield day + (f".{value.microsecond:06}"[: digits + 1] if digits else "")
        case date():
            yield value.isoformat()
        case timedelta():
            seconds, fraction = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
            text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            text += f".{fraction:06}"[: digits + 1] if digits else ""
            yield f"-{text}" if value < timedelta() else text
        case Decimal():
            yield f"{value:f}"
        case float():
            yield shortest_float32(value) if column.data_type == "float" else repr(value)
        case int() if column.data_type == "year":
            yield f"{value:04}"
        case _:
            yield str(value)


def _as_clients_read(rows: Rows, *, lean: bool = False) -> tuple[Change, ...]:
    """Encode and decode the rows as nodes and clients do: by the compiled twins, where there are any."""
    entry = encode_entry(rows, epoch=1, lean=lean)
    return delivery(Messages(messages=[entry] if entry is not None else []).SerializeToString()).changes()
