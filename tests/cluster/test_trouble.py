"""Trouble with a real ensemble of three: instances stop or go on as the machine says, and nobody restarts anything.

Two nodes contend all the time; whatever happens, never two of them may put out at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from ha_canal.cluster.coordinator import LinkState
from ha_canal.cluster.election import campaign
from ha_canal.cluster.layout import Layout
from ha_canal.cluster.lease import Lease
from ha_canal.cluster.session import ZookeeperCoordinator, zookeeper_session
from ha_canal.errors import CanalError
from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy
from ha_canal.testing.zookeeper import ZookeeperEnsemble, ZookeeperServer, zookeeper_ensemble

SHOP = Layout().instance("shop")
CURSOR = SHOP.client("search").cursor
TIMEOUT_S = 6.0
PATIENCE_S = 60.0


class Node:
    """Contends for ever; ``leases`` holds all that it was given. ``proxies`` are its links to the members."""

    def __init__(self, name: str, session: ZookeeperCoordinator, proxies: list[FaultProxy]) -> None:
        self.name = name
        self.session = session
        self.proxies = proxies
        self.leases: list[Lease] = []

    @property
    def puts_out(self) -> bool:
        return bool(self.leases) and self.leases[-1].valid()

    async def live(self) -> None:
        async with campaign(self.session, SHOP, address=f"{self.name}:1", node=self.name) as contest:
            while True:
                async with contest.lease() as lease:
                    self.leases.append(lease)
                    await lease.lost.wait()


class Pair:
    """The two nodes, and their ensemble."""

    def __init__(self, ensemble: ZookeeperEnsemble, nodes: list[Node]) -> None:
        self.ensemble = ensemble
        self.nodes = nodes

    @property
    def leader(self) -> Node | None:
        leading = [node for node in self.nodes if node.puts_out]
        assert len(leading) <= 1, [node.name for node in leading]
        return leading[0] if leading else None

    async def never_two(self) -> None:
        while True:
            _ = self.leader
            await asyncio.sleep(0.01)

    async def until_led(self, *, but_not_by: Node | None = None) -> Node:
        """Return who leads, once it can write."""

        async def led() -> Node | None:
            node = self.leader
            if node is None or node is but_not_by:
                return None
            try:
                await node.leases[-1].write_fenced({CURSOR: node.name.encode()})
            except CanalError:
                return None
            return node

        return await eventually(led, within_s=PATIENCE_S, what="somebody leads and writes")

    async def until_silent(self) -> None:
        await eventually(lambda: self.leader is None, within_s=PATIENCE_S, what="nobody puts out")


@asynccontextmanager
async def pair(timeout_s: float = TIMEOUT_S) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        ensemble = await stack.enter_async_context(zookeeper_ensemble())
        made = Pair(ensemble, [])
        for name in ("a", "b"):
            proxies = [await stack.enter_async_context(_proxy(server)) for server in ensemble.servers]
            hosts = ",".join(f"{proxy.host}:{proxy.port}" for proxy in proxies)
            session = await stack.enter_async_context(zookeeper_session(hosts, timeout_s=timeout_s))
            made.nodes.append(Node(name, session, proxies))
        tasks = [asyncio.create_task(node.live()) for node in made.nodes]
        watcher = asyncio.create_task(made.never_two())
        try:
            yield made
        finally:
            assert not watcher.done(), watcher
            for task in (*tasks, watcher):
                task.cancel()
            await asyncio.wait((*tasks, watcher))


@asynccontextmanager
async def _proxy(server: ZookeeperServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.host, server.port) as proxy:
        yield proxy


def run(body: Callable[[Pair], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), pair() as both:
            await body(both)

    asyncio.run(main())


async def _members(ensemble: ZookeeperEnsemble) -> tuple[ZookeeperServer, list[ZookeeperServer]]:
    """Return the member that leads the ensemble, and the others."""
    leader = await ensemble.leader()
    assert leader is not None
    return leader, [server for server in ensemble.servers if server is not leader]


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_a_lost_member_ends_no_epoch(which: str) -> None:
    async def body(both: Pair) -> None:
        node = await both.until_led()
        leader, others = await _members(both.ensemble)
        (leader if which == "leader" else others[0]).kill()
        assert await both.until_led() is node
        assert node.leases[-1].epoch == 1

    run(body)


def test_all_members_lost_and_back_silence_the_leader_and_then_one_leads_again() -> None:
    async def body(both: Pair) -> None:
        await both.until_led()
        for server in both.ensemble.servers:
            server.kill()
        await both.until_silent()
        for server in both.ensemble.servers:
            server.launch()
        await asyncio.gather(*(server.serves() for server in both.ensemble.servers))
        await both.until_led()

    run(body)


def test_an_expired_session_is_followed_by_another_one_that_contends() -> None:
    async def body(both: Pair) -> None:
        first = await both.until_led()
        lost, session_id = first.leases[-1], first.session.session.id
        for proxy in first.proxies:
            proxy.black_hole()
        second = await both.until_led(but_not_by=first)
        assert lost.lost.is_set()
        assert second.leases[-1].epoch == 2
        for proxy in first.proxies:
            proxy.heal()
        await eventually(
            lambda: first.session.session.state is LinkState.CONNECTED and first.session.session.id != session_id,
            within_s=PATIENCE_S,
            what="it has a new session",
        )
        for proxy in second.proxies:
            proxy.black_hole()
        assert await both.until_led(but_not_by=second) is first
        assert first.leases[-1].epoch == 3

    run(body)


def test_a_second_of_latency_changes_nothing() -> None:
    async def body(both: Pair) -> None:
        node = await both.until_led()
        for each in both.nodes:
            for proxy in each.proxies:
                proxy.delay(0.5)  # each way
        for _ in range(4):
            proof_s = node.session.session.last_proof_s
            await eventually(
                lambda proof_s=proof_s: node.session.session.last_proof_s > proof_s,  # type: ignore[misc] # as elsewhere
                within_s=PATIENCE_S,
                what="a newer proof of life",
            )
        assert await both.until_led() is node
        assert node.leases[-1].epoch == 1

    run(body)


def test_a_member_that_serves_readers_alone_lets_nobody_lead_and_with_a_majority_all_goes_on() -> None:
    async def body(both: Pair) -> None:
        await both.until_led()
        _, (alone, other) = await _members(both.ensemble)
        killed = [server for server in both.ensemble.servers if server is not alone]
        assert other in killed
        for server in killed:
            server.kill()
        await both.until_silent()

        async def is_read_only() -> bool:
            return await alone.mode() == "read-only"

        await eventually(is_read_only, within_s=PATIENCE_S, what="the last member serves readers")
        assert all(node.session.session.state is not LinkState.CONNECTED for node in both.nodes)
        for server in killed:
            server.launch()
        await both.until_led()

    run(body)
