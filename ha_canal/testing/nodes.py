"""Nodes of one cluster as processes, as an operator would run them: `ha-canal serve --config …`, killed with -9.

Ports are chosen beforehand, so a killed node comes back at the same address. An embedded node is a cluster of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from ha_canal.protos import canal_pb2, canal_pb2_grpc
from ha_canal.testing.database import CANAL_PASSWORD, CANAL_USER, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.process import ServerProcess, free_port

_TAIL = 3_000
_ERROR = re.compile(r"(?: *\| )?([A-Za-z_][\w.]*(?::.*)?)")
"""The line of an error; those of groups stand behind a bar."""
_FAULTS = ("Traceback", "fault of this program", "was never retrieved", "stopped: ", "is stuck for")
_TEMPLATE = """\
[node]
name = "{name}"
listen = "{address}"
client_lease_s = {lease_s}

[cluster]
{coordinator}
session_timeout_s = {session_timeout_s}

[[instance]]
name = "{instance}"
filter = '{filter}'
start = "{start}"

[instance.source]
host = "{host}"
port = {port}
user = "{user}"
password = "{password}"
heartbeat_s = 1.0
use_gtids = {use_gtids}

[instance.ring]
max_bytes = {ring_bytes}
"""
_STANDBY = """
[[instance.standbys]]
host = "{host}"
port = {port}
"""
_FAILOVER = """
[instance.failover]
heartbeat_s = 1.0
hold_off_s = 10.0
"""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What all nodes of the cluster share. ``zookeeper``: host:port; ``""``: a node alone, embedded.

    ``source_port``: where the source is reached, if not at its own port. ``env``: the whole environment of the nodes.
    ``standby_ports``: where other servers that hold the same are reached; the source is then given up after 3 s.
    ``state_directory``: where an embedded node keeps its state file, if not beside the others.
    """

    directory: Path
    zookeeper: str
    source: DatabaseServer
    instance: str = "shop"
    filter: str = r"shop\..*"
    root: str = "/otter/canal"
    session_timeout_s: float = 4.0
    lease_s: float = 10.0
    ring_bytes: int = 64 * 1024 * 1024
    start: str = "latest"
    user: str = CANAL_USER
    password: str = CANAL_PASSWORD
    source_port: int = 0
    standby_ports: Sequence[int] = ()
    use_gtids: bool = True
    env: Mapping[str, str] | None = None
    state_directory: Path | None = None

    def state_file(self, node: str) -> Path:
        """Where an embedded node of this name keeps its state."""
        return (self.state_directory or self.directory) / f"{node}.state"


class NodeProcess:
    """One node. ``address`` is where it serves gRPC, and how the cluster calls it."""

    def __init__(self, plan: ClusterPlan, name: str) -> None:
        self.name = name
        self.plan = plan
        self.address = f"127.0.0.1:{free_port()}"
        config = plan.directory / f"{name}.toml"
        config.write_text(
            _TEMPLATE.format(
                name=name,
                address=self.address,
                coordinator=_coordinator(plan, name),
                session_timeout_s=plan.session_timeout_s,
                instance=plan.instance,
                filter=plan.filter,
                lease_s=plan.lease_s,
                host=plan.source.host,
                port=plan.source_port or plan.source.port,
                user=plan.user,
                password=plan.password,
                ring_bytes=plan.ring_bytes,
                start=plan.start,
                use_gtids=str(plan.use_gtids).lower(),
            )
            + "".join(_STANDBY.format(host=plan.source.host, port=port) for port in plan.standby_ports)
            + (_FAILOVER if plan.standby_ports else "")
        )
        argv = [sys.executable, "-m", "ha_canal.cli", "serve", "--config", str(config)]
        self.process = ServerProcess(name, argv, log=plan.directory / f"{name}.log", env=plan.env)

    async def start(self) -> None:
        """Start it, and return when it answers gRPC."""
        self.process.spawn()
        await self.process.until(self.answers)

    async def answers(self) -> bool:
        """Whether it answers gRPC now."""
        return await asyncio.to_thread(describe, self.address, timeout_s=1.0) is not None


