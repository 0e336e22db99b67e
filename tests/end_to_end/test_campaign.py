"""A short campaign: each kind of fault strikes a whole cluster once, and nothing is lost, repeated or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ha_canal.testing.chaos.campaign import run
from ha_canal.testing.chaos.report import summary, table
from ha_canal.testing.chaos.schedule import KINDS, each_once
from ha_canal.testing.chaos.stage import Scene
from tests.end_to_end.cluster import SESSION_TIMEOUT_S

_APART_S = 1.7
_PAUSE_S = 0.02


@pytest.mark.timeout(300)
def test_each_kind_of_fault_once(tmp_path: Path) -> None:
    schedule = each_once(session_timeout_s=SESSION_TIMEOUT_S, apart_s=_APART_S)
    scene = Scene(tmp_path, "mariadb", SESSION_TIMEOUT_S, newer_zookeeper=False)
    outcome = asyncio.run(run(scene, schedule, seed=1, pause_s=_PAUSE_S, say=print))
    print("\n".join([*table(outcome), *summary(outcome)]))
    assert outcome.holds
    assert {struck.fault.kind for struck in outcome.struck} | _missed(outcome.skipped) == set(KINDS)


def _missed(skipped: Sequence[str]) -> set[str]:
    """Return the kinds that met nobody: a machine under load may still be busy with the fault before."""
    return {one.split(" ")[0] for one in skipped}
