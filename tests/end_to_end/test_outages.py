"""ZooKeeper or the database goes away and comes back: service goes on by itself, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.nodes import ClusterPlan, NodeProcess
from ha_canal.testing.workload import Reader, Writer
from ha_canal.testing.zookeeper import zookeeper_server
from tests.end_to_end.cluster import PATIENCE_S, cluster

Run = Callable[..., AbstractAsyncContextManager[DatabaseServer]]

_LOAD = 100


async def _load(writer: Writer, reader: Reader) -> None:
    """Return when some more transactions were written, and the client has got some of *these*."""
    begun, delivered = writer.transactions, reader.checker.delivered

    def flows() -> bool:
        reader.check()
        return writer.transactions >= begun + _LOAD and reader.checker.delivered >= delivered + _LOAD

    await eventually(flows, within_s=PATIENCE_S, what="changes flow")


@pytest.mark.parametrize("until", ["output pauses", "is over"])
def test_zookeeper_killed_and_restarted_in_mid_stream(until: str, mariadb: DatabaseServer, tmp_path: Path) -> None:
    """Both when the leader is still waiting for ZooKeeper, and when it has given up its term."""

    async def main() -> None:
        async with zookeeper_server() as zookeeper, cluster(mariadb, zookeeper.hosts, tmp_path, count=2) as nodes:
            with nodes.reader() as reader, nodes.writer() as writer:
                await _load(writer, reader)
                leader = await nodes.leader()
                zookeeper.kill()
                await eventually(lambda: _says(leader, until), within_s=PATIENCE_S, what=until)
                await zookeeper.restart()
                await _load(writer, reader)
                writer.stop()
                verdict = await nodes.judge(reader.checker)
            assert verdict.holds, verdict

    asyncio.run(main())


@pytest.mark.parametrize("run", [mariadb_server, mysql_server])
def test_the_database_killed_and_restarted_in_mid_stream(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with run() as source, zookeeper_server() as zookeeper:
            async with cluster(source, zookeeper.hosts, tmp_path, count=1) as nodes:
                with nodes.reader() as reader, nodes.writer(outlives_server=True) as writer:
                    await _load(writer, reader)
                    source.kill()
                    await source.restart()
                    await _load(writer, reader)
                    writer.stop()
                    verdict = await nodes.judge(reader.checker)
            assert verdict.holds, verdict

    asyncio.run(main())


def test_a_node_that_starts_before_zookeeper_waits_for_it_and_says_so_once(
    mariadb: DatabaseServer, tmp_path: Path
) -> None:
    async def main() -> None:
        async with zookeeper_server() as zookeeper:
            zookeeper.kill()
            node = NodeProcess(ClusterPlan(tmp_path, zookeeper.hosts, mariadb, session_timeout_s=2.0), "early")
            starting = asyncio.create_task(node.start())
            await eventually(lambda: _says(node, "cannot be reached yet"), within_s=PATIENCE_S, what="it says so")
            await zookeeper.restart()
            await starting
            assert _says(node, "cannot be reached yet") == 1
            await node.process.stop()
            assert node.process.exit_status == 0

    asyncio.run(main())


def test_a_node_that_waits_for_zookeeper_can_be_stopped(mariadb: DatabaseServer, tmp_path: Path) -> None:
    async def main() -> None:
        async with zookeeper_server() as zookeeper:
            zookeeper.kill()
            node = NodeProcess(ClusterPlan(tmp_path, zookeeper.hosts, mariadb, session_timeout_s=2.0), "early")
            node.process.spawn()
            await eventually(lambda: _says(node, "cannot be reached yet"), within_s=PATIENCE_S, what="it says so")
            await node.process.stop()
            assert node.process.exit_status == 0
            assert "Traceback" not in node.process.log_text()

    asyncio.run(main())


def _says(node: NodeProcess, words: str) -> int:
    return node.process.log_text().count(words)


@pytest.mark.parametrize("ends", ["kill", "stop"])
def test_an_embedded_node_goes_on_where_it_was(ends: str, mariadb: DatabaseServer, tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(mariadb, "", tmp_path, count=1) as nodes:
            (node,) = nodes.nodes
            with nodes.reader() as reader, nodes.writer() as writer:
                await _load(writer, reader)
                if ends == "kill":
                    node.process.kill()
                else:
                    await node.process.stop()
                    assert node.process.exit_status == 0
                await node.start()
                await _load(writer, reader)
                writer.stop()
                verdict = await nodes.judge(reader.checker)
            assert verdict.holds, verdict

    asyncio.run(main())
