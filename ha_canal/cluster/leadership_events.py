"""The words between the leadership machine and the world: what can happen (events), what is to be done (actions).

See `ha_canal.cluster.leadership` for the machine and `ha_canal.cluster.election` for who sends and does them.
"""

from __future__ import annotations

from dataclasses import dataclass

# Events ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunningSeen:
    """``running`` exists and belongs to the session ``owner``."""

    owner: str


@dataclass(frozen=True, slots=True)
class RunningGone:
    """There is no ``running``."""


@dataclass(frozen=True, slots=True)
class Won:
    """Our commit made ``running`` in this session and raised the epoch to this number, at this version of its node."""

    session: str
    epoch: int
    epoch_version: int


@dataclass(frozen=True, slots=True)
class LostRace:
    """Our attempt failed; when not ``certain``, nobody knows how it ended, and ``running`` may be ours."""

    certain: bool


@dataclass(frozen=True, slots=True)
class SessionSuspended:
    """The link is cut."""


@dataclass(frozen=True, slots=True)
class SessionConnected:
    """The link stands, in this session, which the service keeps for ``timeout_s`` without hearing from us."""

    session: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The session has ended; what it owned is gone."""


@dataclass(frozen=True, slots=True)
class OwnershipConfirmed:
    """``running`` was read again: it is ours, or it is not."""

    owned: bool


@dataclass(frozen=True, slots=True)
class ProofOfLife:
    """A request sent at this time, in this session, was answered."""

    sent_s: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Contend:
    """Somebody waits to run the instance here."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Nobody wants to run the instance here any more."""


@dataclass(frozen=True, slots=True)
class InstanceStopped:
    """The instance has ended, after StopInstance or by itself."""


@dataclass(frozen=True, slots=True)
class Released:
    """ReleaseRunning has ended: ``done`` means that ``running`` is not ours now."""

    done: bool


Event = (
    RunningSeen
    | RunningGone
    | Won
    | LostRace
    | SessionSuspended
    | SessionConnected
    | SessionLost
    | OwnershipConfirmed
    | ProofOfLife
    | Tick
    | Contend
    | StopRequested
    | InstanceStopped
    | Released
)


# Actions --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TryAcquire:
    """Try to make ``running`` and raise the epoch, in one commit; answer with Won or LostRace."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Read ``running`` anew; answer with RunningSeen or RunningGone, now and at each change."""


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Start the instance, in this epoch."""

    epoch: int
    epoch_version: int


@dataclass(frozen=True, slots=True)
class PauseOutput:
    """Put, acknowledge and publish nothing from now on."""


@dataclass(frozen=True, slots=True)
class ConfirmOwnership:
    """Read ``running``; answer with OwnershipConfirmed."""


@dataclass(frozen=True, slots=True)
class ResumeOutput:
    """Output is allowed again."""


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Stop the instance, at once; answer with InstanceStopped when it has stopped."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseRunning:
    """Delete ``running`` if our session owns it; answer with Released."""


Action = (
    TryAcquire | Watch | StartInstance | PauseOutput | ConfirmOwnership | ResumeOutput | StopInstance | ReleaseRunning
)
