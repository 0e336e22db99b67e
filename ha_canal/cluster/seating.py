"""Placement at work on one node: watches the cluster, and says when to contend for an instance and when to leave it.

`ha_canal.cluster.placement` makes the choice; this keeps what it is made from (live nodes, orders, leaders) up to date,
and paces departures. The word of a `Chair` only delays contending or asks for a planned hand-over: whether an instance
may run here is decided by the election alone, whatever stands here.

Invariants: a node that is not the next leader contends all the same when nobody has led for a moment, so a hung or
mistaken neighbour costs that moment and never the instance; a node leaves one instance at a time; an instance whose
successor did not come stays for a while before it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from ha_canal.cluster.coordinator import Coordinator
from ha_canal.cluster.follow import LeaderSight, in_background, look
from ha_canal.cluster.layout import Layout, NodeCard, Orders
from ha_canal.cluster.placement import Seat, Sight, assign, next_leader
from ha_canal.errors import CanalError, UsageError

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long an instance may be without a leader before nodes contend that are not its next one."""
_LOOK_S = 1.0
"""New nodes are noticed within this time; everything else at once."""
_PACE_S = 2.0
"""Between two departures that nobody ordered."""
_NOT_FOLLOWED_S = 30.0
"""How long an instance stays whose successor did not come."""


class Chair:
    """What placement says about one instance on this node; until somebody says so, that it is ours."""

    def __init__(self, news: asyncio.Event | None = None) -> None:
        """``news`` is set when another leads, or nobody."""
        self.sight = LeaderSight(news)
        self.is_ours = True
        """Whether we should contend."""
        self.to = ""
        """Where the instance that we lead should go; "" while it should stay."""
        self.changed = asyncio.Event()
        """Set at the next change, and then replaced by a new event."""

    def say(self, *, is_ours: bool, to: str = "") -> None:
        if (is_ours, to) != (self.is_ours, self.to):
            self.is_ours, self.to = is_ours, to
            self.changed.set()
            self.changed = asyncio.Event()

    async def until_ours(self) -> None:
        """Return when we should contend."""
        while not self.is_ours:
            await self.changed.wait()

    async def until_not_ours(self) -> None:
        """Return when another node should contend instead."""
        while self.is_ours:
            await self.changed.wait()

    async def until_called_away(self) -> str:
        """Return the address of the node that should run the instance in our place, when there is one."""
        while not self.to:
            await self.changed.wait()
        return self.to


