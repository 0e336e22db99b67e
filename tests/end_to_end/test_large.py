"""Transactions larger than the ring, and rows of 100 MB: they pass, in bounded memory, also when the node dies inside.

The sizes are smaller than an operator's worst case, the limits tight enough that a node which holds a transaction
whole fails. `scripts/bench memory` measures the full size.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from ha_canal.client import Batch, Change, Client
from ha_canal.errors import SourceBusyError
from ha_canal.testing.database import DatabaseServer, Flavor
from ha_canal.testing.eventually import eventually
from ha_canal.testing.large import (
    MIB,
    SCHEMA,
    Pace,
    Tally,
    count_rows,
    create_table,
    insert_rows,
    node_on,
    pass_through,
    peak_bytes,
    read_rows,
    rows_of,
)
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.nodes import NodeProcess, describe, faults_logged

RING_BYTES = 16 * MIB
OVERHEAD_BYTES = 48 * MIB
"""What a node may take beside its memory at rest and the ring: batches on their way, what is read ahead, the heap."""
NO_PACE = Pace(0)
PATIENCE_S = 60.0


_FAST_WRITES = {
    "mariadb": ("--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M"),
    "mysql": ("--innodb-buffer-pool-size=256M", "--innodb-redo-log-capacity=2G", "--innodb-doublewrite=OFF"),
}


def server(flavor: Flavor, *options: str) -> AbstractAsyncContextManager[DatabaseServer]:
    return (mysql_server if flavor == "mysql" else mariadb_server)(options=(*_FAST_WRITES[flavor], *options))


def clients_of(node: NodeProcess) -> list[str]:
    reply = describe(node.address, timeout_s=2.0)
    return [client.client_id for one in reply.instances for client in one.clients] if reply else []


def ring_bytes(node: NodeProcess) -> int:
    reply = describe(node.address, timeout_s=2.0)
    return max((one.ring_bytes for one in reply.instances), default=0) if reply else 0


def once_full(node: NodeProcess) -> Callable[[Batch], None]:
    """Return what keeps a reader at its first batch until the node's ring is full, as a slow one would."""
    loop = asyncio.get_running_loop()
    waited: list[bool] = []

    def wait(_batch: Batch) -> None:
        if not waited:
            waited.append(True)
            full = eventually(lambda: ring_bytes(node) > RING_BYTES - MIB, within_s=PATIENCE_S, what="the ring is full")
            asyncio.run_coroutine_threadsafe(full, loop).result()

    return wait


@pytest.mark.parametrize("flavor", ["mariadb", "mysql"])
def test_a_transaction_larger_than_the_ring_passes_in_bounded_memory(flavor: Flavor, tmp_path: Path) -> None:
    async def main() -> None:
        async with server(flavor) as source:
            create_table(source)
            async with node_on(source, tmp_path, ring_bytes=RING_BYTES) as node:
                passage = await pass_through(source, node, rows_of(128), NO_PACE, once_full(node))
                assert faults_logged([node]) == []
        assert passage.tally.wrong == []
        assert passage.complete
        assert passage.peak_bytes < passage.at_rest_bytes + RING_BYTES + OVERHEAD_BYTES, passage.lines()

    asyncio.run(main())


def test_a_reader_that_falls_behind_holds_the_others_back_and_the_memory_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with server("mariadb") as source:
            create_table(source)
            rows = rows_of(64)
            async with node_on(source, tmp_path, ring_bytes=RING_BYTES) as node:
                at_rest = peak_bytes(node.process.pid)
                with (
                    Client([node.address], instance="shop", client_id="slow") as slow,
                    Client([node.address], instance="shop", client_id="fast") as fast,
                ):
                    writing = asyncio.create_task(asyncio.to_thread(insert_rows, source, rows))
                    tallies = await asyncio.gather(
                        asyncio.to_thread(read_rows, slow, rows, NO_PACE, once_full(node)),
                        asyncio.to_thread(read_rows, fast, rows, NO_PACE),
                    )
                    await writing
                assert [(tally.acked, tally.repeated, tally.wrong) for tally in tallies] == [(rows, 0, [])] * 2
                assert peak_bytes(node.process.pid) < at_rest + RING_BYTES + OVERHEAD_BYTES

    asyncio.run(main())


