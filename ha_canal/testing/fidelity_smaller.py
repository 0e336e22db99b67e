"""Makes a case that differs smaller, as long as it still differs: fewer columns, steps and rows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import pymysql

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.fidelity_case import Case, Difference
from ha_canal.testing.fidelity_round import run_case

_LIMIT_S: Final = 40.0


def smaller(server: DatabaseServer, difference: Difference) -> Difference:
    """Return the difference of the smallest case found in a while; the one given if it does not come again alone."""
    deadline = time.monotonic() + _LIMIT_S
    best = _tried(server, difference.case)
    if best is None:
        difference.notes.append("not seen again when its table was written alone")
        return difference
    for shrink in (_fewer_steps, _fewer_columns, _fewer_rows, _fewer_steps, _fewer_columns):
        best = _shrunk(server, best, shrink, deadline)
    return best


def _shrunk(
    server: DatabaseServer, best: Difference, shrink: Callable[[Case], Iterator[Case]], deadline: float
) -> Difference:
    progress = True
    while progress and time.monotonic() < deadline:
        progress = False
        for candidate in shrink(best.case):
            if time.monotonic() > deadline:
                break
            found = _tried(server, candidate)
            if found is not None:
                best, progress = found, True
                break
    return best


def _tried(server: DatabaseServer, case: Case) -> Difference | None:
    try:
        result = run_case(server, case, random.Random(1))
    except pymysql.MySQLError:
        return None
    return result.differences[0] if result.differences else None


def _fewer_steps(case: Case) -> Iterator[Case]:
    for start, end in _parts(len(case.steps)):
        steps = case.steps[:start] + case.steps[end:]
        if steps:
            yield replace(case, steps=steps)


def _fewer_columns(case: Case) -> Iterator[Case]:
    names = [name for name, _ in case.table.columns if name != "id"]
    for start, end in _parts(len(names)):
        dropped = frozenset(names[start:end])
        steps = tuple(step for step in (step.without(dropped) for step in case.steps) if not step.empty)
        yield replace(case, table=case.table.without(dropped), steps=steps)


def _fewer_rows(case: Case) -> Iterator[Case]:
    ids = sorted({key for step in case.steps for key in step.ids})
    for start, end in _parts(len(ids)):
        kept = frozenset(ids[:start] + ids[end:])
        steps = tuple(step for step in (step.only(kept) for step in case.steps) if not step.empty)
        if steps:
            yield replace(case, steps=steps)


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Halves, quarters, … down to single places."""
    size = count // 2 or count
    while size:
        for start in range(0, count, size):
            yield start, min(start + size, count)
        size //= 2
