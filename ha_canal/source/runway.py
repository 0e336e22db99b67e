"""The runway: how much binlog lies between what we still need and what the source deletes next.

Servers delete whole files, the oldest first: by age (since a file was last written to, which is when the next one was
begun), and, where they are told so, by the size of all. Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ha_canal.model.position import Position, file_sequence

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a server deletes binlog by itself. ``after_s``: 0 is never; ``total_bytes``: 0 is no limit."""

    after_s: float = 0.0
    total_bytes: int = 0

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Expiry:
        """Read the settings of either server, of whatever version. (Seconds go before days where both are there.)"""
        after_s = float(variables.get("binlog_expire_logs_seconds", "0"))
        if not after_s:
            after_s = float(variables.get("expire_logs_days", "0")) * _DAY_S
        if variables.get("binlog_expire_logs_auto_purge", "ON") == "OFF":
            after_s = 0.0
        return cls(after_s, int(variables.get("max_binlog_total_size", "0")))

    VARIABLES: ClassVar[tuple[str, ...]] = (
        "binlog_expire_logs_seconds", "expire_logs_days", "binlog_expire_logs_auto_purge", "max_binlog_total_size",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Runway:
    """``seconds``: until the file that is needed may be deleted; None: it is not deleted by age.

    ``bytes_left``: how much may be written until it is deleted for the size of all; None: there is no such limit.
    ``bytes_before``: what is kept of older files. ``bytes_behind``: from the cursor to the end. ``is_gone``: too late.
    """

    seconds: float | None
    bytes_left: int | None
    bytes_before: int
    bytes_behind: int
    is_gone: bool = False

    def __str__(self) -> str:
        if self.is_gone:
            return "the binlog that is needed next is gone"
        left = []
        if self.seconds is not None:
            left.append(f"{_span(self.seconds)} until it expires")
        if self.bytes_left is not None:
            left.append(f"{_size(self.bytes_left)} until the size limit")
        if not left:
            left.append("nothing deletes it by itself")
        return f"{', '.join(left)}; {_size(self.bytes_behind)} behind, {_size(self.bytes_before)} older is kept"


def runway_of(
    cursor: Position,
    files: Sequence[tuple[str, int]],
    expiry: Expiry,
    *,
    next_created_s: float,
    now_s: float,
) -> Runway:
    """Return the runway of ``cursor``, a place of this server.

    ``files`` are names and sizes, oldest first. ``next_created_s`` is when the file behind the cursor's was begun; it
    does not matter while the cursor's is the last one, which no server deletes. Times are of the server's clock.
    """
    key = file_sequence(cursor.file)
    before = sum(size for name, size in files if file_sequence(name) < key)
    own = [size for name, size in files if file_sequence(name) == key]
    after = sum(size for name, size in files if file_sequence(name) > key)
    if not own:
        return Runway(0.0, 0, before, after, is_gone=True)
    is_last = file_sequence(files[-1][0]) == key
    seconds = None
    if expiry.after_s:
        seconds = expiry.after_s if is_last else max(0.0, next_created_s + expiry.after_s - now_s)
    bytes_left = max(0, expiry.total_bytes - own[0] - after) if expiry.total_bytes else None
    return Runway(seconds, bytes_left, before, max(0, own[0] - cursor.offset) + after)


def file_after(cursor: Position, files: Sequence[tuple[str, int]]) -> str:
    """Return the name of the file behind the cursor's; ``""``: there is none."""
    key = file_sequence(cursor.file)
    return next((name for name, _ in files if file_sequence(name) > key), "")


def _span(seconds: float) -> str:
    for unit, name in ((_DAY_S, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def _size(count: int) -> str:
    for shift, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.1f} {name}"
    return f"{count} bytes"