class Seating:
    """The chairs of one node; made by `seating`."""

    def __init__(
        self, coordinator: Coordinator, layout: Layout, address: str, card: NodeCard, seats: Mapping[Seat, Chair],
        news: asyncio.Event,
    ) -> None:  # fmt: skip
        self._coordinator = coordinator
        self._layout = layout
        self._address = address
        self._card = card
        self._seats: Sequence[Seat] = tuple(seats)
        self._chairs = {seat.name: chair for seat, chair in seats.items()}
        self._news = news
        self._loop = asyncio.get_running_loop()
        self._nodes: Mapping[str, NodeCard] = {address: card}
        self._orders = Orders()
        self._alone_since: dict[str, float] = {}
        self._leaving = ""
        self._going_since: dict[tuple[str, str], float] = {}
        self._next_departure_s = float("-inf")
        self._stays_until: dict[str, float] = {}

    @property
    def sight(self) -> Sight:
        """The cluster, as seen from here."""
        leaders = {name: chair.sight.current.address for name, chair in self._chairs.items() if chair.sight.current}
        return Sight(self._nodes, self._orders, leaders)

    async def watch(self) -> None:
        """Keep the chairs up to date; ends with its task."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()
            self._news.clear()
            self._take_turns()  # with what is known, at once
            try:
                await self.look()
            except CanalError as error:  # cut off: what was seen last stands, and the election knows what to do
                log.debug("cannot look at the cluster: %s", error)

    async def watch_orders(self) -> None:
        """Have orders followed at once; ends with its task."""
        while True:
            watched = await look(self._coordinator, self._layout.placement)
            self._news.set()
            await watched.changed.wait()

    async def look(self) -> Sight:
        """Read nodes and orders, and decide anew. Raises CoordinatorLostError."""
        addresses = await self._coordinator.children(self._layout.cluster)
        cards = await asyncio.gather(*map(self._read_card, addresses))
        shown = {address: card for address, card in zip(addresses, cards, strict=True) if card is not None}
        node = await self._coordinator.read(self._layout.placement)
        try:
            orders = Orders() if node is None else Orders.from_json(node.data, self._layout.placement)
        except UsageError as error:
            log.warning("orders cannot be followed: %s", error)
            orders = self._orders
        self._nodes, self._orders = {self._address: self._card, **shown}, orders
        self._choose_departure()
        self._take_turns()
        return self.sight

    async def _read_card(self, address: str) -> NodeCard | None:
        path = self._layout.node(address)
        node = await self._coordinator.read(path)
        with contextlib.suppress(UsageError):
            return None if node is None else NodeCard.from_json(node.data, path, node.owner)
        return NodeCard()  # another's garbage: a node that takes nothing

    def _take_turns(self) -> None:
        """Say of what is led elsewhere, or nowhere, whether we should contend."""
        sight, now = self.sight, self._loop.time()
        for name, chair in self._chairs.items():
            leader = sight.leaders.get(name, "")
            self._note_leader(name, leader, now)
            if leader == self._address:
                chair.say(is_ours=not chair.to, to=chair.to)
            else:
                first = next_leader(self._seats, sight, name) == self._address
                chair.say(is_ours=first or self._steps_in(name, chair, leader, now))

    def _choose_departure(self) -> None:
        """Say of what we lead whether it should go. One at a time: the next one when the last one is led elsewhere.

        What nobody ordered goes at a slow pace, and when the choice has stood for a while: then all nodes have made it.
        """
        sight, now = self.sight, self._loop.time()
        going = {
            name: to
            for name, to in assign(self._seats, sight).items()
            if sight.leaders.get(name) == self._address != to and now >= self._stays_until.get(name, now)
        }
        if self._leaving:
            return
        self._going_since = {going_to: self._going_since.get(going_to, now) for going_to in going.items()}
        ordered = [name for name in going if self._is_ordered(name, sight)]
        ripe = [name for (name, _), since in self._going_since.items() if now - since >= _PACE_S]
        if ordered or (ripe and now >= self._next_departure_s):
            self._leaving = min(ordered or ripe)
            self._chairs[self._leaving].say(is_ours=False, to=going[self._leaving])

    def _is_ordered(self, name: str, sight: Sight) -> bool:
        return self._address in sight.orders.drained or name in sight.orders.moved

    def _note_leader(self, name: str, leader: str, now: float) -> None:
        if not leader:
            if name not in self._alone_since:
                self._alone_since[name] = now
                self._loop.call_later(_PATIENCE_S, self._news.set)
            return
        was_alone = self._alone_since.pop(name, None) is not None
        if name == self._leaving and (was_alone or leader != self._address):
            self._leaving = ""
            self._next_departure_s = now + _PACE_S
            self._chairs[name].say(is_ours=leader == self._address)
            if leader == self._address:
                log.warning("instance %s: its successor did not come, so it stays here for now", name)
                self._stays_until[name] = now + _NOT_FOLLOWED_S

    def _steps_in(self, name: str, chair: Chair, leader: str, now: float) -> bool:
        """Whether to contend though another is next: it was our turn when the leader went, or nobody has come."""
        if leader or self._address in self._orders.drained:
            return False
        waits_s = now - self._alone_since.get(name, now)
        return waits_s >= _PATIENCE_S or chair.is_ours


@contextlib.asynccontextmanager
async def seating(
    coordinator: Coordinator,
    layout: Layout,
    address: str,
    card: NodeCard,
    seats: Mapping[Seat, Chair],
    news: asyncio.Event,
) -> AsyncIterator[Seating]:
    """Say for these instances when this node should contend and leave, while the block runs.

    ``news`` is what the chairs were made with.
    """
    made = Seating(coordinator, layout, address, card, seats, news)
    with contextlib.suppress(CanalError):
        await made.look()
    async with in_background(
        asyncio.create_task(made.watch(), name="placement"), asyncio.create_task(made.watch_orders(), name="orders")
    ):
        yield made
