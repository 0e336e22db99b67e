"""The runners of real servers: clean starts, faults, restarts, and errors that say what is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pymysql
import pytest

from ha_canal.testing.cache import cached_folder
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.process import ServerFailedError
from ha_canal.testing.zookeeper import ZookeeperServer, zookeeper_ensemble, zookeeper_server

Run = Callable[..., AbstractAsyncContextManager[DatabaseServer]]

both_databases = pytest.mark.parametrize("run", [mariadb_server, mysql_server])


def _gtids(server: DatabaseServer) -> str:
    variable = "@@gtid_binlog_pos" if server.flavor == "mariadb" else "@@gtid_executed"
    return str(server.run_sql(f"SELECT {variable}")[0][0])


@both_databases
def test_a_database_starts_clean_survives_a_kill_and_keeps_its_port(run: Run) -> None:
    async def main() -> None:
        async with run(server_id=7) as server:
            assert _gtids(server) == ""
            assert await server.query("SELECT @@server_id, @@log_bin, @@binlog_format") == [(7, 1, "ROW")]
            await server.execute("CREATE DATABASE shop")
            port, pid, gtids = server.port, server.pid, _gtids(server)
            server.kill()
            assert not server.running
            await server.restart()
            assert server.pid != pid
            assert await server.query("SELECT @@port") == [(port,)]
            assert _gtids(server) == gtids

    asyncio.run(main())


@both_databases
def test_a_restart_can_change_options(run: Run) -> None:
    async def main() -> None:
        async with run(options=("--binlog-row-metadata=MINIMAL",)) as server:
            assert await server.query("SELECT @@binlog_row_metadata") == [("MINIMAL",)]
            server.kill()
            await server.restart(("--skip-log-bin",))
            assert await server.query("SELECT @@log_bin") == [(0,)]

    asyncio.run(main())


@both_databases
def test_a_server_that_cannot_start_says_why(run: Run) -> None:
    async def main() -> None:
        async with run(options=("--no-such-option",)):
            pass

    with pytest.raises(ServerFailedError, match=r"(?s)ended while it was starting.*no-such-option"):
        asyncio.run(main())


@both_databases
def test_a_given_directory_is_kept_and_taken_up_again(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with run(directory=tmp_path) as server:
            await server.execute("CREATE DATABASE shop")
        async with run(directory=tmp_path) as server:
            assert await server.query("SHOW DATABASES LIKE 'shop'") == [("shop",)]

    asyncio.run(main())


def test_the_canal_account_logs_in_over_tcp_and_may_read_the_binlog(database: Database) -> None:
    server = database.server
    account = pymysql.connect(host=server.host, port=server.port, user=server.user, password=server.password)
    with closing(account) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        assert cursor.fetchall()
        cursor.execute("SHOW GRANTS")
        assert "REPLICATION SLAVE" in " ".join(str(row) for row in cursor.fetchall())


def test_a_database_of_its_own(database: Database) -> None:
    database.run_sql("CREATE TABLE t (id INT PRIMARY KEY, word VARCHAR(9))")
    database.run_sql("INSERT INTO t VALUES (%s, %s)", 1, "grün")
    assert database.run_sql("SELECT * FROM t") == [(1, "grün")]


def test_a_paused_server_is_silent_until_it_is_resumed() -> None:
    async def main() -> None:
        async with mariadb_server() as server:
            server.pause()
            asking = asyncio.create_task(server.query("SELECT 1"))
            done, _ = await asyncio.wait([asking], timeout=0.2)
            assert not done
            assert server.running
            server.resume()
            assert await asking == [(1,)]

    asyncio.run(main())


def test_the_shared_zookeeper_serves(zookeeper: ZookeeperServer) -> None:
    assert asyncio.run(zookeeper.mode()) == "standalone"


def test_zookeeper_comes_back_on_its_port() -> None:
    async def main() -> None:
        async with zookeeper_server() as server:
            hosts = server.hosts
            server.kill()
            assert await server.mode() == ""
            await server.restart()
            assert server.hosts == hosts
            assert await server.mode() == "standalone"

    asyncio.run(main())


def test_an_ensemble_elects_another_leader() -> None:
    async def main() -> None:
        async with zookeeper_ensemble() as ensemble:
            first = await eventually(ensemble.leader, what="a leader")
            first.kill()
            second = await eventually(ensemble.leader, what="another leader")
            assert second is not first
            await first.restart()
            assert await first.mode() == "follower"

    asyncio.run(main())


def test_servers_die_with_the_process_that_started_them() -> None:
    program = """
import asyncio
from ha_canal.testing.mariadb import mariadb_server
async def main():
    async with mariadb_server() as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    asyncio.run(eventually(lambda: _state(server_pid) in ("gone", "Z"), what="the server dies with its parent"))


def _state(pid: int) -> str:
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return next(line.split()[1] for line in lines if line.startswith("State:"))


def test_a_cache_entry_that_failed_half_way_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HA_CANAL_CACHE", str(tmp_path))

    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise ServerFailedError("no network")

    def works(folder: Path) -> None:
        (folder / "whole").touch()

    with pytest.raises(ServerFailedError):
        cached_folder("entry", fails)
    made = cached_folder("entry", works)
    assert [path.name for path in made.iterdir()] == ["whole"]
    assert cached_folder("entry", fails) == made
