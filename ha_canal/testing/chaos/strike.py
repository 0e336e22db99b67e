"""How each kind of fault is done to the stage, and undone again.

A strike is an async context: entered when the fault stands, left when it is healed. Whom it strikes is chosen from
those that play the role at that moment; what another fault has in its hands is not struck twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeAlias

import grpc

from ha_canal.testing.chaos.schedule import Fault
from ha_canal.testing.chaos.stage import CLUSTERED, ClientProcess, Member, Stage
from ha_canal.testing.chaos.watch import Watch
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.nodes import order_move
from ha_canal.testing.proxy import Direction, FaultProxy
from ha_canal.testing.zookeeper import ZookeeperServer

_DIRECTIONS: tuple[Direction, ...] = ("both", "up", "down")
_DELAYS_S = (0.05, 0.3, 1.0)
_STEPS_S = (-86_400, -3_600, -61, 61, 3_600, 86_400)


class NobodyThereError(Exception):
    """Nobody plays the role at the moment, or another fault has struck it already."""


class Striker:
    """Strikes the stage, with what `watch` knows of who plays which role."""

    def __init__(self, stage: Stage, watch: Watch) -> None:
        self.stage = stage
        self._watch = watch

    def strike(self, fault: Fault) -> contextlib.AbstractAsyncContextManager[str]:
        """Return the context in which ``fault`` stands; it says whom it struck.

        Entering it raises NobodyThereError when there is nobody to strike.
        """
        return _STRIKES[fault.kind](self, fault, random.Random(fault.pick))

    @contextlib.contextmanager
    def taken(self, *names: str) -> Iterator[str]:
        """Take these for a fault; returns them as a text. Raises NobodyThereError when one is taken already."""
        if taken := self.stage.struck.intersection(names):
            raise NobodyThereError(f"{', '.join(sorted(taken))}: struck already")
        self.stage.struck.update(names)
        try:
            yield ", ".join(names)
        finally:
            self.stage.struck.difference_update(names)

    def member(self, role: str, chance: random.Random) -> Member:
        leader = self._watch.leader()
        others = [one for one in self.stage.members if one is not leader]
        if role != "leader":
            return chance.choice(others)
        if leader is None:
            raise NobodyThereError("nobody leads")
        return leader

    def client(self, role: str) -> ClientProcess:
        holder = self._watch.holder()
        if holder is None:
            raise NobodyThereError("nobody holds the lock")
        return holder if role == "holder" else next(one for one in self.stage.clients if one is not holder)

    def server(self, role: str) -> DatabaseServer:
        return self.stage.source.primary if role == "source" else self.stage.source.replica

    def zookeepers(self, role: str, chance: random.Random) -> Sequence[ZookeeperServer]:
        servers = self.stage.ensemble.servers
        count = {"zookeeper": 1, "zookeeper-majority": len(servers) // 2 + 1, "zookeeper-all": len(servers)}[role]
        return chance.sample(servers, count)

    def name_of(self, server: ZookeeperServer) -> str:
        return f"zookeeper-{self.stage.ensemble.servers.index(server) + 1}"

    def links(self, between: str, chance: random.Random) -> tuple[str, Sequence[FaultProxy]]:
        """Return the proxies between two roles, and a name for the link."""
        match between:
            case "leader-source" | "stand-by-source":
                member = self.member(between.removesuffix("-source"), chance)
                some = chance.choice((member.to_sources, member.to_sources[:1], member.to_sources[1:]))
                return f"{member.name} to source", some
            case "leader-zookeeper" | "stand-by-zookeeper":
                member = self.member(between.removesuffix("-zookeeper"), chance)
                return f"{member.name} to zookeeper", member.to_zookeeper
            case "holder-nodes":
                client = self.client("holder")
                return f"{client.name} to all nodes", client.links
            case "holder-leader" | "waiting-leader":
                client, leader = self.client(between.removesuffix("-leader")), self.member("leader", chance)
                return f"{client.name} to {leader.name}", [client.links[self.stage.members.index(leader)]]
            case "zookeeper-zookeeper":
                place = chance.randrange(len(self.stage.ensemble.servers))
                links = [one for pair, links in self.stage.ensemble.links.items() if place in pair for one in links]
                return f"zookeeper-{place + 1} to the others", links
        raise AssertionError(between)


Strike: TypeAlias = Callable[[Striker, Fault, random.Random], contextlib.AbstractAsyncContextManager[str]]


@contextlib.asynccontextmanager
async def _kill(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    match fault.target:
        case "leader" | "stand-by":
            node = striker.member(fault.target, chance).node
            process, start = node.process, node.process.spawn
        case "embedded":
            process, start = striker.stage.embedded.process, striker.stage.embedded.process.spawn
        case "holder" | "waiting":
            client = striker.client(fault.target)
            process, start = client.process, client.start
        case _:
            async with _kill_zookeepers(striker, fault, chance) as struck:
                yield struck
            return
    with striker.taken(process.name) as struck:
        process.kill()
        try:
            yield struck
        finally:
            start()


@contextlib.asynccontextmanager
async def _kill_zookeepers(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    servers = striker.zookeepers(fault.target, chance)
    with striker.taken(*map(striker.name_of, servers)) as struck:
        for server in servers:
            server.kill()
        try:
            yield struck
        finally:
            for server in servers:
                server.launch()


@contextlib.asynccontextmanager
async def _pause(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    match fault.target:
        case "leader" | "stand-by":
            process = striker.member(fault.target, chance).node.process
            paused, names = [(process.pause, process.resume)], [process.name]
        case "holder" | "waiting":
            process = striker.client(fault.target).process
            paused, names = [(process.pause, process.resume)], [process.name]
        case "source" | "replica":
            source = striker.server(fault.target)
            paused, names = [(source.pause, source.resume)], ["source"]
        case _:
            servers = striker.zookeepers(fault.target, chance)
            paused, names = [(one.pause, one.resume) for one in servers], list(map(striker.name_of, servers))
    with striker.taken(*names) as struck:
        for pause, _ in paused:
            pause()
        try:
            yield struck
        finally:
            for _, resume in paused:
                resume()


@contextlib.asynccontextmanager
async def _broken_link(
    striker: Striker, fault: Fault, chance: random.Random, break_it: Callable[[FaultProxy], None]
) -> AsyncIterator[str]:
    name, links = striker.links(fault.target, chance)
    with striker.taken(*(f"link through {link.port}" for link in links)):
        for link in links:
            break_it(link)
        try:
            yield name
        finally:
            for link in links:
                link.heal()


@contextlib.asynccontextmanager
async def _cut(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    name, links = striker.links(fault.target, chance)
    with striker.taken(*(f"link through {link.port}" for link in links)):
        for link in links:
            await link.cut(refuse=True)
        try:
            yield name
        finally:
            for link in links:
                link.heal()


def _delay(striker: Striker, fault: Fault, chance: random.Random) -> contextlib.AbstractAsyncContextManager[str]:
    delay_s = chance.choice(_DELAYS_S)
    return _broken_link(striker, fault, chance, lambda link: link.delay(delay_s))


def _half_open(striker: Striker, fault: Fault, chance: random.Random) -> contextlib.AbstractAsyncContextManager[str]:
    direction = chance.choice(_DIRECTIONS)
    return _broken_link(striker, fault, chance, lambda link: link.black_hole(direction))


@contextlib.asynccontextmanager
async def _crash(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    with striker.taken("source") as struck:
        server = striker.server(fault.target)
        server.kill()
        try:
            yield struck
        finally:
            await striker.stage.source.crashed_server_returns(server)


@contextlib.asynccontextmanager
async def _restart(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    with striker.taken("source") as struck:
        yield struck
        await striker.server(fault.target).restart()


@contextlib.asynccontextmanager
async def _promote(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    with striker.taken("source") as struck:
        await striker.stage.source.promote()
        try:
            yield f"{struck}, now server {striker.stage.source.primary.server_id}"
        finally:
            await striker.stage.source.rejoin()


@contextlib.asynccontextmanager
async def _clock(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    member = striker.member(fault.target, chance)
    step_s = chance.choice(_STEPS_S)
    with striker.taken(f"clock of {member.name}") as struck:
        member.clock.step(step_s)
        try:
            yield f"{struck} by {step_s} s"
        finally:
            member.clock.step(0)


@contextlib.asynccontextmanager
async def _disk(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    node, disk = striker.stage.embedded, striker.stage.disk
    with striker.taken("embedded") as struck:
        state_file, pid = node.plan.state_file(node.name), node.process.pid
        await asyncio.to_thread(disk.fill, state_file, pid)
        try:
            yield f"disk of {struck}"
        finally:
            disk.clear(pid)


@contextlib.asynccontextmanager
async def _move(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    leader = striker.member("leader", chance)
    to = chance.choice([one for one in striker.stage.members if one is not leader])
    asked = chance.choice(striker.stage.members)
    with striker.taken("placement"):
        try:
            await asyncio.to_thread(order_move, asked.node.address, CLUSTERED, to.node.address)
        except grpc.RpcError:
            raise NobodyThereError(f"{asked.name} took no order") from None
        yield f"{leader.name} to {to.name}"


@contextlib.asynccontextmanager
async def _stop(striker: Striker, fault: Fault, chance: random.Random) -> AsyncIterator[str]:
    process = striker.member(fault.target, chance).node.process
    with striker.taken(process.name) as struck:
        await process.stop()
        try:
            yield struck
        finally:
            process.spawn()


_STRIKES: dict[str, Strike] = {
    "kill": _kill,
    "pause": _pause,
    "cut": _cut,
    "delay": _delay,
    "half-open": _half_open,
    "crash": _crash,
    "restart": _restart,
    "promote": _promote,
    "clock": _clock,
    "disk": _disk,
    "move": _move,
    "stop": _stop,
}
