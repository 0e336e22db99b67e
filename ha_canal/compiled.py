"""Which of the two twins runs: the compiled extensions, or their equals in Python.

Each extension ``_x`` has a twin with the same contract, and one module which chooses (`ha_canal.binlog.encode` for
``_entry``) by what stands here. ``HA_CANAL_PURE=1`` in the environment chooses the twins everywhere, as where nothing
was compiled; it is read once, when the package is imported. Nothing is logged here: `missing_extensions` is for the
server process to tell, so that an import of the SDK stays silent.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Final

PURE: Final = os.environ.get("HA_CANAL_PURE") == "1"
"""Whether the environment asks for the twins in Python."""

_OF_THE_SERVER: Final = ("ha_canal.binlog._entry", "ha_canal.binlog._scan")


def missing_extensions() -> tuple[str, ...]:
    """Return the names of the extensions that a server uses, and which are not there or not wanted."""
    return tuple(name for name in _OF_THE_SERVER if PURE or find_spec(name) is None)
