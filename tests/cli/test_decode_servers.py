"""`ha-canal decode` on the files of real servers: what `tail` shows, from disk, also compressed and without names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ha_canal.testing.database import Database, DatabaseServer
from tests.binlog.binlog_file import events
from tests.cli.process import run, started, wait_for

_ROWS = ("insert", "update", "delete")


def _url(server: DatabaseServer) -> str:
    return f"mysql://{server.user}:{server.password}@{server.host}:{server.port}"


def _place(server: DatabaseServer) -> tuple[Path, int]:
    """Return the file that is being written, and where it ends."""
    status = "SHOW MASTER STATUS" if server.flavor == "mariadb" else "SHOW BINARY LOG STATUS"
    file, offset = server.run_sql(status)[0][:2]
    return server.directory / str(file), int(offset)


def _decoded(*arguments: object) -> list[dict[str, Any]]:
    done = run("decode", *map(str, arguments))
    assert (done.returncode, done.stderr) == (0, ""), done
    return [json.loads(line) for line in done.stdout.splitlines()]


def _rows(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["before"] or line["after"]]


@contextmanager
def _setting(server: DatabaseServer, **variables: str) -> Iterator[None]:
    """Set global variables; back to what they were at the end."""
    before = {name: server.run_sql(f"SELECT @@global.{name}")[0][0] for name in variables}
    for name, value in variables.items():
        server.run_sql(f"SET GLOBAL {name} = %s", int(value) if value.isdecimal() else value)
    try:
        yield
    finally:
        for name, value in before.items():
            server.run_sql(f"SET GLOBAL {name} = %s", value)


def _fill(database: Database) -> None:
    database.run_sql(
        """CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(200) CHARACTER SET latin1, price DECIMAL(10,2),
           at DATETIME(3), kind ENUM('small','large'), body JSON, raw BLOB)"""
    )
    many = ", ".join(
        f"({n}, REPEAT('né', 40), {n}.5, '2024-02-29 12:00:00.125', 'large', '{{\"n\": [{n}]}}', x'00ff')"
        for n in range(50)
    )
    database.run_sql(f"INSERT INTO t VALUES {many}")
    database.run_sql("UPDATE t SET price = price + 1, name = NULL WHERE id < 30")
    database.run_sql("DELETE FROM t WHERE id >= 45")


def test_files_say_what_tail_says(database: Database, tmp_path: Path) -> None:
    first, offset = _place(database.server)
    _fill(database)
    database.server.run_sql("FLUSH BINARY LOGS")
    database.run_sql("INSERT INTO t (id) VALUES (1000)")
    database.run_sql("ALTER TABLE t ADD COLUMN more INT")
    second, _ = _place(database.server)
    database.server.run_sql("FLUSH BINARY LOGS")
    lines = _decoded("--table", f"{database.name}.*", "--start-offset", offset, first, second)
    pattern = ("--table", f"{database.name}.*", "--start", "earliest")
    with started(tmp_path, "tail", _url(database.server), *pattern) as tail:
        while not (shown := tail.lines()) or shown[-1]["kind"] != "alter":
            wait_for(tail, len(shown) + 1)
        assert lines == [line for line in shown if (line["schema"], line["table"]) == (database.name, "t")]
        tail.interrupt()
    assert lines[0]["sql"].startswith("CREATE TABLE t")
    assert len(_rows(lines)) == 50 + 30 + 5 + 1
    assert lines[-1]["kind"] == "alter"


def test_compressed_binlogs(database: Database) -> None:
    server = database.server
    if server.flavor == "mysql":
        setting = _setting(server, binlog_transaction_compression="ON")
    else:
        setting = _setting(server, log_bin_compress="ON", log_bin_compress_min_len="10")
    file, offset = _place(server)
    with setting:
        _fill(database)
    server.run_sql("FLUSH BINARY LOGS")
    lines = _rows(_decoded("--table", f"{database.name}.t", "--start-offset", offset, file))
    assert [line["kind"] for line in lines] == ["insert"] * 50 + ["update"] * 30 + ["delete"] * 5
    assert lines[7]["after"]["name"] == "né" * 40
    done = run("decode", "--summary", "--json", "--table", f"{database.name}.t", str(file))
    summary = json.loads(done.stdout)
    assert summary["rows"] == {"insert": 50, "update": 30, "delete": 5}
    counts = {one["kind"]: one["transactions"] for one in summary["tables"] if one["schema"] == database.name}
    assert {kind: counts[kind] for kind in _ROWS} == dict.fromkeys(_ROWS, 1)
    compressed = {40} if server.flavor == "mysql" else {166, 167, 168}
    assert compressed <= {kind for kind, _, _ in events(file, offset)}


def test_the_file_in_use_is_read_as_far_as_it_goes(database: Database) -> None:
    file, offset = _place(database.server)
    _fill(database)
    _, end = _place(database.server)
    done = run("decode", "--table", f"{database.name}.t", "--start-offset", str(offset), str(file))
    assert done.returncode == 0
    assert done.stderr == f"Note: {file.name} was read up to {end}, its last whole event (so far)\n"
    assert len(done.stdout.splitlines()) == 86


def test_names_of_a_server_where_events_have_none(database: Database) -> None:
    server = database.server
    without = "NO_LOG" if server.flavor == "mariadb" else "MINIMAL"
    file, offset = _place(server)
    with _setting(server, binlog_row_metadata="FULL"):
        _fill(database)
        named = _rows(_decoded("--table", f"{database.name}.t", "--start-offset", offset, *_flushed(server)))
    file, offset = _place(server)
    database.run_sql("DROP TABLE t")
    with _setting(server, binlog_row_metadata=without):
        _fill(database)
        (file,) = _flushed(server)
    arguments = ("--table", f"{database.name}.t", "--start-offset", str(offset), str(file))
    alone = run("decode", *arguments)
    assert alone.returncode == 1
    assert alone.stderr.startswith(f"Error: INSERT rows event: the rows of {database.name}.t carry no column names")
    assert "--schema" in alone.stderr
    assert f"(at {file.name}:" in alone.stderr
    lines = _rows(_decoded("--schema", _url(server), *arguments))
    assert [line["after"] for line in lines] == [line["after"] for line in named]
    assert lines[0]["after"]["price"] == "0.50"
    done = run("decode", "--summary", "--json", *arguments)
    assert json.loads(done.stdout)["rows"] == {"insert": 50, "update": 30, "delete": 5}
    database.run_sql("ALTER TABLE t RENAME COLUMN raw TO cooked")
    altered = run("decode", "--schema", _url(server), *arguments, str(_flushed(server)[0]))
    assert altered.returncode == 1
    assert f"the table was changed after them (ALTER of {database.name}.t at" in altered.stderr


def _flushed(server: DatabaseServer) -> tuple[Path]:
    """Close the file that is being written, and return it."""
    file, _ = _place(server)
    server.run_sql("FLUSH BINARY LOGS")
    return (file,)
