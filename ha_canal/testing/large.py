"""One transaction far larger than a node may hold, through a node of its own to a slow client, and what it cost.

`python -m ha_canal.testing.large` (`scripts/bench memory`) makes one statement over many rows on a throw-away server,
and judges: the node's peak of resident memory (proc(5), VmHWM), and whether the client got every row of the table once
and in order. The client reads in the thread of its caller, no faster than it was told to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ha_canal.client import Batch, Change, Client
from ha_canal.errors import StaleEpochError, UnknownBatchError
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.nodes import ClusterPlan, NodeProcess, describe, leader_of, resident_bytes, running_nodes
from ha_canal.testing.zookeeper import zookeeper_server

MIB = 1024 * 1024
LIMIT_BYTES = 200 * MIB
SCHEMA = "shop"
_PAYLOAD_REPEATS = 16
ROW_BYTES = 64 * _PAYLOAD_REPEATS + 7
"""One row in its binlog event: the NULL bits, the id, the length and the payload."""
_SAMPLE_EVERY_S = 0.1
_MOST_COMPLAINTS = 10
_TABLE = """CREATE TABLE big (
    id INT NOT NULL PRIMARY KEY, payload VARCHAR(1024) CHARACTER SET ascii COLLATE ascii_bin NOT NULL)"""
_NUMBERS = {
    "mariadb": "SELECT seq AS id FROM seq_1_to_{rows}",
    "mysql": "WITH RECURSIVE numbers (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM numbers WHERE id < {rows}) "
    "SELECT id FROM numbers",
}


def create_table(server: DatabaseServer) -> None:
    """Make the schema `shop` with its table `big`."""
    server.run_sql(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4")
    server.run_sql(_TABLE, database=SCHEMA)


def insert_rows(server: DatabaseServer, rows: int) -> None:
    """Insert the rows with the ids 1 to ``rows`` in one statement: one transaction."""
    numbers = _NUMBERS[server.flavor].format(rows=rows)
    with contextlib.closing(server.connect(SCHEMA)) as connection, connection.cursor() as cursor:
        if server.flavor == "mysql":
            cursor.execute("SET cte_max_recursion_depth = %s", (rows,))
        payload = f"REPEAT(SHA2(id, 256), {_PAYLOAD_REPEATS})"
        cursor.execute(f"INSERT INTO big SELECT id, {payload} FROM ({numbers}) AS numbers ORDER BY id")


def count_rows(server: DatabaseServer) -> int:
    """Ask the database how many rows the table holds."""
    return int(server.run_sql("SELECT COUNT(*) FROM big", database=SCHEMA)[0][0])


def rows_of(mib: int) -> int:
    """How many rows make ``mib`` MiB of row images in the binlog."""
    return mib * MIB // ROW_BYTES


class Tally:
    """Counts rows against what they must be: ids from 1 on, one after the other, each with its payload. Pure.

    Rows that come again before their ack are allowed, from the oldest of them on, and counted in ``repeated``.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self.acked = 0
        self.repeated = 0
        self.wrong: list[str] = []
        self._newest = 0

    def take(self, changes: Sequence[Change]) -> None:
        """Take note of the changes of a batch."""
        for change in changes:
            row_id, payload = change.row["id"], change.row["payload"]
            assert isinstance(row_id, int), change
            if payload != _payload(row_id):
                self._complain(f"row {row_id} came with another payload")
            if row_id not in (self._newest + 1, self.acked + 1):
                self._complain(f"row {row_id} came behind row {self._newest}, the acks being at row {self.acked}")
            self._newest = row_id
            self.repeated += row_id <= self.delivered
            self.delivered = max(self.delivered, row_id)

    def acknowledge(self) -> None:
        """Take note that the newest batch, and so all before it, is acknowledged."""
        self.acked = self._newest

    def _complain(self, what: str) -> None:
        if len(self.wrong) < _MOST_COMPLAINTS:
            self.wrong.append(what)


def _payload(row_id: int) -> str:
    return hashlib.sha256(str(row_id).encode()).hexdigest() * _PAYLOAD_REPEATS


