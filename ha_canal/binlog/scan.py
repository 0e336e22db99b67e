"""Where runs are looked for: the compiled scan, or nothing.

It has no twin in Python: the event by event path of `ha_canal.binlog.stream` gives the same transactions, as items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_canal.compiled import PURE
from ha_canal.model.table import RowPlan

if TYPE_CHECKING:
    from ha_canal.binlog._scan import Scan


def scan_for(plans: dict[bytes, RowPlan | None], server_uuid: str) -> Scan | None:
    """Return a scan that knows ``plans`` (layouts to plans, as they are at each of its calls); None: not compiled."""
    if PURE:
        return None
    try:
        from ha_canal.binlog._scan import Scan
    except ImportError:
        return None
    return Scan(plans, server_uuid)
