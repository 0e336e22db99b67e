"""What operators order: an instance onto a node, a node drained. Stored in one node of the coordinator, by any node.

Orders are wishes that `ha_canal.cluster.placement` follows while it can; they stay until they are taken back, so an
instance that was moved by hand is not moved away again for balance, and comes back when its node does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ha_canal.cluster.coordinator import ConflictError, Coordinator, Create, Set
from ha_canal.cluster.layout import Layout, Moved, Orders
from ha_canal.cluster.placement import Sight
from ha_canal.errors import CanalError, UnknownInstanceError, UsageError
from ha_canal.protos.canal_pb2 import DrainReply, DrainRequest, MoveReply, MoveRequest

log = logging.getLogger(__name__)

_ATTEMPTS = 5


def node_called(sight: Sight, what: str) -> str:
    """Return the address of the live node that people call ``what``. Raises UsageError: unknown, or two of a name."""
    found = sorted(address for address in sight.nodes if sight.is_called(address, what))
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} nodes are called {what!r}: name one of {', '.join(found)}")
    known = ", ".join(f"{card.name} ({at})" if card.name else at for at, card in sorted(sight.nodes.items()))
    raise UsageError(f"there is no live node {what[:200]!r}; there are: {known}")


def check_instance(sight: Sight, name: str) -> None:
    """Raise UnknownInstanceError unless a live node has the instance in its configuration."""
    known = sorted({instance for card in sight.nodes.values() for instance in card.instances})
    if name not in known:
        raise UnknownInstanceError(f"there is no instance {name[:200]!r}; the cluster knows: {', '.join(known)}")


def check_move(sight: Sight, name: str, to: str) -> str:
    """Return the address of the node ``to``, if it can be given the instance. Raises UsageError, saying why not."""
    address = node_called(sight, to)
    if name not in sight.nodes[address].instances:
        raise UsageError(f"node {to} has no instance {name!r} in its configuration; {_takers(sight, name)}")
    if address in sight.orders.drained:
        raise UsageError(f"node {to} is drained: end that with `drain {to} --off` first; {_takers(sight, name)}")
    ordered = sight.orders.moved.get(name)
    if sight.leaders.get(name) == address and (ordered is None or ordered.address == address):
        raise UsageError(f"instance {name!r} runs on {to} already")
    return address


def _takers(sight: Sight, name: str) -> str:
    return f"these can take it: {', '.join(sight.takers(name)) or 'none'}"


def find_drained(sight: Sight, what: str) -> str:
    """Return the address of a drained node, live or not. Raises UsageError for one that is not drained."""
    address = what if what in sight.orders.drained else node_called(sight, what)
    if address not in sight.orders.drained:
        raise UsageError(
            f"node {what} is not drained; drained are: {', '.join(sorted(sight.orders.drained)) or 'none'}"
        )
    return address


def moved(orders: Orders, name: str, to: Moved | None) -> Orders:
    """Return the orders with this instance moved there; None: wherever the cluster chooses."""
    others = {instance: at for instance, at in orders.moved.items() if instance != name}
    return replace(orders, moved={**others, name: to} if to else others)


def drained(orders: Orders, address: str, *, off: bool) -> Orders:
    """Return the orders with this node drained, or not any more."""
    return replace(orders, drained=orders.drained - {address} if off else orders.drained | {address})


class OrderDesk:
    """Takes orders on one node; ``look`` returns the cluster as it is now."""

    def __init__(self, coordinator: Coordinator, layout: Layout, look: Callable[[], Awaitable[Sight]]) -> None:
        self._coordinator = coordinator
        self._path = layout.placement
        self._look = look

    async def move(self, request: MoveRequest) -> MoveReply:
        """Have an instance run on another node from now on. Raises UsageError, saying why it cannot."""
        sight, name = await self._look(), request.instance
        check_instance(sight, name)
        address = check_move(sight, name, request.to) if request.to else ""
        to = Moved(address, sight.nodes[address].session) if address else None
        await store_orders(self._coordinator, self._path, lambda orders: moved(orders, name, to))
        log.info("instance %s: ordered to %s", name, address or "wherever the cluster chooses")
        return MoveReply(to=address, leader=sight.leaders.get(name, ""))

    async def drain(self, request: DrainRequest) -> DrainReply:
        """Take all instances from a node, or let it have some again. Raises UsageError, saying why it cannot."""
        sight, off = await self._look(), request.off
        address = find_drained(sight, request.node) if off else node_called(sight, request.node)
        await store_orders(self._coordinator, self._path, lambda orders: drained(orders, address, off=off))
        log.info("node %s: %s", address, "may have instances again" if off else "drained")
        return DrainReply(node=address, running=sorted(name for name, at in sight.leaders.items() if at == address))


async def store_orders(coordinator: Coordinator, path: str, change: Callable[[Orders], Orders]) -> Orders:
    """Change the stored orders, whoever else does at the same time; returns the new ones. Raises our errors."""
    for _ in range(_ATTEMPTS):
        node = await coordinator.read(path)
        orders = change(Orders() if node is None else Orders.from_json(node.data, path))
        data = orders.to_json()
        try:
            await coordinator.commit([Create(path, data) if node is None else Set(path, data, node.version)])
        except ConflictError:
            continue
        return orders
    raise CanalError(f"{path} is being changed by others all the time: try again")