@dataclass(slots=True)
class Watch:
    """Samples a process until it is left: the resident memory, and how full the ring was."""

    node: NodeProcess
    at_rest_bytes: int = 0
    samples: list[int] = field(default_factory=list)
    ring_bytes: int = 0
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.at_rest_bytes = resident_bytes(self.node.process.pid)
        self._thread = threading.Thread(target=self._run, name=f"memory of {self.node.name}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_SAMPLE_EVERY_S):
            if not self.node.process.running:
                return
            self.samples.append(resident_bytes(self.node.process.pid))
            if len(self.samples) % 10 == 0 and (reply := describe(self.node.address)):
                self.ring_bytes = max(self.ring_bytes, *(one.ring_bytes for one in reply.instances))


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever held (proc(5), VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Pace:
    """Holds a reader back to ``mib_s`` MiB of entries per second; 0: not at all."""

    def __init__(self, mib_s: float) -> None:
        self._bytes_s = mib_s * MIB
        self._began_at = 0.0
        self._bytes = 0

    def after(self, batch: Batch) -> None:
        """Wait until the batch's time is over."""
        self._began_at = self._began_at or time.monotonic()
        self._bytes += sum(map(len, batch.entries))
        if self._bytes_s:
            time.sleep(max(0.0, self._began_at + self._bytes / self._bytes_s - time.monotonic()))


def read_rows(client: Client, rows: int, pace: Pace, on_batch: Callable[[Batch], None] | None = None) -> Tally:
    """Read and acknowledge until row ``rows`` is acknowledged."""
    tally = Tally()
    for batch in client:
        tally.take(batch.changes)
        if on_batch is not None:
            on_batch(batch)
        pace.after(batch)
        try:
            batch.ack()
        except (StaleEpochError, UnknownBatchError):
            continue  # the node went in between: the batch comes again
        tally.acknowledge()
        if tally.acked >= rows:
            break
    return tally


@contextlib.asynccontextmanager
async def node_on(
    source: DatabaseServer, directory: Path, *, ring_bytes: int = 64 * MIB, zookeeper: str = ""
) -> AsyncIterator[NodeProcess]:
    """Run one node over ``source``; embedded without ``zookeeper``."""
    async with running_nodes(ClusterPlan(directory, zookeeper, source, ring_bytes=ring_bytes), 1) as (node,):
        await leader_of([node])
        yield node


@dataclass(frozen=True, slots=True)
class Passage:
    """What was measured. ``seconds`` count from the first batch to the last ack."""

    rows: int
    tally: Tally
    seconds: float
    at_rest_bytes: int
    peak_bytes: int
    mean_bytes: int
    ring_bytes: int

    @property
    def complete(self) -> bool:
        """Whether every row came once, in order."""
        tally = self.tally
        return 0 < self.rows == tally.delivered == tally.acked and not tally.wrong and not tally.repeated

    def lines(self) -> list[str]:
        mib = self.rows * ROW_BYTES / MIB
        return [
            f"rows in the table:     {self.rows} in one transaction, {mib:.0f} MiB",
            f"rows delivered:        {self.tally.delivered}, again: {self.tally.repeated}",
            *(f"wrong:                 {what}" for what in self.tally.wrong),
            f"time, rate:            {self.seconds:.1f} s, {mib / self.seconds:.1f} MiB/s",
            f"fullest ring seen:     {self.ring_bytes / MIB:.1f} MiB",
            f"memory at rest:        {self.at_rest_bytes / MIB:.1f} MiB",
            f"memory, mean:          {self.mean_bytes / MIB:.1f} MiB",
            f"memory, peak:          {self.peak_bytes / MIB:.1f} MiB",
        ]


async def pass_through(
    source: DatabaseServer, node: NodeProcess, rows: int, pace: Pace, on_batch: Callable[[Batch], None] | None = None
) -> Passage:
    """Send one transaction of ``rows`` rows through ``node``, which was started when the table `big` was empty."""
    arrivals: list[float] = []

    def arrived(batch: Batch) -> None:
        arrivals.append(time.monotonic())
        if on_batch is not None:
            on_batch(batch)

    with Client([node.address], instance="shop", client_id="slow") as reader, Watch(node) as watch:
        writing = asyncio.create_task(_insert(source, rows, reader))
        tally = await asyncio.to_thread(read_rows, reader, rows, pace, arrived)
        ended_at = time.monotonic()
        await writing
    return Passage(
        rows=await asyncio.to_thread(count_rows, source),
        tally=tally,
        seconds=ended_at - arrivals[0],
        at_rest_bytes=watch.at_rest_bytes,
        peak_bytes=peak_bytes(node.process.pid),
        mean_bytes=sum(watch.samples) // max(1, len(watch.samples)),
        ring_bytes=watch.ring_bytes,
    )


async def _insert(source: DatabaseServer, rows: int, reader: Client) -> None:
    try:
        await asyncio.to_thread(insert_rows, source, rows)
    except BaseException:
        await asyncio.to_thread(reader.close)  # what it waits for will never come
        raise


async def measure(arguments: argparse.Namespace) -> Passage:
    """Run the servers, a node and the client."""
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha_canal_large_")))
        server = mysql_server if arguments.source == "mysql" else mariadb_server
        source = await stack.enter_async_context(server(options=[f"--{option}" for option in arguments.option]))
        coordinator = ""
        if arguments.zookeeper:
            zookeeper = await stack.enter_async_context(zookeeper_server())
            coordinator = f"{zookeeper.host}:{zookeeper.port}"
        create_table(source)
        node = await stack.enter_async_context(
            node_on(source, directory, ring_bytes=arguments.ring_mib * MIB, zookeeper=coordinator)
        )
        passage = await pass_through(source, node, rows_of(arguments.mib), Pace(arguments.client_mib_s))
        if not passage.complete or arguments.log:
            say(f"--- the end of the node's log\n{node.process.log_text()[-3000:]}")
        return passage


def say(text: str) -> None:
    print(text, flush=True)  # the person who started it waits for this


def main() -> None:
    """Parse the command line, run, and exit with 0 only if the peak stayed under the limit and every row came once."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the transaction")
    parser.add_argument("--source", choices=["mariadb", "mysql"], default="mariadb")
    parser.add_argument("--option", action="append", default=[], help="of the server: log-bin-compress=ON, or the like")
    parser.add_argument("--log", action="store_true", help="show the end of the node's log in any case")
    parser.add_argument("--zookeeper", action="store_true", help="a node of a ZooKeeper cluster, not an embedded one")
    parser.add_argument("--ring-mib", type=int, default=64, help="the instance's ring")
    parser.add_argument("--client-mib-s", type=float, default=25.0, help="the client's pace; 0: as fast as it can")
    arguments = parser.parse_args()
    passage = asyncio.run(measure(arguments))
    for line in passage.lines():
        say(line)
    under_limit = passage.peak_bytes < LIMIT_BYTES
    say(f"=> {'under' if under_limit else 'OVER'} the limit of {LIMIT_BYTES // MIB} MiB; "
        f"{'every row came once, in order' if passage.complete else 'ROWS ARE WRONG'}")  # fmt: skip
    sys.exit(0 if under_limit and passage.complete else 1)


if __name__ == "__main__":
    main()
