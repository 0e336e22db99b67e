"""`ha-canal move` and `ha-canal drain` on real nodes under load: clients lose nothing, and refusals are in words."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.nodes import NodeProcess
from ha_canal.testing.zookeeper import ZookeeperServer
from tests.cli.process import run
from tests.end_to_end.cluster import PATIENCE_S, Cluster, cluster


async def command(asked: NodeProcess, *arguments: str) -> tuple[int, str]:
    """Run a command against a node; returns its exit status and all that it said."""
    done = await asyncio.to_thread(run, *arguments, "--node", asked.address)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def others_than(nodes: Cluster, leader: NodeProcess) -> tuple[NodeProcess, NodeProcess]:
    first, second = (node for node in nodes.nodes if node is not leader)
    return first, second


def test_moves_and_drains_lose_nothing(
    mariadb: DatabaseServer, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with cluster(mariadb, zookeeper.hosts, tmp_path, root=zookeeper_root) as nodes:
            with nodes.reader() as reader, nodes.writer() as writer:
                await eventually(lambda: reader.epoch == 1, within_s=PATIENCE_S, what="changes flow")
                there, asked = others_than(nodes, await nodes.leader())
                status, said = await command(asked, "move", "shop", "--to", there.name)
                assert (status, there.address in said) == (0, True), said
                assert await nodes.leader() is there
                status, said = await command(asked, "drain", there.address)
                assert (status, "1 instance(s) handed over" in said) == (0, True), said
                assert await nodes.leader() is not there
                status, said = await command(asked, "drain", there.name, "--off")
                assert status == 0, said
                await eventually(lambda: reader.epoch >= 3, within_s=PATIENCE_S, what="changes flow on")
                writer.stop()
                verdict = await nodes.judge(reader.checker)
            assert verdict.holds, verdict

    asyncio.run(main())


def test_what_cannot_be_ordered_is_refused_in_words(
    mariadb: DatabaseServer, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with cluster(mariadb, zookeeper.hosts, tmp_path, root=zookeeper_root, count=1) as nodes:
            (node,) = nodes.nodes
            for arguments, words in (
                (("move", "shop", "--to", "nobody"), "there is no live node 'nobody'"),
                (("move", "shoe", "--to", "node-1"), "there is no instance 'shoe'"),
                (("move", "shop", "--to", "node-1"), "runs on node-1 already"),
                (("drain", "nobody"), "there is no live node 'nobody'"),
                (("drain", "node-1", "--off"), "is not drained"),
            ):
                status, said = await command(node, *arguments)
                assert status == 1, said
                assert words in said

    asyncio.run(main())
