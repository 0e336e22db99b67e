"""Ends the process when its event loop is stuck for longer than the session allows.

kazoo keeps the ZooKeeper session alive from threads of its own; a leader whose loop hangs would keep its instance for
ever and serve nobody. The watchdog is one thread that only looks at a clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import AsyncIterator

_EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h."""


@contextlib.asynccontextmanager
async def watchdog(limit_s: float) -> AsyncIterator[None]:
    """Watch the running loop while the block runs. A stuck one ends the process, with all stacks on stderr."""
    ticked_at = [time.monotonic()]
    done = threading.Event()

    async def tick() -> None:
        while True:
            ticked_at[0] = time.monotonic()
            await asyncio.sleep(limit_s / 10)

    def watch() -> None:
        looked_at = time.monotonic()
        while not done.wait(limit_s / 10):
            now = time.monotonic()
            if now - looked_at > limit_s / 2:  # the whole process was stopped: give the loop time to wake
                ticked_at[0] = now
            elif now - ticked_at[0] > limit_s:
                # not by logging, which may be what hangs
                print(f"ha_canal: the event loop is stuck for {limit_s:g} s; ending the process", file=sys.stderr)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(_EXIT_STATUS)
            looked_at = now

    thread = threading.Thread(target=watch, name="ha_canal watchdog", daemon=True)
    thread.start()
    ticking = asyncio.create_task(tick(), name="watchdog tick")
    try:
        yield
    finally:
        ticking.cancel()
        done.set()
        thread.join()
