"""Run throw-away MariaDB servers (Debian's `mariadb-server-core`), about 0.1 s each.

The data folder is installed once per cache and server version, with the accounts in it, and copied for each server, so
a server starts without a binlog event: its first GTID is the first one a test writes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ha_canal.testing.data_folder import as_root, data_template, fill_data, server_on_copy
from ha_canal.testing.database import CANAL_PASSWORD, CANAL_USER, DatabaseServer
from ha_canal.testing.process import ServerFailedError

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
    command = (mariadbd, "--no-defaults", *as_root(), *_USUAL)
    async with server_on_copy(
        "mariadb", command, template, server_id=server_id, options=options, directory=directory
    ) as server:
        yield server


def _program() -> str:
    found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        msg = "mariadbd is not installed. On Debian: apt-get install mariadb-server-core"
        raise ServerFailedError(msg)
    return found


def _installed_data(mariadbd: str) -> Path:
    version = subprocess.run([mariadbd, "--no-defaults", "--version"], capture_output=True, text=True, check=True)
    recipe = (version.stdout, _BEFORE_TABLES, *_TABLES, _ACCOUNTS)
    return data_template("mariadb", recipe, lambda folder: _install(mariadbd, folder))


def _install(mariadbd: str, folder: Path) -> None:
    """Make a data folder as mariadb-install-db does, which wants more packages and touches system folders."""
    share = next((Path(path) for path in _SHARES if Path(path, _TABLES[0]).exists()), None)
    if share is None:
        msg = f"MariaDB's {_TABLES[0]} is in none of {', '.join(_SHARES)}: is mariadb-server-core installed whole?"
        raise ServerFailedError(msg)
    tables = [(share / name).read_bytes() for name in _TABLES]
    data = folder / "data"
    data.mkdir()
    argv = (
        mariadbd,
        "--no-defaults",
        "--bootstrap",
        *as_root(),
        "--log-warnings=0",
        "--enforce-storage-engine=",
        "--max-allowed-packet=8M",
        "--innodb-log-file-size=8M",
    )
    fill_data("mariadbd --bootstrap", argv, data, b"\n".join((_BEFORE_TABLES.encode(), *tables, _ACCOUNTS.encode())))
