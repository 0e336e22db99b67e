"""Comma lists of regular expressions for ``schema.table``, as Canal writes its filters: split and compiled.

Configurations are checked with this, and filters decide with it.
"""

from __future__ import annotations

import re
import warnings

from ha_canal.errors import FilterError

_CLOSING = {"(": ")", "{": "}", "[": "]"}


def compile_patterns(pattern: str) -> tuple[re.Pattern[str], ...]:
    """Return the expressions of a list, which ignore case.

    A comma inside brackets of any kind, or behind a backslash, belongs to its expression. Raises FilterError naming
    the part that is no regular expression.
    """
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
