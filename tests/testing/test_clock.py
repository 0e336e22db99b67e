"""The virtual clock: time jumps, order is fixed, waits without end are errors."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from ha_canal.testing.clock import DeadlockError, TimeIsUpError, run_virtual


def test_hours_pass_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3 * 3600)
        return asyncio.get_running_loop().time()

    started = time.monotonic()
    assert run_virtual(main()) == pytest.approx(3 * 3600)
    assert time.monotonic() - started < 5


def test_timers_fire_in_their_order() -> None:
    async def main() -> list[tuple[float, str]]:
        fired: list[tuple[float, str]] = []
        loop = asyncio.get_running_loop()

        async def after(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            fired.append((round(loop.time(), 6), name))

        async with asyncio.TaskGroup() as group:
            for seconds, name in ((0.3, "c"), (0.1, "a"), (0.2, "b")):
                group.create_task(after(seconds, name))
        return fired

    assert run_virtual(main()) == [(0.1, "a"), (0.2, "b"), (0.3, "c")]


def test_no_timer_fires_before_its_time() -> None:
    async def until(when: float) -> float:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    async def main() -> tuple[float, float]:
        a_rounding_error_later = 0.1 + 0.2
        assert a_rounding_error_later > 0.3
        first, second = await asyncio.gather(until(0.3), until(a_rounding_error_later))
        return first, second

    first, second = run_virtual(main())
    assert 0.3 <= first < 0.3 + 1e-6
    assert 0.1 + 0.2 <= second < 0.3 + 1e-6


def test_a_timeout_ends_a_wait() -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_virtual(main())


def test_a_wait_without_end_is_a_deadlock_that_names_the_task() -> None:
    async def main() -> None:
        asyncio.current_task().set_name("reader")  # type: ignore[union-attr]  # there is one here
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"reader \(.*:\d+\)"):
        run_virtual(main())


def test_cleaning_up_after_a_deadlock_may_take_its_time() -> None:
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5)
            cleaned.append(asyncio.get_running_loop().time())

    with pytest.raises(DeadlockError):
        run_virtual(main())
    assert cleaned == [5.0]


def test_what_goes_on_for_ever_meets_the_limit() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_later(1, again)

        again()
        await loop.create_future()

    with pytest.raises(TimeIsUpError, match=r"limit of 100"):
        run_virtual(main(), limit_s=100)


def test_the_error_of_the_main_task_comes_through() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run_virtual(main())
