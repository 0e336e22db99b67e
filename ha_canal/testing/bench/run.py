"""One run: all data sets, all paths, in turns, and the samples that come of it.

Each data set is read while it is the only one in the binlog. When its first part is written, every path reads that,
counting all that can be counted; then it is written to its end, and the paths read it round by round, so that a
disturbance of the machine meets all alike. A path that would take longer than ``at_most_s`` reads the first part only.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field

from ha_canal.testing.bench.dataset import DataSet, Writer
from ha_canal.testing.bench.pipeline import ReadingFailedError, read
from ha_canal.testing.bench.task import Mark, Outcome
from ha_canal.testing.database import DatabaseServer

PATHS = {
    "drain": "raw drain",
    "peer": "mysql-replication",
    "ring": "binlog → ring",
    "entries": "binlog → Entry bytes",
    "pure": "the same in pure Python",
    "sdk": "MySQL → node → gRPC → SDK",
}
_PURE_SETS = frozenset({"bulk"})


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for. ``at_most_s``: no single reading is meant to take longer."""

    rows: int
    repeat: int
    seed: int
    at_most_s: float
    latency_s: int
    data_sets: tuple[str, ...]


@dataclass(slots=True)
class Series:
    """Readings of one stretch by one path."""

    until: Mark
    samples: list[Outcome] = field(default_factory=list)

    @property
    def median(self) -> Outcome:
        """The sample whose time is the median (of an even number, the lower one)."""
        wanted = statistics.median_low(sample.seconds for sample in self.samples)
        return next(sample for sample in self.samples if sample.seconds == wanted)

    def per_second(self, unit: str) -> float:
        return units(self.until, unit) / self.median.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """A data set, and what its paths took."""

    data: DataSet
    paths: dict[str, Series]


def units(mark: Mark, unit: str) -> int:
    """How many rows, or transactions, there are up to ``mark``."""
    return mark.rows if unit == "row" else mark.transactions


class Round:
    """The readings of one data set. Every reading must agree with all others of the same stretch."""

    def __init__(self, server: DatabaseServer, data: DataSet) -> None:
        self._server = server
        self._name = data.name
        self._seen: dict[tuple[str, int], tuple[str, int]] = {}

    async def read(self, path: str, until: Mark, *, check: bool = False) -> Outcome:
        outcome = await read(self._server, path, self._name, until, check=check)
        self._agree(path, until, "rows_events", outcome.rows_events)
        self._agree(path, until, "entries", outcome.entries)
        self._agree(path, until, "entry_bytes", outcome.entry_bytes)
        say(f"  {self._name:<7} {path:<8} {until.rows:>8} rows  {outcome.seconds:8.3f} s{'  (check)' if check else ''}")
        return outcome

    def _agree(self, path: str, until: Mark, what: str, number: int) -> None:
        if number < 0:
            return
        other, seen = self._seen.setdefault((what, until.offset), (path, number))
        if seen != number:
            raise ReadingFailedError(f"{path} of {self._name}: {what} {number}, and {other} saw {seen}")


async def measure(server: DatabaseServer, writer: Writer, name: str, options: Options) -> Measured:
    """Write a data set and read it by every path."""
    data = writer.begin(name)
    readings = Round(server, data)
    paths = [path for path in PATHS if path != "pure" or name in _PURE_SETS]
    slow: set[str] = set()
    series: dict[str, Series] = {}
    for path in paths:
        await readings.read(path, data.first, check=True)
        tried = await readings.read(path, data.first)
        if tried.seconds * writer.parts(name) > options.at_most_s:
            slow.add(path)
            series[path] = Series(data.first)
    if "sdk" in slow:  # now, while no more is there: a node would read on behind its client's back
        series["sdk"].samples += [await readings.read("sdk", data.first) for _ in range(options.repeat)]
    data = writer.finish(data)
    if "entries" not in slow:
        await readings.read("entries", data.whole, check=True)
    for path in paths:
        series.setdefault(path, Series(data.whole))
    for _ in range(options.repeat):
        for path in paths:
            if path != "sdk" or path not in slow:
                series[path].samples.append(await readings.read(path, series[path].until))
    return Measured(data, {path: series[path] for path in paths})


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # the person who started it waits
