"""The folder in which the runners keep what is slow to make: an unpacked MySQL, and freshly initialised data folders.

`$HA_CANAL_CACHE`, or `~/.cache/ha_canal`. Whatever is in it may be deleted while no test runs. Entries are made once,
under a file lock, in a folder that gets its name only when it is whole, so that several test runs can share the cache
and a run that dies leaves nothing half-made behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """Return the cache folder, created if need be."""
    configured = os.environ.get("HA_CANAL_CACHE")
    directory = Path(configured) if configured else Path.home() / ".cache" / "ha_canal"
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def cached_folder(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cache's folder `name`; if it is not there yet, `make` fills it (blocking, by one process at a time).

    What `make` raises goes to the caller, and nothing is kept.
    """
    cache = cache_directory()
    folder = cache / name
    if folder.exists():
        return folder
    with _locked(cache / f"{name}.lock"):
        if not folder.exists():
            _fill(cache, folder, make)
    return folder


def _fill(cache: Path, folder: Path, make: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=cache) as scratch:
        unnamed = Path(scratch) / "whole"
        unnamed.mkdir()
        make(unnamed)
        unnamed.rename(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copy_folder(source: Path, target: Path) -> None:
    """Copy a data folder into the empty or absent folder `target`, keeping modes."""
    shutil.copytree(source, target, dirs_exist_ok=True)
