"""One server process of a test: started, watched, stopped, paused, killed and reaped.

The database and ZooKeeper runners are built on this. Invariants: a child never outlives the process that started it
(`setpriv --pdeathsig KILL`: the kernel sends SIGKILL when the starting *thread* ends, so start servers on the main
thread, or on a thread that lives as long as they do), and a child that ended is always reaped.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

START_LIMIT_S = 60.0
_REAP_LIMIT_S = 20.0
_POLL_S = 0.01
_TAIL_BYTES = 4096
_LOWEST_PORT = 10_240
_ports_given: set[int] = set()


class ServerFailedError(Exception):
    """A server did not do what its runner asked; the message ends with the tail of the server's log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, and that this process never got before.

    The port lies below the kernel's ephemeral range where there is room: while a server is down, no outgoing connection
    of a retrying client can take its port (`ip(7)`, ip_local_port_range).
    """
    for _ in range(200):
        port = random.randint(_LOWEST_PORT, _first_ephemeral_port() - 1)
        if port not in _ports_given and _is_free(port):
            _ports_given.add(port)
            return port
    msg = f"no free TCP port found on 127.0.0.1 between {_LOWEST_PORT} and {_first_ephemeral_port() - 1}"
    raise ServerFailedError(msg)


def _first_ephemeral_port() -> int:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    return lowest if lowest > _LOWEST_PORT + 1_000 else 61_000


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServerProcess:
    """A command line that can be run again and again, at most one child at a time.

    `log` receives standard output and standard error, appended over restarts; `log_text` reads it.
    """

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log = log
        self._env = env
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running child. Raises `ServerFailedError` when there is none."""
        if self._child is None:
            msg = f"{self.name} is not running"
            raise ServerFailedError(msg)
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child is alive (a paused one is). Reaps a child that has ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status of the last child, negative for a signal; None while it runs, or if there was none."""
        return self._child.poll() if self._child else None

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def failed(self, what: str) -> ServerFailedError:
        """Return an error that says `what` happened, with the end of the server's log."""
        tail = self.log_text()[-_TAIL_BYTES:].strip() or "(the log is empty)"
        return ServerFailedError(f"{self.name}: {what}. The end of its log:\n{tail}")

    def spawn(self) -> None:
        """Start the child, and do not wait for it."""
        if self.running:
            raise self.failed(f"is running already as process {self.pid}")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )

    async def until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Return when the child, spawned before, is ready; `ready` is polled.

        Raises `ServerFailedError` when the child ends or is not ready in 60 s. The child is dead after any failure.
        """
        deadline = time.monotonic() + START_LIMIT_S
        try:
            while not await ready():
                self._expect_starting(deadline)
                await asyncio.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise

    def _expect_starting(self, deadline: float) -> None:
        if not self.running:
            code = self._child.returncode if self._child else None
            raise self.failed(f"ended while it was starting, with code {code}")
        if time.monotonic() > deadline:
            raise self.failed(f"was not ready within {START_LIMIT_S:.0f} s")

    async def stop(self) -> None:
        """Ask the child to end (SIGTERM) and wait for it; does nothing when none runs."""
        if not self.running:
            return
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + START_LIMIT_S
        while self.running:
            if time.monotonic() > deadline:
                self.kill()
                raise self.failed(f"did not end within {START_LIMIT_S:.0f} s of SIGTERM, and was killed")
            await asyncio.sleep(_POLL_S)

    def kill(self) -> None:
        """End the child at once (SIGKILL) and reap it; its port is free on return. Does nothing when none runs."""
        if self._child is not None and self.running:
            self._signal(signal.SIGKILL)
            self._child.wait(_REAP_LIMIT_S)

    def pause(self) -> None:
        """Freeze the child (SIGSTOP), as a hung machine would: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused child go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if not self.running:
            raise self.failed(f"cannot get {number.name}, it does not run")
        os.kill(self.pid, number)
