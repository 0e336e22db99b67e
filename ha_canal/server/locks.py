"""The client lock in the running node: one holder per (instance, client id), waiters in order, leases by the clock.

What to decide stands in `ha_canal.server.lock_queue`; here are the futures that callers wait on, the loop's timer,
and the board that shows the holder to operators. The board is told of the latest state, one call at a time; when it
cannot be told, the lock works all the same: it is a display, not the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ha_canal.errors import CanalError, LockedError, NotSubscribedError, StaleEpochError
from ha_canal.server.lock_queue import Claim, Granted, LockQueue, Outcome, Refused, Revoked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ha_canal.server.ports import LockBoard

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """A grant of the lock. ``lost`` is done, with what to tell the client, when it ends against the holder's will."""

    token: str
    lost: asyncio.Future[CanalError] = field(compare=False)


class ClientLock:
    """The lock of one client id of one term of office. Lives on one event loop."""

    def __init__(self, instance: str, client_id: str, *, lease_s: float, board: LockBoard) -> None:
        self._instance = instance
        self._client_id = client_id
        self._loop = asyncio.get_running_loop()
        self._queue = LockQueue(lease_s)
        self._waiting: dict[int, asyncio.Future[Lease]] = {}
        self._lost: dict[str, asyncio.Future[CanalError]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._board = board
        self._shown = ""
        self._showing: asyncio.Task[None] | None = None

    @property
    def holder(self) -> str:
        """Who holds the lock, for people; empty: nobody."""
        return self._queue.holder

    async def acquire(self, claim: Claim, wait_s: float) -> Lease:
        """Return the lock, waiting for it up to ``wait_s``. Raises LockedError with the holder."""
        answer: asyncio.Future[Lease] = self._loop.create_future()
        ticket, outcomes = self._queue.ask(claim, self._loop.time(), wait_s)
        self._waiting[ticket] = answer
        self._follow(outcomes)
        try:
            return await answer
        except asyncio.CancelledError:
            self._give_up(ticket, answer)
            raise
        finally:
            self._waiting.pop(ticket, None)

    def _give_up(self, ticket: int, answer: asyncio.Future[Lease]) -> None:
        self._queue.withdraw(ticket)
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            self.release(answer.result().token)
        self._set_timer()

    @contextlib.contextmanager
    def call(self, token: str) -> Iterator[asyncio.Future[CanalError]]:
        """Keep the lease while a call is in progress; gives the future that is done when the lease is lost.

        Raises LockedError when another client holds the lock, NotSubscribedError when nobody does.
        """
        if not self._queue.call_begins(token, self._loop.time()):
            self._follow(self._queue.tick(self._loop.time()))
            raise self._not_held()
        self._set_timer()
        try:
            yield self._lost[token]
        finally:
            self._queue.call_ends(token, self._loop.time())
            self._set_timer()

    def holds(self, token: str) -> bool:
        return self._queue.holds(token, self._loop.time())

    def check(self, token: str) -> None:
        """Raise as `call` does unless ``token`` holds the lock now."""
        if not self.holds(token):
            raise self._not_held()

    def _not_held(self) -> CanalError:
        if self._queue.holder:
            return LockedError(self._instance, self._client_id, self._queue.holder)
        return NotSubscribedError(
            f"client id {self._client_id!r} of instance {self._instance!r}: this lease has ended or was never "
            "given; subscribe first, and call again within the lease"
        )

    def release(self, token: str) -> None:
        """End the lease; the next waiter has the lock. A lease that has ended already is left alone."""
        self._follow(self._queue.release(token, self._loop.time()))
        self._lost.pop(token, None)

    def close(self) -> None:
        """Stop the clock of a term that is over. Waiters are ended by whoever ended the term."""
        if self._timer:
            self._timer.cancel()

    def _follow(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Granted(ticket, token):
                    self._lost[token] = self._loop.create_future()
                    self._answer(ticket, Lease(token, self._lost[token]))
                case Refused(ticket, holder):
                    self._answer(ticket, LockedError(self._instance, self._client_id, holder))
                case Revoked(token):
                    if lost := self._lost.pop(token, None):
                        lost.set_result(self._revoked())
        self._set_timer()
        self._display()

    def _answer(self, ticket: int, answer: Lease | LockedError) -> None:
        future = self._waiting.get(ticket)
        if future is None or future.done():  # whoever asked is gone: cancelled in this very tick of the loop
            if isinstance(answer, Lease):
                self.release(answer.token)
        elif isinstance(answer, Lease):
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _revoked(self) -> CanalError:
        return NotSubscribedError(
            f"client id {self._client_id!r} of instance {self._instance!r}: the lock went to a newer session or "
            "its lease ran out; subscribe again, what was not acknowledged comes again"
        )

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        at = self._queue.next_tick_at()
        self._timer = None if at == math.inf else self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._follow(self._queue.tick(self._loop.time()))

    def _display(self) -> None:
        if self._showing is None and self._shown != self._queue.holder:
            self._showing = self._loop.create_task(self._tell_board(), name=f"lock display of {self._client_id}")

    async def _tell_board(self) -> None:
        try:
            while self._shown != (holder := self._queue.holder):
                self._shown = holder
                await (self._board.show(self._client_id, holder) if holder else self._board.clear(self._client_id))
        except StaleEpochError:
            pass  # the term is over, and with it what was shown: it was ephemeral
        except CanalError as error:
            _log.warning("the holder of client id %r of %s cannot be shown: %s", self._client_id, self._instance, error)
        finally:
            self._showing = None
