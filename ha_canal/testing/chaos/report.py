"""What a campaign showed, as numbers and as a table for people. Pure.

Service is what clients are handed: seconds without it are those between two batches. A fault answers for the longest
such gap that touches it, and for what was repeated while it lasted or right after; where several faults stood at the
same time, each of them answers for all of it, and the table says how many struck alone.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ha_canal.testing.chaos.campaign import Outcome, Struck
from ha_canal.testing.checker import Mark

_AFTERMATH_S = 15.0
"""Repeats this long after a fault are its doing: leases of clients and sessions of nodes end within that time."""
_WIDTHS = (28, 6, 6, 9, 9, 9, 9, 10)
_COLUMNS = ("fault", "times", "alone", "median s", "longest", "out med", "out max", "repeated")


@dataclass(frozen=True, slots=True)
class Effect:
    """What one fault did. ``out_s``: the longest time without service; ``alone``: no other fault stood meanwhile."""

    name: str
    victim: str
    began_s: float
    lasted_s: float
    out_s: float
    repeated: int
    alone: bool


def effects(outcome: Outcome) -> list[Effect]:
    """Return what each fault did to the cluster; times are counted from the schedule's zero."""
    arrivals = sorted(handed.at_s for handed in outcome.handed)
    repeated = _repeats_by_fault(outcome)
    return [
        Effect(
            struck.fault.name,
            struck.victim,
            round(struck.began_s - outcome.began_s, 2),
            round(struck.healed_s - struck.began_s, 2),
            round(_longest_gap_s(arrivals, struck, outcome.ended_s), 2),
            repeated[place],
            _is_alone(struck, outcome.struck),
        )
        for place, struck in enumerate(outcome.struck)
    ]


def _longest_gap_s(arrivals: Sequence[float], struck: Struck, ended_s: float) -> float:
    """Return the longest time between two batches that touches the fault, up to the first batch after it."""
    first = max(0, bisect_left(arrivals, struck.began_s) - 1)
    longest_s = 0.0
    for place in range(first, len(arrivals)):
        if arrivals[place] > struck.healed_s:
            break
        end_s = arrivals[place + 1] if place + 1 < len(arrivals) else ended_s
        longest_s = max(longest_s, end_s - max(arrivals[place], struck.began_s))
    return longest_s


def _repeats_by_fault(outcome: Outcome) -> Counter[int]:
    """Count repeats for the fault that struck last before them; -1: for none."""
    counts: Counter[int] = Counter()
    for repeat in outcome.repeats:
        causes = [
            place
            for place, struck in enumerate(outcome.struck)
            if struck.began_s <= repeat.at_s <= struck.healed_s + _AFTERMATH_S
        ]
        counts[causes[-1] if causes else -1] += repeat.changes
    return counts


def unexplained_repeats(outcome: Outcome) -> int:
    """Return how many changes were repeated while no fault had struck for a while."""
    return _repeats_by_fault(outcome)[-1]


def _is_alone(struck: Struck, others: Sequence[Struck]) -> bool:
    return not any(
        other is not struck and other.began_s <= struck.healed_s and other.healed_s >= struck.began_s
        for other in others
    )


def lags(outcome: Outcome) -> list[tuple[float, float]]:
    """Return for each answered commit when it was first handed out, and how long after its commit, in seconds."""
    first: dict[Mark, float] = {}
    for handed in sorted(outcome.handed, key=lambda handed: handed.at_s):
        for delivery in handed.deliveries:
            first.setdefault(delivery.mark, handed.at_s)
    return sorted(
        (at_s, max(0.0, at_s - outcome.committed_at_s[mark]))
        for mark, at_s in first.items()
        if mark in outcome.committed_at_s
    )


def table(outcome: Outcome) -> list[str]:
    """Return the faults by name, and what came of them, in lines."""
    by_name: dict[str, list[Effect]] = {}
    for effect in effects(outcome):
        by_name.setdefault(effect.name, []).append(effect)
    rows = [_row(name, found) for name, found in by_name.items()]
    lines = [_line(_COLUMNS), *(_line(row) for row in rows)]
    return [*lines, "(out: seconds without service; alone: no other fault at that time)"]


