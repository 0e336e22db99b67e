"""Leadership of one instance as a pure state machine: (state, event, now) → (state, actions).

`ha_canal.cluster.election` drives it: it turns what the coordinator says into events and does the actions. Nothing here
waits, reads a clock or knows asyncio, so that every order of events can be tried.

Invariants, whatever the order of events:

- a leader (`Role.LEADER` or `Role.SUSPENDED`) is one only before its deadline: the time at which the last request that
  proved its session alive had been *sent*, plus the session timeout, less a margin. No successor can exist by then.
- between two StartInstance there is always a StopInstance and the word that the instance has stopped;
- output is allowed in `Role.LEADER` alone, which is left at once when the link is cut or the ownership of ``running``
  is in doubt, and entered again only when ``running`` is known to be owned by our own session.

The margin pays for more than drifting clocks. A ZooKeeper follower answers for its leader and tells it only later, with
its next ping (tickTime/2), which sessions it heard of; if it is cut off in between, the leader counts from the request
before. So the margin must cover one keepalive interval and half a tick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

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


class Role(Enum):
    """What we are in the election of one instance; the table of legal transitions is `successors`."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    SUSPENDED = "suspended"

    @property
    def successors(self) -> frozenset[Role]:
        """The roles that may follow this one."""
        return _SUCCESSORS[self]

    @property
    def leads(self) -> bool:
        """Whether the instance runs here, with or without output."""
        return self in (Role.LEADER, Role.SUSPENDED)


_SUCCESSORS = {
    Role.FOLLOWER: frozenset({Role.CANDIDATE}),
    Role.CANDIDATE: frozenset({Role.FOLLOWER, Role.LEADER}),
    Role.LEADER: frozenset({Role.FOLLOWER, Role.SUSPENDED}),
    Role.SUSPENDED: frozenset({Role.FOLLOWER, Role.LEADER}),
}


@dataclass(frozen=True, slots=True)
class Leadership:
    """Where we stand. ``margin_s`` is a share of the session's timeout, see the module."""

    margin: float = 0.25
    role: Role = Role.FOLLOWER
    session: str = ""
    timeout_s: float = 0.0
    connected: bool = False
    wanted: bool = False
    instance_up: bool = False
    """From StartInstance until InstanceStopped: also while a deposed instance is still on its way out."""
    releasing: bool = False
    leftover: bool = False
    """``running`` may be our session's: from an attempt until it surely failed, was released, or the session ended."""
    last_proof_s: float = float("-inf")

    @property
    def deadline_s(self) -> float:
        """The time from which on somebody else may lead."""
        return self.last_proof_s + self.timeout_s * (1 - self.margin)

    @property
    def settled(self) -> bool:
        """Whether nothing of ours is left that we could still put away."""
        return self.at_rest and not (self.leftover and self.connected)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way here: no instance, no attempt, no release."""
        return self.role is Role.FOLLOWER and not self.instance_up and not self.releasing


Step = tuple[Leadership, tuple[Action, ...]]


def step(state: Leadership, event: Event, now: float) -> Step:
    """Return the state after ``event`` at time ``now``, and what is to be done, in this order."""
    if isinstance(event, ProofOfLife):
        state = replace(state, last_proof_s=max(state.last_proof_s, event.sent_s))
    stopped: tuple[Action, ...] = ()
    if state.role.leads and now >= state.deadline_s:
        state, stopped = _depose(state, "its session was not proved alive in time")
    state, actions = _react(state, event, now)
    return state, stopped + actions


def _react(state: Leadership, event: Event, now: float) -> Step:  # noqa: C901 (one flat table, a line or two per event)
    match event:
        case RunningSeen(owner):
            return _doubt(state) if owner != state.session else _own_running(state)
        case RunningGone():
            return _doubt(state) if state.role.leads else _try(state)
        case Won():
            return _won(state, event, now)
        case LostRace():
            return _lost_race(state, event)
        case SessionSuspended():
            return _suspended(state)
        case SessionConnected():
            return _connected(state, event)
        case SessionLost():
            return _session_lost(state)
        case OwnershipConfirmed(owned):
            return _confirmed(state, owned=owned)
        case Contend():
            return _look(replace(state, wanted=True))
        case StopRequested():
            state = replace(state, wanted=False)
            return _depose(state, "it was asked to stop") if state.role.leads else (state, ())
        case InstanceStopped():
            return _instance_stopped(state)
        case Released():
            return _look(replace(state, releasing=False, leftover=state.leftover and not event.done))
        case ProofOfLife() | Tick():
            return state, ()
        case _:
            assert_never(event)


def _move(state: Leadership, role: Role) -> Leadership:
    assert role in state.role.successors, f"{state.role} cannot become {role}"
    return replace(state, role=role)


def _depose(state: Leadership, reason: str) -> Step:
    return _move(state, Role.FOLLOWER), (StopInstance(reason),)


def _look(state: Leadership) -> Step:
    """At rest: give up what is ours, else see whether ``running`` can be had."""
    if not (state.at_rest and state.connected):
        return state, ()
    if state.leftover:
        return replace(state, releasing=True), (ReleaseRunning(),)
    return state, (Watch(),) if state.wanted else ()


def _try(state: Leadership) -> Step:
    if not (state.at_rest and state.connected and state.wanted):
        return state, ()
    return replace(_move(state, Role.CANDIDATE), leftover=True), (TryAcquire(),)


def _lost_race(state: Leadership, event: LostRace) -> Step:
    if state.role is not Role.CANDIDATE:
        return state, ()
    return _look(replace(_move(state, Role.FOLLOWER), leftover=not event.certain))


def _own_running(state: Leadership) -> Step:
    """Ours, but we may not lead: left by an attempt whose answer was lost, or by an instance that was deposed."""
    return _look(replace(state, leftover=True)) if state.at_rest else (state, ())


def _doubt(state: Leadership) -> Step:
    """``running`` does not look like ours. An old sight, or an operator's work: stop output, read again."""
    match state.role:
        case Role.LEADER:
            return _move(state, Role.SUSPENDED), (PauseOutput(), *_confirm(state))
        case Role.SUSPENDED:
            return state, _confirm(state)
        case _:
            return state, ()


