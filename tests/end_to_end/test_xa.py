"""Leaders are killed while XA transactions are prepared: what is committed comes once, the rest never."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.workload import Reader, Writer
from ha_canal.testing.zookeeper import ZookeeperServer
from tests.end_to_end.cluster import PATIENCE_S, Cluster, cluster

_LOAD = 60


@pytest.mark.parametrize("flavor", ["mariadb", "mysql"])
def test_what_was_prepared_under_a_killed_leader_is_delivered_by_the_next(
    flavor: str, request: pytest.FixtureRequest, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    source: DatabaseServer = request.getfixturevalue(flavor)

    async def main() -> None:
        async with cluster(source, zookeeper.hosts, tmp_path, root=zookeeper_root) as nodes:
            with nodes.reader() as reader, nodes.writer() as writer:
                await _load(writer, reader)
                for number in (10, 11, 12):
                    await _xa(nodes, number, f"XA PREPARE 'chaos-{number}'", insert=True)
                await _load(writer, reader)
                for decision in ("XA COMMIT 'chaos-11'", "XA ROLLBACK 'chaos-12'", "XA COMMIT 'chaos-10'"):
                    await _kill_leader(nodes, reader)
                    await _load(writer, reader)
                    await _xa(nodes, 0, decision)
                    await _load(writer, reader)
                await _xa(nodes, 13, "XA COMMIT 'chaos-13' ONE PHASE", insert=True)
                await _kill_leader(nodes, reader)
                writer.stop()
                verdict = await nodes.judge(reader.checker)
            assert verdict.holds, verdict

    asyncio.run(main())


async def _kill_leader(nodes: Cluster, reader: Reader) -> None:
    epoch = reader.epoch
    leader = await nodes.leader()
    leader.process.kill()
    await eventually(lambda: reader.epoch > epoch, within_s=PATIENCE_S, what="another leader gives batches")
    await leader.start()


async def _load(writer: Writer, reader: Reader) -> None:
    """Return when some more transactions were written, and the client got some: nothing holds them back."""
    target, delivered = writer.transactions + _LOAD, reader.checker.delivered
    await eventually(
        lambda: writer.transactions >= target and reader.checker.delivered > delivered + _LOAD,
        within_s=PATIENCE_S,
        what="changes flow",
    )


async def _xa(nodes: Cluster, number: int, end: str, *, insert: bool = False) -> None:
    """Run ``end``, in front of it three marked rows of the writer ``number``, on a connection of its own."""
    xid = f"'chaos-{number}'"
    rows = [f"INSERT INTO ledger VALUES ({number}, {sequence}, 'prepared')" for sequence in range(1, 4)]
    await asyncio.to_thread(_run, nodes, *([f"XA START {xid}", *rows, f"XA END {xid}"] if insert else []), end)


def _run(nodes: Cluster, *statements: str) -> None:
    with closing(nodes.source.connect(nodes.schema)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
