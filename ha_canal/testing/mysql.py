"""Run throw-away MySQL servers (9.7 from Debian sid), about 0.6 s each once unpacked.

The server is unpacked into the cache once (47 MB to download, 300 MB on disk) and never installed; then a data folder
is initialised once, with the accounts in it, and copied for each server. Debian sid moves on: the cached version stays
until the cache is deleted. `python -m ha_canal.testing.mysql` fills the cache ahead of a test run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ha_canal.testing.cache import cached_folder, copy_folder
from ha_canal.testing.database import CANAL_PASSWORD, CANAL_USER, DatabaseServer
from ha_canal.testing.debian import loader_command, unpack
from ha_canal.testing.process import ServerFailedError, free_port

_PACKAGE = "mysql-server-core"
_SUITE = "sid"
_NOT_NEEDED = ("perl", "libperl", "libdb5.3", "libgdbm", "libbz2", "libc-gconv")
_ENTRY = "mysql-sid"
_STAMP = "version"

_ACCOUNTS = f"""\
CREATE USER {CANAL_USER}@'%' IDENTIFIED BY '{CANAL_PASSWORD}';
GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {CANAL_USER}@'%';
"""

_ENGINE = ("--innodb-redo-log-capacity=16M", "--innodb-buffer-pool-size=64M", "--secure-file-priv=")
_USUAL = (
    "--bind-address=127.0.0.1",
    "--mysqlx=OFF",  # it would listen on *:33060, once per machine
    "--skip-name-resolve",
    "--log-bin=mysql-bin",
    "--relay-log=relay-bin",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-replica-updates=ON",
    "--skip-replica-start",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--performance-schema=OFF",
    "--max-connections=100",
    "--innodb-use-native-aio=OFF",
)


@asynccontextmanager
async def mysql_server(
    *, server_id: int = 1, options: Sequence[str] = (), directory: Path | None = None
) -> AsyncIterator[DatabaseServer]:
    """Run a MySQL server: row binlog with full metadata, GTIDs on, an empty GTID set, the account `canal`.

    `options` come last on the command line, so that they win. `directory` is where the data folder is made (an existing
    one is used as it is); without it, the data goes with the server. The first call on a machine downloads MySQL.

    Raises:
        ServerFailedError: MySQL cannot be unpacked, or does not start; with apt's words or the end of its log.
    """
    root = await asyncio.to_thread(_unpacked)
    template = await asyncio.to_thread(_initialised_data, root)
    with tempfile.TemporaryDirectory(prefix="canal-mysql-") as scratch:
        run = Path(scratch)
        data = (directory or run) / "data"
        if not data.exists():
            await asyncio.to_thread(copy_folder, template / "data", data)
        (run / "tmp").mkdir()
        port = free_port()
        usual = (
            *_base(root),
            *_USUAL,
            f"--port={port}",
            f"--server-id={server_id}",
            f"--datadir={data}",
            f"--tmpdir={run / 'tmp'}",
            f"--socket={run / 's.sock'}",
            f"--pid-file={run / 'pid'}",
        )
        server = DatabaseServer(
            "mysql",
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


def mysql_version() -> str:
    """Return the Debian version of the MySQL in the cache; unpacks it first if need be."""
    return (_unpacked().parent / _STAMP).read_text(encoding="ascii").strip()


def _unpacked() -> Path:
    """Return the folder below which MySQL and its libraries lie, unpacked now if the cache lacks it."""
    return cached_folder(_ENTRY, _unpack) / "root"


def _unpack(folder: Path) -> None:
    root = folder / "root"
    version = unpack(_PACKAGE, _SUITE, leave_out=_NOT_NEEDED, work=folder / "apt", root=root)
    loader_command(root, "usr/sbin/mysqld")
    shutil.rmtree(folder / "apt" / "lists")
    (folder / _STAMP).write_text(f"{version}\n", encoding="ascii")


def _base(root: Path) -> tuple[str, ...]:
    return (
        *loader_command(root, "usr/sbin/mysqld"),
        "--no-defaults",
        *(("--user=root",) if os.geteuid() == 0 else ()),
        f"--basedir={root / 'usr'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
        *_ENGINE,
    )


def _initialised_data(root: Path) -> Path:
    recipe = hashlib.sha256("\n".join((mysql_version(), _ACCOUNTS, *_ENGINE)).encode()).hexdigest()[:12]
    return cached_folder(f"mysql-data-{recipe}", lambda folder: _initialise(root, folder))


def _initialise(root: Path, folder: Path) -> None:
    accounts = folder / "accounts.sql"
    accounts.write_text(_ACCOUNTS, encoding="ascii")
    argv = (*_base(root), "--initialize-insecure", f"--init-file={accounts}", f"--datadir={folder / 'data'}")
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"mysqld --initialize-insecure ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-4096:]}"
        raise ServerFailedError(msg)
    (folder / "data" / "auto.cnf").unlink()  # each copy makes a server uuid of its own


if __name__ == "__main__":
    print(f"MySQL {mysql_version()} is unpacked in {_unpacked()}")
