"""Wait for the world outside: poll a condition until it holds, or fail with words.

Tests call this instead of sleeping. It reads the running loop's clock, so that under
`ha_canal.testing.clock.run_virtual` it costs no real time.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T | None]], *, within_s: float = ..., what: str) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], *, within_s: float = ..., what: str) -> T: ...
async def eventually(condition: Callable[[], Any], *, within_s: float = 10.0, what: str) -> Any:
    """Poll `condition` until it returns something true, and return that.

    `condition` may be a coroutine function; its awaits count against `within_s`. What it raises goes to the caller at
    once: a condition that may fail for a while says so itself by returning something false.

    Raises:
        AssertionError: the condition did not hold `within_s` seconds; names `what` and the last value.
    """
    pause_s = _FIRST_PAUSE_S
    last: object = "it never answered"
    try:
        async with asyncio.timeout(within_s) as limit:
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                last = value
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    except TimeoutError:
        if not limit.expired():
            raise  # the condition's own
        msg = f"not within {within_s} s: {what} (last value: {last!r})"
        raise AssertionError(msg) from None
