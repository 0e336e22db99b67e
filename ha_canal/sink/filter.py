"""Which tables are wanted: Canal's comma lists of regular expressions, and globs for the command line.

Each part of a list must match the whole of ``schema.table``, in any case. The answer is remembered per table, so that
even a slow expression costs once per table and not once per row.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

from ha_canal.errors import FilterError

_CLOSING = {"(": ")", "{": "}", "[": "]"}


class TableFilter:
    """Wants the tables that match ``pattern`` and do not match ``black``.

    Both are lists of regular expressions, separated by commas (a comma inside brackets of any kind, or behind a
    backslash, belongs to the expression). An empty ``pattern`` wants all tables, an empty ``black`` excludes none.
    Raises FilterError naming the part that is no regular expression.
    """

    def __init__(self, pattern: str = "", black: str = "") -> None:
        self.pattern = pattern
        self.black = black
        self._white = _compile(pattern)
        self._black = _compile(black)
        self._answers: dict[tuple[str, str], bool] = {}

    def wants(self, schema: str, table: str) -> bool:
        answer = self._answers.get((schema, table))
        if answer is None:
            answer = self._answers[schema, table] = self._decide(f"{schema}.{table}")
        return answer

    def idle_parts(self, tables: Iterable[tuple[str, str]]) -> list[str]:
        """Return the parts of ``pattern`` that match none of ``tables`` (schema, table): probably misspelt."""
        names = [f"{schema}.{table}" for schema, table in tables]
        return [part.pattern for part in self._white if not any(part.fullmatch(name) for name in names)]

    def _decide(self, name: str) -> bool:
        if any(part.fullmatch(name) for part in self._black):
            return False
        return not self._white or any(part.fullmatch(name) for part in self._white)


def glob_to_filter(globs: str) -> str:
    """Return the filter list for ``shop.*`` or ``shop.order_?,users.*``: ``*`` is any text, ``?`` any one character.

    Raises FilterError for a part without a dot between schema and table.
    """
    return ",".join(_glob_to_regex(glob) for glob in map(str.strip, globs.split(",")) if glob)


def _glob_to_regex(glob: str) -> str:
    schema, dot, table = glob.partition(".")
    if not (schema and dot and table):
        raise FilterError(f"{glob!r} names no table: write schema.table, such as 'shop.orders' or 'shop.*'")
    return r"\.".join(re.escape(side).replace(r"\*", ".*").replace(r"\?", ".") for side in (schema, table))


def _compile(pattern: str) -> tuple[re.Pattern[str], ...]:
    return tuple(_compile_part(part) for part in _split(pattern))


def _compile_part(part: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of sets inside sets, which no Python has yet
            return re.compile(part, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise FilterError(
            f"{part!r} is no regular expression: {error}. A filter is a comma list of expressions for schema.table, "
            r"such as 'shop\..*,users\.account'"
        ) from None


def _split(pattern: str) -> list[str]:
    """Return the parts between the commas that stand outside of all brackets, without empty ones."""
    parts = [""]
    awaited: list[str] = []
    escaped = False
    for character in pattern:
        if character == "," and not awaited and not escaped:
            parts.append("")
            continue
        parts[-1] += character
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif awaited and character == awaited[-1]:
            awaited.pop()
        elif character in _CLOSING and awaited[-1:] != ["]"]:
            awaited.append(_CLOSING[character])
    return [part for part in map(str.strip, parts) if part]
