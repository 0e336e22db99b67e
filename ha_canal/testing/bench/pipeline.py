"""Runs the processes of one reading: a worker alone, or a node and a worker that reads from it through the SDK.

Every reading has processes of its own, so that none profits from what another one has loaded or collected. The time
of the whole path counts from before the client opens its stream, which is what makes the node begin to read, to the
durable ack of the last row.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ha_canal.testing.bench.dataset import SCHEMA
from ha_canal.testing.bench.reading import INSTANCE
from ha_canal.testing.bench.task import Mark, Outcome, Task, cpu_seconds, peak_bytes
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.nodes import ClusterPlan, NodeProcess, leader_of, running_nodes

_LIMIT_S = 300.0


class ReadingFailedError(Exception):
    """A path did not read what it had to; the message has the end of what its process said."""


async def read(server: DatabaseServer, path: str, table: str, until: Mark, *, check: bool = False) -> Outcome:
    """Read up to ``until`` by one path. Raises ReadingFailedError, also when what was counted is wrong."""
    task = Task(path, table, server.flavor, server.host, server.port, server.user, server.password, until, check)
    outcome = await (read_through_node(server, task) if path == "sdk" else run_worker(task))
    if wrong := outcome.differs_from(until):
        raise ReadingFailedError(f"{path} of {table}: {wrong}")
    return outcome


async def read_through_node(server: DatabaseServer, task: Task) -> Outcome:
    """Read with a node of its own, which begins at the oldest binlog file."""
    with tempfile.TemporaryDirectory(prefix="ha_canal_bench_") as scratch:
        plan = node_plan(server, Path(scratch), start="earliest")
        async with running_nodes(plan, 1) as (node,):
            await leader_of([node], INSTANCE)
            pid = node_pid(node)
            before = 0.0

            def begin() -> None:
                nonlocal before
                before = cpu_seconds(pid)

            outcome = await run_worker(replace(task, address=node.address), begin)
            return replace(outcome, node_cpu_s=cpu_seconds(pid) - before, node_peak_bytes=peak_bytes(pid))


def node_plan(server: DatabaseServer, directory: Path, *, start: str) -> ClusterPlan:
    """One embedded node over ``server``."""
    return ClusterPlan(directory, "", server, instance=INSTANCE, filter=rf"{SCHEMA}\..*", start=start)


def node_pid(node: NodeProcess) -> int:
    """Return the process id of the node itself (its runner replaces itself by it)."""
    return node.process.pid


async def run_worker(task: Task, begin: Callable[[], None] = lambda: None) -> Outcome:
    """Start a worker, call ``begin`` when it is ready, and let it go."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ha_canal.testing.bench.worker", task.to_json(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **({"HA_CANAL_PURE": "1"} if task.path == "pure" else {})},
    )  # fmt: skip
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(_LIMIT_S):
            ready = await worker.stdout.readline()
            begin()
            out, complaint = await worker.communicate(b"go\n" if ready else None)
    except TimeoutError:
        raise ReadingFailedError(f"{task.path} of {task.table} did not end within {_LIMIT_S:.0f} s") from None
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    if worker.returncode:
        raise ReadingFailedError(f"{task.path} of {task.table} failed:\n{complaint.decode()[-3000:]}")
    return Outcome.from_json(out.decode().splitlines()[-1])
