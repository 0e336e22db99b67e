"""`eventually`: polls, returns the value, fails with words."""

from __future__ import annotations

import asyncio

import pytest

from ha_canal.testing.clock import run_virtual
from ha_canal.testing.eventually import eventually


def test_it_returns_the_first_true_value() -> None:
    async def main() -> None:
        answers = iter(["", None, "done"])
        assert await eventually(lambda: next(answers), what="an answer") == "done"

    run_virtual(main())


def test_it_awaits_an_async_condition() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        async def late() -> bool:
            await asyncio.sleep(0.5)
            return loop.time() > 3

        await eventually(late, within_s=5, what="three seconds")
        return loop.time()

    assert 3 < run_virtual(main()) < 4


def test_it_says_what_did_not_happen() -> None:
    async def main() -> None:
        await eventually(lambda: 0, within_s=2, what="the leader steps down")

    with pytest.raises(AssertionError, match=r"not within 2 s: the leader steps down \(last value: 0\)"):
        run_virtual(main())


def test_a_condition_that_hangs_is_cut_off() -> None:
    async def main() -> None:
        await eventually(asyncio.Event().wait, within_s=2, what="an answer")

    with pytest.raises(AssertionError, match="it never answered"):
        run_virtual(main())


def test_what_a_condition_raises_is_not_hidden() -> None:
    def broken() -> bool:
        raise KeyError("leader")

    async def main() -> None:
        await eventually(broken, what="anything")

    with pytest.raises(KeyError):
        run_virtual(main())


def test_a_time_out_of_the_condition_itself_is_not_taken_for_ours() -> None:
    def broken() -> bool:
        raise TimeoutError("a socket's")

    async def main() -> None:
        await eventually(broken, what="anything")

    with pytest.raises(TimeoutError, match="a socket's"):
        run_virtual(main())
