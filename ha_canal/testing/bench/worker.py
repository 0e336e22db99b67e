"""One reading in a process of its own: `python -m ha_canal.testing.bench.worker '<task as JSON>'`.

It imports what its path needs, says "ready", waits for a line, reads, and prints the outcome as JSON. The clock and
the CPU time start at that line, so imports count for nobody; where logging in would count for much (the drain, and
what runs in one process), they start again with the first bytes of the binlog.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from ha_canal.testing.bench.task import Outcome, Task, peak_bytes


class Clock:
    """Time and CPU time since `start`, which may be called again: the last call counts."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._cpu_s, self._at_s = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._at_s, time.process_time() - self._cpu_s


Run = Callable[[Clock], dict[str, Any]]


def _drain(task: Task) -> Run:
    from ha_canal.testing.bench.drain import drain

    def run(clock: Clock) -> dict[str, int]:
        transactions, rows_events = drain(task, clock.start)
        return {"transactions": transactions, "rows_events": rows_events}

    return run


def _peer(task: Task) -> Run:
    from ha_canal.testing.bench.peer import iterate_rows

    def run(_: Clock) -> dict[str, int]:
        rows, rows_events, ids = iterate_rows(task)
        return {"rows": rows, "rows_events": rows_events, "ids": ids}

    return run


def _ring(task: Task) -> Run:
    from ha_canal.cli.allocator import keep_freed_memory
    from ha_canal.testing.bench.inside import to_ring

    keep_freed_memory()  # as a node does

    def run(clock: Clock) -> dict[str, int]:
        transactions, rows_events = asyncio.run(to_ring(task, clock.start))
        return {"transactions": transactions, "rows_events": rows_events}

    return run


def _entries(task: Task) -> Run:
    from ha_canal.cli.allocator import keep_freed_memory
    from ha_canal.testing.bench.inside import to_entries

    keep_freed_memory()  # as a node does

    def run(clock: Clock) -> dict[str, int]:
        counted = asyncio.run(to_entries(task, clock.start))
        return {
            "rows": counted.rows,
            "transactions": counted.transactions,
            "ids": counted.ids,
            "entries": counted.entries,
            "entry_bytes": counted.entry_bytes,
        }

    return run


def _sdk(task: Task) -> Run:
    from ha_canal.testing.bench.reading import read_rows

    def run(_: Clock) -> dict[str, int]:
        rows, transactions, ids = read_rows(task)
        return {"rows": rows, "transactions": transactions, "ids": ids}

    return run


def _latency(task: Task) -> Run:
    from ha_canal.testing.bench.latency import read_latencies

    def run(_: Clock) -> dict[str, float]:
        rows, median_ms, p99_ms = read_latencies(task)
        return {"rows": rows, "median_ms": median_ms, "p99_ms": p99_ms}

    return run


def _writer(task: Task) -> Run:
    from ha_canal.testing.bench.latency import write_paced

    def run(clock: Clock) -> dict[str, int]:
        return {"rows": write_paced(task, clock.start)}

    return run


_PATHS: dict[str, Callable[[Task], Run]] = {
    "drain": _drain,
    "peer": _peer,
    "ring": _ring,
    "entries": _entries,
    "pure": _entries,
    "sdk": _sdk,
    "latency": _latency,
    "writer": _writer,
}


def main() -> None:
    """Run the task of the command line."""
    task = Task.from_json(sys.argv[1])
    run = _PATHS[task.path](task)
    print("ready", flush=True)
    sys.stdin.readline()
    clock = Clock()
    counted = run(clock)
    seconds, cpu_s = clock.read()
    peak = peak_bytes(os.getpid())
    print(Outcome(seconds=seconds, cpu_s=cpu_s, peak_bytes=peak, codec=_compiled(), **counted).to_json(), flush=True)


def _compiled() -> str:
    """Name the compiled modules of ours that are loaded; "" where all is Python."""
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    return " ".join(
        sorted(name for name, file in files.items() if name.startswith("ha_canal.") and file.endswith(".so"))
    )


if __name__ == "__main__":
    main()
