"""The benchmark counts right, judges right, and refuses a reading that lost rows. Its figures are not judged here."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

import pytest

from ha_canal.testing.bench.dataset import SERVER_OPTIONS, DataSet, Writer
from ha_canal.testing.bench.goals import judge
from ha_canal.testing.bench.plot import svg
from ha_canal.testing.bench.report import table
from ha_canal.testing.bench.run import PATHS, Measured, Options, Series, measure
from ha_canal.testing.bench.task import Mark, Outcome, Task
from ha_canal.testing.mariadb import mariadb_server

MARK = Mark("bin.000001", 1_000_000, rows=1000, transactions=10, ids=500_500)


def test_a_task_passes_the_border_between_processes() -> None:
    task = Task("ring", "bulk", "mysql", "127.0.0.1", 3306, "canal", "secret", MARK, check=True)
    assert Task.from_json(task.to_json()) == task


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        ({"rows": 1000, "transactions": 10, "ids": 500_500}, ""),
        ({"transactions": 10}, ""),
        ({"entry_bytes": 1}, ""),
        ({"rows": 999, "ids": 500_500}, "rows: 999, not 1000"),
        ({"rows": 1000, "ids": 500_499}, "ids: 500499, not 500500"),
        ({}, "nothing was counted"),
    ],
)
def test_what_was_lost_is_said(counted: dict[str, int], said: str) -> None:
    assert Outcome(seconds=1.0, cpu_s=1.0, peak_bytes=1, **counted).differs_from(MARK) == said  # type: ignore[arg-type] # only counts


def measured(seconds: dict[str, float]) -> dict[str, Measured]:
    outcome = {path: Outcome(seconds=s, cpu_s=s / 2, peak_bytes=1, node_cpu_s=s / 4) for path, s in seconds.items()}
    paths = {path: Series(MARK, [outcome[path]]) for path in seconds}
    return {"bulk": Measured(DataSet("bulk", "row", MARK, MARK), paths)}


def test_ratios_are_of_rates_and_costs_are_per_row() -> None:
    goals = {
        goal.name: goal
        for goal in judge(
            measured({"drain": 0.5, "peer": 100.0, "ring": 1.0, "entries": 2.5, "pure": 20.0, "sdk": 4.0}), None
        )
    }
    assert goals["binlog → ring / raw drain, bulk"].measured == 0.5
    assert goals["binlog → Entry bytes / mysql-replication, bulk"].measured == 40
    assert not goals["binlog → Entry bytes / mysql-replication, bulk"].holds
    assert goals["MySQL → node → gRPC → SDK / mysql-replication, bulk"].holds
    assert goals["Entry bytes in pure Python / mysql-replication, bulk"].measured == 5
    assert goals["node, CPU µs per row, bulk"].measured == 1000
    assert goals["client, CPU µs per row, bulk"].measured == 2000
    assert len(goals) == 6


def test_the_median_is_a_sample() -> None:
    samples = [Outcome(seconds=s, cpu_s=0, peak_bytes=0) for s in (3.0, 1.0, 2.0)]
    assert Series(MARK, samples).median is samples[2]


def test_the_picture_is_svg_with_a_bar_per_path() -> None:
    picture = ET.fromstring(svg(measured(dict.fromkeys(PATHS, 1.0) | {"peer": 99.0}), "a < machine"))
    assert len(picture.findall("{*}rect")) == 1 + len(PATHS)
    assert picture.findall("{*}text")[-1].text == "a < machine"


@pytest.mark.timeout(300)
def test_every_path_reads_all_of_a_small_set() -> None:
    async def run() -> Measured:
        async with mariadb_server(options=SERVER_OPTIONS) as server:
            options = Options(rows=1000, repeat=1, seed=3, at_most_s=60.0, latency_s=0, data_sets=("bulk",))
            return await measure(server, Writer(server, rows=1000, seed=3), "bulk", options)

    found = asyncio.run(run())
    assert found.data.whole.rows == 1000
    assert found.data.whole.transactions == 3  # 100 rows, then 400 and 500
    assert set(found.paths) == set(PATHS)
    assert all(len(series.samples) == 1 for series in found.paths.values())
    assert len(table(found)) == 3 + len(PATHS)
