"""When to give up the source that is read, and which one comes next: one pure state machine, `step`.

Whoever has connections (`ha_canal.instance.sources`) tells it what happened and does what it asks for; it opens none
and reads no clock. Its rules:

- The current source is given up when it missed `failures` heartbeats, when its binlog could not be read for as long as
  that takes, or at once when it cannot be read at all (purged, reset, without rights). A good heartbeat forgives
  nothing by itself: `failures` of them in a row do, so a server that crashes again and again is given up, too.
- A source that was given up stays until another one is *fit*: a switch is never made to a server that was not looked
  at. All others are looked at in rounds, for ever, with growing pauses; when the current one is well again in between,
  it stays.
- Of those that are fit the first in the order of the configuration is taken, but one that failed less than the hold-off
  ago only if no other is. There is no way back by itself.
- Switches in a row make the pause before the next round longer, until a source was well for the hold-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

_JITTER = 0.2
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Rules:
    """``failures`` heartbeats, one every ``heartbeat_s``; pauses between rounds grow from the first to the most."""

    failures: int = 3
    heartbeat_s: float = 3.0
    hold_off_s: float = 60.0
    first_pause_s: float = 1.0
    most_pause_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A heartbeat was answered in time."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A heartbeat was not. ``denied``: the server answers, and will not let us in."""

    why: str
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Reads:
    """Something came on the binlog connection since the last word about it."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The binlog connection broke, or could not be had. ``for_good``: trying again will not mend it."""

    why: str
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at a source showed: whether reading can go on there, and why (not)."""

    address: str
    fit: bool
    why: str


@dataclass(frozen=True, slots=True)
class Looked:
    """All others were looked at."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class NotSwitched:
    """The switch that was asked for did not come about."""

    to: str
    why: str


Event: TypeAlias = Answered | Missed | Reads | Broke | Looked | NotSwitched


@dataclass(frozen=True, slots=True)
class Look:
    """Look at all other sources, and tell."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Read from ``to`` from now on, unless it changed its mind meanwhile."""

    to: str
    why: str


@dataclass(frozen=True, slots=True)
class Say:
    """Something for the log."""

    text: str
    is_trouble: bool = True


@dataclass(frozen=True, slots=True)
class Steady:
    """The current source was well for so long that what happened before does not count any more."""


