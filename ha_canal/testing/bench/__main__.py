"""How fast: all paths over the same binlog, side by side, with the goals beside what was measured.

Exits with 0 if every goal holds, 1 if one is missed, and with an error if a path lost rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ha_canal.testing.bench.dataset import DATA_SETS, FLAVOR_OPTIONS, SERVER_OPTIONS, Writer
from ha_canal.testing.bench.goals import Goal, judge
from ha_canal.testing.bench.latency import measure_latency
from ha_canal.testing.bench.plot import svg
from ha_canal.testing.bench.report import as_json, compiled, goal_lines, machine, table, versions
from ha_canal.testing.bench.run import Measured, Options, measure, say
from ha_canal.testing.bench.task import Outcome
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server

_BUSY = 0.5
"""The load average above which somebody else is at work."""


def main() -> None:
    """Parse the command line, run, and print."""
    arguments = _parse()
    began_at = time.monotonic()
    goals = asyncio.run(run(arguments, _options(arguments)))
    say(f"\n{time.monotonic() - began_at:.0f} s in all")
    sys.exit(0 if all(goal.holds for goal in goals) else 1)


async def run(arguments: argparse.Namespace, options: Options) -> list[Goal]:
    """Run everything, print it, and return how the goals stand."""
    server_of = mysql_server if arguments.source == "mysql" else mariadb_server
    host = machine()
    if host["load_average"] > _BUSY:
        say(f"the machine is busy (load {host['load_average']:.1f}): times will be wrong, CPU times less so")
    measured: dict[str, Measured] = {}
    latency: list[Outcome] = []
    async with server_of(options=[*SERVER_OPTIONS, *FLAVOR_OPTIONS[arguments.source]]) as server:
        server_version = f"{arguments.source} {server.run_sql('SELECT VERSION()')[0][0]}"
        writer = Writer(server, rows=options.rows, seed=options.seed)
        for name in options.data_sets:
            measured[name] = await measure(server, writer, name, options)
        if options.latency_s:
            latency = [await measure_latency(server, options.latency_s) for _ in range(options.repeat)]
    typical = sorted(latency, key=lambda sample: sample.p99_ms)[(len(latency) - 1) // 2] if latency else None
    goals = judge(measured, typical)
    measured_on = _measured_on(host, server_version, options)
    lines = [measured_on, f"compiled: {compiled(measured.values()) or 'nothing'}"]
    lines += [line for one in measured.values() for line in table(one)]
    print("\n".join([*lines, *goal_lines(goals)]), flush=True)
    if arguments.json:
        arguments.json.write_text(
            json.dumps(as_json(measured, latency, goals, options, host, server_version), indent=1)
        )
    if arguments.plot:
        arguments.plot.write_text(svg(measured, measured_on))
    return goals


def _measured_on(host: Mapping[str, Any], server_version: str, options: Options) -> str:
    python = versions(server_version)["python"]
    return (
        f"{host['cpu']}, {host['cores']} cores, load {host['load_average']:.1f} before; Python {python}; "
        f"{server_version}; seed {options.seed}, median of {options.repeat}"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a sixth of the rows, read once: under 90 s")
    parser.add_argument("--rows", type=int, default=0, help="of the largest data set; the others follow (600000)")
    parser.add_argument("--repeat", type=int, default=0, help="readings of each; the median counts (3)")
    parser.add_argument("--source", choices=["mysql", "mariadb"], default="mysql")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--at-most-s", type=float, default=0.0, help="slower paths read the first tenth only (10)")
    parser.add_argument(
        "--latency-s", type=int, default=-1, help="how long 1000 transactions/s are written; 0: not (6)"
    )
    parser.add_argument("--sets", default=",".join(DATA_SETS), help=f"some of {','.join(DATA_SETS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the rates")
    arguments = parser.parse_args()
    if unknown := set(arguments.sets.split(",")) - set(DATA_SETS):
        parser.error(f"--sets: there is no {', '.join(sorted(unknown))}")
    return arguments


def _options(arguments: argparse.Namespace) -> Options:
    fast = arguments.fast
    return Options(
        rows=arguments.rows or (100_000 if fast else 600_000),
        repeat=arguments.repeat or (1 if fast else 3),
        seed=arguments.seed,
        at_most_s=arguments.at_most_s or (4.0 if fast else 10.0),
        latency_s=arguments.latency_s if arguments.latency_s >= 0 else (3 if fast else 6),
        data_sets=tuple(arguments.sets.split(",")),
    )


if __name__ == "__main__":
    main()
