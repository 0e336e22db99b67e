"""Backing off: delays, limits, and a log that says each trouble once."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from ha_canal.backoff import Backoff, retry
from ha_canal.errors import CanalError, CoordinatorLostError, SourceLostError, UsageError
from ha_canal.testing.clock import run_virtual


def test_delays_grow_to_the_maximum() -> None:
    delays = list(itertools.islice(Backoff(initial_s=1, max_s=10, factor=3, jitter=0), 5))
    assert delays == [1, 3, 9, 10, 10]


def test_jitter_stays_in_its_share() -> None:
    for delay_s in itertools.islice(Backoff(initial_s=1, max_s=1, jitter=0.5), 200):
        assert 0.5 <= delay_s <= 1.5


class Attempts:
    """Raises the errors given, one per attempt, then returns "done"; notes when it was called."""

    def __init__(self, *errors: CanalError) -> None:
        self.errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "done"


STEADY = Backoff(initial_s=1, max_s=4, jitter=0)


def test_retries_what_is_retriable() -> None:
    attempts = Attempts(*[SourceLostError("gone")] * 4)
    assert run_virtual(retry(attempts, what="reading", backoff=STEADY)) == "done"
    assert attempts.at == [0, 1, 3, 7, 11]


def test_raises_at_once_what_is_not() -> None:
    attempts = Attempts(SourceLostError("gone"), UsageError("wrong"))
    with pytest.raises(UsageError):
        run_virtual(retry(attempts, what="reading", backoff=STEADY))
    assert attempts.at == [0, 1]


def test_gives_up_at_the_limit_with_the_last_error() -> None:
    attempts = Attempts(*[SourceLostError(f"gone {number}") for number in range(9)])
    with pytest.raises(SourceLostError, match="gone 2"):
        run_virtual(retry(attempts, what="reading", backoff=STEADY, limit_s=5))
    assert attempts.at == [0, 1, 3]


def test_says_each_trouble_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts(*[SourceLostError("gone")] * 5, *[CoordinatorLostError("cut")] * 5)
    with caplog.at_level(logging.INFO):
        run_virtual(retry(attempts, what="reading", backoff=STEADY))
    assert [record.message for record in caplog.records] == [
        "reading does not work, trying again: gone",
        "reading does not work, trying again: cut",
        "reading works again",
    ]
