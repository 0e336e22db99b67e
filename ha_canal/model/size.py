"""How large an entry is, counted in a way that is the same on every server that has it."""

from __future__ import annotations

from ha_canal.model.change import Rows, Statement


def size_of(item: Rows | Statement) -> int:
    """Return the bytes of its rows, or of its text: another server may cut rows into other events, not change them."""
    return len(item.body) if isinstance(item, Rows) else len(item.sql)
