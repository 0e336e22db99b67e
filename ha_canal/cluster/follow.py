"""Keeping an eye on a node: every sight of it, through cuts and new sessions; and what is built from that.

`look` is the one place that sets a watch and waits for the link to come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from ha_canal.backoff import Backoff, Trouble
from ha_canal.cluster.coordinator import (
    ConflictError,
    Coordinator,
    Create,
    Delete,
    Node,
    Operation,
    Set,
    Watched,
    until_connected,
)
from ha_canal.cluster.layout import InstancePaths, Layout, NodeCard, RunningNode
from ha_canal.errors import CanalError, CoordinatorLostError, UsageError

log = logging.getLogger(__name__)

_BACKOFF = Backoff(initial_s=0.05, max_s=1.0)


async def look(coordinator: Coordinator, path: str) -> Watched:
    """Return the node and the event of its next change, as soon as the link allows."""
    trouble = Trouble(f"watching {path}", log)
    for delay_s in _BACKOFF:
        await until_connected(coordinator)
        try:
            watched = await coordinator.watch(path)
        except CoordinatorLostError as error:
            trouble.met(error)
            await asyncio.sleep(delay_s)
        else:
            trouble.over()
            return watched
    raise AssertionError("delays never end")


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of these is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


# Who runs an instance -------------------------------------------------------------------------------------------------


async def read_leader(coordinator: Coordinator, paths: InstancePaths) -> RunningNode | None:
    """Return who runs the instance, None if nobody does. Raises CoordinatorLostError; UsageError for garbage there."""
    node = await coordinator.read(paths.running)
    return None if node is None else RunningNode.from_json(node.data, paths.running)


class LeaderSight:
    """Who runs an instance, as last seen: good for telling clients where to go, never for deciding who may write."""

    def __init__(self, news: asyncio.Event | None = None) -> None:
        """``news`` is set at each change, for one who looks at many sights."""
        self.current: RunningNode | None = None
        self._news = news
        self.changed = asyncio.Event()
        """Set at the next change, and then replaced by a new event."""

    def see(self, node: Node | None, where: str) -> None:
        """Take a sight over; garbage counts as nobody, and is logged."""
        leader = None
        if node is not None:
            try:
                leader = RunningNode.from_json(node.data, where)
            except UsageError as error:
                log.warning("cannot tell who runs the instance: %s", error)
        if leader != self.current:
            self.current = leader
            self.changed.set()
            self.changed = asyncio.Event()
            if self._news is not None:
                self._news.set()


@asynccontextmanager
async def watch_leader(coordinator: Coordinator, paths: InstancePaths) -> AsyncIterator[LeaderSight]:
    """Keep `LeaderSight.current` up to date; for those who take no part in the election."""
    sight = LeaderSight()

    async def watching() -> None:
        while True:
            watched = await look(coordinator, paths.running)
            sight.see(watched.node, paths.running)
            await watched.changed.wait()

    async with in_background(asyncio.create_task(watching(), name=f"watch {paths.running}")):
        yield sight


# Being a candidate ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def register_candidate(
    coordinator: Coordinator,
    layout: Layout,
    address: str,
    *names: str,
    card: NodeCard | None = None,
    settles_in_s: float = 0.0,
) -> AsyncIterator[None]:
    """Show this node in the cluster, and as a candidate for the instances ``names``, while the block runs.

    ``address`` is the ``host:port`` that we listen on, so whatever stands there under another session is a dead
    process's, and is replaced. The nodes are made again in each new session. ``card`` is what the cluster is told of
    us; it says that we have settled once a session has lasted for ``settles_in_s``.
    """
    shown = layout.node(address)
    paths = [shown, *(layout.instance(name).candidate(address) for name in names)]
    card = card or NodeCard(instances=frozenset(names))
    keepers = [
        asyncio.create_task(
            _keep(coordinator, path, card if path == shown else None, settles_in_s), name=f"keep {path}"
        )
        for path in paths
    ]
    try:
        async with in_background(*keepers):
            yield
    finally:
        with suppress(CanalError):  # cut off, or gone already: they end with the session
            await _withdraw(coordinator, {path: await coordinator.read(path) for path in paths})


async def _keep(coordinator: Coordinator, path: str, card: NodeCard | None, settles_in_s: float) -> None:
    settled = replace(card, settled=True).to_json() if card else b""
    delays = iter(_BACKOFF)
    while True:
        watched = await look(coordinator, path)
        if watched.node is not None and watched.node.owner == coordinator.session.id:
            delays = iter(_BACKOFF)
            if watched.node.data == settled:
                await watched.changed.wait()
            else:
                await _settle(coordinator, path, settled, watched, settles_in_s)
            continue
        stale: list[Operation] = [] if watched.node is None else [Delete(path, watched.node.version)]
        try:
            await coordinator.commit([*stale, Create(path, card.to_json() if card else b"", ephemeral=True)])
        except (ConflictError, CoordinatorLostError) as error:  # it came or went meanwhile, or we are cut off
            log.debug("cannot make %s yet: %s", path, error)
            await asyncio.sleep(next(delays))


async def _settle(coordinator: Coordinator, path: str, settled: bytes, watched: Watched, settles_in_s: float) -> None:
    """Say that we have settled, unless the node changes before that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(settles_in_s):
            await watched.changed.wait()
            return
    with suppress(ConflictError, CoordinatorLostError):  # the next look shows it
        await coordinator.commit([Set(path, settled)])


async def _withdraw(coordinator: Coordinator, nodes: Mapping[str, Node | None]) -> None:
    ours = coordinator.session.id
    await coordinator.commit([Delete(path) for path, node in nodes.items() if node is not None and node.owner == ours])


@asynccontextmanager
async def in_background(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    """Run endless tasks beside the block; one that failed (a bug) is raised when the block ends."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
