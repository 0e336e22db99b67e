"""Filters that name tables which the database does not show: probably misspelt, or a GRANT is missing.

No error, because a table may be created later; but whoever waits for changes in vain finds the reason in `status`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ha_canal.errors import FilterError
from ha_canal.sink.filter import TableFilter

log = logging.getLogger(__name__)


class Misspelt:
    """What is to be told of each filter of one instance, by whose filter it is."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._visible: Sequence[tuple[str, str]] = ()
        self._notes: dict[str, str] = {}

    def begin(self, visible: Sequence[tuple[str, str]]) -> None:
        """Take note of (schema, table) of all tables that our account sees now."""
        self._visible = visible

    def look_at(self, tables: TableFilter, whose: str) -> None:
        """Log, once, if parts of the filter match no table; a filter that was mended is told of no more."""
        parts = ", ".join(map(repr, tables.idle_parts(self._visible)))
        if not parts:
            self._notes.pop(whose, None)
            return
        note = (
            f"{whose} names {parts}, and when we started the database showed no such table to our account: "
            "check the spelling and GRANT SELECT; a table created later is read all the same"
        )
        if self._notes.get(whose) != note:
            log.warning("instance %s: %s", self._instance, note)
        self._notes[whose] = note

    def refuse_slow(self, tables: TableFilter, whose: str) -> None:
        """Raise FilterError for a filter that takes too long on the names of the database's tables."""
        if slow := tables.slow_parts(self._visible):
            raise FilterError(
                f"{whose}: {', '.join(map(repr, slow))} takes too long to match the names of this database's tables: "
                "write it without repetitions inside of repetitions"
            )

    def forget(self, whose: str) -> None:
        """Tell of that filter no more."""
        self._notes.pop(whose, None)

    @property
    def text(self) -> str:
        """All notes; empty when there is nothing to tell."""
        return "; ".join(self._notes.values())