def _confirm(state: Leadership) -> tuple[Action, ...]:
    return (ConfirmOwnership(),) if state.connected else ()


def _won(state: Leadership, event: Won, now: float) -> Step:
    if state.role is not Role.CANDIDATE:
        return state, ()
    current = state.connected and event.session == state.session
    if current and state.wanted and now < state.deadline_s:
        state = replace(_move(state, Role.LEADER), instance_up=True)
        return state, (StartInstance(event.epoch, event.epoch_version),)
    return _look(replace(_move(state, Role.FOLLOWER), leftover=True))


def _suspended(state: Leadership) -> Step:
    state = replace(state, connected=False)
    if state.role is Role.LEADER:
        return _move(state, Role.SUSPENDED), (PauseOutput(),)
    return state, ()


def _session_lost(state: Leadership) -> Step:
    state = replace(state, connected=False, session="", leftover=False, last_proof_s=float("-inf"))
    return _depose(state, "its session has ended") if state.role.leads else (state, ())


def _connected(state: Leadership, event: SessionConnected) -> Step:
    lost: tuple[Action, ...] = ()
    if state.session not in ("", event.session):
        state, lost = _session_lost(state)
    state = replace(state, connected=True, session=event.session, timeout_s=event.timeout_s)
    if state.role is Role.SUSPENDED:
        return state, (ConfirmOwnership(),)
    state, look = _look(state)
    return state, lost + look


def _confirmed(state: Leadership, *, owned: bool) -> Step:
    if not state.role.leads:
        return state, ()
    if not owned:
        return _depose(replace(state, leftover=False), "another session owns it now")
    if state.role is Role.SUSPENDED and state.connected:
        return _move(state, Role.LEADER), (ResumeOutput(),)
    return state, ()


def _instance_stopped(state: Leadership) -> Step:
    if not state.instance_up:
        return state, ()
    ended: tuple[Action, ...] = ()
    if state.role.leads:
        state, ended = _depose(state, "the instance has ended")
    state, release = _look(replace(state, instance_up=False, wanted=False))
    return state, ended + release
