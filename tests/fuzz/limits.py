"""What one input may cost: CPU seconds, and memory above what the process has already.

Memory is limited by the system, so that one large allocation fails at once; what runs away in time is interrupted.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY_BYTES = 512 * 1024 * 1024
CPU_S = 2.0
_HANG_S = 10.0


class TooSlowError(AssertionError):
    """An input took more CPU time than any of its size should."""


@contextmanager
def bounded_memory(more_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Let allocations fail (MemoryError) that need more than ``more_bytes`` above what is in use now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def bounded_time(cpu_s: float = CPU_S) -> Iterator[None]:
    """Fail when the block takes more than ``cpu_s`` of this thread's CPU time; interrupt it when it hangs."""

    def interrupt(*_: object) -> None:
        raise TooSlowError(f"it still runs after {_HANG_S} CPU seconds")

    previous = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, max(_HANG_S, 2 * cpu_s))
    start_s = time.thread_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    took_s = time.thread_time() - start_s
    if took_s > cpu_s:
        raise TooSlowError(f"it took {took_s:.1f} CPU seconds")
