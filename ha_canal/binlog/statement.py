"""What a statement in the binlog is: transaction control, DDL of some kind, or a change that should have been rows.

Only the first words are read, whatever the length of the text. Comments are dropped; what stands in executable
comments (``/*!80016 … */``, ``/*M!100100 … */``) counts as text, since the server that logged it ran it. Names are
best effort: the first table named, with backquotes or double quotes (the ANSI_QUOTES mode) removed.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ha_canal.model.change import ChangeKind


class StatementRole(enum.Enum):
    """What a statement means for the stream."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to"
    NOTHING = "nothing"
    """RELEASE SAVEPOINT, and text that is nothing but a comment."""
    XA = "xa"
    CHANGED_ROWS = "changed rows"
    """It changes rows, or may call what does: the binlog should hold the rows instead."""
    DDL = "ddl"
    """Everything else. It may have changed any table's definition."""


class Classified(NamedTuple):
    """``verb`` is the first word or two, for messages. ``kind``, ``schema`` and ``table`` are those of DDL.

    ``savepoint`` is the name of the one that is set or gone back to; names do not mind case.
    """

    role: StatementRole
    verb: str
    kind: ChangeKind = ChangeKind.QUERY
    schema: str = ""
    table: str = ""
    savepoint: str = ""


class _Token(NamedTuple):
    text: str
    quoted: bool


_NO_TOKEN = _Token("", quoted=False)

