"""A disk that can be full: a small file system of its own where that can be mounted, else a limit on a process's files.

Both refuse writes as they come: ENOSPC from the file system, EFBIG from the limit (setrlimit(2), RLIMIT_FSIZE; Python
ignores the signal that comes with it).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SIZE = "16m"
_CHUNK_BYTES = 64 * 1024


class SmallDisk:
    """`folder` is on it. ``mounted`` False: there is no such disk here, and files are limited instead."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted
        self._filler = folder / "filler"

    def fill(self, state_file: Path, pid: int) -> None:
        """Leave no room. The state file's log is emptied first, for the next write to need some."""
        if not self.mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        with contextlib.closing(sqlite3.connect(state_file, timeout=1.0)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as filler:
            for size in (_CHUNK_BYTES, 4096, 1):
                _append_while_it_goes(filler.fileno(), size)

    def clear(self, pid: int) -> None:
        """Give the room back."""
        if self.mounted:
            self._filler.unlink(missing_ok=True)
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _append_while_it_goes(file: int, size: int) -> None:
    try:
        while os.write(file, bytes(size)):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Make the disk at ``folder``, for as long as the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "ha_canal_chaos", str(folder)]
    mounted = subprocess.run(argv, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder, mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
