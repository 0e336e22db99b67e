"""A change and its rows, as an application sees them. The twin of the compiled ``_change``: it says what they are."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from ha_canal.client.values import Value

Kind = Literal[
    "insert", "update", "delete",
    "create", "alter", "drop", "truncate", "rename", "create_index", "drop_index", "query", "xa_commit", "xa_rollback",
]  # fmt: skip
"""The first three change rows; the others are statements, in ``sql``. ``query`` is any other statement."""


class Row(Mapping[str, Value]):
    """Column names to typed values (see `ha_canal.client.values`), in the table's order.

    NULL is None. A column that the binlog's image does not hold (``binlog_row_image`` MINIMAL or NOBLOB) is no key.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._places = {name: place for place, name in enumerate(values)}
        """Where each column stands in ``_values``. Rows of one table share it: never changed."""
        self._values = tuple(values.values())

    def __getitem__(self, name: str) -> Value:
        return self._values[self._places[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._values)

    def values(self) -> ValuesView[Value]:
        return _RowValues(self)

    def items(self) -> ItemsView[str, Value]:
        return _RowItems(self)

    def in_order(self) -> tuple[Value, ...]:
        """Return the values in the order of the columns."""
        return self._values

    def __reduce__(self) -> tuple[type[Row], tuple[dict[str, Value]]]:
        return Row, (dict(self.items()),)

    def __repr__(self) -> str:
        return f"Row({dict(zip(self._places, self._values, strict=True))!r})"


class _RowValues(ValuesView[Value]):
    """Goes through the values without looking each one up by its name."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self._row = row

    def __iter__(self) -> Iterator[Value]:
        return iter(self._row.in_order())


class _RowItems(ItemsView[str, Value]):
    """As `_RowValues`, with the names."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self._row = row

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return zip(self._row, self._row.in_order(), strict=True)


class EventPosition(NamedTuple):
    """Where the event of a change starts in the source's binlog; ``offset`` in bytes."""

    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row, or one statement.

    ``before`` is None for inserts, ``after`` for deletes, both for statements. ``changed`` names the columns that
    an update changed (all of them for an insert). ``key`` names the primary key's columns. ``event_id`` is the same
    on replay and after a fail-over: the entry's own, and behind a dot the row's number where an event holds several
    rows (``3e11fa47-…:23#0.1``). ``transaction`` is the part of it that all changes of a transaction share.
    ``commit_time`` is in UTC, to the microsecond where the source says so, else to the second. ``sql`` is the text
    of a statement.
    """

    kind: Kind
    schema: str
    table: str
    before: Row | None
    after: Row | None
    changed: tuple[str, ...]
    key: tuple[str, ...]
    event_id: str
    position: EventPosition
    gtid: str
    transaction: str
    commit_time: datetime
    sql: str = ""

    @property
    def row(self) -> Row:
        """The row after the change, or, for a delete, before it. Raises LookupError for a statement."""
        row = self.after if self.after is not None else self.before
        if row is None:
            raise LookupError(f"a change of kind {self.kind!r} has no row; its statement is in sql")
        return row
