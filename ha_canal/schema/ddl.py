"""DDL as the catalog sees it: which tables a statement may name, and whose columns it may have changed.

Pure, and in doubt the answer is yes: a table that is asked for once too often costs a query, and one that is not
asked for is read under wrong names. A name counts wherever it stands in the text as a whole word, in quotes, comments
or strings too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ha_canal.binlog.statement import classify
from ha_canal.model.change import ChangeKind, Statement
from ha_canal.model.position import Position

_UNREADABLE = re.compile("[\udc80-\udcff]")
"""What stands in place of bytes of a character set that is not known; they may be any name."""
_HARMLESS_VERBS = frozenset(("GRANT", "REVOKE", "SET", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK"))
_VERBS_OF_OBJECTS = frozenset(("CREATE", "ALTER", "DROP", "RENAME"))
_OBJECTS_WITH_COLUMNS = frozenset(("", "SEQUENCE"))
"""Tables have kinds of their own (temporary ones, which have none, are in no binlog); MariaDB's sequences have rows."""


@dataclass(frozen=True, slots=True)
class Ddl:
    """One statement and its place. All names and ``text`` are in lower case; ``verb`` is as `classify` gives it."""

    start: Position
    end: Position
    kind: ChangeKind
    verb: str
    database: str
    schema: str
    table: str
    text: str

    @classmethod
    def of(cls, statement: Statement) -> Ddl:
        file = statement.transaction.file
        return cls(
            start=Position(file, statement.offset),
            end=Position(file, statement.offset + statement.event_length),
            kind=statement.kind,
            verb=classify(statement.sql, statement.database).verb,
            database=statement.database.lower(),
            schema=statement.schema.lower(),
            table=statement.table.lower(),
            text=statement.sql.lower(),
        )

    def __str__(self) -> str:
        what = self.verb if self.kind is ChangeKind.QUERY else f"{self.kind.name} of {self.schema}.{self.table}"
        return f"{what.strip()} at {self.start}"

    def can_change_columns(self) -> bool:
        """Whether it may have changed the columns of any table that existed before it."""
        match self.kind:
            case ChangeKind.CREATE_INDEX | ChangeKind.DROP_INDEX | ChangeKind.TRUNCATE:
                return False
            case ChangeKind.CREATE:  # without REPLACE it only succeeds, or changes nothing, where the table exists
                return self._has("replace")
            case ChangeKind.QUERY if self._of_database():
                return any(map(self._has, ("drop", "replace", "rename")))
            case ChangeKind.QUERY:
                verb, _, thing = self.verb.partition(" ")
                return thing in _OBJECTS_WITH_COLUMNS if verb in _VERBS_OF_OBJECTS else verb not in _HARMLESS_VERBS
            case _:
                return True

    def may_change(self, schema: str, table: str) -> bool:
        """Whether it may have changed the columns of this table, which existed before it."""
        if not self.names(schema, table) or not self.can_change_columns():
            return False
        if not self.table or (self.schema, self.table) == (schema.lower(), table.lower()):
            return True
        match self.kind:
            case ChangeKind.CREATE:
                return False
            case ChangeKind.ALTER:  # MariaDB: CONVERT TABLE makes another table a partition
                return self._has("rename") or self._has("convert")
            case _:
                return True

    def names(self, schema: str, table: str) -> bool:
        """Whether it may be about this table, or about its whole schema."""
        schema, table = schema.lower(), table.lower()
        if self._of_database():
            return self.schema == schema
        if (self.schema, self.table) == (schema, table):
            return True
        return self._has(table) and (self.database == schema or self._has(schema))

    def _of_database(self) -> bool:
        return self.kind is ChangeKind.QUERY and bool(self.schema) and not self.table

    def _has(self, name: str) -> bool:
        if not name.isascii() and _UNREADABLE.search(self.text):
            return True
        return any(_has_word(self.text, word) for word in {name, name.replace("`", "``"), name.replace('"', '""')})


def _has_word(text: str, word: str) -> bool:
    return word in text and re.search(rf"(?<![\w$]){re.escape(word)}(?![\w$])", text) is not None