class Gate:
    """Stops a reader at its third batch, two being acknowledged, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._batches = 0

    def pass_by(self, _batch: Batch) -> None:
        self._batches += 1
        if self._batches == 3:
            self.reached.set()
            assert self.opened.wait(PATIENCE_S)


def test_a_client_that_comes_inside_a_transaction_begins_behind_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with server("mariadb") as source:
            create_table(source)
            rows = rows_of(48)
            gate = Gate()
            async with node_on(source, tmp_path, ring_bytes=RING_BYTES) as node:
                late: dict[str, Any] = {"servers": [node.address], "instance": "shop", "client_id": "late"}
                with Client([node.address], instance="shop", client_id="first") as first:
                    writing = asyncio.create_task(asyncio.to_thread(insert_rows, source, rows))
                    reading = asyncio.create_task(asyncio.to_thread(read_rows, first, rows, NO_PACE, gate.pass_by))
                    assert await asyncio.to_thread(gate.reached.wait, PATIENCE_S)
                    with Client(**late, retry_for_s=0) as hasty, pytest.raises(SourceBusyError, match="behind it"):
                        await asyncio.to_thread(hasty.subscribe)
                    with Client(**late) as patient:
                        coming = asyncio.create_task(asyncio.to_thread(read_changes, patient, 1))
                        gate.opened.set()
                        assert (await reading).wrong == []
                        await writing
                        await eventually(
                            lambda: "late" in clients_of(node), within_s=PATIENCE_S, what="the late client is let in"
                        )
                        await source.execute(f"INSERT INTO {SCHEMA}.big VALUES ({rows + 1}, 'for both')")
                        assert [change.row["id"] for change in await coming] == [rows + 1]

    asyncio.run(main())


class Accident:
    """Kills the node when a third of ``rows`` is delivered, and starts it again."""

    def __init__(self, node: NodeProcess, rows: int) -> None:
        self._node = node
        self._due = rows // 3
        self._killed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._rows = 0

    def after(self, batch: Batch) -> None:
        """Count; kill when it is time. In the reader's thread."""
        self._rows += len(batch.changes)
        if self._rows >= self._due and not self._killed.is_set():
            self._node.process.kill()
            self._loop.call_soon_threadsafe(self._killed.set)

    async def repair(self) -> None:
        await self._killed.wait()
        await self._node.start()


@pytest.mark.parametrize("flavor", ["mariadb", "mysql"])
def test_a_node_killed_inside_a_transaction_goes_on_behind_the_last_ack(flavor: Flavor, tmp_path: Path) -> None:
    async def main() -> None:
        async with server(flavor) as source:
            create_table(source)
            rows = rows_of(48)
            async with node_on(source, tmp_path, ring_bytes=RING_BYTES) as node:
                accident = Accident(node, rows)
                with Client([node.address], instance="shop", client_id="survivor") as reader:
                    writing = asyncio.create_task(asyncio.to_thread(insert_rows, source, rows))
                    repairing = asyncio.create_task(accident.repair())
                    tally = await asyncio.to_thread(read_rows, reader, rows, NO_PACE, accident.after)
                    await writing
                    await repairing
                assert tally.wrong == []
                assert (tally.delivered, tally.acked) == (rows, count_rows(source))

    asyncio.run(main())


def read_giving_back(client: Client, rows: int) -> Tally:
    """Read all; every tenth batch is given back once, with what waits behind it."""
    tally = Tally()
    for number, batch in enumerate(client):
        tally.take(batch.changes)
        if number % 10 == 5:
            batch.rollback()
            continue
        batch.ack()
        tally.acknowledge()
        if tally.acked >= rows:
            break
    return tally


def test_batches_given_back_inside_a_transaction_come_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with server("mariadb") as source:
            create_table(source)
            rows = rows_of(48)
            async with node_on(source, tmp_path, ring_bytes=RING_BYTES) as node:
                with Client([node.address], instance="shop", client_id="choosy") as reader:
                    writing = asyncio.create_task(asyncio.to_thread(insert_rows, source, rows))
                    tally = await asyncio.to_thread(read_giving_back, reader, rows)
                    await writing
                assert tally.wrong == []
                assert (tally.delivered, tally.acked) == (rows, rows)
                assert tally.repeated > 0
                assert faults_logged([node]) == []

    asyncio.run(main())


ROW_BYTES = 100_000_000
SEED = "shop"
MOST_FOR_A_ROW = 8 * ROW_BYTES
"""One such row is on its way to the client while the next is read: of each the bytes, and of the first its text in
UTF-8, which is half as large again, alone and in its entry. Measured: five to seven times the row."""


def read_changes(client: Client, count: int) -> list[Change]:
    taken: list[Change] = []
    for batch in client:
        taken += batch.changes
        batch.ack()
        if len(taken) >= count:
            break
    return taken


@pytest.mark.parametrize("flavor", ["mariadb", "mysql"])
def test_a_row_of_100_megabytes_passes(flavor: Flavor, tmp_path: Path) -> None:
    content = f"REPEAT(UNHEX(SHA2('{SEED}', 256)), {ROW_BYTES // 32})"

    async def main() -> None:
        async with server(flavor, "--max-allowed-packet=1G") as source:
            await source.execute(f"CREATE DATABASE {SCHEMA}")
            await source.execute(f"CREATE TABLE {SCHEMA}.files (id INT PRIMARY KEY, content LONGBLOB NOT NULL)")
            async with node_on(source, tmp_path) as node:
                with Client([node.address], instance="shop", client_id="files") as reader:
                    reading = asyncio.create_task(asyncio.to_thread(read_changes, reader, 4))
                    await source.execute(f"INSERT INTO {SCHEMA}.files VALUES (1, 'small')")
                    await source.execute(f"INSERT INTO {SCHEMA}.files VALUES (2, {content})")
                    await source.execute(f"INSERT INTO {SCHEMA}.files VALUES (3, 'small')")
                    await source.execute(f"DELETE FROM {SCHEMA}.files WHERE id = 2")
                    changes = await reading
                assert faults_logged([node]) == []
                assert peak_bytes(node.process.pid) < MOST_FOR_A_ROW
        expected = hashlib.sha256(SEED.encode()).digest() * (ROW_BYTES // 32)
        assert [(change.kind, change.row["id"]) for change in changes] == [
            ("insert", 1),
            ("insert", 2),
            ("insert", 3),
            ("delete", 2),
        ]
        assert [change.row["content"] == expected for change in changes] == [False, True, False, True]

    asyncio.run(main())
