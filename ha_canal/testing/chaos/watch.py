"""What is seen of a campaign while it runs: who serves, by the nodes' own words, and who plays which role."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ha_canal.testing.chaos.stage import ClientProcess, Member, Stage
from ha_canal.testing.nodes import describe
from ha_canal.testing.workload import CLIENT_ID

_PAUSE_S = 1.0
_ANSWER_S = 1.0
_SERVING = frozenset({"connecting", "running", "waiting"})


@dataclass(frozen=True, slots=True)
class Claim:
    """A node said of itself that it runs the instance in this epoch. ``holder``: the process of who holds the lock."""

    at_s: float
    node: str
    epoch: int
    holder: int = 0


class Watch:
    """Asks all nodes once a second, and keeps what they claimed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.claims: list[Claim] = []
        self.fallen: dict[str, float] = {}
        """What ended although nothing had struck it, and when that was seen."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_PAUSE_S)

    async def look(self) -> None:
        claims = await asyncio.gather(*(self._ask(member) for member in self._stage.members))
        self.claims += [claim for claim in claims if claim is not None]
        for name in self._stage.fallen():
            self.fallen.setdefault(name, time.monotonic())

    async def _ask(self, member: Member) -> Claim | None:
        if not member.node.process.running:
            return None
        reply = await asyncio.to_thread(describe, member.node.address, timeout_s=_ANSWER_S)
        for one in reply.instances if reply else ():
            if one.epoch and one.state in _SERVING:
                holders = [client.holder for client in one.clients if client.client_id == CLIENT_ID]
                return Claim(time.monotonic(), member.name, one.epoch, _process_of(*holders))
        return None

    @property
    def _newest(self) -> Claim | None:
        return max(self.claims[-len(self._stage.members) :], key=lambda claim: claim.epoch, default=None)

    def leader(self) -> Member | None:
        """Return the node that claimed the newest epoch."""
        newest = self._newest
        return next((one for one in self._stage.members if newest and one.name == newest.node), None)

    def holder(self) -> ClientProcess | None:
        """Return the client that holds the lock, as far as a leader said."""
        newest = self._newest
        running = [one for one in self._stage.clients if one.process.running]
        return next((one for one in running if newest and one.process.pid == newest.holder), None)


def two_in_one_epoch(claims: Sequence[Claim]) -> list[str]:
    """Return the epochs in which more than one node claimed to run the instance."""
    nodes: dict[int, set[str]] = {}
    for claim in claims:
        nodes.setdefault(claim.epoch, set()).add(claim.node)
    return [f"epoch {epoch}: {', '.join(sorted(names))}" for epoch, names in nodes.items() if len(names) > 1]


def _process_of(holder: str = "", *_: str) -> int:
    """Read the process id in the name that a client gives itself (host:pid:random)."""
    parts = holder.split(":")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
