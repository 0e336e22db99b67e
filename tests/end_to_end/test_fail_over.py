"""The leader is killed, stopped or frozen under load: another node goes on, and the client gets everything once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ha_canal.testing.checker import Checker
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.nodes import NodeProcess
from ha_canal.testing.workload import Arrival, Reader, Writer
from ha_canal.testing.zookeeper import ZookeeperServer
from tests.end_to_end.cluster import PATIENCE_S, Cluster, cluster

_LOAD = 100
_HANDOVER_S = 1.0


async def _load(writer: Writer, *readers: Reader) -> None:
    """Return when some more transactions were written and all clients together got some of them."""
    target, delivered = writer.transactions + _LOAD, readers[0].checker.delivered
    await eventually(
        lambda: writer.transactions >= target and readers[0].checker.delivered > delivered,
        within_s=PATIENCE_S,
        what="changes flow",
    )


async def _next_epoch(*readers: Reader) -> Arrival:
    """Return the first batch of a later leader than the one that gives batches now."""
    epoch = max(reader.epoch for reader in readers)

    def first() -> Arrival | None:
        for reader in readers:
            reader.check()
            if arrival := reader.arrival_after(epoch):
                return arrival
        return None

    return await eventually(first, within_s=PATIENCE_S, what=f"a leader after epoch {epoch} gives batches")


@pytest.mark.parametrize("flavor", ["mariadb", "mysql"])
def test_two_killed_leaders_lose_nothing_and_repeat_nothing(
    flavor: str, request: pytest.FixtureRequest, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    source: DatabaseServer = request.getfixturevalue(flavor)

    async def main() -> None:
        async with cluster(source, zookeeper.hosts, tmp_path, root=zookeeper_root) as nodes:
            with nodes.reader() as reader, nodes.writer() as writer:
                for _ in range(2):
                    await _load(writer, reader)
                    leader = await nodes.leader()
                    recovered = asyncio.create_task(_next_epoch(reader))
                    leader.process.kill()
                    await recovered
                    await leader.start()
                await _load(writer, reader)
                writer.stop()
                verdict = await nodes.judge(reader.checker)
            assert verdict.holds, verdict

    asyncio.run(main())


def test_a_clean_stop_hands_over_in_well_under_a_second(
    mariadb: DatabaseServer, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with cluster(mariadb, zookeeper.hosts, tmp_path, root=zookeeper_root) as nodes:
            with nodes.reader() as reader, nodes.writer() as writer:
                await _load(writer, reader)
                leader = await nodes.leader()
                began_s = time.monotonic()
                stopping = asyncio.create_task(leader.process.stop())
                arrival = await _next_epoch(reader)
                await stopping
                writer.stop()
                verdict = await nodes.judge(reader.checker)
            assert arrival.at_s - began_s < _HANDOVER_S
            assert leader.process.exit_status == 0
            assert "Traceback" not in leader.process.log_text()
            assert verdict.holds, verdict

    asyncio.run(main())


def test_a_frozen_leader_that_wakes_up_delivers_nothing_more(
    mariadb: DatabaseServer, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    async def main() -> None:
        checker = Checker()  # of both clients: they have the same client id
        async with cluster(mariadb, zookeeper.hosts, tmp_path, root=zookeeper_root) as nodes:
            with nodes.writer() as writer, nodes.reader(checker) as first:
                await _load(writer, first)
                frozen = await nodes.leader()
                frozen.process.pause()
                await nodes.leader(not_among=[frozen])
                others = [node.address for node in nodes.nodes if node is not frozen]
                with Reader(others, checker=checker) as second:
                    await eventually(lambda: second.epoch > first.epoch, within_s=PATIENCE_S, what="another serves")
                    frozen.process.resume()
                    await eventually(
                        lambda: _state(nodes, frozen) == "stand-by", within_s=PATIENCE_S, what="the old leader gave up"
                    )
                    await _load(writer, second)
                    writer.stop()
                    verdict = await nodes.judge(checker)
            assert frozen.process.running
            _assert_epochs_rise([*first.arrivals, *second.arrivals])
            assert verdict.holds, verdict

    asyncio.run(main())


def _state(nodes: Cluster, node: NodeProcess) -> str:
    said = nodes.instance(node.address)
    return said.state if said else ""


def _assert_epochs_rise(arrivals: list[Arrival]) -> None:
    epochs = [arrival.epoch for arrival in sorted(arrivals, key=lambda arrival: arrival.at_s)]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == 2