def _row(name: str, found: Sequence[Effect]) -> tuple[str, ...]:
    lasted_s = [effect.lasted_s for effect in found]
    out_s = [effect.out_s for effect in found]
    return (
        name,
        str(len(found)),
        str(sum(effect.alone for effect in found)),
        f"{statistics.median(lasted_s):.2f}",
        f"{max(lasted_s):.2f}",
        f"{statistics.median(out_s):.2f}",
        f"{max(out_s):.2f}",
        str(sum(effect.repeated for effect in found)),
    )


def _line(cells: Sequence[str]) -> str:
    first, *rest = cells
    return first.ljust(_WIDTHS[0]) + "".join(cell.rjust(width) for cell, width in zip(rest, _WIDTHS[1:], strict=True))


def summary(outcome: Outcome) -> list[str]:
    """Return the verdict in lines."""
    behind_s = sorted(lag_s for _, lag_s in lags(outcome)) or [0.0]
    of_99 = behind_s[min(len(behind_s) - 1, len(behind_s) * 99 // 100)]
    lines = [
        *outcome.verdict.lines(),
        f"repeated with no fault near:    {unexplained_repeats(outcome)}",
        f"embedded node:                  {'sound' if outcome.verdict_embedded.holds else 'BROKEN'}",
        *([] if outcome.verdict_embedded.holds else [f"  {line}" for line in outcome.verdict_embedded.lines()]),
        f"epochs:                         {outcome.audit.epochs}",
        f"cursors written:                {outcome.audit.cursor_writes}",
        f"written by a deposed leader:    {len(outcome.audit.deposed)}",
        f"epochs not raised by one:       {len(outcome.audit.raised_wrongly)}",
        f"epochs with two nodes:          {len(outcome.two_in_one_epoch)}",
        f"forgotten by ZooKeeper itself:  {len(outcome.audit.lost_by_zookeeper)}",
        f"lost by the source itself:      {outcome.lost_by_source}",
        f"faults in the nodes' logs:      {len(outcome.faults_logged)}",
        f"ended by themselves:            {len(outcome.fallen)}",
        f"healed without help:            {'yes' if not outcome.not_healed else 'NO'}",
        f"all delivered after the end in: {outcome.recovered_s:.1f} s",
        (
            f"commit to client:               median {statistics.median(behind_s):.3f} s, 99 % {of_99:.2f} s, "
            f"longest {behind_s[-1]:.2f} s"
        ),
    ]
    details = [
        *outcome.audit.lost_by_zookeeper,
        *outcome.audit.deposed,
        *outcome.audit.raised_wrongly,
        *outcome.two_in_one_epoch,
    ]
    details += [*outcome.faults_logged, *outcome.fallen, *filter(None, [outcome.not_healed])]
    details += [f"redelivered after ack: {mark} at {at_s:.2f} s" for at_s, mark in outcome.redelivered]
    verdict = "the promise held" if outcome.holds else "THE PROMISE WAS BROKEN"
    return [*lines, *(f"  {detail}" for detail in details[:50]), f"=> {verdict}"]


def record(outcome: Outcome) -> dict[str, object]:
    """Return all of it for JSON, but for the single batches."""
    behind = lags(outcome)
    return {
        "holds": outcome.holds,
        "duration_s": round(outcome.ended_s - outcome.began_s, 2),
        "verdict": asdict(outcome.verdict),
        "verdict_embedded": asdict(outcome.verdict_embedded),
        "audit": asdict(outcome.audit),
        "two_in_one_epoch": list(outcome.two_in_one_epoch),
        "faults_logged": list(outcome.faults_logged),
        "fallen": list(outcome.fallen),
        "not_healed": outcome.not_healed,
        "lost_by_source": outcome.lost_by_source,
        "recovered_s": outcome.recovered_s,
        "unexplained_repeats": unexplained_repeats(outcome),
        "longest_lag_s": round(max((lag_s for _, lag_s in behind), default=0.0), 2),
        "effects": [asdict(effect) for effect in effects(outcome)],
        "skipped": list(outcome.skipped),
    }
