"""A process of its own that leads an instance until it is ended: ``child_leader.py HOSTS ROOT TIMEOUT_S NAME``.

Prints one line per thing that happens: ``leads EPOCH``, ``lost EPOCH``, ``refused EPOCH`` (a write after the lease was
lost). Each line begins with the monotonic clock, which all processes of a machine share. Its output is a line
``out EPOCH`` about every 20 ms while its lease is valid.
"""

from __future__ import annotations

import asyncio
import sys
import time

from ha_canal.cluster.coordinator import Check, ConflictError, Operation, Set, until_connected
from ha_canal.cluster.election import campaign
from ha_canal.cluster.layout import Layout
from ha_canal.cluster.lease import Lease
from ha_canal.cluster.session import ZookeeperCoordinator, zookeeper_session
from ha_canal.errors import CoordinatorLostError


def say(word: str, epoch: int) -> None:
    print(f"{time.monotonic():.4f} {word} {epoch}", flush=True)


async def put_out(lease: Lease) -> None:
    while True:
        if lease.valid():
            say("out", lease.epoch)
        await asyncio.sleep(0.02)


async def lead(session: ZookeeperCoordinator, root: str, name: str) -> None:
    paths = Layout(root).instance("shop")
    async with campaign(session, paths, address=f"{name}:1", node=name) as contest:
        while True:
            async with contest.lease() as lease:
                say("leads", lease.epoch)
                node = await session.read(paths.epoch)
                assert node is not None
                fence = Check(paths.epoch, node.version)
                await put_out(lease)
            say("lost", lease.epoch)
            await write_late(session, [fence, Set(paths.epoch, node.data)], lease.epoch)


async def write_late(session: ZookeeperCoordinator, operations: list[Operation], epoch: int) -> None:
    """Do what a leader that missed its end would do, as soon as it reaches ZooKeeper again."""
    while True:
        await until_connected(session)
        try:
            await session.commit(operations)
        except ConflictError:
            return say("refused", epoch)
        except CoordinatorLostError:
            continue
        return say("written", epoch)


async def main(hosts: str, root: str, timeout_s: str, name: str) -> None:
    async with zookeeper_session(hosts, timeout_s=float(timeout_s)) as session:
        await lead(session, root, name)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
