"""Items of the ring to ``Entry`` messages, by the compiled encoder where there is one, else by its twin in Python.

Both have the same contract, which `ha_canal.binlog.encode_twin` states, and make the same bytes; `ha_canal.compiled`
says when the compiled one is not wanted.
"""

from __future__ import annotations

from typing import Final

from ha_canal.binlog import encode_twin
from ha_canal.compiled import PURE

try:
    if PURE:
        raise ImportError("HA_CANAL_PURE=1")  # noqa: TRY301 # as where it was not compiled
    from ha_canal.binlog._entry import encode_entry, encode_row_change
except ImportError:
    from ha_canal.binlog.encode_twin import encode_entry, encode_row_change

COMPILED: Final = encode_entry is not encode_twin.encode_entry
"""Whether the compiled encoder is in use."""

__all__ = ["COMPILED", "encode_entry", "encode_row_change"]
