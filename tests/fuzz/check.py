"""One input, judged: its outcome is a value or an allowed error, in bounded time and memory."""

from __future__ import annotations

import contextlib

from tests.fuzz.limits import bounded_time
from tests.fuzz.targets import Target


def check(target: Target, data: bytes) -> None:
    """Raise whatever ``target`` must not do with ``data``."""
    with bounded_time(), contextlib.suppress(*target.allowed):
        target.call(data)
