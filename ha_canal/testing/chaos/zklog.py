"""ZooKeeper's own record of every write, and what it says about leaders: no epoch twice, no write of a deposed one.

The members log each transaction before they apply it (FileTxnLog of ZooKeeper's source: a header of 16 bytes, then
checksum, length, transaction and an end mark ``B`` each, zeros behind the last; jute encoding, big-endian). So nothing
that was written is missed, as it would be by looking at nodes from time to time. Pure, but for `read_log_files`.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_canal.cluster.layout import InstancePaths

_MAGIC = b"ZKLG"
_HEADER_BYTES = 16
_ENTRY = struct.Struct(">qi")
_TXN = struct.Struct(">qiqqi")
_CREATES = frozenset({1, 15, 19, 21})
"""create, create2, createContainer, createTTL (ZooDefs.OpCode)."""
_DELETE, _SET, _MULTI = 2, 5, 14


@dataclass(frozen=True, slots=True)
class Write:
    """One node that one transaction wrote; ``data`` is None for a delete. ``version``: the node's, after it."""

    zxid: int
    session: int
    path: str
    data: bytes | None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """What the record shows of one instance. ``deposed`` are cursors written under another epoch than the newest, or
    by another session than the one that raised it; ``raised_wrongly`` are epochs that did not go up by one commit.

    ``lost_by_zookeeper`` are nodes that got one version twice: a write that a majority had was forgotten by ZooKeeper
    itself, and what is built on it cannot hold.
    """

    epochs: int
    cursor_writes: int
    deposed: Sequence[str] = ()
    raised_wrongly: Sequence[str] = ()
    lost_by_zookeeper: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        return not self.deposed and not self.raised_wrongly and not self.lost_by_zookeeper


def read_log_files(folders: Sequence[Path]) -> list[Write]:
    """Return all writes in the transaction logs of the members with these data folders, in the order of commits.

    What is in the logs of a minority only was proposed, and never came to be: a member that was alone with it and then
    took a snapshot of the others keeps it in an old file.
    """
    return committed([_writes_of(folder) for folder in folders])


def _writes_of(folder: Path) -> dict[int, list[Write]]:
    found: dict[int, list[Write]] = {}
    for file in sorted(folder.glob("version-2/log.*")):
        for write in parse_log(file.read_bytes()):
            found.setdefault(write.zxid, []).append(write)
    return found


def committed(members: Sequence[Mapping[int, Sequence[Write]]]) -> list[Write]:
    """Return what a majority of the members has, by zxid."""
    count = Counter(zxid for member in members for zxid in member)
    found: dict[int, Sequence[Write]] = {}
    for member in members:
        found.update((zxid, writes) for zxid, writes in member.items() if count[zxid] * 2 > len(members))
    return [write for zxid in sorted(found) for write in found[zxid]]


def parse_log(data: bytes) -> Iterator[Write]:
    """Read one log file up to its end, or to where its last write was cut off."""
    if data[:4] != _MAGIC:
        return
    place = _HEADER_BYTES
    while place + _ENTRY.size <= len(data):
        _, size = _ENTRY.unpack_from(data, place)
        place += _ENTRY.size
        if size <= 0 or data[place + size : place + size + 1] != b"B":
            return
        yield from _transaction(data[place : place + size])
        place += size + 1


def _transaction(data: bytes) -> Iterator[Write]:
    session, _, zxid, _, kind = _TXN.unpack_from(data)
    yield from _operation(kind, data[_TXN.size :], zxid, session)


def _operation(kind: int, data: bytes, zxid: int, session: int) -> Iterator[Write]:
    if kind == _MULTI:
        (count,) = struct.unpack_from(">i", data)
        place = 4
        for _ in range(count):
            (inner,) = struct.unpack_from(">i", data, place)
            body, place = _buffer(data, place + 4)
            yield from _operation(inner, body, zxid, session)
    elif kind in _CREATES or kind in (_DELETE, _SET):
        path, place = _buffer(data, 0)
        value, place = (None, place) if kind == _DELETE else _buffer(data, place)
        version = struct.unpack_from(">i", data, place)[0] if kind == _SET else 0
        yield Write(zxid, session, path.decode(), value, version)


def _buffer(data: bytes, place: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">i", data, place)
    end = place + 4 + max(0, size)
    return data[place + 4 : end], end


def audit(writes: Iterable[Write], paths: InstancePaths) -> Audit:
    """Follow the epoch of an instance through all writes, and hold against it what only its leader may write."""
    epoch, leader, epochs, cursors = 0, 0, 0, 0
    deposed: list[str] = []
    wrongly: list[str] = []
    lost: list[str] = []
    versions: dict[str, int] = {}
    for write in writes:
        if 0 < write.version <= versions.get(write.path, 0):
            lost.append(f"{write.path} got version {write.version} again, zxid {write.zxid:x}")
        versions[write.path] = write.version
        if not write.data:
            continue
        if write.path == paths.epoch:
            if int(write.data) != epoch + 1:
                wrongly.append(f"epoch {epoch} became {write.data.decode()} by session {write.session:x}")
            epoch, leader, epochs = int(write.data), write.session, epochs + 1
        elif _is_fenced(write.path, paths):
            said = json.loads(write.data).get("epoch") if _is_cursor(write.path, paths) else epoch
            cursors += _is_cursor(write.path, paths)
            if write.session != leader or said != epoch:
                deposed.append(
                    f"{write.path} of epoch {said} by session {write.session:x} in epoch {epoch}, zxid {write.zxid:x}"
                )
    return Audit(epochs, cursors, deposed, wrongly, lost)


def _is_cursor(path: str, paths: InstancePaths) -> bool:
    return path == paths.parse or (path.startswith(f"{paths.path}/") and path.endswith("/cursor"))


def _is_fenced(path: str, paths: InstancePaths) -> bool:
    is_filter = path.startswith(f"{paths.path}/") and path.endswith("/filter")
    return is_filter or path == paths.history or _is_cursor(path, paths)
