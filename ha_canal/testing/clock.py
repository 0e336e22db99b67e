"""An asyncio loop whose time is a number: when nothing is ready, it jumps to the next timer.

For tests of timing logic that does no I/O: hours pass in milliseconds, the order of timers is the same in every run,
and a wait that nothing will end is an error instead of a hang. Threads and sockets do not advance this clock: code
under `run_virtual` must not wait for them. (The loop and its selector subclass asyncio's and the standard library's,
the only way in for a clock.)
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

A_DAY_S = 86_400.0
_TICK_S = 2.0**-29  # two nanoseconds: longer than the time by which asyncio may fire a timer early

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DeadlockError(Exception):
    """All tasks wait, and no timer will ever wake one; the message names them."""


class TimeIsUpError(Exception):
    """The virtual time ran past the limit: something reschedules itself for ever."""


def run_virtual(main: Coroutine[Any, Any, T], *, limit_s: float = A_DAY_S) -> T:
    """Run `main` to its end on a fresh loop with a virtual clock that starts at 0, and return its result.

    Raises:
        DeadlockError: everything waits and no timer is set.
        TimeIsUpError: the clock passed `limit_s`.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(limit_s)) as runner:
        return runner.run(main)


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """The loop behind `run_virtual`; `time()` is the virtual clock in seconds."""

    def __init__(self, limit_s: float = A_DAY_S) -> None:
        self._jumping = _JumpingSelector(self, limit_s)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, at the end of the tick that `when` is in.

        asyncio fires all timers that are due within a nanosecond. Of two that differ by a rounding error, the second
        would fire with the clock standing before its time, and a waiter that sets it again would do so for ever.
        """
        return super().call_at(math.ceil(when / _TICK_S) * _TICK_S, callback, *args, context=context)


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing: advances the clock by what it was asked to wait."""

    def __init__(self, loop: VirtualClockLoop, limit_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._loop = loop
        self._limit_s = limit_s
        self._ended = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise self._deadlock()
        if not ready and timeout is not None and timeout > 0:
            self._advance(timeout)
        return ready

    def _advance(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self._limit_s and not self._ended:
            self._ended = True  # once: what the cancelled tasks still do may take its time
            msg = f"virtual time passed its limit of {self._limit_s} s while waiting: {self._waiting()}"
            raise TimeIsUpError(msg)

    def _deadlock(self) -> DeadlockError:
        return DeadlockError(f"no timer is set and nothing is ready at {self.now} s; waiting: {self._waiting()}")

    def _waiting(self) -> str:
        return "; ".join(sorted(_place(task) for task in asyncio.all_tasks(self._loop)))


def _place(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    where = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "not started"
    return f"{task.get_name()} ({where})"