def _coordinator(plan: ClusterPlan, name: str) -> str:
    if not plan.zookeeper:
        return f'mode = "embedded"\nstate_file = "{plan.state_file(name)}"'
    return f'mode = "zookeeper"\nservers = "{plan.zookeeper}"\nroot = "{plan.root}"'


@contextlib.asynccontextmanager
async def running_nodes(plan: ClusterPlan, count: int = 3) -> AsyncIterator[list[NodeProcess]]:
    """Run the cluster: entered when every node answers, killed when left. An error shows the ends of their logs."""
    nodes = [NodeProcess(plan, f"node-{number}") for number in range(1, count + 1)]
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
    except BaseException as error:
        for node in nodes:
            error.add_note(f"--- the end of {node.name}'s log ({node.address})\n{node.process.log_text()[-_TAIL:]}")
        raise
    finally:
        for node in nodes:
            node.process.kill()


def describe(address: str, *, timeout_s: float = 5.0, local_only: bool = True) -> canal_pb2.DescribeReply | None:
    """Ask a node what it knows; None when it does not answer."""
    with grpc.insecure_channel(address) as channel:
        try:
            return canal_pb2_grpc.CanalStub(channel).Describe(
                canal_pb2.DescribeRequest(local_only=local_only), timeout=timeout_s
            )
        except grpc.RpcError:
            return None


async def leader_of(nodes: Sequence[NodeProcess], instance: str = "shop", *, within_s: float = 30.0) -> NodeProcess:
    """Return the node that runs the instance, as soon as one says so of itself."""
    found: list[NodeProcess] = []

    async def one_leads() -> bool:
        for node in nodes:
            reply = await asyncio.to_thread(describe, node.address, timeout_s=1.0) if node.process.running else None
            if reply and any(
                one.name == instance
                and one.leader == node.address
                and one.state in {"waiting", "running", "connecting"}
                for one in reply.instances
            ):
                found.append(node)
                return True
        return False

    await eventually(one_leads, within_s=within_s, what=f"a node runs {instance}")
    return found[0]


def order_move(address: str, instance: str, to: str) -> None:
    """Order the instance to another node, of the node at ``address``. Raises grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        canal_pb2_grpc.CanalStub(channel).Move(canal_pb2.MoveRequest(instance=instance, to=to), timeout=10)


def is_drained(nodes: Sequence[NodeProcess], client_id: str, instance: str = "shop") -> bool:
    """Whether the node that runs the instance has given the client all that it read, and has an ack for all of it."""
    for node in nodes:
        reply = describe(node.address, timeout_s=1.0) if node.process.running else None
        for one in reply.instances if reply else ():
            for client in one.clients:
                if one.name == instance and client.client_id == client_id:
                    return client.behind_items == 0 and client.batches_in_flight == 0
    return False


def faults_logged(nodes: Sequence[NodeProcess]) -> list[str]:
    """Return the lines in which nodes say that they met a fault of the program; a sound run has none.

    A traceback is told by its first line and the one that names the error.
    """
    return [f"{node.name}: {fault}" for node in nodes for fault in faults_in(node.process.log_text())]


def faults_in(log_text: str) -> list[str]:
    """Return what `faults_logged` tells of one node's log."""
    lines = log_text.splitlines()
    return [
        f"{line} {_error_below(lines[at + 1 :])}" if "Traceback" in line else line
        for at, line in enumerate(lines)
        if any(word in line for word in _FAULTS)
    ]


def _error_below(lines: Sequence[str]) -> str:
    """Return the line of a traceback that names the error, "" if the log goes on, or ends, before it."""
    for line in lines:
        if line[:1].isdigit():  # the time of the next entry
            break
        if error := _ERROR.fullmatch(line):
            return error[1]
    return ""


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds now (proc(5), VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
