"""Run throw-away MySQL servers (9.7 from Debian sid), about 0.6 s each once unpacked.

The server is unpacked into the cache once (47 MB to download, 300 MB on disk) and never installed; then a data folder
is initialised once, with the accounts in it, and copied for each server. Debian sid moves on: the cached version stays
until the cache is deleted. `python -m ha_canal.testing.mysql` fills the cache ahead of a test run.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ha_canal.testing.cache import cached_folder
from ha_canal.testing.data_folder import as_root, data_template, fill_data, server_on_copy
from ha_canal.testing.database import CANAL_PASSWORD, CANAL_USER, DatabaseServer
from ha_canal.testing.debian import loader_command, unpack

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
    command = (*_base(root), *_USUAL)
    async with server_on_copy(
        "mysql", command, template, server_id=server_id, options=options, directory=directory
    ) as server:
        yield server


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
        *as_root(),
        f"--basedir={root / 'usr'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
        *_ENGINE,
    )


def _initialised_data(root: Path) -> Path:
    return data_template("mysql", (mysql_version(), _ACCOUNTS, *_ENGINE), lambda folder: _initialise(root, folder))


def _initialise(root: Path, folder: Path) -> None:
    accounts = folder / "accounts.sql"
    accounts.write_text(_ACCOUNTS, encoding="ascii")
    argv = (*_base(root), "--initialize-insecure", f"--init-file={accounts}")
    fill_data("mysqld --initialize-insecure", argv, folder / "data")


if __name__ == "__main__":
    print(f"MySQL {mysql_version()} is unpacked in {_unpacked()}")
