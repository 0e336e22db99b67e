"""Which tables are wanted: Canal's comma lists of regular expressions, and globs for the command line.

Each part of a list must match the whole of ``schema.table``, in any case. The answer is remembered per table, so that
even a slow expression costs once per table and not once per row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ha_canal.errors import FilterError
from ha_canal.model.patterns import compile_patterns


class TableFilter:
    """Wants the tables that match ``pattern`` and do not match ``black``.

    Both are lists of regular expressions, separated by commas (a comma inside brackets of any kind, or behind a
    backslash, belongs to the expression). An empty ``pattern`` wants all tables, an empty ``black`` excludes none.
    Raises FilterError naming the part that is no regular expression.
    """

    def __init__(self, pattern: str = "", black: str = "") -> None:
        self.pattern = pattern
        self.black = black
        self._white = compile_patterns(pattern)
        self._black = compile_patterns(black)
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
