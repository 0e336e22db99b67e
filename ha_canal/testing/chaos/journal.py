"""What a client process was handed and had acknowledged, in a file that outlives it.

One line per batch, written before the application does anything with it, and one per answered ack; a line is one
write(2), which a kill cannot take back. Times are those of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ha_canal.testing.checker import Checker, Delivery


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch that the application was handed; ``deliveries`` are its marked changes."""

    at_s: float
    client: str
    epoch: int
    batch: int
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The ack of a batch was answered."""

    at_s: float
    client: str
    epoch: int
    batch: int


Line: TypeAlias = Handed | Answered


class Journal:
    """The file of one process, open for writing."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def handed(self, at_s: float, epoch: int, batch: int, deliveries: Iterable[Delivery]) -> None:
        changes = " ".join(f"{one.mark[0]}.{one.mark[1]}={one.event_id}" for one in deliveries)
        self._write(f"batch {at_s:.6f} {epoch} {batch} {changes}".rstrip())

    def answered(self, at_s: float, epoch: int, batch: int) -> None:
        self._write(f"ack {at_s:.6f} {epoch} {batch}")

    def _write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


class Tail:
    """Reads the journals of one client, of all its processes, as they grow."""

    def __init__(self, folder: Path, client: str) -> None:
        self._folder = folder
        self._client = client
        self._read: dict[Path, int] = {}

    def new_lines(self) -> list[Line]:
        """Return what was written since the last call, in the order of time; a line without its end waits."""
        found: list[Line] = []
        for path in sorted(self._folder.glob(f"{self._client}.*.journal")):
            begun = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(begun)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = begun + len(whole)
            found += [parse_line(line, path.stem) for line in whole.decode().splitlines()]
        return sorted(found, key=lambda line: line.at_s)


def parse_line(line: str, client: str) -> Line:
    """Read one line of ``client``. Raises ValueError for one that no `Journal` wrote."""
    kind, at_s, epoch, batch, *changes = line.split(" ")
    if kind == "ack":
        return Answered(float(at_s), client, int(epoch), int(batch))
    if kind != "batch":
        raise ValueError(f"a journal of {client} has the line {line[:100]!r}")
    return Handed(float(at_s), client, int(epoch), int(batch), tuple(map(_delivery, changes)))


def _delivery(change: str) -> Delivery:
    mark, _, event_id = change.partition("=")
    writer, _, sequence = mark.partition(".")
    return Delivery(event_id, (int(writer), int(sequence)))


class Witness:
    """Tells a checker what the journals of some clients say, and keeps when batches came."""

    def __init__(self, folder: Path, clients: Sequence[str], checker: Checker) -> None:
        self.checker = checker
        self.handed: list[Handed] = []
        self._tails = [Tail(folder, client) for client in clients]
        self._open: dict[tuple[str, int, int], Handed] = {}

    def read(self) -> None:
        """Take in what is new."""
        lines = [line for tail in self._tails for line in tail.new_lines()]
        for line in sorted(lines, key=lambda line: line.at_s):
            if isinstance(line, Handed):
                self._hand(line)
            elif handed := self._open.pop((line.client, line.epoch, line.batch), None):
                self.checker.acknowledge(handed.deliveries, epoch=line.epoch, batch=line.batch, at_s=line.at_s)

    def _hand(self, line: Handed) -> None:
        self.handed.append(line)
        self._open[line.client, line.epoch, line.batch] = line
        self.checker.deliver(line.deliveries, epoch=line.epoch, batch=line.batch, client=line.client, at_s=line.at_s)
