"""One campaign: load, the faults of the schedule, and calm at the end; what came of it, for the judges.

Nobody helps: a fault is undone when its time is over, and what it broke has to come back by itself. At the end all that
was committed must be given and acknowledged within a bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from ha_canal.cluster.layout import Layout
from ha_canal.testing.chaos.journal import Handed, Witness
from ha_canal.testing.chaos.schedule import Fault
from ha_canal.testing.chaos.stage import CLIENTS, CLUSTERED, EMBEDDED, EMBEDDED_CLIENT, Scene, Stage, set_stage
from ha_canal.testing.chaos.strike import NobodyThereError, Striker
from ha_canal.testing.chaos.watch import Claim, Watch, two_in_one_epoch
from ha_canal.testing.chaos.zklog import Audit, audit, read_log_files
from ha_canal.testing.checker import Checker, Mark, Repeat, Verdict
from ha_canal.testing.eventually import eventually
from ha_canal.testing.nodes import faults_logged, is_drained
from ha_canal.testing.workload import CLIENT_ID, Writer, committed

_PATIENCE_S = 90.0
_READ_JOURNALS_S = 0.25
_WRITERS = 2


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault as it came about. Times are by time.monotonic(); ``healed_s`` is when it had been undone."""

    fault: Fault
    victim: str
    began_s: float
    healed_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a campaign showed. Times are by time.monotonic(), ``began_s`` that of the schedule's zero."""

    began_s: float
    ended_s: float
    struck: Sequence[Struck]
    skipped: Sequence[str]
    verdict: Verdict
    verdict_embedded: Verdict
    audit: Audit
    two_in_one_epoch: Sequence[str]
    faults_logged: Sequence[str]
    fallen: Sequence[str]
    not_healed: str
    lost_by_source: int
    recovered_s: float
    handed: Sequence[Handed]
    claims: Sequence[Claim]
    repeats: Sequence[Repeat]
    redelivered: Sequence[tuple[float, Mark]] = ()
    committed_at_s: dict[Mark, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        wrong = self.two_in_one_epoch or self.faults_logged or self.fallen or self.not_healed or self.lost_by_source
        return self.verdict.holds and self.verdict_embedded.holds and self.audit.holds and not wrong


class Campaign:
    """The stage under fire. ``say`` is told of each fault."""

    def __init__(self, stage: Stage, schedule: Sequence[Fault], *, pause_s: float, say: Callable[[str], None]) -> None:
        self._stage = stage
        self._schedule = schedule
        self._pause_s = pause_s
        self._say = say
        self._watch = Watch(stage)
        self._striker = Striker(stage, self._watch)
        renamed = not stage.scene.use_gtids
        folder = stage.scene.directory
        self._witness = Witness(folder, CLIENTS, Checker(renamed=renamed))
        self._witness_embedded = Witness(folder, [EMBEDDED_CLIENT], Checker(renamed=renamed))
        self._struck: list[Struck] = []
        self._skipped: list[str] = []
        self._began_s = 0.0

    async def run(self, seed: int) -> Outcome:
        """Strike, heal, drain, and gather what the judges need."""
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(
                    Writer(self._stage.source, writer=number, pause_s=self._pause_s, seed=seed, outlives_server=True)
                )
                for number in range(1, _WRITERS + 1)
            ]
            await eventually(self._flows, within_s=_PATIENCE_S, what="both kinds of nodes serve")
            self._began_s = time.monotonic()
            async with _background(self._watch.run()), _background(self._read_journals()):
                async with asyncio.TaskGroup() as faults:
                    for fault in self._schedule:
                        faults.create_task(self._suffer(fault), name=fault.name)
                healed_s = time.monotonic()
                for writer in writers:
                    await asyncio.to_thread(writer.stop)
                truth = await asyncio.to_thread(committed, self._stage.source.primary)
                not_healed = await self._drained(truth)
            await self._watch.look()
        return self._outcome(writers, truth, not_healed, healed_s)

    def _flows(self) -> bool:
        if fallen := self._stage.fallen():
            raise AssertionError(
                f"ended before any fault: {', '.join(fallen)}; look into {self._stage.scene.directory}"
            )
        return all(witness.checker.acknowledged for witness in self._read_all())

    async def _read_journals(self) -> None:
        while True:
            self._read_all()
            await asyncio.sleep(_READ_JOURNALS_S)

    def _read_all(self) -> tuple[Witness, Witness]:
        self._witness.read()
        self._witness_embedded.read()
        return self._witness, self._witness_embedded

    async def _suffer(self, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, self._began_s + fault.at_s - time.monotonic()))
        began_s = time.monotonic()
        try:
            async with self._striker.strike(fault) as victim:
                self._say(f"{began_s - self._began_s:7.1f} s  {fault.name}: {victim}, for {fault.for_s:.1f} s")
                await asyncio.sleep(fault.for_s)
        except NobodyThereError as error:
            self._skipped.append(f"{fault.name}: {error}")
            return
        self._struck.append(Struck(fault, victim, began_s, time.monotonic()))

    async def _drained(self, truth: Sequence[Mark]) -> str:
        """Return "" once all was given and acknowledged, and everybody is back; else what is still wrong."""

        async def is_over() -> bool:
            if any(witness.checker.missing(truth) for witness in self._read_all()):
                return False
            stage = self._stage
            return await asyncio.to_thread(
                lambda: is_drained(stage.nodes, CLIENT_ID) and is_drained([stage.embedded], CLIENT_ID, EMBEDDED)
            )

        try:
            await eventually(is_over, within_s=_PATIENCE_S, what="all was given and acknowledged")
            await eventually(self._all_answer, within_s=_PATIENCE_S, what="all nodes answer")
        except AssertionError as error:
            return str(error)
        return ""

    async def _all_answer(self) -> bool:
        return all([await node.answers() for node in (*self._stage.nodes, self._stage.embedded)])

    def _outcome(self, writers: Sequence[Writer], truth: Sequence[Mark], not_healed: str, healed_s: float) -> Outcome:
        stage = self._stage
        answered = {(number, sequence): at_s for number, one in enumerate(writers, 1) for sequence, at_s in one.commits}
        writes = read_log_files([server.directory for server in stage.ensemble.servers])
        ended_s = time.monotonic()
        return Outcome(
            began_s=self._began_s,
            ended_s=ended_s,
            struck=sorted(self._struck, key=lambda struck: struck.began_s),
            skipped=self._skipped,
            verdict=self._witness.checker.verdict(truth),
            verdict_embedded=self._witness_embedded.checker.verdict(truth),
            audit=audit(writes, Layout().instance(CLUSTERED)),
            two_in_one_epoch=two_in_one_epoch(self._watch.claims),
            faults_logged=faults_logged([*stage.nodes, stage.embedded]),
            fallen=sorted(self._watch.fallen),
            not_healed=not_healed,
            lost_by_source=len(set(answered) - set(truth)),
            recovered_s=round(ended_s - healed_s, 1),
            handed=self._witness.handed,
            claims=self._watch.claims,
            repeats=self._witness.checker.repeats(),
            redelivered=[(round(at_s - self._began_s, 2), mark) for at_s, mark in self._witness.checker.redelivered()],
            committed_at_s=answered,
        )


@contextlib.asynccontextmanager
async def _background(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def run(
    scene: Scene, schedule: Sequence[Fault], *, seed: int, pause_s: float, say: Callable[[str], None]
) -> Outcome:
    """Run one campaign on a stage of its own."""
    async with set_stage(scene) as stage:
        try:
            return await Campaign(stage, schedule, pause_s=pause_s, say=say).run(seed)
        finally:
            for number, server in enumerate(stage.ensemble.servers, 1):  # what the verdict stands on
                server.kill()
                shutil.copytree(server.directory / "version-2", scene.directory / f"zookeeper-{number}")
