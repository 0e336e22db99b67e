"""Column names and types from ``information_schema``, for tables whose binlog events do not carry them.

With ``binlog_row_metadata=FULL`` each TABLE_MAP names its columns, and the catalog only adds the DDL text of types
(which tells UUID from BINARY). Without it the names come from here, that is: from *today*. They are right for an
event only if no DDL touched the table between the event and the moment of asking. The catalog remembers that moment
as a binlog position; when the stream then shows a DDL of the table before it, rows may have been read under wrong
names, and it stops the instance there. `ha_canal.binlog.columns` checks count and types besides.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ha_canal.binlog.columns import ColumnVersion, TableVersion
from ha_canal.errors import SchemaMismatchError
from ha_canal.model.change import Statement
from ha_canal.model.position import Position, file_sequence

_COLUMNS = (
    "SELECT COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME, ''), COLUMN_KEY = 'PRI' "
    "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_WORD = re.compile(r"`((?:[^`]|``)+)`|\"((?:[^\"]|\"\")+)\"|([\w$]+)")

Query = Callable[[str, tuple[str, str]], Awaitable[list[tuple[object, ...]]]]
"""Asks the source: SQL and arguments in, rows out."""


@dataclass(frozen=True, slots=True)
class _Known:
    version: TableVersion
    asked_at: Position


class Catalog:
    """Table versions by name, as the source shows them now."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}

    async def find(
        self, schema: str, table: str, *, query: Query, end_of_binlog: Callable[[], Awaitable[Position]]
    ) -> TableVersion | None:
        """Return the table as it is now, or None if there is none, or none that we may see."""
        if (schema, table) not in self._known:
            rows = await query(_COLUMNS, (schema, table))
            if not rows:
                return None
            columns = tuple(
                ColumnVersion(str(name), _text(column_type), str(charset), bool(key))
                for name, column_type, charset, key in rows
            )
            self._known[schema, table] = _Known(TableVersion(columns), await end_of_binlog())
        return self._known[schema, table].version

    def saw(self, statement: Statement, *, names_in_events: bool) -> None:
        """Forget the tables that a DDL statement of the stream names.

        Raises SchemaMismatchError when such a table was asked for *after* this statement had run, unless the events
        carry the names themselves (``names_in_events``).
        """
        words = {word.lower() for match in _WORD.finditer(statement.sql) for word in match.groups() if word}
        for schema, table in [key for key in self._known if key[1].lower() in words or key[0].lower() in words]:
            known = self._known.pop((schema, table))
            if not names_in_events and _is_before(statement, known.asked_at):
                raise SchemaMismatchError(
                    f"{schema}.{table} was changed here, and its column names were read from the database after that; "
                    "rows before this place may have been delivered under names of today. Check them, then start the "
                    "instance again; SET GLOBAL binlog_row_metadata = 'FULL' makes this impossible",
                    file=statement.transaction.file,
                    offset=statement.offset,
                )


def _is_before(statement: Statement, asked_at: Position) -> bool:
    end = statement.offset + statement.event_length
    return (file_sequence(statement.transaction.file), end) <= (file_sequence(asked_at.file), asked_at.offset)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
