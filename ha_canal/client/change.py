"""`Change` and `Row`: compiled where the extension was built (``_change``), else their twins in Python.

Both are the same to their users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_canal.client.change_twin import EventPosition, Kind
from ha_canal.compiled import PURE

if TYPE_CHECKING or PURE:
    from ha_canal.client.change_twin import Change, Row
else:
    try:
        from ha_canal.client._change import Change, Row
    except ImportError:  # `ha_canal.client.delivery` warns: it needs the same extension
        from ha_canal.client.change_twin import Change, Row

__all__ = ["Change", "EventPosition", "Kind", "Row"]
