"""Column names and types from ``information_schema``, for tables whose binlog events do not carry them.

With ``binlog_row_metadata=FULL`` each TABLE_MAP names its columns, and the catalog only adds the DDL text of types
(which tells UUID from BINARY). Without it the names come from here, that is: from *today*. They are right for an
event only if no DDL touched the table between the event and the moment of asking. So the catalog remembers that moment
as a binlog position; the source looks through the binlog up to there (`ha_canal.source.lookahead`), and
`check_unchanged` judges what it found, before a row is read. What comes later passes through the stream, which shows it
to `Catalog.saw`. `ha_canal.binlog.columns` checks count and types besides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from ha_canal.binlog.columns import ColumnVersion, TableVersion
from ha_canal.errors import SchemaMismatchError
from ha_canal.model.change import Statement
from ha_canal.model.position import Position
from ha_canal.schema.ddl import Ddl

_COLUMNS = (
    "SELECT COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME, ''), COLUMN_KEY = 'PRI' "
    "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)

Query = Callable[[str, tuple[str, str]], Awaitable[list[tuple[object, ...]]]]
"""Asks the source: SQL and arguments in, rows out."""


@dataclass(frozen=True, slots=True)
class Known:
    """A table as the source showed it. ``asked_at`` is the end of the binlog at a moment just after that."""

    version: TableVersion
    asked_at: Position


class Catalog:
    """Table versions by name, as the source shows them now."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Known] = {}

    async def find(
        self, schema: str, table: str, *, query: Query, end_of_binlog: Callable[[], Awaitable[Position]]
    ) -> Known | None:
        """Return the table as it is now, or None if there is none, or none that we may see."""
        if (schema, table) not in self._known:
            rows = await query(_COLUMNS, (schema, table))
            if not rows:
                return None
            columns = tuple(
                ColumnVersion(str(name), _text(column_type), str(charset), bool(key))
                for name, column_type, charset, key in rows
            )
            self._known[schema, table] = Known(TableVersion(columns), await end_of_binlog())
        return self._known[schema, table]

    def saw(self, statement: Statement) -> None:
        """Forget the tables that a DDL statement of the stream may be about."""
        ddl = Ddl.of(statement)
        for name in [name for name in self._known if ddl.names(*name)]:
            del self._known[name]


def check_unchanged(schema: str, table: str, *, here: Position, asked_at: Position, ahead: Iterable[Ddl]) -> None:
    """Raise SchemaMismatchError if the table may have been changed between ``here`` and ``asked_at``.

    ``here`` is the end of the TABLE_MAP event without names; ``ahead`` holds at least all DDL between the two places
    that can change columns, in order.
    """
    for ddl in ahead:
        if here.order <= ddl.start.order and ddl.end.order <= asked_at.order and ddl.may_change(schema, table):
            raise SchemaMismatchError(
                f"the rows of {schema}.{table} carry no column names here, and the table was changed after them "
                f"({ddl}), so that the names which the database shows now may be wrong for them. None of them was "
                "delivered. SET GLOBAL binlog_row_metadata = 'FULL' makes later events carry their own names; to go "
                "on past this place, exclude the table in the instance's filter, or give up the clients' positions "
                "with unsubscribe(forget=True) and start anew",
                file=here.file,
                offset=here.offset,
            )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
