"""Everything that a campaign runs, and every link between two of them: composed here, and nowhere else.

Three nodes, an ensemble of three, a primary with its replica, two clients of one client id, of which one waits for the
lock of the other, and beside them an embedded node with a client of its own, whose state file is on a disk that fills.
The three nodes know both servers of the source, and have to choose; the embedded one knows an address that moves.
Each pair that talks to each other does so through a `FaultProxy` of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ha_canal.testing.chaos.disk import SmallDisk, small_disk
from ha_canal.testing.chaos.preload import SteppedClock, preloaded, ways
from ha_canal.testing.chaos.source import Source, running_source
from ha_canal.testing.database import Flavor
from ha_canal.testing.newer_zookeeper import newer_jars
from ha_canal.testing.nodes import ClusterPlan, NodeProcess
from ha_canal.testing.process import ServerProcess
from ha_canal.testing.proxy import FaultProxy
from ha_canal.testing.workload import CLIENT_ID, create_tables
from ha_canal.testing.zookeeper import JARS, ZookeeperEnsemble, zookeeper_ensemble

NODES = 3
CLIENTS = ("client-1", "client-2")
EMBEDDED_CLIENT = "client-of-embedded"
CLUSTERED, EMBEDDED = "shop", "alone"
"""The instances; a source knows its readers apart by ids made from these names."""
_TICK_MS = 100
"""ZooKeeper ends sessions at multiples of its tick: a coarse one would be measured as ours."""
_LEASE_S = 3.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What the stage is set for. ``use_gtids`` False: nodes go by files and offsets, as on servers without GTIDs.

    ``newer_zookeeper``: not the installed one, which loses what it has confirmed.
    """

    directory: Path
    flavor: Flavor
    session_timeout_s: float
    use_gtids: bool = True
    newer_zookeeper: bool = True


class Member:
    """A node of the cluster, with its links and its clock."""

    def __init__(
        self,
        node: NodeProcess,
        clock: SteppedClock,
        to_zookeeper: Sequence[FaultProxy],
        to_sources: Sequence[FaultProxy],
    ) -> None:
        self.node = node
        self.clock = clock
        self.to_zookeeper = to_zookeeper
        self.to_sources = to_sources

    @property
    def name(self) -> str:
        return self.node.name


class ClientProcess:
    """A client, each process of which writes a journal of its own. ``links`` are in the order of the nodes."""

    def __init__(
        self, name: str, folder: Path, instance: str, nodes: Sequence[str], links: Sequence[FaultProxy]
    ) -> None:
        self.name = name
        self.links = links
        self._instance = instance
        self._folder = folder
        self._nodes = nodes
        self._lives = 0
        ports = {int(node.rpartition(":")[2]): link.port for node, link in zip(nodes, links, strict=bool(links))}
        self.process = ServerProcess(name, (), log=folder / f"{name}.log", env=preloaded(ways(ports)))

    def start(self) -> None:
        self._lives += 1
        journal = self._folder / f"{self.name}.{self._lives}.journal"
        module = "ha_canal.testing.chaos.client"
        self.process.argv = (sys.executable, "-m", module, str(journal), self._instance, CLIENT_ID, *self._nodes)
        self.process.spawn()


@dataclass(slots=True)
class Stage:
    """All of it, running. ``struck`` are the names of what a fault has in its hands at the moment."""

    scene: Scene
    source: Source
    ensemble: ZookeeperEnsemble
    members: Sequence[Member]
    clients: Sequence[ClientProcess]
    embedded: NodeProcess
    embedded_client: ClientProcess
    disk: SmallDisk
    struck: set[str] = field(default_factory=set)

    @property
    def nodes(self) -> list[NodeProcess]:
        return [member.node for member in self.members]

    def fallen(self) -> list[str]:
        """Return what does not run although no fault has struck it."""
        processes = [member.node.process for member in self.members]
        processes += [client.process for client in (*self.clients, self.embedded_client)]
        processes.append(self.embedded.process)
        return [one.name for one in processes if one.name not in self.struck and not one.running]


@contextlib.asynccontextmanager
async def set_stage(scene: Scene) -> AsyncIterator[Stage]:
    """Run all of it; everything is killed when this is left."""
    async with contextlib.AsyncExitStack() as stack:
        source = await stack.enter_async_context(running_source(scene.flavor))
        create_tables(source.primary)
        jars = await asyncio.to_thread(newer_jars) if scene.newer_zookeeper else JARS
        ensemble = await stack.enter_async_context(zookeeper_ensemble(tick_time_ms=_TICK_MS, linked=True, jars=jars))
        plan = ClusterPlan(
            scene.directory,
            "",
            source.primary,
            session_timeout_s=scene.session_timeout_s,
            lease_s=_LEASE_S,
            start="earliest",  # what is committed before the first client comes counts, too
            use_gtids=scene.use_gtids,
        )
        members = [await _member(stack, plan, ensemble, source, number) for number in range(1, NODES + 1)]
        addresses = [member.node.address for member in members]
        clients = []
        for name in CLIENTS:
            links = [await _proxy(stack, int(address.rpartition(":")[2])) for address in addresses]
            clients.append(ClientProcess(name, scene.directory, CLUSTERED, addresses, links))
        disk = stack.enter_context(small_disk(scene.directory / "small"))
        to_source = await _proxy(stack, source.primary.port)
        source.links.append(to_source)
        own = replace(plan, instance=EMBEDDED, state_directory=disk.folder, source_port=to_source.port)
        embedded = NodeProcess(own, "embedded")
        alone = ClientProcess(EMBEDDED_CLIENT, scene.directory, EMBEDDED, [embedded.address], [])
        made = Stage(scene, source, ensemble, members, clients, embedded, alone, disk)
        stack.callback(_kill_all, made)
        for node in (*made.nodes, embedded):
            await node.start()
        for client in (*clients, alone):
            client.start()
        yield made


async def _member(
    stack: contextlib.AsyncExitStack, plan: ClusterPlan, ensemble: ZookeeperEnsemble, source: Source, number: int
) -> Member:
    name = f"node-{number}"
    to_zookeeper = [await _proxy(stack, server.port) for server in ensemble.servers]
    to_sources = [await _proxy(stack, server.port) for server in source.servers]
    clock = SteppedClock(plan.directory / f"{name}.clock")
    hosts = ",".join(f"{link.host}:{link.port}" for link in to_zookeeper)
    # All nodes call the two servers by the same addresses, and still reach them through links of their own.
    asked = ways({server.port: link.port for server, link in zip(source.servers, to_sources, strict=True)})
    own = replace(
        plan,
        zookeeper=hosts,
        standby_ports=[server.port for server in source.servers[1:]],
        env=preloaded(clock.environment, asked),
    )
    return Member(NodeProcess(own, name), clock, to_zookeeper, to_sources)


async def _proxy(stack: contextlib.AsyncExitStack, port: int) -> FaultProxy:
    return await stack.enter_async_context(FaultProxy("127.0.0.1", port))


def _kill_all(stage: Stage) -> None:
    for node in (*stage.nodes, stage.embedded):
        node.process.kill()
    for client in (*stage.clients, stage.embedded_client):
        client.process.kill()
