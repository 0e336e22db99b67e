"""The campaign of `scripts/chaos --kills`: kill the leader again and again under load, and judge what the clients got.

Three nodes, a ZooKeeper, a database, two writers, and two clients of the same client id, of which one waits for the
lock of the other. At random moments the leader is killed with SIGKILL; it comes back either while its session still
stands at ZooKeeper, or after another node has taken over. The verdict is counted against the database itself, and no
node may have logged a fault of the program. The same seed gives the same moments and choices; what meets them is up to
the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ha_canal.testing.checker import Checker, Mark, Verdict
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.nodes import (
    ClusterPlan,
    NodeProcess,
    faults_logged,
    is_drained,
    leader_of,
    order_move,
    running_nodes,
)
from ha_canal.testing.workload import CLIENT_ID, Arrival, Reader, Writer, committed, create_tables
from ha_canal.testing.zookeeper import zookeeper_server

_PATIENCE_S = 60.0
_TICK_MS = 100
"""ZooKeeper ends sessions at multiples of its tick: a coarse one would be measured as ours."""
_LONGEST_CALM_S = 2.0
"""The leader is killed up to this long after its first batch."""
_COMES_BACK_AT_ONCE = 0.3
"""The share of killed nodes that are started again before anybody else leads."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one campaign does."""

    kills: int = 20
    moves: int = 0
    stops: int = 0
    seed: int = 1
    session_timeout_s: float = 4.0
    pause_s: float = 0.002
    """The mean pause of each writer between two transactions."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: ``recovered_s`` from the kill to the first batch of a later leader.

    ``elected_s`` and ``reading_s`` are from the kill to what that leader logged: its election, and the start of its
    binlog dump; -1 when it logged none.
    """

    node: str
    epoch: int
    calm_s: float
    back_at_once: bool
    recovered_s: float
    elected_s: float
    reading_s: float


