"""What the project promises of its speed, and whether a run shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ha_canal.testing.bench.run import Measured, units
from ha_canal.testing.bench.task import Outcome

_RING_TO_DRAIN = {"bulk": 0.45, "single": 0.40, "huge": 0.45}
_ENTRIES_TO_PEER = {"bulk": 50.0, "single": 110.0, "huge": 60.0}
_SDK_TO_PEER = {"bulk": 20.0, "single": 55.0, "huge": 25.0}
_CPU_US = {"bulk": (1.1, 1.7), "single": (3.5, 3.3), "huge": (1.9, 2.8)}
_PURE_TO_PEER = {"bulk": 8.0}
_MEDIAN_MS, _P99_MS = 5.0, 25.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise. ``at_least``: more is better.

    ``by_cpu`` is the same ratio of CPU times, where one process does all the work: a busy machine moves it less.
    """

    name: str
    measured: float
    wanted: float
    at_least: bool
    by_cpu: float | None = None

    @property
    def holds(self) -> bool:
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def judge(measured: Mapping[str, Measured], latency: Outcome | None) -> list[Goal]:
    """Return the goals for which there are figures."""
    goals = [
        *_ratios(measured, "ring", "drain", _RING_TO_DRAIN, "binlog → ring / raw drain"),
        *_ratios(measured, "entries", "peer", _ENTRIES_TO_PEER, "binlog → Entry bytes / mysql-replication"),
        *_ratios(measured, "sdk", "peer", _SDK_TO_PEER, "MySQL → node → gRPC → SDK / mysql-replication"),
        *_cpu(measured),
        *_ratios(measured, "pure", "peer", _PURE_TO_PEER, "Entry bytes in pure Python / mysql-replication"),
    ]
    if latency:
        goals.append(Goal("commit to client, median, ms", latency.median_ms, _MEDIAN_MS, at_least=False))
        goals.append(Goal("commit to client, 99th percentile, ms", latency.p99_ms, _P99_MS, at_least=False))
    return goals


def _ratios(
    measured: Mapping[str, Measured], path: str, base: str, wanted: Mapping[str, float], name: str
) -> Iterator[Goal]:
    for data_set, least in wanted.items():
        if data_set in measured:
            one = measured[data_set]
            by_cpu = None if path == "sdk" else _cpu_per_unit(one, base) / _cpu_per_unit(one, path)
            yield Goal(f"{name}, {data_set}", ratio(one, path, base), least, at_least=True, by_cpu=by_cpu)


def ratio(of: Measured, path: str, base: str) -> float:
    """How many times as fast as ``base`` the path is."""
    return of.paths[path].per_second(of.data.unit) / of.paths[base].per_second(of.data.unit)


def _cpu_per_unit(of: Measured, path: str) -> float:
    series = of.paths[path]
    return series.median.cpu_s / units(series.until, of.data.unit)


def _cpu(measured: Mapping[str, Measured]) -> Iterator[Goal]:
    for data_set, (node_us, client_us) in _CPU_US.items():
        if data_set in measured:
            series, unit = measured[data_set].paths["sdk"], measured[data_set].data.unit
            outcome, count = series.median, units(series.until, unit)
            yield Goal(
                f"node, CPU µs per {unit}, {data_set}", outcome.node_cpu_s / count * 1e6, node_us, at_least=False
            )
            yield Goal(f"client, CPU µs per {unit}, {data_set}", outcome.cpu_s / count * 1e6, client_us, at_least=False)
