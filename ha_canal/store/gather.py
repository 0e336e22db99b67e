"""A batch in the making: entries taken from the ring until a limit, and where it may be cut."""

from __future__ import annotations

from ha_canal.model.change import Commit, Item
from ha_canal.store.walk import Milestone, Walk


class Gather:
    """Takes entries from ``walk``, which it owns, up to ``max_items`` and ``max_bytes``, and always at least one."""

    def __init__(self, walk: Walk, *, max_items: int, max_bytes: int) -> None:
        self.walk = walk
        self.items: list[Item] = []
        self.size_bytes = 0
        self.limited = False
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._last_end: tuple[Milestone, int, int] | None = None

    def fill(self) -> None:
        """Take what is there now; may be called again when more has come."""
        while not self._at_limit() and (item := self.walk.peek()) is not None:
            size_bytes = item.size_bytes
            if self.items and self.size_bytes + size_bytes > self._max_bytes:
                self.limited = True
                return
            self.walk.take()
            self.items.append(item)
            self.size_bytes += size_bytes
            if isinstance(item, Commit):
                self._last_end = self.walk.milestone(), len(self.items), self.size_bytes

    def _at_limit(self) -> bool:
        self.limited = self.limited or len(self.items) >= self._max_items
        return self.limited

    def cut_at_transaction_end(self) -> bool:
        """Give back what follows the last whole transaction. Return False if there is no whole one."""
        if self.walk.inside:
            if self._last_end is None:
                return False
            milestone, count, self.size_bytes = self._last_end
            self.walk.go_back(milestone)
            del self.items[count:]
        return True
