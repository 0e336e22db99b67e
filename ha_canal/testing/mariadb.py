"""Run throw-away MariaDB servers (Debian's `mariadb-server-core`), about 0.1 s each.

The data folder is installed once per cache and server version, with the accounts in it, and copied for each server, so
a server starts without a binlog event: its first GTID is the first one a test writes.
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
from ha_canal.testing.process import ServerFailedError, free_port

# Bootstrap mode has no grant tables loaded; CREATE USER works after FLUSH PRIVILEGES. @auth_root_socket NULL gives root
# accounts without a password for localhost and 127.0.0.1. The test database's script, which would make anonymous
# accounts, is left out: for localhost they would win over canal@'%'.
_BEFORE_TABLES = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
_TABLES = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "mysql_sys_schema.sql",
)
_ACCOUNTS = f"""
FLUSH PRIVILEGES;
CREATE USER {CANAL_USER}@'%' IDENTIFIED BY '{CANAL_PASSWORD}';
GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT, BINLOG MONITOR ON *.* TO {CANAL_USER}@'%';
"""
_SHARES = ("/usr/share/mysql", "/usr/share/mariadb", "/usr/local/share/mysql")

_USUAL = (
    "--bind-address=127.0.0.1",
    "--log-bin=mysql-bin",
    "--log-bin-index=mysql-bin.index",
    "--relay-log=relay-bin",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--log-slave-updates=ON",
    "--gtid-domain-id=0",
    "--gtid-strict-mode=ON",
    "--skip-name-resolve",
    "--skip-slave-start",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--innodb-flush-method=fsync",
    "--performance-schema=OFF",
    "--aria-pagecache-buffer-size=8M",
    "--key-buffer-size=8M",
    "--max-connections=100",
    "--secure-file-priv=",
    "--character-set-server=utf8mb4",
)


@asynccontextmanager
async def mariadb_server(
    *, server_id: int = 1, options: Sequence[str] = (), directory: Path | None = None
) -> AsyncIterator[DatabaseServer]:
    """Run a MariaDB server: row binlog with full metadata, GTID strict mode, clean GTIDs, the account `canal`.

    `options` come last on the command line, so that they win. `directory` is where the data folder is made (an existing
    one is used as it is); without it, the data goes with the server.

    Raises:
        ServerFailedError: MariaDB is not installed, or does not start; with the end of its log.
    """
    mariadbd = _program()
    template = await asyncio.to_thread(_installed_data, mariadbd)
    with tempfile.TemporaryDirectory(prefix="canal-mariadb-") as scratch:
        run = Path(scratch)
        data = (directory or run) / "data"
        if not data.exists():
            await asyncio.to_thread(copy_folder, template / "data", data)
        (run / "tmp").mkdir()
        port = free_port()
        own = (
            f"--port={port}",
            f"--server-id={server_id}",
            f"--datadir={data}",
            f"--tmpdir={run / 'tmp'}",
            f"--socket={run / 's.sock'}",
            f"--pid-file={run / 'pid'}",
        )
        server = DatabaseServer(
            "mariadb",
            lambda extra: (mariadbd, "--no-defaults", *_as_root(), *_USUAL, *own, *extra),
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


def _program() -> str:
    found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        msg = "mariadbd is not installed. On Debian: apt-get install mariadb-server-core"
        raise ServerFailedError(msg)
    return found


def _as_root() -> tuple[str, ...]:
    return ("--user=root",) if os.geteuid() == 0 else ()


def _installed_data(mariadbd: str) -> Path:
    version = subprocess.run([mariadbd, "--no-defaults", "--version"], capture_output=True, text=True, check=True)
    recipe = hashlib.sha256("\n".join((version.stdout, _BEFORE_TABLES, *_TABLES, _ACCOUNTS)).encode()).hexdigest()[:12]
    return cached_folder(f"mariadb-data-{recipe}", lambda folder: _install(mariadbd, folder))


def _install(mariadbd: str, folder: Path) -> None:
    """Make a data folder as mariadb-install-db does, which wants more packages and touches system folders."""
    share = next((Path(path) for path in _SHARES if Path(path, _TABLES[0]).exists()), None)
    if share is None:
        msg = f"MariaDB's {_TABLES[0]} is in none of {', '.join(_SHARES)}: is mariadb-server-core installed whole?"
        raise ServerFailedError(msg)
    tables = [(share / name).read_bytes() for name in _TABLES]
    (folder / "data").mkdir()
    done = subprocess.run(
        [
            mariadbd,
            "--no-defaults",
            "--bootstrap",
            *_as_root(),
            f"--datadir={folder}/data",
            "--log-warnings=0",
            "--enforce-storage-engine=",
            "--max-allowed-packet=8M",
            "--innodb-log-file-size=8M",
        ],
        input=b"\n".join((_BEFORE_TABLES.encode(), *tables, _ACCOUNTS.encode())),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        log = (done.stdout + done.stderr).decode(errors="replace")
        msg = f"mariadbd --bootstrap ended with code {done.returncode}:\n{log[-4096:]}"
        raise ServerFailedError(msg)