_TOKEN = re.compile(
    r"""
      [\s;\0]+
    | (?: \#[^\n]* | --(?=[\s\0]|\Z)[^\n]* )
    | /\*M?![0-9]*                                  # an executable comment opens; its text counts
    | \*/
    | /\*.*?(?:\*/|\Z)
    | `(?P<backquoted>[^`]*+(?:``[^`]*+)*+)(?:`|\Z)    # what is not closed goes to the end; nothing is tried twice
    | "(?P<double>[^"\\]*+(?:(?:""|\\.)[^"\\]*+)*+)(?:"|\\?\Z)
    | '(?P<single>[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*+)(?:'|\\?\Z)
    | (?P<word>[\w$\x80-\U0010ffff]+)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_MOST = {
    "BEGIN": Classified(StatementRole.BEGIN, "BEGIN"),
    "COMMIT": Classified(StatementRole.COMMIT, "COMMIT"),
}
"""What most statements in a binlog are, letter by letter."""

_ROW_CHANGERS = frozenset(
    ("INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "DO", "SELECT", "WITH", "VALUES", "TABLE", "EXECUTE")
)
_FARTHEST_LOOK = 200
"""Words read in search of a keyword. The options in front of what is looked for are few."""


def classify(sql: str, default_schema: str = "") -> Classified:
    """Say what ``sql`` is. Never raises: what is not recognised is DDL of the kind QUERY."""
    if sql in _MOST:
        return _MOST[sql]
    words = _Words(sql, default_schema)
    first = words.take_keyword()
    while first == "SET" and words.keyword() == "STATEMENT":  # MariaDB: SET STATEMENT variable=value, … FOR
        words.find("FOR")
        first = words.take_keyword()
    rule = _RULES.get(first)
    if rule is not None:
        return rule(words, first)
    if first in _ROW_CHANGERS:
        return Classified(StatementRole.CHANGED_ROWS, first)
    return Classified(StatementRole.DDL if first else StatementRole.NOTHING, first)


class _Words:
    """The tokens of a statement, read one ahead."""

    __slots__ = ("_default_schema", "_tokens", "next")

    def __init__(self, sql: str, default_schema: str) -> None:
        self._tokens = _tokens(sql)
        self._default_schema = default_schema
        self.next = next(self._tokens, _NO_TOKEN)
        while self.next == ("(", False):
            self.take()

    def take(self) -> _Token:
        token, self.next = self.next, next(self._tokens, _NO_TOKEN)
        return token

    def keyword(self) -> str:
        return "" if self.next.quoted else self.next.text.upper()

    def take_keyword(self) -> str:
        word = self.keyword()
        self.take()
        return word

    def skip(self, *keywords: str) -> None:
        while self.next.text and self.keyword() in keywords:
            self.take()

    def find(self, *keywords: str) -> str:
        """Move behind the first of ``keywords``; return it, or ``""`` if it does not come soon."""
        for _ in range(_FARTHEST_LOOK):
            if self.next is _NO_TOKEN:
                break
            word = self.take_keyword()
            if word in keywords:
                return word
        return ""

    def name(self) -> tuple[str, str]:
        """Read ``table`` or ``schema.table``; return schema and table, or two times ``""``."""
        if not _is_name(self.next):
            return "", ""
        first = self.take().text
        if self.next != (".", False):
            return self._default_schema, first
        self.take()
        return (first, self.take().text) if _is_name(self.next) else ("", "")


def _is_name(token: _Token) -> bool:
    return token.quoted or token.text[:1].isalnum() or token.text[:1] in ("_", "$") or token.text[:1] > "\x7f"


def _tokens(sql: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(sql):
        group = match.lastgroup
        if group == "word" or group == "mark":
            yield _Token(match[0], quoted=False)
        elif group is not None:
            quote = match[0][0]
            yield _Token(match[group].replace(quote * 2, quote), quoted=True)


def _begin(words: _Words, verb: str) -> Classified:
    if verb == "START" and words.keyword() != "TRANSACTION":
        return Classified(StatementRole.DDL, verb)
    return Classified(StatementRole.BEGIN, verb)


def _commit(words: _Words, verb: str) -> Classified:
    return Classified(StatementRole.COMMIT, verb)


def _rollback(words: _Words, verb: str) -> Classified:
    words.skip("WORK")
    if words.keyword() != "TO":
        return Classified(StatementRole.ROLLBACK, verb)
    words.skip("TO", "SAVEPOINT")
    return Classified(StatementRole.ROLLBACK_TO, f"{verb} TO", savepoint=words.take().text.casefold())


def _savepoint(words: _Words, verb: str) -> Classified:
    return Classified(StatementRole.SAVEPOINT, verb, savepoint=words.take().text.casefold())


def _release(words: _Words, verb: str) -> Classified:
    return Classified(StatementRole.NOTHING if words.keyword() == "SAVEPOINT" else StatementRole.DDL, verb)


def _xa(words: _Words, verb: str) -> Classified:
    return Classified(StatementRole.XA, f"{verb} {words.keyword()}")


def _delete(words: _Words, verb: str) -> Classified:
    """A server that restarts logs ``DELETE FROM `schema`.`table``` for each MEMORY table that it lost the rows of."""
    if words.keyword() == "FROM":
        words.take()
        schema, table = words.name()
        if table and words.next is _NO_TOKEN:
            return Classified(StatementRole.DDL, verb, ChangeKind.TRUNCATE, schema, table)
    return Classified(StatementRole.CHANGED_ROWS, verb)


def _object(words: _Words, verb: str) -> Classified:
    temporary = False
    for _ in range(_FARTHEST_LOOK):
        word = words.keyword()
        if words.next is _NO_TOKEN or word in _OBJECTS:
            break
        temporary = temporary or word == "TEMPORARY"
        words.take()
    thing = words.take_keyword()
    words.skip("IF", "NOT", "EXISTS")
    if thing in ("DATABASE", "SCHEMA"):
        return Classified(StatementRole.DDL, f"{verb} {thing}", schema=words.name()[1])
    kind = _KINDS.get((verb, thing), ChangeKind.QUERY)
    if thing == "INDEX":
        words.find("ON")
    if temporary or (thing not in _TABLE_WORDS and thing != "INDEX"):
        return Classified(StatementRole.DDL, f"{verb} {thing}")
    return Classified(StatementRole.DDL, f"{verb} {thing}", kind, *words.name())


def _truncate(words: _Words, verb: str) -> Classified:
    words.skip("TABLE")
    return Classified(StatementRole.DDL, verb, ChangeKind.TRUNCATE, *words.name())


_TABLE_WORDS = ("TABLE", "TABLES")
_OBJECTS = frozenset(
    [
        "TABLE",
        "TABLES",
        "INDEX",
        "DATABASE",
        "SCHEMA",
        "VIEW",
        "TRIGGER",
        "PROCEDURE",
        "FUNCTION",
        "EVENT",
        "USER",
        "ROLE",
        "SEQUENCE",
        "SERVER",
        "TABLESPACE",
        "LOGFILE",
        "PACKAGE",
        "RESOURCE",
        "INSTANCE",
        "UNDO",
        "LIBRARY",
    ]
)
_KINDS = {
    ("CREATE", "TABLE"): ChangeKind.CREATE,
    ("ALTER", "TABLE"): ChangeKind.ALTER,
    ("DROP", "TABLE"): ChangeKind.ERASE,
    ("DROP", "TABLES"): ChangeKind.ERASE,
    ("RENAME", "TABLE"): ChangeKind.RENAME,
    ("RENAME", "TABLES"): ChangeKind.RENAME,
    ("CREATE", "INDEX"): ChangeKind.CREATE_INDEX,
    ("DROP", "INDEX"): ChangeKind.DROP_INDEX,
}
_RULES: dict[str, Callable[[_Words, str], Classified]] = {
    "BEGIN": _begin,
    "START": _begin,
    "COMMIT": _commit,
    "ROLLBACK": _rollback,
    "SAVEPOINT": _savepoint,
    "RELEASE": _release,
    "XA": _xa,
    "DELETE": _delete,
    "CREATE": _object,
    "ALTER": _object,
    "DROP": _object,
    "RENAME": _object,
    "TRUNCATE": _truncate,
}
