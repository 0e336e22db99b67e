"""What is remembered of the last transactions that a client has done, to find them again on another server.

Kept with its cursor, where the source has no GTIDs. The fingerprints are those of `ha_canal.source.fingerprint`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remembered:
    """``fingerprints`` are 32 bits each, the last transaction's last; ``since_s`` is the earliest time among them."""

    fingerprints: tuple[int, ...] = ()
    since_s: int = 0

    def __bool__(self) -> bool:
        return bool(self.fingerprints)


NOTHING_REMEMBERED = Remembered()
