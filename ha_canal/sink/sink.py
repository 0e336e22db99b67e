"""Lets through what the filter wants, transaction by transaction; sits between the source and the ring.

What is dropped here is dropped for all readers. A transaction of which nothing is left becomes a lone empty Commit, so
that positions move on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ha_canal.errors import ChainError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement
from ha_canal.model.run import Parcel, Run
from ha_canal.model.stretch import Stretch
from ha_canal.sink.filter import TableFilter

_ABOUT_ACCOUNTS = re.compile(
    r"(?:\s|/\*.*?\*/)*(?:GRANT|REVOKE|SET\s+(?:PASSWORD|ROLE|DEFAULT\s+ROLE)|"
    r"(?:CREATE(?:\s+OR\s+REPLACE)?|ALTER|DROP|RENAME)\s+(?:USER|ROLE))\b",
    re.IGNORECASE | re.DOTALL,
)
"""Statements that change no table, and hold what belongs to no reader: names and password hashes of accounts."""


class Sink:
    """One stream's way through ``table_filter``. A Begin is held back until something of its transaction passes."""

    def __init__(self, table_filter: TableFilter) -> None:
        self._filter = table_filter
        self._open = False
        self._held: Begin | None = None

    def pass_items(self, items: Sequence[Parcel]) -> list[Parcel]:
        """Return what passes of ``items``, which go on where those of the last call ended.

        Raises ChainError when transactions do not follow each other.
        """
        passed: list[Parcel] = []
        for item in items:
            if isinstance(item, Item):
                self._pass_singly((item,), passed)
            elif not self._takes_whole(item):
                self._pass_singly(item.items(), passed)
            else:
                if isinstance(item, Stretch):
                    self._release_begin(item, passed)
                passed.append(item)
        return passed

    def _takes_whole(self, packed: Run | Stretch) -> bool:
        if isinstance(packed, Run) and self._open:
            return False
        return all(self._filter.wants(plan.schema, plan.table) for plan in packed.packed.plans)

    def _pass_singly(self, items: Iterable[Item], passed: list[Parcel]) -> None:
        for item in items:
            match item:
                case Begin():
                    self._begin(item)
                case Commit():
                    passed.append(self._end(item))
                case Rows() | Statement():
                    if self._wants(item):
                        self._release_begin(item, passed)
                        passed.append(item)

    def _begin(self, begin: Begin) -> None:
        if self._open:
            raise _broken("a transaction begins inside of another one", begin)
        self._open, self._held = True, begin

    def _end(self, commit: Commit) -> Commit:
        nothing_passed = not self._open or self._held is not None
        self._open, self._held = False, None
        return replace(commit, empty=True) if nothing_passed and not commit.empty else commit

    def _release_begin(self, item: Item | Stretch, passed: list[Parcel]) -> None:
        if not self._open:
            raise _broken("a change comes without the Begin of its transaction", item)
        if self._held is not None:
            passed.append(self._held)
            self._held = None

    def _wants(self, item: Rows | Statement) -> bool:
        if isinstance(item, Rows):
            return self._filter.wants(item.plan.schema, item.plan.table)
        if item.table:
            return self._filter.wants(item.schema, item.table)
        return not _ABOUT_ACCOUNTS.match(item.sql)  # what names no table may concern any


def _broken(what: str, item: Item | Stretch) -> ChainError:
    return ChainError(what, file=item.transaction.file, offset=item.offset)
