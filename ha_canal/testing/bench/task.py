"""What the processes of a benchmark tell each other, as JSON, and what the kernel says of a process.

A `Task` is one reading of one stretch of binlog; `Outcome` is what it took. Imports nothing else of ours, so that
a worker holds only what its own path needs.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Mark:
    """A transaction's end: where it lies, and what a reader has seen up to there since the start of the file.

    ``ids`` is the sum of the ids of all rows, so that a row too few and another one too many do not pass for right.
    """

    file: str
    offset: int
    rows: int
    transactions: int
    ids: int


@dataclass(frozen=True, slots=True)
class Task:
    """Read the table ``table`` from the start of ``until.file`` up to ``until``; ``address`` is a node's, if one reads.

    ``check``: count all that can be counted, whatever it costs; such a reading is not timed.
    """

    path: str
    table: str
    flavor: str
    host: str
    port: int
    user: str
    password: str
    until: Mark
    check: bool = False
    address: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        fields = json.loads(text)
        return cls(**{**fields, "until": Mark(**fields["until"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one reading took, in the worker and, where there was one, in the node.

    What a path cannot see is -1. ``codec`` names the compiled modules that were loaded. The latencies are those of the
    latency path alone.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    rows: int = -1
    transactions: int = -1
    ids: int = -1
    rows_events: int = -1
    entries: int = -1
    entry_bytes: int = -1
    codec: str = ""
    node_cpu_s: float = 0.0
    node_peak_bytes: int = 0
    median_ms: float = 0.0
    p99_ms: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        return cls(**json.loads(text))

    def differs_from(self, until: Mark) -> str:
        """Say what is not as it must be; ``""``: nothing."""
        wanted = {"rows": until.rows, "transactions": until.transactions, "ids": until.ids}
        seen = {"rows": self.rows, "transactions": self.transactions, "ids": self.ids}
        wrong = [f"{name}: {seen[name]}, not {wanted[name]}" for name in wanted if seen[name] not in (-1, wanted[name])]
        if max(*seen.values(), self.entry_bytes) < 0:
            wrong.append("nothing was counted")
        return "; ".join(wrong)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its threads so far (proc(5), stat: utime and stime; 10 ms steps)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever held (proc(5), VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
