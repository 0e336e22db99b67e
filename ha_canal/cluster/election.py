"""The election of one instance: drives the pure machine of `ha_canal.cluster.leadership` with the coordinator.

Winning is one atomic commit, which makes the ephemeral ``running`` and raises the epoch: there is never a leader
without an epoch of its own. Who owns ``running`` is told by the session id alone, never by ``host:port``: a node left
by an earlier process on the same address is another's, until its session ends. A leader that stops deletes
``running``, so that the next one starts at once.

One task reads events from an inbox and does the machine's actions, two watch the session and ``running``; attempts,
confirmations and releases are tasks of their own which answer with an event. All live inside `campaign`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import assert_never

from ha_canal.backoff import Backoff
from ha_canal.cluster.claim import Claim
from ha_canal.cluster.coordinator import ConflictError, Coordinator, LinkState, Session
from ha_canal.cluster.follow import LeaderSight, first_of, look
from ha_canal.cluster.layout import InstancePaths, RunningNode
from ha_canal.cluster.leadership import Leadership, Role, step
from ha_canal.cluster.leadership_events import (
    Action,
    ConfirmOwnership,
    Contend,
    Event,
    InstanceStopped,
    LostRace,
    OwnershipConfirmed,
    PauseOutput,
    ProofOfLife,
    Released,
    ReleaseRunning,
    ResumeOutput,
    RunningGone,
    RunningSeen,
    SessionConnected,
    SessionLost,
    SessionSuspended,
    StartInstance,
    StopInstance,
    StopRequested,
    Tick,
    TryAcquire,
    Watch,
    Won,
)
from ha_canal.cluster.lease import Lease
from ha_canal.errors import CoordinatorLostError, UsageError

log = logging.getLogger(__name__)


class WithdrawnError(Exception):
    """We do not contend any more, as whoever asked for a lease wished."""


class Campaign:
    """Our part in the election of one instance; made by `campaign`. One lease at a time."""

    def __init__(
        self,
        coordinator: Coordinator,
        paths: InstancePaths,
        *,
        address: str,
        node: str,
        margin: float,
        sight: LeaderSight | None,
    ) -> None:
        self.sight = sight or LeaderSight()
        self._coordinator = coordinator
        self._paths = paths
        self._claim = Claim(coordinator, paths, address=address, node=node)
        self._loop = asyncio.get_running_loop()
        self._state = Leadership(margin=margin)
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._lease: Lease | None = None
        self._granted: asyncio.Future[Lease] | None = None
        self._confirmed_link = 0
        self._stepped = asyncio.Event()
        self._failure_told = False
        self._look_again = asyncio.Event()
        self._delays = iter(Backoff(initial_s=0.05, max_s=1.0))
        self._tasks: asyncio.TaskGroup
        self._driver: asyncio.Task[None]

    @property
    def leader(self) -> RunningNode | None:
        """Who runs the instance, as last seen; None while nobody does."""
        return self.sight.current

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def is_over(self) -> bool:
        """Whether the election failed, and `lease` has said why."""
        return self._failure_told

    @asynccontextmanager
    async def lease(self, withdraw: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[Lease]:
        """Contend; enter the block as leader; cancel it when the leadership ends.

        The cancellation stays inside: after the block, `Lease.lost` and `Lease.reason` tell how it ended. When the
        block ends by itself, or with an error of its own, ``running`` is released. To contend again, call again (after
        an error: with back-off). Raises what made the election itself fail, such as garbage in the epoch node; then
        `is_over`, and to contend again takes a new campaign. Raises WithdrawnError when ``withdraw`` returns first.
        """
        lease = await self._win(withdraw)
        body = asyncio.current_task()
        assert body is not None
        cancelling = body.cancelling()
        cancelled_by_us = False

        async def cancel_when_lost() -> None:
            nonlocal cancelled_by_us
            await lease.lost.wait()
            cancelled_by_us = True
            body.cancel()

        guard = asyncio.create_task(cancel_when_lost(), name=f"guard of {lease.instance} epoch {lease.epoch}")
        try:
            yield lease
        except asyncio.CancelledError:
            if not cancelled_by_us:
                raise
            cancelled_by_us = False
            if body.uncancel() > cancelling:
                raise
        finally:
            if cancelled_by_us:
                body.uncancel()
            guard.cancel()
            self._post(InstanceStopped())
        self._raise_failure()

    async def _win(self, withdraw: Callable[[], Awaitable[None]] | None) -> Lease:
        withdrawn = asyncio.ensure_future(withdraw()) if withdraw else self._loop.create_future()
        try:
            return await self._win_unless(withdrawn)
        except (asyncio.CancelledError, WithdrawnError):
            self._post(StopRequested())
            self._post(InstanceStopped())
            raise
        finally:
            withdrawn.cancel()

    async def _win_unless(self, withdrawn: asyncio.Future[None]) -> Lease:
        while True:
            self._granted = self._loop.create_future()
            self._post(Contend())
            await asyncio.wait((self._granted, self._driver, withdrawn), return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()
            if not self._granted.done():
                raise WithdrawnError
            lease = self._granted.result()
            if not lease.lost.is_set():
                return lease
            self._post(InstanceStopped())

    # The driver -------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._watch_session())
                self._tasks.create_task(self._watch_running())
                while True:
                    self._feed(await self._next_event())
        finally:
            self._stepped.set()
            if self._lease is not None:
                self._lease.end("the election has ended")

    def _raise_failure(self) -> None:
        """Raise what made the driver fail, whenever asked."""
        if not self._driver.done():
            return
        if self._driver.cancelled():
            raise UsageError(f"the campaign for instance {self._paths.name!r} has ended: begin another one")
        error = self._driver.exception()
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is not None:
            self._failure_told = True
            raise error

    def _post(self, event: Event) -> None:
        self._inbox.put_nowait(event)

    async def _next_event(self) -> Event:
        wake_at = self._state.deadline_s if self._state.role.leads else None
        try:
            async with asyncio.timeout_at(wake_at):
                return await self._inbox.get()
        except TimeoutError:
            return Tick()

    def _feed(self, event: Event) -> None:
        session = self._coordinator.session
        if session.id == self._state.session:
            self._step(ProofOfLife(session.last_proof_s))
        self._step(event)
        if self._lease is not None:
            self._lease.look_again()
        self._stepped.set()
        self._stepped = asyncio.Event()

    def _step(self, event: Event) -> None:
        before = self._state.role
        self._state, actions = step(self._state, event, self._loop.time())
        if self._state.role is not before:
            log.debug("%s: %s, so %s becomes %s", self._paths.name, event, before.value, self._state.role.value)
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case TryAcquire():
                self._tasks.create_task(self._try_acquire())
            case Watch():
                self._look_again.set()
            case StartInstance():
                self._start(action)
            case PauseOutput():
                log.warning("instance %s: output pauses until the coordinator is back", self._paths.name)
            case ConfirmOwnership():
                self._tasks.create_task(self._confirm())
            case ResumeOutput():
                log.info("instance %s: output goes on, still in epoch %s", self._paths.name, self._epoch())
            case StopInstance(reason):
                self._stop(reason)
            case ReleaseRunning():
                self._tasks.create_task(self._release())
            case _:
                assert_never(action)

    def _epoch(self) -> int:
        return self._lease.epoch if self._lease else 0

    def _start(self, action: StartInstance) -> None:
        log.info("instance %s: elected, epoch %d, session %s", self._paths.name, action.epoch, self._state.session)
        may_output, doubt = self._may_output, partial(self._post, OwnershipConfirmed(owned=False))
        self._lease = Lease(
            self._coordinator, self._paths, action.epoch, action.epoch_version, may_output=may_output, doubt=doubt
        )
        assert self._granted is not None
        if not self._granted.done():
            self._granted.set_result(self._lease)

    def _stop(self, reason: str) -> None:
        level = logging.WARNING if self._state.wanted else logging.INFO
        log.log(level, "instance %s: stops here, epoch %d is over: %s", self._paths.name, self._epoch(), reason)
        if self._lease is not None:
            self._lease.end(reason)

    def _may_output(self) -> bool:
        """Return whether output is allowed now: what the machine knows, and what it could not have been told yet."""
        session = self._coordinator.session
        deadline_s = session.last_proof_s + session.timeout_s * (1 - self._state.margin)
        return (
            self._state.role is Role.LEADER
            and session.state is LinkState.CONNECTED
            and session.id == self._state.session
            and session.link == self._confirmed_link
            and self._loop.time() < deadline_s
        )

    # What the coordinator says ----------------------------------------------------------------------------------------

    async def _watch_session(self) -> None:
        seen = self._coordinator.session
        self._tell_session(seen)
        while True:
            session = await self._coordinator.session_changed(seen)
            if seen.state is LinkState.CONNECTED and session.state is LinkState.CONNECTED:
                self._post(SessionSuspended() if session.id == seen.id else SessionLost())
            self._tell_session(session)
            seen = session

    def _tell_session(self, session: Session) -> None:
        match session.state:
            case LinkState.CONNECTED:
                self._post(SessionConnected(session.id, session.timeout_s))
            case LinkState.SUSPENDED:
                self._post(SessionSuspended())
            case LinkState.LOST:
                self._post(SessionLost())
            case _:
                assert_never(session.state)

    async def _watch_running(self) -> None:
        while True:
            self._look_again.clear()
            watched = await look(self._coordinator, self._paths.running)
            self.sight.see(watched.node, self._paths.running)
            self._post(RunningGone() if watched.node is None else RunningSeen(watched.node.owner))
            await first_of(watched.changed.wait(), self._look_again.wait())

    # What we ask of it ------------------------------------------------------------------------------------------------

    async def _try_acquire(self) -> None:
        session = self._coordinator.session
        try:
            epoch, version = await self._claim.take()
        except ConflictError:
            self._post(LostRace(certain=True))
        except CoordinatorLostError as error:
            log.info("instance %s: an attempt to lead failed: %s", self._paths.name, error)
            await asyncio.sleep(next(self._delays))
            self._post(LostRace(certain=False))
        else:
            self._confirmed_link = session.link
            self._delays = iter(Backoff(initial_s=0.05, max_s=1.0))
            self._post(Won(session.id, epoch, version) if self._is_same(session) else LostRace(certain=False))

    def _is_same(self, session: Session) -> bool:
        return not self._coordinator.session.differs(session)

    async def _confirm(self) -> None:
        session = self._coordinator.session
        with suppress(CoordinatorLostError):
            owner = await self._until_answered(self._claim.owner, session)
            if self._is_same(session):
                self._confirmed_link = session.link
                self._post(OwnershipConfirmed(owned=owner == session.id))

    async def _release(self) -> None:
        session = self._coordinator.session
        try:
            await self._until_answered(partial(self._claim.give_back, session.id), session)
        except CoordinatorLostError:
            self._post(Released(done=False))
        else:
            self._post(Released(done=True))

    async def _until_answered(self, ask: Callable[[], Awaitable[str]], session: Session) -> str:
        """Ask again while this very link stands. Raises CoordinatorLostError when it does not."""
        for delay_s in Backoff(initial_s=0.05, max_s=1.0):
            try:
                return await ask()
            except CoordinatorLostError:
                await asyncio.sleep(delay_s)
                if not self._is_same(session):
                    raise
        raise AssertionError("delays never end")

    # Beginning and end ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self._driver = asyncio.create_task(self._drive(), name=f"election of {self._paths.name}")

    async def close(self) -> None:
        """Stop contending, and release what is ours if the link allows."""
        self._post(StopRequested())
        with suppress(TimeoutError):
            async with asyncio.timeout(self._coordinator.session.timeout_s):
                while not self._driver.done() and not (self._inbox.empty() and self._state.settled):
                    await self._stepped.wait()
        self._driver.cancel()
        await asyncio.wait((self._driver,))

    def raise_untold(self) -> None:
        """Raise what made the election fail, if nobody was told yet. After `close`."""
        if not self._driver.cancelled() and not self._failure_told:
            self._raise_failure()


@asynccontextmanager
async def campaign(
    coordinator: Coordinator,
    paths: InstancePaths,
    *,
    address: str,
    node: str,
    margin: float = 0.25,
    sight: LeaderSight | None = None,
) -> AsyncIterator[Campaign]:
    """Take part in the election of an instance.

    ``address`` is the ``host:port`` that clients are told, ``node`` our name. ``margin`` is the share of the session
    timeout by which the local deadline is early (`ha_canal.cluster.leadership` says why). What is seen of the leader
    goes into ``sight``, which may outlive the campaign. For each
    `Campaign.lease` we contend once; between them the campaign only watches who leads.
    """
    contest = Campaign(coordinator, paths, address=address, node=node, margin=margin, sight=sight)
    contest.open()
    try:
        yield contest
    finally:
        await contest.close()
    contest.raise_untold()
