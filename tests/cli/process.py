"""`ha-canal` as a process: its output in files, so that a test can look while it runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ha_canal.testing.eventually import eventually

LIMIT_S = 30.0


class Command:
    """A running command; ``status`` is there once it has ended."""

    def __init__(self, argv: list[str], directory: Path) -> None:
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Return the whole lines printed so far, each a JSON object."""
        return [json.loads(line) for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    async def prints(self, count: int) -> None:
        """Return when it has printed so many lines. Fails when it ended before."""

        def printed() -> bool:
            enough = self.out.count("\n") >= count
            assert enough or self._child.poll() is None, f"it ended early: {self.err}"
            return enough

        await eventually(printed, within_s=LIMIT_S, what=f"{count} lines")

    def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit status."""
        return self.signal(signal.SIGINT)

    def signal(self, number: signal.Signals) -> int:
        """Send it; returns the exit status."""
        self._child.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self._child.wait(LIMIT_S)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()


@contextmanager
def started(directory: Path, *arguments: str) -> Iterator[Command]:
    """Run `ha-canal` with these arguments; killed at the end if it still runs."""
    directory.mkdir(exist_ok=True)
    command = Command([sys.executable, "-m", "ha_canal.cli", *arguments], directory)
    try:
        yield command
    finally:
        command.kill()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `ha-canal` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ha_canal.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, **environment},
    )


def assert_one_message(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It ended with status 1, and one clear message that holds these words: nothing else, no traceback."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.count("Error: ") == 1
    assert done.stderr.startswith("Error: "), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def wait_for(command: Command, count: int) -> None:
    asyncio.run(command.prints(count))
