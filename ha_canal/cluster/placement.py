"""Where instances should run: one pure choice, the same on every node that sees the same cluster.

It decides nothing about safety: who may run an instance is the election's alone (`ha_canal.cluster.leadership`). The
choice says who contends first when an instance has no leader, and when a leader asks for a planned hand-over.

Invariants: the choice is a fixed point (once every instance runs where it was chosen to, nothing moves); an instance
stays where it is unless an order, a preference, or a real gain in balance moves it; a drained node is given nothing,
and keeps only what nobody else can take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ha_canal.cluster.layout import NodeCard, Orders


@dataclass(frozen=True, slots=True)
class Seat:
    """An instance that wants a node. ``preferred``: nodes by name or address, the best first."""

    name: str
    weight: float = 1.0
    preferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """The cluster as one node sees it: live nodes by address, orders, and who leads what (both by address)."""

    nodes: Mapping[str, NodeCard] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)
    leaders: Mapping[str, str] = field(default_factory=dict)

    def without(self, address: str) -> Sight:
        """Return what it would be without this node and what it leads."""
        nodes = {at: card for at, card in self.nodes.items() if at != address}
        leaders = {name: at for name, at in self.leaders.items() if at != address}
        return replace(self, nodes=nodes, leaders=leaders)

    def takers(self, name: str) -> list[str]:
        """Return the nodes that may be given the instance, sorted."""
        return sorted(
            address
            for address, card in self.nodes.items()
            if name in card.instances and address not in self.orders.drained
        )

    def is_called(self, address: str, what: str) -> bool:
        """Whether people mean this node by ``what``: its address or its name."""
        card = self.nodes.get(address)
        return what == address or (card is not None and what == card.name)


def assign(seats: Sequence[Seat], sight: Sight) -> dict[str, str]:
    """Return for each instance the address of the node that should run it; one that nobody can run is left out."""
    chosen: dict[str, str] = {}
    movable: list[Seat] = []
    homeless: list[Seat] = []
    for seat in sorted(seats, key=lambda seat: (-seat.weight, seat.name)):
        current = sight.leaders.get(seat.name, "")
        takers = sight.takers(seat.name)
        if wanted := _wanted(seat, sight, takers, current):
            chosen[seat.name] = wanted
        elif current in takers or (current and not takers):
            chosen[seat.name] = current
            movable.append(seat)
        elif takers:
            homeless.append(seat)
    for seat in homeless:
        load = _loads(seats, chosen, sight.nodes)
        chosen[seat.name] = min(sight.takers(seat.name), key=lambda address: (load[address], address))
        movable.append(seat)
    _balance(seats, movable, chosen, sight)
    return chosen


def next_leader(seats: Sequence[Seat], sight: Sight, name: str) -> str:
    """Return who should contend for the instance first: whom its leader hands over to, or who would replace it."""
    current = sight.leaders.get(name, "")
    chosen = assign(seats, sight).get(name, "")
    if chosen != current or not current:
        return chosen
    return assign(seats, sight.without(current)).get(name, "")


def _wanted(seat: Seat, sight: Sight, takers: Sequence[str], current: str) -> str:
    """Return where an order or a preference puts the instance; "" without one that can be followed now."""
    ordered = sight.orders.moved.get(seat.name)
    if ordered is not None and ordered.address in takers:
        card = sight.nodes[ordered.address]
        # at once to the node that was meant; when it was away since then, as for a preference
        if card.settled or card.session == ordered.session or current in ("", ordered.address):
            return ordered.address
    for preferred in seat.preferred:
        for address in takers:
            # nobody leaves its leader for a node that has only just come, and may be going again
            if sight.is_called(address, preferred) and (sight.nodes[address].settled or current in ("", address)):
                return address
    return ""


def _loads(seats: Iterable[Seat], chosen: Mapping[str, str], nodes: Iterable[str]) -> dict[str, float]:
    load = dict.fromkeys(nodes, 0.0)
    for seat in seats:
        if (address := chosen.get(seat.name, "")) in load:
            load[address] += seat.weight
    return load


def _balance(seats: Sequence[Seat], movable: Sequence[Seat], chosen: dict[str, str], sight: Sight) -> None:
    """Move what makes loads more even; each move lowers the sum of their squares, so it ends."""
    while True:
        load = _loads(seats, chosen, sight.nodes)
        best = min(_gains(movable, chosen, sight, load), default=None)
        if best is None:
            return
        *_, to, name = best
        chosen[name] = to


def _gains(
    movable: Sequence[Seat], chosen: Mapping[str, str], sight: Sight, load: Mapping[str, float]
) -> Iterable[tuple[float, float, str, str]]:
    """Give each move that helps; the least is the best: from the fullest node, by gain, then by address and name.

    Among equals the first address comes first, as for an instance that has no leader: so both choices agree.
    """
    for seat in movable:
        here = chosen[seat.name]
        if here not in load:
            continue
        for to in sight.takers(seat.name):
            gain = load[here] - load[to] - seat.weight
            if gain > _LEAST_GAIN * seat.weight and sight.nodes[to].settled:
                yield -load[here], -gain * seat.weight, to, seat.name


_LEAST_GAIN = 0.1
"""Of the instance's own weight: less is not worth a hand-over."""
