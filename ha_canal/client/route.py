"""Which node to ask next, when, and when to give up: pure decisions of the SDK, without sockets or clocks.

A node that says who leads is followed at once; one that is asked next hears which node has just failed us as the
leader, so that it can wait for the next leader in our stead. Without such a hint the next given node is asked at once,
and when all of them have been asked in vain there is a pause, growing from round to round. Errors that no other node
can mend are the caller's. Times are seconds on any clock that only goes forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_canal.errors import (
    CanalError,
    LinkError,
    LockedError,
    NotLeaderError,
    NotSubscribedError,
    StaleEpochError,
    UnknownInstanceError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HINTS_IN_A_ROW = 3
"""Nodes that send us in a circle do not know yet: after this many hints their words are ignored for a round."""


class Route:
    """The way to the leader of one instance. ``server`` is the node to ask next."""

    def __init__(self, servers: Sequence[str], *, retry_for_s: float | None, delays: Iterable[float]) -> None:
        if not servers:
            raise UsageError("a client needs the host:port of at least one node")
        self._servers = tuple(servers)
        self._retry_for_s = retry_for_s
        self._delays = delays
        self.server = self._servers[0]
        self._next = 1 % len(self._servers)
        self.succeeded()

    def succeeded(self) -> None:
        """Note that the instance is being read."""
        self._failing_since: float | None = None
        self._failures = 0
        self._unknown = 0
        self._hints = 0
        self.failed_leader = ""
        """The node that has just refused us as a leader, or could not be reached although a node had named it."""
        self._pauses = iter(self._delays)

    def failed(self, error: CanalError, now: float) -> float:
        """Choose the next node after ``error``; returns the seconds to wait first. Raises ``error`` to give up."""
        if self._failing_since is None:
            self._failing_since = now
        self._check_hopeless(error)
        self.failed_leader = self._suspect(error)
        if isinstance(error, LockedError):
            self._failing_since = None  # the node is well: it is another client that we wait for
            return next(self._pauses)
        pause_s = self._go_on(error)
        if self._retry_for_s is not None and now + pause_s - self._failing_since > self._retry_for_s:
            raise error
        return pause_s

    def _suspect(self, error: CanalError) -> str:
        """A link that broke once may have broken for itself; a node that then cannot be reached has gone."""
        first = not self._failures and not self._hints
        suspect = isinstance(error, NotLeaderError | StaleEpochError) if first else isinstance(error, LinkError)
        return self.server if suspect else ""

    def _check_hopeless(self, error: CanalError) -> None:
        if isinstance(error, UnknownInstanceError):
            self._unknown += 1
            if self._unknown >= len(self._servers):
                raise error
        elif not error.retriable and not isinstance(error, StaleEpochError | NotSubscribedError):
            raise error

    def _go_on(self, error: CanalError) -> float:
        if isinstance(error, NotLeaderError) and self._follow(error.leader):
            return 0.0
        self._failures += 1
        if isinstance(error, NotSubscribedError):  # the lease ran out: the node itself is the right one
            return 0.0 if self._failures == 1 else next(self._pauses)
        if not isinstance(error, LinkError | NotLeaderError | StaleEpochError | UnknownInstanceError):
            return next(self._pauses)
        self.server = self._servers[self._next]
        self._next = (self._next + 1) % len(self._servers)
        if self._failures % len(self._servers):
            return 0.0
        self._hints = 0
        return next(self._pauses)

    def _follow(self, leader: str) -> bool:
        if not leader or leader == self.server or self._hints >= _HINTS_IN_A_ROW:
            return False
        self._hints += 1
        self.server = leader
        return True
