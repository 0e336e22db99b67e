"""Nodes that share several instances on the in-memory coordinator, placed as real nodes are, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from ha_canal.cluster.election import WithdrawnError, campaign
from ha_canal.cluster.follow import register_candidate
from ha_canal.cluster.layout import Layout, NodeCard
from ha_canal.cluster.orders import OrderDesk
from ha_canal.cluster.placement import Seat
from ha_canal.cluster.seating import Chair, Seating, seating
from ha_canal.testing.coordinator import MemoryCoordinator, MemoryEnsemble

SETTLE_S = 30.0
LAYOUT = Layout()


class Crowd:
    """The cluster. ``history`` holds each election: (virtual seconds, instance, node)."""

    def __init__(self, seats: Sequence[Seat], names: Sequence[str]) -> None:
        self.seats = seats
        self.history: list[tuple[float, str, str]] = []
        self.members = {name: Member(name, self) for name in names}
        self.ensemble = MemoryEnsemble()

    @property
    def leaders(self) -> dict[str, str]:
        """Who may put out at this moment, by instance; asserts that it is one."""
        found: dict[str, str] = {}
        for member in self.members.values():
            for name in member.leads:
                assert name not in found, f"{name} is led by {found[name]} and {member.name}"
                found[name] = member.name
        return found

    def counts(self) -> list[int]:
        return [list(self.leaders.values()).count(name) for name in self.members]

    def elections(self, name: str) -> list[str]:
        return [node for _, instance, node in self.history if instance == name]


class Member:
    """One node."""

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.address = f"{name}:1"
        self.crowd = crowd
        self.coordinator: MemoryCoordinator
        self.seating: Seating
        self.desk: OrderDesk
        self.leads: set[str] = set()
        self.hangs = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.coordinator = self.crowd.ensemble.session()
        self._task = asyncio.create_task(self._live(), name=self.name)

    async def stop(self) -> None:
        """Stop cleanly, as SIGTERM does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            assert self._task.cancelled(), self._task
            self._task = None
            self.coordinator.close()

    async def kill(self) -> None:
        """Go without a word: the session ends when the service has waited for long enough."""
        self.coordinator.cut()
        self.leads.clear()
        await self.stop()

    async def _live(self) -> None:
        news = asyncio.Event()
        chairs = {seat: Chair(news) for seat in self.crowd.seats}
        names = [seat.name for seat in chairs]
        card = NodeCard(self.name, frozenset(names))
        async with seating(self.coordinator, LAYOUT, self.address, card, chairs, news) as self.seating:
            self.desk = OrderDesk(self.coordinator, LAYOUT, self.seating.look)
            async with asyncio.TaskGroup() as tasks:
                for seat, chair in chairs.items():
                    tasks.create_task(self._contend(seat.name, chair))
                async with register_candidate(
                    self.coordinator, LAYOUT, self.address, *names, card=card, settles_in_s=SETTLE_S
                ):
                    await asyncio.Event().wait()

    async def _contend(self, name: str, chair: Chair) -> None:
        paths = LAYOUT.instance(name)
        async with campaign(
            self.coordinator, paths, address=self.address, node=self.name, sight=chair.sight
        ) as contest:
            while True:
                await chair.until_ours()
                if self.hangs:
                    await asyncio.Event().wait()
                try:
                    async with contest.lease(chair.until_not_ours):
                        self.crowd.history.append((asyncio.get_running_loop().time(), name, self.name))
                        self.leads.add(name)
                        await chair.until_called_away()
                except WithdrawnError:
                    pass
                finally:
                    self.leads.discard(name)
                await asyncio.sleep(0.2)


@asynccontextmanager
async def crowd(*names: str, seats: Sequence[Seat], start: Sequence[str] | None = None) -> AsyncIterator[Crowd]:
    """Run nodes that all can run all of ``seats``; those of ``start`` from the beginning (None: all)."""
    made = Crowd(seats, names)
    async with AsyncExitStack() as stack:
        for member in made.members.values():
            stack.push_async_callback(member.stop)
            if start is None or member.name in start:
                member.start()
        yield made
