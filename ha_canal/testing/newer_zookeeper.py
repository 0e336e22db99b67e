"""ZooKeeper as Debian sid has it (3.9.6), unpacked into the cache once: 1.8 MB, and never installed.

Debian 12 has 3.8.0, which loses writes that it has confirmed: a member that joins acknowledges the leader's history
before that is on its disk, and may then lead without it (ZOOKEEPER-3023, -4394, -4643, -4646; mended in 3.9.4). The
fault campaign finds that within minutes, so it runs on this one. What the jar needs is installed with 3.8.0.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ha_canal.testing.cache import cached_folder
from ha_canal.testing.debian import unpack_alone
from ha_canal.testing.zookeeper import JARS

_PACKAGE, _SUITE = "libzookeeper-java", "sid"
_NEWER = ("zookeeper-jute.jar", "zookeeper.jar")  # what the second one names of its own is the installed one


def newer_jars() -> Sequence[str]:
    """Return the class path, downloaded now if the cache lacks it. Raises ServerFailedError with apt's words."""
    java = cached_folder("zookeeper-sid", _unpack) / "root" / "usr" / "share" / "java"
    return (*(str(java / name) for name in _NEWER), *JARS[1:])


def _unpack(folder: Path) -> None:
    unpack_alone(_PACKAGE, _SUITE, work=folder / "apt", root=folder / "root")
    shutil.rmtree(folder / "apt" / "lists")
