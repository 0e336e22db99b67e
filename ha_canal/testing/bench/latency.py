"""From commit to the client's hands: one writer at a steady rate, one node, one client, on one machine's clock.

The writer puts the time into each row just before it sends the INSERT, so what is measured holds the INSERT and its
commit too, and is never less than the latency from commit. The client takes the time when a batch's changes are decoded
(CLOCK_MONOTONIC is the same in all processes, clock_gettime(2)). The first tenth is left out: connections warm up.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pymysql

from ha_canal.client import Batch, Client
from ha_canal.testing.bench.dataset import SCHEMA
from ha_canal.testing.bench.pipeline import ReadingFailedError, node_plan, run_worker
from ha_canal.testing.bench.reading import INSTANCE
from ha_canal.testing.bench.task import Mark, Outcome, Task
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.nodes import leader_of, running_nodes

RATE_PER_S = 1000
_LEAST_OF_RATE = 0.95
"""A writer that fell behind further than this measured something else."""


async def measure_latency(server: DatabaseServer, seconds: int) -> Outcome:
    """Write for so long, and return what the client saw. Raises ReadingFailedError."""
    server.run_sql("DROP TABLE IF EXISTS stamps", database=SCHEMA)
    server.run_sql(
        "CREATE TABLE stamps (id BIGINT NOT NULL PRIMARY KEY, stamped_ns BIGINT, note VARCHAR(40))", database=SCHEMA
    )
    rows = seconds * RATE_PER_S
    until = Mark("", 0, rows, rows, rows * (rows + 1) // 2)
    task = Task("latency", "stamps", server.flavor, server.host, server.port, server.user, server.password, until)
    with tempfile.TemporaryDirectory(prefix="ha_canal_bench_") as scratch:
        async with running_nodes(node_plan(server, Path(scratch), start="latest"), 1) as (node,):
            await leader_of([node], INSTANCE)
            reading, writing = await asyncio.gather(
                run_worker(replace(task, address=node.address)),
                run_worker(replace(task, path="writer", address=str(server.socket))),
            )
    if reading.rows != rows:
        raise ReadingFailedError(f"latency: {reading.rows} rows came, not {rows}")
    if rows / writing.seconds < RATE_PER_S * _LEAST_OF_RATE:
        raise ReadingFailedError(f"latency: the writer made {rows / writing.seconds:.0f}/s only, not {RATE_PER_S}")
    return reading


def write_paced(task: Task, begin: Callable[[], None]) -> int:
    """Insert a row per transaction at the rate, over the unix socket ``task.address``; return how many."""
    connection = pymysql.connect(unix_socket=task.address, user="root", database=SCHEMA, autocommit=True)
    with contextlib.closing(connection), connection.cursor() as cursor:
        begin()
        began_at = time.monotonic()
        for row_id in range(1, task.until.rows + 1):
            time.sleep(max(0.0, began_at + row_id / RATE_PER_S - time.monotonic()))
            cursor.execute(f"INSERT INTO stamps VALUES ({row_id}, {time.monotonic_ns()}, 'a note of usual length')")
    return task.until.rows


def read_latencies(task: Task) -> tuple[int, float, float]:
    """Read as many rows as the mark says; return how many, and of their latencies median and 99th percentile in ms."""
    latencies: list[float] = []
    with Client([task.address], instance=INSTANCE, client_id="bench") as client:
        for batch in client:
            _note(batch, latencies)
            done = len(latencies) >= task.until.rows
            batch.ack(wait=done)
            if done:
                break
    warm = sorted(latencies[len(latencies) // 10 :])
    return len(latencies), warm[len(warm) // 2], warm[len(warm) * 99 // 100]


def _note(batch: Batch, latencies: list[float]) -> None:
    changes = batch.changes
    now_ns = time.monotonic_ns()
    for change in changes:
        stamped_ns = change.row["stamped_ns"]
        assert isinstance(stamped_ns, int)
        latencies.append((now_ns - stamped_ns) / 1e6)
