"""The sources of one instance in one term: heartbeats of the one that is read, looks at the others, and the switch.

The decisions are `ha_canal.source.failover`'s; here is what touches the world. A switch is one fenced write of the
choice (`ha_canal.instance.choice`), while no cursor can move; with it the term ends, and the next one, on whichever
node, begins anew from the cursors at the other source. Nothing that was learnt of one server goes along but these.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from ha_canal.config import InstanceSection, SourceSection
from ha_canal.errors import CanalError, NotLeaderError, SourceLostError, SourceRefusedError, UsageError
from ha_canal.instance.choice import Choice, find_source
from ha_canal.instance.notices import notice_now
from ha_canal.instance.opening import FIRST, cursors_to_store
from ha_canal.instance.probe import Need, Probed, probe
from ha_canal.instance.records import Known, Records
from ha_canal.mysql.connection import Session, session
from ha_canal.protos import canal_pb2 as pb
from ha_canal.source import failover
from ha_canal.source.failover import Finding, Look, Rules, Say, Steady, Switch, failed_after, step

log = logging.getLogger(__name__)

_CATCHES_UP_WITHIN_S = 10.0
_FROZEN_S = 2.0
_LOOK_AGAIN_S = 0.05


class Sources:
    """``config`` is the instance with the source that is read in this term as its source.

    ``heard`` counts signs of life on the binlog connection.
    """

    def __init__(self, section: InstanceSection, choice: Choice | None, heard: Callable[[], int]) -> None:
        choice = choice or Choice(section.source.address)
        self._all = section.sources
        self._section = section
        self._choice = choice
        self._heard = heard
        self._heard_before = 0
        settings = section.failover
        self._rules = Rules(settings.failures, settings.heartbeat_s, settings.hold_off_s)
        self._watch = failover.begin(
            [source.address for source in self._all],
            choice.address,
            failed=choice.failed,
            switches=choice.switches,
            now_s=_now_s(),
            rules=self._rules,
        )
        self._records: Records | None = None
        self._threads: Executor | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.config = self._reading_from(find_source(self._all, choice.address) or section.source)

    def _reading_from(self, source: SourceSection) -> InstanceSection:
        return self._section.model_copy(update={"source": source, "standbys": ()})

    @property
    def _others(self) -> list[SourceSection]:
        return [source for source in self._all if source.address != self._choice.address]

    @property
    def has_switched(self) -> bool:
        """Whether another source was chosen: the next term reads it."""
        return self._over.done() and not self._over.cancelled() and self._over.exception() is None

    @property
    def may_heal(self) -> bool:
        """Whether another source may yet do what this one refuses: the others were not looked at in vain."""
        return bool(self._others) and not self._watch.rounds

    @property
    def text(self) -> str:
        """What is wrong with the source, or ``""``."""
        return "" if self._watch.is_well or not self._others else f"{self._choice.address} is {self._watch}"

    async def run(self, records: Records) -> None:
        """Watch the source until another one is chosen; then return. With no other there is nothing to watch."""
        self._records = records
        threads = ThreadPoolExecutor(len(self._all) + 1, thread_name_prefix=f"sources of {self._section.name}")
        self._threads = threads
        try:
            if self._others:
                self._start(self._beat())
            await self._over
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._threads = None
            threads.shutdown(wait=False, cancel_futures=True)

    def broke(self, error: CanalError) -> None:
        """Learn that reading broke."""
        if isinstance(error, SourceLostError | SourceRefusedError):
            self._take(failover.Broke(str(error), for_good=isinstance(error, SourceRefusedError)))

    def answers(self) -> None:
        """Learn that the source told all that a term asks before it reads."""
        self._take(failover.Reads())

    # heartbeats

    async def _beat(self) -> None:
        """Ask the source again and again, on one connection for as long as it lasts."""
        while True:
            began_s = _now_s()
            try:
                async with self._session() as db:
                    await self._learn_who_it_is(db)
                    while True:
                        began_s = _now_s()
                        await db.query(self._section.failover.query)
                        self._take(failover.Answered())
                        await self._rest(began_s)
            except CanalError as error:
                log.debug("instance %s: a heartbeat was missed: %s", self._section.name, error)
                self._take(failover.Missed(str(error), denied=isinstance(error, SourceRefusedError)))
                await self._rest(began_s)

    def _session(self) -> AbstractAsyncContextManager[Session]:
        limit_s = self._rules.heartbeat_s
        return session(self.config.source, limit_s=limit_s, threads=self._running[1])

    @property
    def _running(self) -> tuple[Records, Executor]:
        if self._records is None or self._threads is None:
            raise NotLeaderError(self._section.name)
        return self._records, self._threads

    async def _rest(self, began_s: float) -> None:
        await asyncio.sleep(max(0.0, began_s + self._rules.heartbeat_s - _now_s()))

    async def _learn_who_it_is(self, db: Session) -> None:
        """Keep it in the records, too: who leads next must know the dead server under any name."""
        got = await db.variables("server_uuid", "server_id", "version")
        uuid = "" if "mariadb" in got.get("version", "").lower() else got.get("server_uuid", "")
        known = replace(self._choice, server_uuid=uuid, server_id=int(got.get("server_id", "0")))
        await self._store(known)

    async def _store(self, choice: Choice) -> None:
        if choice == self._choice:
            return
        records, _ = self._running
        try:
            await records.commit({records.paths.source: choice.to_json()})
        except CanalError as error:  # it is known here, and stored at the next occasion
            log.debug("instance %s: its choice of a source was not stored: %s", self._section.name, error)
        self._choice = choice

    # decisions

    def _take(self, event: failover.Event) -> None:
        if not self._others or self._over.done():
            return
        if self._heard() != self._heard_before:
            self._heard_before = self._heard()
            self._step(failover.Reads())
        self._step(event)

    def _step(self, event: failover.Event) -> None:
        spread = random.uniform(-1, 1)  # noqa: S311 (spreads load, guards no secret)
        self._watch, actions = step(self._watch, event, _now_s(), self._rules, spread=spread)
        for action in actions:
            match action:
                case Say():
                    level = logging.WARNING if action.is_trouble else logging.INFO
                    log.log(level, "instance %s: %s", self._section.name, action.text)
                case Look():
                    self._start(self._look())
                case Switch():
                    self._start(self._fail_over(action))
                case Steady():
                    self._start(self._store(replace(self._choice, switches=0, failed=())))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"sources of {self._section.name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and not self._over.done():
            self._over.set_exception(fault)  # a fault of ours: the term ends with it

    async def _look(self) -> None:
        try:
            need = await self._need()
        except CanalError as error:
            findings = [Finding(source.address, fit=False, why=str(error)) for source in self._others]
        else:
            probed = await asyncio.gather(*(self._probe(source, need) for source in self._others))
            findings = [one.finding for one in probed]
        self._take(failover.Looked(tuple(findings)))

    async def _need(self, *, exact: bool = False, accept_lost: bool = False) -> Need:
        records, _ = self._running
        clients = await records.clients()
        if not clients and (first := await records.first_start()) is not None:
            clients = {FIRST: Known(first, "")}
        return Need(clients, self._choice.server_uuid, self._choice.server_id, exact, accept_lost)

    async def _probe(self, source: SourceSection, need: Need) -> Probed:
        return await probe(self._reading_from(source), need, self._running[1])

    # the switch

    async def _fail_over(self, wanted: Switch) -> None:
        failed = failed_after(self._watch, _now_s(), wanted.to)
        choice = Choice(wanted.to, why=wanted.why, failed=failed, switches=self._watch.switches + 1)
        try:
            await self._switch(choice, exact=False, within_s=0.0)
        except CanalError as error:
            self._take(failover.NotSwitched(wanted.to, str(error)))

    async def switch(self, request: pb.SwitchSourceRequest) -> pb.SwitchSourceReply:
        """Go on at another source, by order. Raises UsageError, saying why it cannot be."""
        to = find_source(self._all, request.to)
        if to is None:
            known = ", ".join(source.address for source in self._all)
            raise UsageError(f"{request.to[:200]!r} is no source of {self._section.name!r}; it has: {known}")
        if to.address == self._choice.address:
            raise UsageError(f"instance {self._section.name!r} is read from {to.address} already")
        accept_lost = request.accept_lost
        await self._check_fit(to, accept_lost=accept_lost)
        reply = pb.SwitchSourceReply(before=self._choice.address, to=to.address)
        choice = Choice(to.address, why="an operator ordered it")
        order = self._switch(choice, exact=not accept_lost, accept_lost=accept_lost, within_s=_FROZEN_S)
        switching = asyncio.create_task(order)
        self._tasks.add(switching)
        switching.add_done_callback(self._tasks.discard)
        reply.detail = await asyncio.shield(switching)  # who asked may go away, and the switch is made all the same
        return reply

    async def _switch(self, choice: Choice, *, exact: bool, within_s: float, accept_lost: bool = False) -> str:
        """Store the choice if the source has what every cursor needs, and end the term; returns where it goes on."""
        records, _ = self._running
        to = next(source for source in self._all if source.address == choice.address)
        async with records.frozen():
            need = await self._need(exact=exact, accept_lost=accept_lost)
            probed = await self._until_fit(to, need, within_s)
            if not probed.finding.fit:
                raise SourceRefusedError(f"{to.address} cannot be read now: {probed.finding.why}")
            before = self._choice.address
            choice = replace(choice, since_ms=int(time.time() * 1000), before=before)
            text = f"{to.address} is read instead of {before}: {choice.why}"
            notices = [notice_now("switched", text), *([notice_now("gap", probed.gap)] if probed.gap else [])]
            values = cursors_to_store(records, probed.moved) | {records.paths.source: choice.to_json()}
            await records.close_with(values, notices)
        log.warning("instance %s: %s; %s", self._section.name, text, probed.finding.why)
        if not self._over.done():
            self._over.set_result(None)
        return probed.finding.why

    async def _check_fit(self, to: SourceSection, *, accept_lost: bool) -> None:
        """Raise UsageError unless the source can be read, and gets what was delivered up to now within a while."""
        need = await self._need(exact=not accept_lost, accept_lost=accept_lost)
        probed = await self._probe(to, replace(need, clients={}))
        if probed.finding.fit:
            probed = await self._until_fit(to, need, _CATCHES_UP_WITHIN_S)
        if not probed.finding.fit:
            raise UsageError(f"{to.address} cannot be read now: {probed.finding.why}")

    async def _until_fit(self, to: SourceSection, need: Need, within_s: float) -> Probed:
        """Return the look as soon as the source can be read, or the last one: a replica may be catching up."""
        deadline_s = _now_s() + within_s
        while True:
            probed = await self._probe(to, need)
            if probed.finding.fit or _now_s() >= deadline_s:
                return probed
            await asyncio.sleep(_LOOK_AGAIN_S)

    # status

    def describe(self) -> pb.SourceChoice | None:
        """Return what `status` shows; None where there is no choice."""
        if not self._others:
            return None
        return pb.SourceChoice(
            since_ms=self._choice.since_ms,
            why=self._choice.why or "the primary of the configuration",
            state=str(self._watch),
            sources=[source.address for source in self._all],
            avoided=failover.still_avoided(self._watch, _now_s()),
            before=self._choice.before,
        )


def _now_s() -> float:
    return asyncio.get_running_loop().time()
