"""Which fault strikes whom, when, and for how long: drawn beforehand from the seed. Pure.

A target is a role (`leader`, `holder`), as who plays it is known only when the fault strikes; ``pick`` decides what is
left open then. Every fault ends after a bounded time. The same seed and kinds give the same schedule.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_WARM_UP_S = 4.0
_LONGEST_CALM_S = 8.0
_COMES_TOGETHER = 0.3
"""The share of faults that strike within a second of the one before."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``at_s`` is counted from the start of the campaign; ``for_s`` is until it is healed, 0 where it heals itself."""

    at_s: float
    kind: str
    target: str
    for_s: float = 0.0
    pick: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.kind} {self.target}"


@dataclass(frozen=True, slots=True)
class Danger:
    """A kind of fault: who can be struck, how often against the others, and how long, in sessions or in seconds."""

    kind: str
    target: str
    weight: float
    sessions: tuple[float, float] = (0.0, 0.0)
    seconds: tuple[float, float] = (0.0, 0.0)

    def duration_s(self, session_timeout_s: float, chance: random.Random) -> float:
        return chance.uniform(*self.sessions) * session_timeout_s + chance.uniform(*self.seconds)


_SHORT, _LONG = (0.1, 0.7), (1.2, 3.0)
DANGERS = (
    Danger("kill", "leader", 3, seconds=(0, 8)),
    Danger("kill", "stand-by", 1, seconds=(0, 8)),
    Danger("kill", "holder", 2, seconds=(0, 6)),
    Danger("kill", "waiting", 1, seconds=(0, 6)),
    Danger("kill", "zookeeper", 1, seconds=(0, 8)),
    Danger("kill", "zookeeper-majority", 0.7, seconds=(0, 8)),
    Danger("kill", "zookeeper-all", 0.4, seconds=(0, 6)),
    Danger("pause", "leader", 1.5, sessions=_SHORT),
    Danger("pause", "leader", 1.5, sessions=_LONG),
    Danger("pause", "stand-by", 0.7, sessions=_LONG),
    Danger("pause", "holder", 1, sessions=_SHORT),
    Danger("pause", "holder", 1, sessions=_LONG),
    Danger("pause", "zookeeper", 0.7, sessions=_SHORT),
    Danger("pause", "zookeeper", 0.7, sessions=_LONG),
    Danger("pause", "zookeeper-majority", 0.5, sessions=(0.1, 2.0)),
    Danger("pause", "source", 1, seconds=(0.5, 8)),
    Danger("cut", "leader-zookeeper", 1.5, sessions=(0, 2.0)),
    Danger("cut", "stand-by-zookeeper", 0.5, sessions=(0, 2.0)),
    Danger("cut", "leader-source", 1.5, seconds=(0, 6)),
    Danger("cut", "holder-leader", 1.5, seconds=(0, 6)),
    Danger("cut", "waiting-leader", 0.5, seconds=(0, 6)),
    Danger("cut", "holder-nodes", 0.5, seconds=(0, 6)),
    Danger("cut", "stand-by-source", 0.3, seconds=(0, 6)),
    Danger("cut", "zookeeper-zookeeper", 0.7, sessions=(0, 2.0)),
    Danger("delay", "leader-zookeeper", 1, seconds=(2, 10)),
    Danger("delay", "leader-source", 0.7, seconds=(2, 10)),
    Danger("delay", "holder-leader", 0.7, seconds=(2, 10)),
    Danger("half-open", "leader-zookeeper", 1.5, sessions=(0.1, 2.5)),
    Danger("half-open", "stand-by-zookeeper", 0.5, sessions=(0.1, 2.5)),
    Danger("half-open", "leader-source", 1.5, seconds=(0.5, 10)),
    Danger("half-open", "holder-leader", 1.5, seconds=(0.5, 14)),
    Danger("half-open", "waiting-leader", 0.5, seconds=(0.5, 14)),
    Danger("half-open", "holder-nodes", 0.5, seconds=(0.5, 14)),
    Danger("half-open", "stand-by-source", 0.3, seconds=(0.5, 10)),
    Danger("half-open", "zookeeper-zookeeper", 0.7, sessions=(0.1, 2.5)),
    Danger("crash", "source", 1.5, seconds=(0, 5)),
    Danger("crash", "replica", 0.5, seconds=(0, 5)),
    Danger("pause", "replica", 0.5, seconds=(0.5, 8)),
    Danger("restart", "source", 0.5),
    Danger("promote", "source", 1.5, seconds=(0, 5)),
    Danger("clock", "leader", 0.7, seconds=(1, 8)),
    Danger("clock", "stand-by", 0.3, seconds=(1, 8)),
    Danger("disk", "embedded", 1, seconds=(1, 6)),
    Danger("kill", "embedded", 0.5, seconds=(0, 3)),
    Danger("move", "leader", 1),
    Danger("stop", "leader", 1, seconds=(0, 3)),
)
KINDS = tuple(dict.fromkeys(danger.kind for danger in DANGERS))


def draw(seed: int, duration_s: float, *, session_timeout_s: float, kinds: Sequence[str] = KINDS) -> list[Fault]:
    """Return the schedule of a campaign: the last fault strikes before ``duration_s``."""
    chance = random.Random(seed)
    dangers = [danger for danger in DANGERS if danger.kind in kinds]
    weights = [danger.weight for danger in dangers]
    schedule: list[Fault] = []
    at_s = _WARM_UP_S
    while at_s < duration_s:
        (danger,) = chance.choices(dangers, weights)
        for_s = danger.duration_s(session_timeout_s, chance)
        schedule.append(Fault(round(at_s, 2), danger.kind, danger.target, round(for_s, 2), round(chance.random(), 4)))
        at_s += chance.random() if chance.random() < _COMES_TOGETHER else chance.uniform(1.0, _LONGEST_CALM_S)
    return schedule


def each_once(*, session_timeout_s: float, apart_s: float) -> list[Fault]:
    """Return a short schedule with each kind of fault once, for the tests: always the same."""
    first = {danger.kind: danger for danger in reversed(DANGERS)}
    chance = random.Random(0)
    return [
        Fault(
            round(1 + place * apart_s, 2),
            kind,
            first[kind].target,
            round(min(2.0, first[kind].duration_s(session_timeout_s, chance)), 2),
            0.5,
        )
        for place, kind in enumerate(KINDS)
    ]
