"""Which tables are wanted: Canal's comma lists of regular expressions, and globs for the command line.

Each part of a list must match the whole of ``schema.table``, in any case. The answer is remembered per table, so that
even a slow expression costs once per table and not once per row. No answer takes long: a table for which it was not
found in time is wanted, because a filter must never lose a change.
"""

from __future__ import annotations

import heapq
import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from ha_canal.errors import FilterError
from ha_canal.model.patterns import MATCH_LIMIT_S, Expression, compile_patterns, slow_name

log = logging.getLogger(__name__)

_SURVEY_LIMIT_S = 0.5
_GIVEN_UP_AFTER = 20
_MATCHES_IN_SURVEY = 50_000


class TableFilter:
    """Wants the tables that match ``pattern`` and do not match ``black``.

    Both are lists of regular expressions, separated by commas (a comma inside brackets of any kind, or behind a
    backslash, belongs to the expression). An empty ``pattern`` wants all tables, an empty ``black`` excludes none.
    Raises FilterError naming the part that is no regular expression, or that obviously takes too long; the latter not
    for a filter that was ``accepted`` before, with which its readers must go on.
    """

    def __init__(self, pattern: str = "", black: str = "", *, accepted: bool = False) -> None:
        self.pattern = pattern
        self.black = black
        self._white = compile_patterns(pattern, check_speed=not accepted)
        self._black = compile_patterns(black, check_speed=not accepted)
        self._answers: dict[tuple[str, str], bool] = {}
        self._slow: Counter[Expression] = Counter()

    def wants(self, schema: str, table: str) -> bool:
        answer = self._answers.get((schema, table))
        if answer is None:
            answer = self._answers[schema, table] = self._decide(f"{schema}.{table}")
        return answer

    def idle_parts(self, tables: Iterable[tuple[str, str]]) -> list[str]:
        """Return the parts of ``pattern`` that match none of ``tables`` (schema, table): probably misspelt.

        Without those for which that would take long to find out.
        """
        names = [f"{schema}.{table}" for schema, table in tables]
        ends_at_s = time.thread_time() + _SURVEY_LIMIT_S
        return [part.pattern for part in self._white if _matches_none(part, names, ends_at_s)]

    def slow_parts(self, tables: Iterable[tuple[str, str]]) -> list[str]:
        """Return parts of both lists that take too long on ``tables`` (schema, table), the longest names at least.

        Not all of them when there are many: it ends after half a second of CPU time.
        """
        parts = [*self._white, *self._black]
        count = _MATCHES_IN_SURVEY // (len(parts) + 1) + 10
        names = heapq.nlargest(min(count, 1000), (f"{schema}.{table}" for schema, table in tables), key=len)
        ends_at_s = time.thread_time() + _SURVEY_LIMIT_S
        return [part.pattern for part in parts if slow_name(part, names, limit_s=ends_at_s - time.thread_time())]

    def _decide(self, name: str) -> bool:
        ends_at_s = time.thread_time() + MATCH_LIMIT_S
        if self._any_matches(self._black, name, ends_at_s):
            return False
        return not self._white or self._any_matches(self._white, name, ends_at_s) is not False

    def _any_matches(self, parts: Sequence[Expression], name: str, ends_at_s: float) -> bool | None:
        """Return None if no part is known to match, and one is not known not to."""
        undecided = False
        for part in parts:
            answer = self._ask(part, name, ends_at_s)
            if answer:
                return True
            undecided = undecided or answer is None
        return None if undecided else False

    def _ask(self, part: Expression, name: str, ends_at_s: float) -> bool | None:
        if self._slow[part] >= _GIVEN_UP_AFTER:
            return None
        answer = part.matches(name, ends_at_s - time.thread_time())
        if answer is None:
            if not self._slow[part]:
                log.warning("the filter %r takes too long on %r: such tables count as wanted", part.pattern, name)
            self._slow[part] += 1
        return answer


def _matches_none(part: Expression, names: Iterable[str], ends_at_s: float) -> bool:
    return not any(part.matches(name) is not False or time.thread_time() > ends_at_s for name in names)


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
