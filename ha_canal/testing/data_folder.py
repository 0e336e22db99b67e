"""Throw-away servers on copies of data folders that are made once and kept in the cache.

The runners of MySQL, MySQL 5.6 and MariaDB are built on this. Which programs there are, how each fills a fresh data
folder and with which options it runs is theirs; what is the same for all is here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ha_canal.testing.cache import cached_folder, copy_folder
from ha_canal.testing.database import DatabaseServer, Flavor
from ha_canal.testing.process import ServerFailedError, free_port

_LOG_TAIL = 4096


@asynccontextmanager
async def server_on_copy(
    flavor: Flavor,
    command: Sequence[str],
    template: Path,
    *,
    server_id: int,
    options: Sequence[str],
    directory: Path | None,
) -> AsyncIterator[DatabaseServer]:
    """Run `command`, with a free port and what else is a server's own, on a copy of the data folder `template`.

    `options` come last on the command line. The copy is made in `directory` (data that is there is used as it is);
    without it, the data goes with the server.
    """
    with tempfile.TemporaryDirectory(prefix=f"canal-{flavor}-") as scratch:
        run = Path(scratch)
        data = (directory or run) / "data"
        if not data.exists():
            await asyncio.to_thread(copy_folder, template, data)
        (run / "tmp").mkdir()
        port = free_port()
        usual = (
            *command,
            f"--port={port}",
            f"--server-id={server_id}",
            f"--datadir={data}",
            f"--tmpdir={run / 'tmp'}",
            f"--socket={run / 's.sock'}",
            f"--pid-file={run / 'pid'}",
        )
        server = DatabaseServer(
            flavor,
            lambda extra: (*usual, *extra),
            port=port,
            server_id=server_id,
            directory=data,
            options=options,
            log=run / "err.log",
        )
        try:
            await server.start()
            yield server
        finally:
            server.kill()


def data_template(name: str, recipe: Iterable[str], make: Callable[[Path], None]) -> Path:
    """Return the data folder of `recipe` (all that it is made of); `make` writes it once, as `data` in its folder."""
    digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]
    return cached_folder(f"{name}-data-{digest}", make) / "data"


def fill_data(purpose: str, argv: Sequence[str], data: Path, script: bytes = b"") -> None:
    """Run the server program that fills `data` and ends, with `script` as its input.

    Raises `ServerFailedError`, with `purpose` and the end of what it said, when it fails.
    """
    done = subprocess.run([*argv, f"--datadir={data}"], input=script, capture_output=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")[-_LOG_TAIL:]
        raise ServerFailedError(f"{purpose} ended with code {done.returncode}:\n{said}")
    (data / "auto.cnf").unlink(missing_ok=True)  # each copy makes a server uuid of its own


def as_root() -> tuple[str, ...]:
    """Return the option without which the servers do not run as root; nothing for other users."""
    return ("--user=root",) if os.geteuid() == 0 else ()