Action: TypeAlias = Look | Switch | Say | Steady


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the sources: one immutable value. ``sources`` are addresses in the order of preference."""

    sources: tuple[str, ...]
    current: str
    avoided: tuple[tuple[str, float], ...] = ()
    """Who failed, and until when it is taken only for want of others."""
    switches: int = 0
    missed: int = 0
    answered: int = 0
    missed_why: str = ""
    broken_since_s: float | None = None
    broken_why: str = ""
    refused: bool = False
    given_up: str = ""
    rounds: int = 0
    look_at_s: float = 0.0
    is_looking: bool = False
    well_since_s: float | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def is_well(self) -> bool:
        return not self.given_up and not self.missed and self.broken_since_s is None

    def __str__(self) -> str:
        if self.given_up:
            others = "; ".join(f"{one.address}: {one.why}" for one in self.findings if not one.fit)
            return f"given up ({self.given_up})" + (f"; round {self.rounds}: {others}" if others else "")
        if self.missed:
            return f"in doubt: missed {self.missed} heartbeats ({self.missed_why})"
        return "in doubt: " + self.broken_why if self.broken_since_s is not None else "well"


def begin(
    sources: Sequence[str],
    current: str,
    *,
    failed: Sequence[str] = (),
    switches: int = 0,
    now_s: float,
    rules: Rules,
) -> Watch:
    """Return the watch of a term that begins. ``failed`` and ``switches`` are what earlier terms left behind.

    The hold-off of those that failed begins anew: clocks of nodes cannot be compared, and it is a preference only.
    """
    until_s = now_s + rules.hold_off_s
    avoided = tuple((address, until_s) for address in failed if address != current)
    return Watch(tuple(sources), current, avoided, switches, well_since_s=now_s)


def step(
    watch: Watch, event: Event, now_s: float, rules: Rules, *, spread: float = 0.0
) -> tuple[Watch, tuple[Action, ...]]:
    """Return what is known now, and what is to be done. ``spread``, from -1 to 1, is the chance in pauses."""
    watch, said = _heard(watch, event, now_s, rules, spread)
    watch, decided = _decide(watch, now_s, rules, spread)
    return watch, (*said, *decided)


def _heard(watch: Watch, event: Event, now_s: float, rules: Rules, spread: float) -> tuple[Watch, tuple[Action, ...]]:
    match event:
        case Answered():
            answered = watch.answered + 1
            is_forgiven = answered >= rules.failures
            return replace(watch, answered=answered, missed=0 if is_forgiven else watch.missed), ()
        case Missed() if event.denied and watch.broken_since_s is None and not watch.given_up:
            return replace(watch, answered=0), ()  # it lives, and is read: only our right to log in anew is gone
        case Missed():
            return replace(watch, answered=0, missed=watch.missed + 1, missed_why=event.why, well_since_s=None), ()
        case Reads():
            return replace(watch, broken_since_s=None, refused=False), ()
        case Broke():
            since_s = now_s if watch.broken_since_s is None else watch.broken_since_s
            refused = watch.refused or event.for_good
            return replace(watch, broken_since_s=since_s, broken_why=event.why, refused=refused, well_since_s=None), ()
        case Looked():
            return _choose(watch, event.findings, now_s, rules, spread)
        case NotSwitched():
            return _in_vain(watch, (Finding(event.to, fit=False, why=event.why),), now_s, rules, spread)
        case _:
            assert_never(event)


def _decide(watch: Watch, now_s: float, rules: Rules, spread: float) -> tuple[Watch, tuple[Action, ...]]:
    if watch.given_up:
        if _is_well_again(watch, rules):
            watch = replace(watch, given_up="", rounds=0, findings=(), is_looking=False, well_since_s=now_s)
            return watch, (Say(f"{watch.current} is well again, and stays", is_trouble=False),)
        if not watch.is_looking and now_s >= watch.look_at_s:
            return replace(watch, is_looking=True), (Look(),)
        return watch, ()
    if why := _why_given_up(watch, now_s, rules):
        pause_s = _pause_s(watch.switches, rules, spread) if watch.switches else 0.0
        watch = replace(watch, given_up=why, look_at_s=now_s + pause_s, answered=0)
        later = f", in {pause_s:.0f} s since it is the {watch.switches + 1}. time in a row" if pause_s else ""
        given_up = Say(f"{watch.current} is given up: {why}; looking at the others{later}")
        if pause_s:
            return watch, (given_up,)
        return replace(watch, is_looking=True), (given_up, Look())
    return _settle(watch, now_s, rules)


def _settle(watch: Watch, now_s: float, rules: Rules) -> tuple[Watch, tuple[Action, ...]]:
    if not watch.is_well:
        return watch, ()
    since_s = now_s if watch.well_since_s is None else watch.well_since_s
    watch = replace(watch, well_since_s=since_s)
    if watch.switches and now_s - since_s >= rules.hold_off_s:
        return replace(watch, switches=0), (Steady(),)
    return watch, ()


def _why_given_up(watch: Watch, now_s: float, rules: Rules) -> str:
    if watch.refused:
        return watch.broken_why
    if watch.missed >= rules.failures:
        return f"it missed {watch.missed} heartbeats, the last one because of: {watch.missed_why}"
    long_s = rules.failures * rules.heartbeat_s
    if watch.broken_since_s is not None and now_s - watch.broken_since_s >= long_s:
        return f"its binlog could not be read for {long_s:g} s: {watch.broken_why}"
    return ""


def _is_well_again(watch: Watch, rules: Rules) -> bool:
    return watch.answered >= rules.failures and watch.broken_since_s is None and not watch.refused


def _choose(
    watch: Watch, findings: tuple[Finding, ...], now_s: float, rules: Rules, spread: float
) -> tuple[Watch, tuple[Action, ...]]:
    if not watch.given_up:  # it came back while we looked
        return replace(watch, is_looking=False), ()
    fit = [one for one in findings if one.fit]
    if not fit:
        return _in_vain(watch, findings, now_s, rules, spread)
    failed = still_avoided(watch, now_s)
    first = min(fit, key=lambda one: (one.address in failed, watch.sources.index(one.address)))
    return replace(watch, findings=findings), (Switch(first.address, f"{watch.current} failed: {watch.given_up}"),)


def _in_vain(
    watch: Watch, findings: tuple[Finding, ...], now_s: float, rules: Rules, spread: float
) -> tuple[Watch, tuple[Action, ...]]:
    if not watch.given_up:
        return replace(watch, is_looking=False), ()
    rounds = watch.rounds + 1
    pause_s = _pause_s(watch.switches + rounds, rules, spread)
    watch = replace(watch, rounds=rounds, findings=findings, is_looking=False, look_at_s=now_s + pause_s)
    others = "; ".join(f"{one.address}: {one.why}" for one in findings)
    text = f"round {rounds}: no other source can be read now: {others}; next round in {pause_s:.0f} s"
    return watch, (Say(f"{text}. {watch.current} is tried all the time"),)


def still_avoided(watch: Watch, now_s: float) -> tuple[str, ...]:
    """Return who failed less than the hold-off ago."""
    return tuple(address for address, until_s in watch.avoided if now_s < until_s)


def failed_after(watch: Watch, now_s: float, to: str) -> tuple[str, ...]:
    """Return whom the next term avoids when it reads from ``to`` because the current source failed."""
    failed = (*still_avoided(watch, now_s), watch.current)
    return tuple(dict.fromkeys(address for address in failed if address != to))


def _pause_s(count: int, rules: Rules, spread: float) -> float:
    doubled = rules.first_pause_s * 2.0 ** min(count - 1, _MOST_DOUBLINGS)
    return min(doubled, rules.most_pause_s) * (1 + _JITTER * spread)
