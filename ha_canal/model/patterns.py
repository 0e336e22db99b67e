"""Comma lists of regular expressions for ``schema.table``, as Canal writes its filters: split, compiled and matched.

Configurations are checked with this, and filters decide with it. Expressions come from clients, and a backtracking one
can take longer than the universe exists: every match has a limit, and who obviously needs more is refused. The library
is `regex`, for its time limit; expressions with look-around rule out an engine without backtracking.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from math import prod

import regex

from ha_canal.errors import FilterError

MATCH_LIMIT_S = 0.02
"""How long one name may take, in CPU seconds. An ordinary expression needs a few microseconds."""

_CLOSING = {"(": ")", "{": "}", "[": "]"}
_NAME_CHARACTERS = 64  # of a schema or a table, at most
_PROBING_LIMIT_S = 0.1
_UNROLLED_CHARACTERS = 500_000
_COUNT = re.compile(r"\{(\d+)")


class Expression:
    """One part of a list. Ignores case; a dot matches every character, also a line break in a table's name."""

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        """Raises FilterError naming the part that is no regular expression."""
        self.pattern = pattern
        counts = [int(count) or 1 for count in _COUNT.findall("".join(pattern.split()))]
        if prod(counts) * len(pattern) > _UNROLLED_CHARACTERS:  # the library writes repetitions out when it compiles
            raise _no_expression(pattern, "its counts multiply to more than a table's name has room for")
        try:
            self._compiled = regex.compile(pattern, regex.IGNORECASE | regex.DOTALL)
        except (regex.error, OverflowError, RecursionError) as error:
            raise _no_expression(pattern, error) from None

    def matches(self, name: str, limit_s: float = MATCH_LIMIT_S) -> bool | None:
        """Return whether the whole of ``name`` matches; None if that was not found out within the limit."""
        try:
            return self._compiled.fullmatch(name, timeout=max(limit_s, 0.001)) is not None
        except TimeoutError:
            return None

    def check_speed(self) -> None:
        """Raise FilterError if a name that the expression itself suggests takes too long."""
        slow = slow_name(self, _probes(self.pattern), limit_s=_PROBING_LIMIT_S)
        if slow is not None:
            raise FilterError(
                f"{self.pattern!r} takes too long to be matched, for example with a table named {slow!r}. Write it "
                "without repeating what repeats itself, such as (a+)+ or (.*)*"
            )


def slow_name(part: Expression, names: Iterable[str], *, limit_s: float) -> str | None:
    """Return the first name that ``part`` takes too long on, or on which all took more than ``limit_s`` CPU seconds."""
    ends_at_s = time.thread_time() + limit_s
    for name in names:
        if part.matches(name) is None or time.thread_time() > ends_at_s:
            return name
    return None


def compile_patterns(pattern: str, *, check_speed: bool = True) -> tuple[Expression, ...]:
    """Return the expressions of a list, which ignore case.

    A comma inside brackets of any kind, or behind a backslash, belongs to its expression. Raises FilterError naming
    the part that is no regular expression, or (with ``check_speed``) one that obviously takes too long. That is found
    by trying a few names, so it is no proof: use the limit of `Expression.matches` all the same.
    """
    parts = tuple(map(Expression, _split(pattern)))
    if check_speed:
        for part in parts:
            part.check_speed()
    return parts


def _no_expression(part: str, why: object) -> FilterError:
    return FilterError(
        f"{part!r} is no regular expression: {why}. A filter is a comma list of expressions for schema.table, "
        r"such as 'shop\..*,users\.account'"
    )


def _probes(pattern: str) -> Iterator[str]:
    """Return long names of what occurs in ``pattern``: repeated, and with an end that just does not match."""
    literal = re.sub(r"[^\w.$-]", "", pattern)[-_NAME_CHARACTERS:]
    schema = pattern.partition(r"\.")[0]
    start = f"{schema}." if schema.isidentifier() else ""
    repeated = {"a", "0", "_", *literal[:16], *re.findall(r"[^\W\d]+", pattern)[:8]}
    for text in sorted(repeated):
        side = (text * _NAME_CHARACTERS)[:_NAME_CHARACTERS]
        yield f"{side}.{side}"
        yield f"{side}{literal}\n"
        yield f"{side}.{side}{literal}\n"
        yield f"{start}{side}{literal}\n"


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
