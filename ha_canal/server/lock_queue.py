"""Who holds the lock of one client id, and who is next: pure decisions, driven by `ha_canal.server.locks`.

One holder, kept by a lease. While a call of the holder is in progress (an open stream is one long call) the lease
does not run; after the last one it runs for ``lease_s``. Who waits is served first come, first served. A client
that lost its link claims the lock with its name and its old lease, and has it back at once, ahead of all waiters:
it is the holder.

Times are seconds on any clock that only goes forward.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Claim:
    """Who asks: as it names itself, from where, and with which earlier lease."""

    name: str
    peer: str
    lease: str = ""

    def __str__(self) -> str:
        return f"{self.name or 'a client without a name'} ({self.peer})"


@dataclass(frozen=True, slots=True)
class Granted:
    ticket: int
    lease: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The wait of ``ticket`` is over, and ``holder`` still has the lock."""

    ticket: int
    holder: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """This lease has ended, though its holder did not release it."""

    lease: str


Outcome = Granted | Refused | Revoked


@dataclass(slots=True)
class _Holder:
    claim: Claim
    lease: str
    ends_at: float
    calls: int = 0


@dataclass(frozen=True, slots=True)
class _Waiter:
    ticket: int
    claim: Claim
    until: float


class LockQueue:
    """The state of one lock. Every method that can change who holds it returns what follows, in order."""

    __slots__ = ("_holder", "_lease_s", "_new_lease", "_tickets", "_waiters")

    def __init__(self, lease_s: float, new_lease: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._lease_s = lease_s
        self._new_lease = new_lease
        self._holder: _Holder | None = None
        self._waiters: list[_Waiter] = []
        self._tickets = 0

    @property
    def holder(self) -> str:
        """Who holds the lock, for people; empty: nobody."""
        return str(self._holder.claim) if self._holder else ""

    @property
    def idle(self) -> bool:
        """Whether nobody holds the lock and nobody waits for it."""
        return self._holder is None and not self._waiters

    def ask(self, claim: Claim, now: float, wait_s: float) -> tuple[int, list[Outcome]]:
        """Return a ticket for ``claim``, and what follows at once; the ticket's own outcome may come later."""
        outcomes = self.tick(now)
        self._tickets += 1
        ticket = self._tickets
        if self._holder and self._is_holder(claim):
            return ticket, [*outcomes, Revoked(self._holder.lease), self._grant(ticket, claim, now)]
        self._waiters.append(_Waiter(ticket, claim, now + wait_s))
        return ticket, [*outcomes, *self.tick(now)]

    def _is_holder(self, claim: Claim) -> bool:
        holder = self._holder
        return holder is not None and holder.lease == claim.lease and holder.claim.name == claim.name

    def withdraw(self, ticket: int) -> None:
        """Forget a waiter."""
        self._waiters = [waiter for waiter in self._waiters if waiter.ticket != ticket]

    def holds(self, lease: str, now: float) -> bool:
        return self._holder is not None and self._holder.lease == lease and now < self._holder.ends_at

    def call_begins(self, lease: str, now: float) -> bool:
        """Stop the lease's clock; False when ``lease`` does not hold the lock."""
        if not self.holds(lease, now) or self._holder is None:
            return False
        self._holder.calls += 1
        self._holder.ends_at = math.inf
        return True

    def call_ends(self, lease: str, now: float) -> None:
        """Start the lease's clock anew when this was its last call."""
        if self._holder and self._holder.lease == lease:
            self._holder.calls -= 1
            if self._holder.calls == 0:
                self._holder.ends_at = now + self._lease_s

    def release(self, lease: str, now: float) -> list[Outcome]:
        """End the lease at its holder's wish."""
        if self._holder and self._holder.lease == lease:
            self._holder = None
        return self.tick(now)

    def tick(self, now: float) -> list[Outcome]:
        """End what is over by ``now``."""
        outcomes: list[Outcome] = []
        if self._holder and self._holder.ends_at <= now:
            outcomes.append(Revoked(self._holder.lease))
            self._holder = None
        if self._holder is None and self._waiters:
            first = self._waiters.pop(0)
            outcomes.append(self._grant(first.ticket, first.claim, now))
        if self._holder:
            outcomes += [Refused(waiter.ticket, self.holder) for waiter in self._waiters if waiter.until <= now]
            self._waiters = [waiter for waiter in self._waiters if waiter.until > now]
        return outcomes

    def next_tick_at(self) -> float:
        """Return when `tick` has something to do next; infinity: not before something else happens."""
        ends = [waiter.until for waiter in self._waiters]
        if self._holder:
            ends.append(self._holder.ends_at)
        return min(ends, default=math.inf)

    def _grant(self, ticket: int, claim: Claim, now: float) -> Granted:
        self._holder = _Holder(claim, self._new_lease(), now + self._lease_s)
        return Granted(ticket, self._holder.lease)
