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
from ha_canal.model.change import ChangeKind, Statement
from ha_canal.model.position import Position, file_sequence

_COLUMNS = (
    "SELECT COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME, ''), COLUMN_KEY = 'PRI' "
    "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_QUOTED = re.compile(r"`((?:[^`]|``)+)`|\"((?:[^\"]|\"\")+)\"")
_PLAIN = re.compile(r"[\w$]+")
_OF_OTHER_THINGS = frozenset(
    ("create", "alter", "drop", "rename", "grant", "revoke", "set", "flush", "analyze", "optimize", "repair", "check")
)
"""Verbs of statements that leave columns alone unless they are about a table, which then is their own kind."""

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
        """Forget the tables that a DDL statement of the stream may name.

        Raises SchemaMismatchError when it may have changed the columns of such a table, and the table was asked for
        *after* the statement had run, unless the events carry the names themselves (``names_in_events``). It raises
        the same again when it is shown the same statement again.
        """
        words = _words(statement.sql)
        named = [name for name in self._known if not words.isdisjoint(part.lower() for part in name)]
        for schema, table in named:
            asked_at = self._known[schema, table].asked_at
            if (
                not names_in_events
                and _is_before(statement, asked_at)
                and _may_change_columns(statement, words, schema.lower(), table.lower())
            ):
                raise SchemaMismatchError(
                    f"{schema}.{table} was changed here, and its column names were read from the database after that "
                    f"(at {asked_at.file}:{asked_at.offset}); rows before this place may have been delivered under "
                    "names of today. Check them; the instance begins anew from what its clients have acknowledged. "
                    "SET GLOBAL binlog_row_metadata = 'FULL' makes this impossible",
                    file=statement.transaction.file,
                    offset=statement.offset,
                )
        for name in named:
            del self._known[name]


def _words(sql: str) -> set[str]:
    """Return all that may be a name in ``sql``, in lower case. Quotes may be read wrongly, so that is too much."""
    quoted = {(match[1] or match[2]).replace("``", "`").replace('""', '"') for match in _QUOTED.finditer(sql)}
    return {word.lower() for word in quoted} | {word.lower() for word in _PLAIN.findall(sql)}


def _may_change_columns(statement: Statement, words: set[str], schema: str, table: str) -> bool:
    """Whether the statement may have changed the columns of a table that existed before it. In doubt it may."""
    is_first = (statement.schema.lower(), statement.table.lower()) == (schema, table)
    is_named = table in words and (schema in words or statement.database.lower() == schema)
    match statement.kind:
        case ChangeKind.CREATE_INDEX | ChangeKind.DROP_INDEX | ChangeKind.TRUNCATE:
            return False
        case ChangeKind.CREATE:  # without REPLACE it only succeeds, or changes nothing, where the table exists
            return is_first and "replace" in words
        case ChangeKind.ALTER:
            return is_first or (is_named and "rename" in words)
        case ChangeKind.QUERY if statement.schema and not statement.table:  # of a whole database
            return statement.schema.lower() == schema and _verb(statement.sql) not in {"create", "alter"}
        case ChangeKind.QUERY:
            return is_named and _verb(statement.sql) not in _OF_OTHER_THINGS
        case _:
            return is_named


def _verb(sql: str) -> str:
    first = _PLAIN.search(sql)
    return first[0].lower() if first else ""


def _is_before(statement: Statement, asked_at: Position) -> bool:
    end = statement.offset + statement.event_length
    return (file_sequence(statement.transaction.file), end) <= (file_sequence(asked_at.file), asked_at.offset)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
