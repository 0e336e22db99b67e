"""A batch in the making: entries taken from the ring until a limit, and where it may be cut."""

from __future__ import annotations

from ha_canal.model.change import Commit, Item
from ha_canal.model.run import Part, Run
from ha_canal.model.stretch import Stretch
from ha_canal.store.walk import Milestone, Walk


class Gather:
    """Takes entries from ``walk``, which it owns, up to ``max_items`` and ``max_bytes``, and always at least one."""

    def __init__(self, walk: Walk, *, max_items: int, max_bytes: int) -> None:
        self.walk = walk
        self.items: list[Item | Part] = []
        self.size_bytes = 0
        self._entries = 0
        self.limited = False
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._last_end: tuple[Milestone, int, int, int] | None = None

    def fill(self) -> None:
        """Take what is there now; may be called again when more has come."""
        while not self._at_limit() and (item := self.walk.peek()) is not None:
            if isinstance(item, Run):
                self._take_part()
                continue
            if isinstance(item, Stretch):
                self._take_rows()
                continue
            size_bytes = item.size_bytes
            if self.items and self.size_bytes + size_bytes > self._max_bytes:
                self.limited = True
                return
            self.walk.take()
            self._add(item, 1, size_bytes)
            if isinstance(item, Commit):
                self._note_end()

    def _take_part(self) -> None:
        """Take what fits of the run ahead; a transaction that never fits whole is taken entry by entry."""
        part = self.walk.take_part(self._max_items - self._entries, self._max_bytes - self.size_bytes)
        if part is not None:
            self._add(part, part.entries, part.size_bytes)
            self._note_end()
        elif self.items:
            self.limited = True
        else:
            self.walk.open_run()

    def _take_rows(self) -> None:
        """Take what fits of the stretch ahead, an event at least if there is nothing yet."""
        most_bytes = self._max_bytes - self.size_bytes
        part = self.walk.take_rows(self._max_items - self._entries, most_bytes, at_least_one=not self.items)
        if part is not None:
            self._add(part, part.end - part.first, part.size_bytes)
        else:
            self.limited = True

    def _add(self, item: Item | Part, entries: int, size_bytes: int) -> None:
        self.items.append(item)
        self._entries += entries
        self.size_bytes += size_bytes

    def _note_end(self) -> None:
        self._last_end = self.walk.milestone(), len(self.items), self._entries, self.size_bytes

    def _at_limit(self) -> bool:
        self.limited = self.limited or self._entries >= self._max_items
        return self.limited

    def cut_at_transaction_end(self) -> bool:
        """Give back what follows the last whole transaction. Return False if there is no whole one."""
        if self.walk.inside:
            if self._last_end is None:
                return False
            milestone, count, self._entries, self.size_bytes = self._last_end
            self.walk.go_back(milestone)
            del self.items[count:]
        return True
