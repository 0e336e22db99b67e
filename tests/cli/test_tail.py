"""`ha-canal tail`: JSON lines with typed values, resumed without a gap or a repeat, and clear words when it cannot."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from tests.cli.process import LIMIT_S, Command, assert_one_message, run, started, wait_for

_SECRET = "s3cret-word"


def _url(server: DatabaseServer, *, password: str | None = None, port: int = 0) -> str:
    return f"mysql://{server.user}:{password or server.password}@{server.host}:{port or server.port}"


def _insert(database: Database, rows: range) -> None:
    for number in rows:
        database.run_sql("INSERT INTO t (id) VALUES (%s)", number)


@pytest.fixture
def table(database: Database) -> Database:
    """A database with an empty table `t`."""
    database.run_sql("CREATE TABLE t (id INT PRIMARY KEY)")
    return database


def _arguments(database: Database, *more: str) -> list[str]:
    return ["tail", _url(database.server), "--table", f"{database.name}.*", "--start", "earliest", *more]


def _ids(lines: list[dict[str, Any]]) -> list[int]:
    return [line["after"]["id"] for line in lines if line["table"] == "t" and line["kind"] == "insert"]


def _wait_for_ids(command: Command, count: int) -> None:
    _wait_until(command, lambda lines: len(_ids(lines)) >= count)


def _wait_until(command: Command, is_enough: Callable[[list[dict[str, Any]]], bool]) -> None:
    count = 0
    while not is_enough(command.lines()):
        wait_for(command, count + 1)
        count = command.out.count("\n")


def test_every_change_is_a_json_line_with_typed_values(database: Database, tmp_path: Path) -> None:
    database.run_sql(
        """CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, price DECIMAL(10,2), share DOUBLE, name VARCHAR(20),
           at TIMESTAMP(6) NULL, day DATE, spent TIME(3), raw VARBINARY(4), tags SET('a','b'), note TEXT NULL)"""
    )
    database.run_sql(
        """INSERT INTO t VALUES (18446744073709551615, 1.50, 0.25, '茶 "crème"', '2024-02-29 12:00:00.123456',
           '2024-02-29', '-01:00:00.5', x'00ff', 'a,b', NULL)"""
    )
    database.run_sql("UPDATE t SET price = 2")
    database.run_sql("DELETE FROM t")
    with started(tmp_path, *_arguments(database)) as command:
        _wait_until(command, lambda lines: any(line["kind"] == "delete" for line in lines))
        assert command.interrupt() == 0
        assert command.err == ""
        lines = command.lines()
    insert, update, delete = [line for line in lines if line["before"] or line["after"]]
    assert insert["after"] == {
        "id": 18446744073709551615,
        "price": "1.50",
        "share": 0.25,
        "name": '茶 "crème"',
        "at": "2024-02-29T12:00:00.123456+00:00",
        "day": "2024-02-29",
        "spent": -3600.5,
        "raw": base64.b64encode(b"\x00\xff").decode(),
        "tags": ["a", "b"],
        "note": None,
    }
    assert (insert["kind"], insert["before"], insert["schema"]) == ("insert", None, database.name)
    assert (update["kind"], update["changed"], update["after"]["price"]) == ("update", ["price"], "2.00")
    assert (delete["kind"], delete["before"]["price"], delete["after"]) == ("delete", "2.00", None)
    assert insert["gtid"]
    assert insert["offset"] < update["offset"] < delete["offset"]
    assert len({line["event_id"] for line in lines}) == len(lines)


def test_a_run_with_state_goes_on_without_repeats_or_gaps(table: Database, tmp_path: Path) -> None:
    found: list[int] = []
    for turn in range(3):
        _insert(table, range(turn * 10, turn * 10 + 10))
        with started(tmp_path / str(turn), *_arguments(table, "--state", str(tmp_path / "state.db"))) as command:
            _wait_for_ids(command, 10)
            assert command.interrupt() == 0
            assert command.err == ""
            found += _ids(command.lines())
    assert found == list(range(30))


def test_a_count_ends_it_and_the_next_run_goes_on_behind_it(table: Database, tmp_path: Path) -> None:
    _insert(table, range(60))
    found: list[int] = []
    counts = cycle([1, 30, 2])
    while len(found) < 10:
        count = next(counts)
        done = run(*_arguments(table, "--state", str(tmp_path / "state.db"), "--count", str(count)))
        assert (done.returncode, done.stderr) == (0, "")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == count
        found += _ids(lines)
    assert found == list(range(len(found)))


def test_one_killed_loses_nothing(table: Database, tmp_path: Path) -> None:
    arguments = _arguments(table, "--state", str(tmp_path / "state.db"))
    _insert(table, range(5))
    with started(tmp_path / "killed", *arguments) as killed:
        _wait_for_ids(killed, 5)
    _insert(table, range(5, 10))
    with started(tmp_path / "next", *arguments) as command:
        _wait_until(command, lambda lines: 9 in _ids(lines))
        assert command.interrupt() == 0
        again = _ids(command.lines())
    assert again == list(range(again[0], 10))


def test_only_the_tables_asked_for_are_printed(table: Database, tmp_path: Path) -> None:
    table.run_sql("CREATE TABLE other (id INT PRIMARY KEY)")
    table.run_sql("INSERT INTO other VALUES (1)")
    _insert(table, range(2))
    arguments = ["tail", _url(table.server), "--table", f"{table.name}.t", "--start", "earliest"]
    with started(tmp_path, *arguments) as command:
        _wait_for_ids(command, 2)
        assert command.interrupt() == 0
        assert {line["table"] for line in command.lines() if line["after"]} == {"t"}


def test_output_that_nobody_reads_any_more_ends_it_quietly(table: Database) -> None:
    _insert(table, range(50))
    argv = [sys.executable, "-m", "ha_canal.cli", *_arguments(table)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        _insert(table, range(50, 60))
        assert child.wait(LIMIT_S) != 0
        assert child.stderr.read() == ""


def test_a_wrong_password(mariadb: DatabaseServer, mysql: DatabaseServer) -> None:
    for server in (mariadb, mysql):
        done = run("tail", _url(server, password=_SECRET))
        assert_one_message(done, f"{server.user}@{server.host}:{server.port}", "Check user and password")
        assert _SECRET not in done.stderr


def test_the_password_may_come_from_the_environment(mariadb: DatabaseServer) -> None:
    url = f"mysql://{mariadb.user}@{mariadb.host}:{mariadb.port}"
    assert_one_message(run("tail", url, HA_CANAL_PASSWORD=_SECRET), "Check user and password")
    done = run("tail", url, "--count", "1", "--start", "earliest", HA_CANAL_PASSWORD=mariadb.password)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


def test_a_host_that_cannot_be_reached(mariadb: DatabaseServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        done = run("tail", _url(mariadb, password=_SECRET, port=port))
    assert_one_message(done, f"127.0.0.1:{port}", "no connection to the database")
    assert _SECRET not in done.stderr


@pytest.mark.parametrize("option", ["--skip-log-bin", "--binlog-format=STATEMENT"])
def test_a_server_whose_binlog_is_of_no_use(option: str) -> None:
    async def main() -> subprocess.CompletedProcess[str]:
        async with mariadb_server(options=(option,)) as server:
            return await asyncio.to_thread(run, "tail", _url(server))

    assert_one_message(asyncio.run(main()), "log-bin" if "log-bin" in option else "binlog_format")


@pytest.mark.parametrize("table", ["shop", "shop.", ".orders", ""])
def test_a_table_that_is_none(table: str, mariadb: DatabaseServer) -> None:
    assert_one_message(run("tail", _url(mariadb), "--table", table), "names no table: write schema.table")


@pytest.mark.parametrize("url", [f"http://u:{_SECRET}@h", f"mysql://u:{_SECRET}@h:99999", f"u:{_SECRET}@h:1", ""])
def test_a_url_that_is_none(url: str) -> None:
    done = run("tail", url)
    assert_one_message(done, "mysql://user:password@host:port")
    assert _SECRET not in done.stderr


def test_a_state_file_that_cannot_be_one(mariadb: DatabaseServer, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but more than a few bytes of something else " * 20)
    for place in (tmp_path / "nowhere" / "state.db", tmp_path / "text", tmp_path):
        assert_one_message(run("tail", _url(mariadb), "--state", str(place)), str(place))


def test_a_state_file_in_use(table: Database, tmp_path: Path) -> None:
    state = str(tmp_path / "state.db")
    with started(tmp_path / "holds", *_arguments(table, "--state", state)) as command:
        wait_for(command, 1)
        assert_one_message(run(*_arguments(table, "--state", state)), state)


@pytest.fixture(autouse=True)
def _no_password_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HA_CANAL_PASSWORD", raising=False)
