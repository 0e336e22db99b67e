"""A run as text and as JSON. Pure."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ha_canal import __version__
from ha_canal.testing.bench.goals import Goal
from ha_canal.testing.bench.run import PATHS, Measured, Options, Series, units
from ha_canal.testing.bench.task import Outcome

_MIB = 1024 * 1024
_LIBRARIES = ("grpcio", "protobuf", "pymysql", "mysql-replication", "zstandard")


def table(measured: Measured) -> list[str]:
    """Return the table of one data set."""
    data = measured.data
    megabytes = data.whole.offset / 1e6
    heading = (
        f"{'':<27}{'read':>6}{'s':>9}{'rows/s':>12}{'trans/s':>10}{'MB/s':>8}"
        f"  {f'CPU µs/{data.unit}':<20}{'peak MiB':<12}"
    )
    return [
        "",
        f"{data.name}: {data.whole.rows} rows in {data.whole.transactions} transactions, {megabytes:.1f} MB of binlog",
        heading,
        *(_line(path, series, data.unit, whole=series.until == data.whole) for path, series in measured.paths.items()),
    ]


def _line(path: str, series: Series, unit: str, *, whole: bool) -> str:
    outcome, until = series.median, series.until
    count = units(until, unit)
    seconds = outcome.seconds
    cpu, peak = f"{outcome.cpu_s / count * 1e6:.2f}", f"{outcome.peak_bytes / _MIB:.0f}"
    if outcome.node_peak_bytes:
        cpu = f"{outcome.node_cpu_s / count * 1e6:.2f} + {cpu}"
        peak = f"{outcome.node_peak_bytes / _MIB:.0f} + {peak}"
    return (
        f"  {PATHS[path]:<25}{'all' if whole else 'part':>6}{seconds:>9.3f}{until.rows / seconds:>12,.0f}"
        f"{until.transactions / seconds:>10,.0f}{until.offset / 1e6 / seconds:>8.1f}  {cpu:<20}{peak:<12}"
    )


def goal_lines(goals: Sequence[Goal]) -> Iterator[str]:
    """Return what was promised and what was measured."""
    yield ""
    width = max((len(goal.name) for goal in goals), default=0)
    for goal in goals:
        sign, verdict = ("≥" if goal.at_least else "≤"), ("holds" if goal.holds else "MISSED")
        by_cpu = "" if goal.by_cpu is None else f"  (by CPU time: {goal.by_cpu:.2f})"
        yield f"  {goal.name:<{width}}  {goal.measured:>9.2f}  {sign} {goal.wanted:<7g} {verdict:<6}{by_cpu}".rstrip()


def as_json(
    measured: Mapping[str, Measured],
    latency: Sequence[Outcome],
    goals: Sequence[Goal],
    options: Options,
    host: Mapping[str, Any],
    server_version: str,
) -> dict[str, Any]:
    """Return everything that was measured, with what it was measured on."""
    return {
        "machine": dict(host),
        "versions": versions(server_version),
        "options": asdict(options),
        "data_sets": {
            name: {
                "unit": one.data.unit,
                "first": asdict(one.data.first),
                "whole": asdict(one.data.whole),
                "paths": {
                    path: {
                        "until": asdict(series.until),
                        "rows_per_s": series.per_second("row"),
                        "transactions_per_s": series.per_second("transaction"),
                        "mb_per_s": series.until.offset / 1e6 / series.median.seconds,
                        "samples": [asdict(sample) for sample in series.samples],
                    }
                    for path, series in one.paths.items()
                },
            }
            for name, one in measured.items()
        },
        "latency": [asdict(sample) for sample in latency],
        "goals": [{**asdict(goal), "holds": goal.holds} for goal in goals],
    }


def compiled(measured: Iterable[Measured]) -> str:
    """Name the compiled modules of ours that any path used."""
    codecs = (sample.codec for one in measured for series in one.paths.values() for sample in series.samples)
    return " ".join(sorted({name for codec in codecs for name in codec.split()}))


def machine() -> dict[str, Any]:
    """Return what the run had to run on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    return {
        "cpu": model,
        "cores": cores,
        "memory_bytes": memory,
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def versions(server_version: str) -> dict[str, str]:
    """Return the versions of what took part."""
    return {
        "ha_canal": __version__,
        "python": platform.python_version(),
        "server": server_version,
        **{name: version(name) for name in _LIBRARIES},
    }