@dataclass(frozen=True, slots=True)
class Departure:
    """One planned move, or one clean stop: ``gap_s`` between the last batch of the old leader and the next one's."""

    kind: str
    node: str
    epoch: int
    gap_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a campaign showed. ``faults`` are the lines in which a node logged a fault of the program."""

    kills: Sequence[Kill]
    departures: Sequence[Departure]
    verdict: Verdict
    faults: Sequence[str]

    @property
    def holds(self) -> bool:
        return self.verdict.holds and not self.faults


class Campaign:
    """The cluster under fire. ``say`` is told of each kill."""

    def __init__(
        self, options: Options, source: DatabaseServer, nodes: Sequence[NodeProcess], *, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self._source = source
        self._nodes = nodes
        self._say = say
        self._random = random.Random(options.seed)
        addresses = [node.address for node in nodes]
        self._checker = Checker()
        self._readers = [Reader(addresses, checker=self._checker) for _ in range(2)]

    async def run(self) -> Outcome:
        """Kill, drain, and judge."""
        await leader_of(self._nodes)
        with contextlib.ExitStack() as stack:
            for reader in self._readers:
                stack.enter_context(reader)
            writers = [stack.enter_context(self._writer(number)) for number in (1, 2)]
            await self._later_than(0)
            kills = [await self._kill() for _ in range(self._options.kills)]
            moves = [await self._depart("move", self._move) for _ in range(self._options.moves)]
            stops = [await self._depart("stop", self._stop) for _ in range(self._options.stops)]
            for writer in writers:
                writer.stop()
            await self._drain(truth := committed(self._source))
        return Outcome(kills, [*moves, *stops], self._checker.verdict(truth), faults_logged(self._nodes))

    async def _drain(self, truth: Sequence[Mark]) -> None:
        """Wait until all of it was given and acknowledged; when that does not come about, the verdict will say so.

        The node is asked about the acks: a client that waits for the lock of the other one may wait for an answer, too.
        """

        async def all_came() -> bool:
            for reader in self._readers:
                reader.check()
            if self._checker.missing(truth):
                return False
            return await asyncio.to_thread(is_drained, self._nodes, CLIENT_ID)

        try:
            await eventually(all_came, within_s=_PATIENCE_S, what="all was given and acknowledged")
        except AssertionError as error:
            self._say(str(error))

    def _writer(self, number: int) -> Writer:
        seed = self._options.seed * 100 + number
        return Writer(self._source, writer=number, pause_s=self._options.pause_s, seed=seed)

    async def _kill(self) -> Kill:
        calm_s = self._random.uniform(0, _LONGEST_CALM_S)
        back_at_once = self._random.random() < _COMES_BACK_AT_ONCE
        victim = await leader_of(self._nodes)
        await asyncio.sleep(calm_s)  # a random moment is what this is about
        epoch = max(reader.epoch for reader in self._readers)
        victim.process.kill()
        killed_at, killed_when = time.monotonic(), datetime.now().astimezone()
        if back_at_once:
            await victim.start()
        arrival = await self._later_than(epoch)
        if not back_at_once:
            await victim.start()
        elected_s, reading_s = self._said(arrival.epoch, killed_when)
        recovered_s = round(arrival.at_s - killed_at, 2)
        kill = Kill(victim.name, epoch, round(calm_s, 2), back_at_once, recovered_s, elected_s, reading_s)
        self._say(
            f"  {victim.name}  epoch {epoch:>3}  killed {calm_s:4.2f} s after its election was seen, "
            f"{'back at once' if back_at_once else 'back later  '}  next batch after {kill.recovered_s:5.2f} s "
            f"(elected {elected_s:5.2f}, reading {reading_s:5.2f})"
        )
        return kill

    async def _depart(self, kind: str, do: Callable[[NodeProcess], Awaitable[None]]) -> Departure:
        await leader_of(self._nodes)
        await asyncio.sleep(self._random.uniform(0, _LONGEST_CALM_S))
        leader = await leader_of(self._nodes)
        epoch = max(reader.epoch for reader in self._readers)
        await do(leader)
        arrival = await self._later_than(epoch)
        last_s = max(
            (one.at_s for reader in self._readers for one in reader.arrivals if one.epoch <= epoch),
            default=arrival.at_s,
        )
        departure = Departure(kind, leader.name, epoch, round(arrival.at_s - last_s, 3))
        self._say(f"  {leader.name}  epoch {epoch:>3}  {kind}  {departure.gap_s:5.3f} s without batches")
        if not leader.process.running:
            await leader.start()
        return departure

    async def _move(self, leader: NodeProcess) -> None:
        """Order it to a random other node, of any node."""
        to, asked = (
            self._random.choice([one for one in self._nodes if one is not leader]),
            self._random.choice(self._nodes),
        )
        await asyncio.to_thread(order_move, asked.address, "shop", to.address)

    async def _stop(self, leader: NodeProcess) -> None:
        """Stop it cleanly; no earlier move draws the instance back."""
        await asyncio.to_thread(order_move, leader.address, "shop", "")
        await leader.process.stop()

    def _said(self, epoch: int, since: datetime) -> tuple[float, float]:
        """Return when the leader of ``epoch`` logged its election, and after that its first reading; -1: never."""
        for node in self._nodes:
            _, elected, after = node.process.log_text().partition(f"elected, epoch {epoch},")
            if elected:
                before = node.process.log_text().partition(elected)[0].rpartition("\n")[2]
                reading = after.partition(": reading from ")
                return _seconds(before, since), _seconds(reading[0].rpartition("\n")[2], since) if reading[1] else -1.0
        return -1.0, -1.0

    async def _later_than(self, epoch: int) -> Arrival:
        """Return the first batch from a later leader, whichever client got it."""

        def first() -> Arrival | None:
            for reader in self._readers:
                reader.check()
            found = [arrival for reader in self._readers if (arrival := reader.arrival_after(epoch))]
            return min(found, key=lambda arrival: arrival.at_s, default=None)

        return await eventually(first, within_s=_PATIENCE_S, what=f"a leader after epoch {epoch} gives batches")


async def run(options: Options, flavor: str, logs: Path | None, *, say: Callable[[str], None]) -> Outcome:
    """Run a campaign on servers of its own; the nodes' logs stay in ``logs``, if given."""
    async with contextlib.AsyncExitStack() as stack:
        directory = logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha_canal_chaos_")))
        directory.mkdir(parents=True, exist_ok=True)
        source = await stack.enter_async_context(mysql_server() if flavor == "mysql" else mariadb_server())
        zookeeper = await stack.enter_async_context(zookeeper_server(tick_time_ms=_TICK_MS))
        create_tables(source)
        plan = ClusterPlan(directory, zookeeper.hosts, source, session_timeout_s=options.session_timeout_s)
        nodes = await stack.enter_async_context(running_nodes(plan))
        return await Campaign(options, source, nodes, say=say).run()


def _seconds(line: str, since: datetime) -> float:
    """Return how long after ``since`` a node wrote this line."""
    written = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone()  # a log has local time
    return round((written - since).total_seconds(), 2)


def summary(outcome: Outcome, options: Options) -> list[str]:
    """Return the verdict, and how long clients were without batches, in lines."""
    seconds = [kill.recovered_s for kill in outcome.kills]
    lines = ["", "verdict, counted against the database itself", *(f"  {line}" for line in outcome.verdict.lines())]
    lines.append(f"  faults in the nodes' logs:      {len(outcome.faults)}")
    lines += [f"    {fault}" for fault in outcome.faults]
    if seconds:
        lines.append(
            f"  kill to the next batch, {len(seconds)} kills: min {min(seconds):.2f} s, median "
            f"{statistics.median(seconds):.2f} s, max {max(seconds):.2f} s "
            f"(session timeout {options.session_timeout_s:g} s)"
        )
    for kind, what in (("move", "planned moves"), ("stop", "clean stops")):
        if gaps := [departure.gap_s for departure in outcome.departures if departure.kind == kind]:
            lines.append(
                f"  without batches at {len(gaps)} {what}: min {min(gaps):.3f} s, "
                f"median {statistics.median(gaps):.3f} s, max {max(gaps):.3f} s"
            )
    return [*lines, f"  => {'the promise held' if outcome.holds else 'THE PROMISE WAS BROKEN'}"]
