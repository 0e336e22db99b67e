"""The main job on real servers, as `scripts/demo` shows it: write, read, kill the leader, count.

A throw-away MariaDB, a ZooKeeper, three nodes, a writer and a client. The running node is killed with SIGKILL while
changes flow; the verdict is counted against the database itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ha_canal.client import Batch
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.nodes import ClusterPlan, NodeProcess, leader_of, running_nodes
from ha_canal.testing.workload import Reader, Writer, committed, create_tables
from ha_canal.testing.zookeeper import zookeeper_server

_SESSION_TIMEOUT_S = 4.0
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it goes: for people, or for a machine that only wants the verdict."""

    pause_s: float
    transactions_before: int
    transactions_after: int
    shows_changes: bool


PEOPLE = Pace(pause_s=0.4, transactions_before=20, transactions_after=20, shows_changes=True)
FAST = Pace(pause_s=0.002, transactions_before=500, transactions_after=500, shows_changes=False)


def say(text: str) -> None:
    print(text, flush=True)  # a demo talks to the person who started it


def _show(batch: Batch) -> None:
    for change in batch.changes:
        row = change.after if change.after is not None else change.before
        values = ", ".join(f"{name}={value!r}" for name, value in (row or {}).items() if name != "note")
        say(f"  {change.kind:<7} {change.schema}.{change.table:<7} {values}")


async def run(pace: Pace) -> bool:
    """Run it; return whether the verdict holds."""
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha_canal_demo_")))
        say("starting MariaDB, ZooKeeper and three nodes ...")
        source = await stack.enter_async_context(mariadb_server())
        zookeeper = await stack.enter_async_context(zookeeper_server())
        create_tables(source)
        plan = ClusterPlan(
            directory, f"{zookeeper.host}:{zookeeper.port}", source, session_timeout_s=_SESSION_TIMEOUT_S
        )
        nodes = await stack.enter_async_context(running_nodes(plan))
        leader = await leader_of(nodes)
        say(f"{leader.name} ({leader.address}) was elected; the others stand by. A client reads:")
        return await _write_kill_count(pace, source, nodes, leader)


async def _write_kill_count(pace: Pace, source: DatabaseServer, nodes: list[NodeProcess], leader: NodeProcess) -> bool:
    reader = Reader([node.address for node in nodes], on_batch=_show if pace.shows_changes else None)
    with reader, Writer(source, pause_s=pace.pause_s) as writer:
        await eventually(
            lambda: writer.transactions >= pace.transactions_before and reader.checker.delivered > 0,
            within_s=_PATIENCE_S,
            what="the client got changes",
        )
        say(f"kill -9 of {leader.name} (process {leader.process.pid})")
        epoch = reader.epoch
        leader.process.kill()
        killed_at = time.monotonic()
        target = writer.transactions + pace.transactions_after
        next_batch = await eventually(
            lambda: reader.arrival_after(epoch), within_s=_PATIENCE_S, what="the next leader gives batches"
        )
        service_gap_s = next_batch.at_s - killed_at
        successor = await leader_of([node for node in nodes if node is not leader])
        say(f"{successor.name} took over; the client went on by itself")
        await eventually(lambda: writer.transactions >= target, within_s=_PATIENCE_S, what="the writer goes on")
        writer.stop()
        truth = committed(source)
        await eventually(
            lambda: not reader.checker.missing(truth), within_s=_PATIENCE_S, what="every change was delivered"
        )
    verdict = reader.checker.verdict(truth)
    say("\nverdict, counted against the database itself")
    for line in verdict.lines():
        say(f"  {line}")
    say(f"  order kept:                     {'yes' if not verdict.out_of_order else 'no'}")
    say(f"  kill to the next batch:         {service_gap_s:.2f} s (session timeout {_SESSION_TIMEOUT_S:.0f} s)")
    say(f"  => {'the promise held' if verdict.holds else 'THE PROMISE WAS BROKEN'}")
    return verdict.holds


def main() -> None:
    """Parse the command line, run, and exit with 0 only if the verdict holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fast", action="store_true", help="no pauses, no printing of changes")
    arguments = parser.parse_args()
    sys.exit(0 if asyncio.run(run(FAST if arguments.fast else PEOPLE)) else 1)


if __name__ == "__main__":
    main()
