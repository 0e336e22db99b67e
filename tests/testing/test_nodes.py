"""How the log of a node is read for faults of the program."""

from __future__ import annotations

from ha_canal.testing.nodes import faults_in

LOG = """\
2026-11-21 09:55:27,955 INFO    ha_canal: node 127.0.0.1:11041 is up; Ctrl-C stops it
2026-11-21 09:55:40,112 ERROR   ha_canal.node: instance shop: its term ended through a fault of this program
Traceback (most recent call last):
  File "ha_canal/node.py", line 108, in _lead_once
    async with contest.lease() as lease:
               ^^^^^^^^^^^^^^^

RuntimeError: xids do not match
2026-11-21 09:55:40,116 WARNING ha_canal.cluster.session: lost, session none
Traceback (most recent call last):
  File "cut"
2026-11-21 09:55:40,117 INFO    ha_canal: goes on
  + Exception Group Traceback (most recent call last):
  |   File "ha_canal/node.py", line 108, in run
  |     async with asyncio.TaskGroup() as tasks:
  | ExceptionGroup: two of them (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "ha_canal/node.py", line 120, in lead
    |     raise KeyError
    | KeyError
    +------------------------------------
"""


def test_a_traceback_is_told_with_its_error() -> None:
    assert faults_in(LOG) == [
        "2026-11-21 09:55:40,112 ERROR   ha_canal.node: instance shop: its term ended through a fault of this program",
        "Traceback (most recent call last): RuntimeError: xids do not match",
        "Traceback (most recent call last): ",
        "  + Exception Group Traceback (most recent call last): ExceptionGroup: two of them (2 sub-exceptions)",
        "    | Traceback (most recent call last): KeyError",
    ]
    assert faults_in(LOG.splitlines()[0]) == []
