"""Elections on a real ZooKeeper: clean hand-over, kill -9, SIGSTOP, and links that break."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ha_canal.cluster.coordinator import Create, LinkState
from ha_canal.cluster.election import campaign
from ha_canal.cluster.follow import read_leader
from ha_canal.cluster.layout import InstancePaths, Layout, RunningNode
from ha_canal.cluster.session import zookeeper_session
from ha_canal.errors import CoordinatorLostError, UsageError
from ha_canal.testing.eventually import eventually
from ha_canal.testing.process import free_port
from ha_canal.testing.proxy import FaultProxy
from ha_canal.testing.zookeeper import ZookeeperServer, zookeeper_ensemble

TIMEOUT_S = 2.0
TICK_S = 0.5
ROOT = Path(__file__).parents[2]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(limited())


class Child:
    """A process that leads when it can; ``lines`` holds what it said: (monotonic seconds, word, epoch)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[tuple[float, str, int]] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            at, word, epoch = line.decode().split()
            self.lines.append((float(at), word, int(epoch)))

    def first(self, word: str) -> tuple[float, int] | None:
        return next(((at, epoch) for at, said, epoch in self.lines if said == word), None)

    def last_s(self, word: str) -> float:
        return max(at for at, said, _ in self.lines if said == word)


@asynccontextmanager
async def child(hosts: str, root: str, name: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Child]:
    script = str(Path(__file__).with_name("child_leader.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        hosts,
        root,
        str(timeout_s),
        name,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    it = Child(process)
    reading = asyncio.create_task(it.read())
    try:
        yield it
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


def shop(root: str) -> InstancePaths:
    return Layout(root).instance("shop")


def test_clean_stop_hands_over_in_well_under_a_second(zookeeper: ZookeeperServer, zookeeper_root: str) -> None:
    async def main() -> None:
        loop, paths = asyncio.get_running_loop(), shop(zookeeper_root)
        async with (
            zookeeper_session(zookeeper.hosts, timeout_s=TIMEOUT_S) as first,
            zookeeper_session(zookeeper.hosts, timeout_s=TIMEOUT_S) as second,
            campaign(second, paths, address="b:1", node="b") as other,
        ):
            async with campaign(first, paths, address="a:1", node="a") as one, one.lease() as lease:
                waiting = asyncio.ensure_future(_first_epoch(other))
                await lease.write_fenced({paths.client("search").cursor: b"{}"})
                await eventually(lambda: other.leader, what="the other sees the leader")
                assert other.leader == RunningNode("a:1", "a", first.session.id)
            stopped_s = loop.time()
            assert await waiting == lease.epoch + 1
            assert loop.time() - stopped_s < 0.5
        with pytest.raises(CoordinatorLostError):
            await read_leader(second, paths)

    run(main())


async def _first_epoch(contest: Any) -> int:
    async with contest.lease() as lease:
        epoch: int = lease.epoch
        return epoch


def test_kill_9_of_the_leader_lets_another_take_over(zookeeper: ZookeeperServer, zookeeper_root: str) -> None:
    async def main() -> None:
        loop, hosts = asyncio.get_running_loop(), zookeeper.hosts
        async with child(hosts, zookeeper_root, "a") as a:
            await eventually(lambda: a.first("out"), what="the child leads, and puts out")
            async with (
                zookeeper_session(hosts, timeout_s=TIMEOUT_S) as session,
                campaign(session, shop(zookeeper_root), address="b:1", node="b") as contest,
            ):
                waiting = asyncio.ensure_future(_first_epoch(contest))
                a.process.kill()
                killed_s = loop.time()
                assert await waiting == 2
                assert loop.time() - killed_s < TIMEOUT_S + TICK_S + 1

    run(main())


@pytest.mark.parametrize("fault", ["black hole", "cut and refused", "only answers lost"])
def test_a_cut_off_leader_falls_silent_before_the_next_one_starts(
    zookeeper: ZookeeperServer, zookeeper_root: str, fault: str
) -> None:
    async def main() -> None:
        async with (
            FaultProxy(zookeeper.host, zookeeper.port) as proxy,
            child(f"{proxy.host}:{proxy.port}", zookeeper_root, "a") as a,
        ):
            await eventually(lambda: a.first("out"), what="a leads, and puts out")
            async with child(zookeeper.hosts, zookeeper_root, "b") as b:
                await _break(proxy, fault)
                began_s, epoch = await eventually(lambda: b.first("leads"), within_s=20, what="b leads")
                assert epoch == 2
                ended_s = a.last_s("out")
                assert ended_s < began_s
                proxy.heal()
                await eventually(lambda: a.first("refused"), within_s=20, what="the stale write is refused")
                assert a.last_s("out") == ended_s

    run(main())


async def _break(proxy: FaultProxy, fault: str) -> None:
    match fault:
        case "black hole":
            proxy.black_hole()
        case "only answers lost":
            proxy.black_hole("down")
        case _:
            await proxy.cut(refuse=True)


def test_a_stopped_leader_is_silent_when_it_wakes(zookeeper: ZookeeperServer, zookeeper_root: str) -> None:
    async def main() -> None:
        async with child(zookeeper.hosts, zookeeper_root, "a") as a:
            await eventually(lambda: a.first("out"), what="a leads, and puts out")
            async with child(zookeeper.hosts, zookeeper_root, "b") as b:
                a.process.send_signal(signal.SIGSTOP)
                began_s, _ = await eventually(lambda: b.first("leads"), within_s=20, what="b leads")
                a.process.send_signal(signal.SIGCONT)
                await eventually(lambda: a.first("refused"), within_s=20, what="the stale write is refused")
                assert a.last_s("out") < began_s

    run(main())


def test_a_short_cut_keeps_session_epoch_and_lease(zookeeper: ZookeeperServer, zookeeper_root: str) -> None:
    async def main() -> None:
        async with (
            FaultProxy(zookeeper.host, zookeeper.port) as proxy,
            zookeeper_session(f"{proxy.host}:{proxy.port}", timeout_s=4) as session,
            campaign(session, shop(zookeeper_root), address="a:1", node="a") as contest,
            contest.lease() as lease,
        ):
            before = session.session
            await proxy.cut()
            await eventually(lambda: not lease.valid(), what="output pauses")
            await lease.until_valid()
            assert session.session.id == before.id
            assert session.session.link > before.link
            await lease.write_fenced({shop(zookeeper_root).parse: b"{}"})

    run(main())


def test_a_lost_session_comes_back_as_another(zookeeper: ZookeeperServer) -> None:
    async def main() -> None:
        async with (
            FaultProxy(zookeeper.host, zookeeper.port) as proxy,
            zookeeper_session(f"{proxy.host}:{proxy.port}", timeout_s=TIMEOUT_S) as session,
        ):
            seen = [session.session]
            first = seen[0].id
            await proxy.cut(refuse=True)
            await eventually(lambda: session.session.state is LinkState.SUSPENDED, what="suspended")
            with pytest.raises(CoordinatorLostError, match="suspended"):
                await session.read("/")
            await eventually(_ended(zookeeper, first), within_s=10, what="the server has ended the session")
            assert session.session.state is LinkState.SUSPENDED
            watching = asyncio.create_task(_states_until_connected(session, seen))
            proxy.heal()
            await watching
            states = [at.state for at in seen[1:]]
            assert LinkState.LOST in states
            assert states[-1] is LinkState.CONNECTED
            assert session.session.id not in ("", first)

    run(main())


def _ended(server: ZookeeperServer, session_id: str) -> Any:
    async def ended() -> bool:
        return session_id not in await server.ask("dump")

    return ended


async def _states_until_connected(session: Any, seen: list[Any]) -> None:
    seen.append(session.session)
    while seen[-1].state is not LinkState.CONNECTED:
        seen.append(await session.session_changed(seen[-1]))


def test_the_granted_timeout_is_known(zookeeper: ZookeeperServer) -> None:
    async def main() -> None:
        async with zookeeper_session(zookeeper.hosts, timeout_s=90) as session:
            assert session.session.timeout_s == pytest.approx(40, abs=0.01)
        async with zookeeper_session(zookeeper.hosts, timeout_s=5) as session:
            assert session.session.timeout_s == pytest.approx(5, abs=0.01)

    run(main())


def test_proofs_of_life_keep_coming(zookeeper: ZookeeperServer) -> None:
    async def main() -> None:
        async with zookeeper_session(zookeeper.hosts, timeout_s=TIMEOUT_S) as session:
            for _ in range(3):
                proof_s = session.session.last_proof_s
                await eventually(
                    lambda proof_s=proof_s: session.session.last_proof_s > proof_s,  # type: ignore[misc] # mypy cannot infer it
                    within_s=TIMEOUT_S / 3,
                    what="a newer proof",
                )

    run(main())


def test_unreachable_at_start_is_said_once_and_ends_at_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with pytest.raises(CoordinatorLostError, match=r"could not be reached in 1\.5 s"):
            async with zookeeper_session(f"127.0.0.1:{free_port()}", timeout_s=TIMEOUT_S, limit_s=1.5):
                pytest.fail("nobody is there")

    with caplog.at_level(logging.INFO):
        run(main())
    assert sum("cannot be reached yet" in record.message for record in caplog.records) == 1
    assert len(caplog.records) <= 2


def test_a_commit_too_big_for_zookeeper_is_refused_here(zookeeper: ZookeeperServer, zookeeper_root: str) -> None:
    async def main() -> None:
        async with zookeeper_session(zookeeper.hosts, timeout_s=TIMEOUT_S) as session:
            with pytest.raises(UsageError, match="takes at most"):
                await session.commit([Create(f"{zookeeper_root}/big", b"x" * 1_000_001)])
            assert session.session.state is LinkState.CONNECTED

    run(main())


def test_an_ensemble_losing_its_leader_ends_no_lease() -> None:
    async def main() -> None:
        async with (
            zookeeper_ensemble() as ensemble,
            zookeeper_session(ensemble.hosts, timeout_s=8) as session,
            campaign(session, shop("/otter/canal"), address="a:1", node="a") as contest,
            contest.lease() as lease,
        ):
            leader = await ensemble.leader()
            assert leader is not None
            leader.kill()
            await eventually(lambda: not lease.valid(), what="output pauses")
            await lease.until_valid()
            await lease.write_fenced({shop("/otter/canal").parse: b"{}"})

    run(main())
