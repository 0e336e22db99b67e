"""A cluster of node processes on the session's servers, in a database and below a ZooKeeper root of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ha_canal.protos import canal_pb2
from ha_canal.testing.checker import Checker, Mark, Verdict
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.nodes import (
    ClusterPlan,
    NodeProcess,
    describe,
    faults_logged,
    is_drained,
    leader_of,
    running_nodes,
)
from ha_canal.testing.workload import CLIENT_ID, Reader, Writer, committed, create_tables

SESSION_TIMEOUT_S = 2.0
"""The least that kazoo's pings keep up with."""
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that run the instance `shop` over the database ``schema``."""

    plan: ClusterPlan
    nodes: Sequence[NodeProcess]
    schema: str

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def source(self) -> DatabaseServer:
        return self.plan.source

    def reader(self, checker: Checker | None = None, **options: Any) -> Reader:
        return Reader(self.addresses, checker=checker, **options)

    def writer(self, **options: Any) -> Writer:
        return Writer(self.source, schema=self.schema, **{"pause_s": 0.004, **options})

    async def leader(self, *, not_among: Sequence[NodeProcess] = ()) -> NodeProcess:
        """Return the node that runs the instance."""
        return await leader_of([node for node in self.nodes if node not in not_among], within_s=PATIENCE_S)

    def instance(self, address: str) -> canal_pb2.Instance | None:
        """Return what the node at ``address`` says of its instance; None when it does not answer."""
        reply = describe(address, timeout_s=2.0)
        return reply.instances[0] if reply else None

    async def judge(self, checker: Checker) -> Verdict:
        """Wait until all that was committed was given and acknowledged, and return the verdict."""
        truth: list[Mark] = committed(self.source, self.schema)
        await eventually(lambda: not checker.missing(truth), within_s=PATIENCE_S, what="everything was given")
        await eventually(lambda: is_drained(self.nodes, CLIENT_ID), within_s=PATIENCE_S, what="all was acknowledged")
        assert faults_logged(self.nodes) == []
        return checker.verdict(truth)


@asynccontextmanager
async def cluster(
    source: DatabaseServer, zookeeper: str, directory: Path, *, count: int = 3, root: str = "/otter/canal", **plan: Any
) -> AsyncIterator[Cluster]:
    """Run ``count`` nodes over a new database of ``source``; ``zookeeper`` is host:port, "" for an embedded node."""
    schema = source.create_database("shop")
    create_tables(source, schema)
    options = {"session_timeout_s": SESSION_TIMEOUT_S, "lease_s": 2.0, **plan}
    made = ClusterPlan(directory, zookeeper, source, filter=rf"{schema}\..*", root=root, **options)
    async with running_nodes(made, count) as nodes:
        await leader_of(nodes, within_s=PATIENCE_S)
        yield Cluster(made, nodes, schema)
