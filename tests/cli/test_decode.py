"""`ha-canal decode` on captured files: what is left out, files that are cut, changed or misplaced, and quiet ends."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_canal.binlog.files import BinlogFiles
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.row_count import counting_plan
from ha_canal.cli.decode_summary import Summary
from ha_canal.model.table import RowPlan
from tests.binlog.streams import CAPTURED, MYSQL_FORMAT, Writer, describe
from tests.cli.process import LIMIT_S, assert_one_message, run


@pytest.fixture(params=["mariadb", "mysql"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A captured file, under the name that its server gave it."""
    path = tmp_path / "mysql-bin.000001"
    shutil.copy(CAPTURED / f"{request.param}.binlog", path)
    return path


def _lines(*arguments: object) -> list[dict[str, Any]]:
    done = run("decode", *map(str, arguments))
    assert (done.returncode, done.stderr) == (0, ""), done
    return [json.loads(line) for line in done.stdout.splitlines()]


def _written(path: Path, *events: bytes) -> Path:
    """Write framed events as a file."""
    path.write_bytes(b"\xfebin" + b"".join(event[5:] for event in events))
    return path


def _next(path: Path, *, number: int = 2, rotate: bool = False) -> Path:
    """Write a file that a server could have written behind ``path``."""
    writer = Writer()
    events = [writer.format(), writer.gtid(100), writer.query("CREATE TABLE later (a INT)")]
    if rotate:
        events.append(writer.rotate(f"mysql-bin.{number + 1:06}", artificial=False))
    return _written(path.with_name(f"mysql-bin.{number:06}"), *events)


def test_offsets_choose_whole_transactions(file: Path) -> None:
    lines = _lines(file)
    starts = [item.transaction.start_offset for items in BinlogFiles([file]).items(lambda _: None) for item in items]
    middle = sorted(set(starts))[4]
    before, behind = _lines("--stop-offset", middle, file), _lines("--start-offset", middle, file)
    assert before + behind == lines
    assert before
    assert behind


def test_a_start_inside_of_an_event_is_refused(file: Path) -> None:
    assert_one_message(run("decode", "--start-offset", "400", str(file)), "no event starts there", ":400")
    assert_one_message(run("decode", "--start-offset", "999999", str(file)), "nothing can be read from there")


def test_times_choose_transactions(file: Path) -> None:
    lines = _lines(file)
    time = lines[-1]["commit_time"]
    assert _lines("--stop-time", time, file) == [line for line in lines if line["commit_time"] < time]
    assert _lines("--start-time", time, file) == [line for line in lines if line["commit_time"] >= time]
    assert _lines("--start-time", "2200-01-01", file) == []
    assert run("decode", "--start-time", "yesterday", str(file)).returncode == 2


def test_tables_choose_rows_and_statements(file: Path) -> None:
    lines = _lines(file)
    assert [line for line in _lines("--table", "shop.notes", file) if line["table"]] == [
        line for line in lines if line["table"] == "notes"
    ]
    assert_one_message(run("decode", "--table", "notes", str(file)), "names no table")


def test_the_summary_counts_what_is_printed(file: Path) -> None:
    lines = _lines(file)
    summary = json.loads(run("decode", "--summary", "--json", str(file)).stdout)
    for kind in ("insert", "update", "delete"):
        assert summary["rows"][kind] == sum(line["kind"] == kind for line in lines)
    for one in summary["tables"]:
        of_it = [line for line in lines if (line["schema"], line["table"], line["kind"]) == tuple(one[k] for k in _KEY)]
        assert one["rows"] or one["events"] == len(of_it)
        assert one["transactions"] == len({line["event_id"].partition("#")[0] for line in of_it})
        assert (one["first"]["offset"], one["last"]["offset"]) == (of_it[0]["offset"], of_it[-1]["offset"])
    text = run("decode", "--summary", str(file)).stdout
    assert f"{summary['transactions']} transactions" in text
    assert "shop.goods" in text


_KEY = ("schema", "table", "kind")


def test_files_in_a_row(file: Path) -> None:
    one, two = _lines(file), _lines(_next(file, rotate=True))
    assert _lines(file, _next(file, rotate=True), _next(file, number=3)) == [*one, *two, *_lines(_next(file, number=3))]


def test_files_that_do_not_follow_are_refused(file: Path) -> None:
    third = _next(file, number=3)
    done = run("decode", str(file), str(third))
    assert done.returncode == 1
    assert "mysql-bin.000002 comes next, and mysql-bin.000003 was given" in done.stderr
    second = _next(file)  # without a ROTATE, as after a crash
    assert _lines(second, third)
    assert_one_message(run("decode", "--table", "no.ne", str(second), str(_next(file, number=4))), "does not follow")


def test_every_cut_is_told_and_nothing_before_it_is_lost(file: Path) -> None:
    raw, lines = file.read_bytes(), run("decode", str(file)).stdout
    for size in (len(raw) - 3, len(raw) // 2, len(raw) // 3 + 7):
        file.write_bytes(raw[:size])
        done = run("decode", str(file))
        assert done.returncode == 3
        assert lines.startswith(done.stdout)
        assert done.stderr.startswith("Note: mysql-bin.000001 was read up to ")
        assert "bytes follow" in done.stderr


def test_a_cut_between_two_events_of_a_transaction(tmp_path: Path) -> None:
    writer = Writer()
    events = [writer.format(), writer.one_row(1), writer.gtid(2), writer.query("BEGIN"), writer.table_map()]
    path = tmp_path / "mysql-bin.000001"
    path.write_bytes(b"\xfebin" + _without_packets(b"".join(events)))
    done = run("decode", "--summary", "--json", str(path))
    assert done.returncode == 3
    assert json.loads(done.stdout)["rows"]["insert"] == 1
    assert f"read up to {path.stat().st_size}, its last whole event; a transaction has no end" in done.stderr


def _without_packets(framed: bytes) -> bytes:
    events = b""
    while framed:
        size = int.from_bytes(framed[:3], "little")
        events += framed[5 : 4 + size]
        framed = framed[4 + size :]
    return events


def test_zeros_at_the_end_are_a_cut(file: Path) -> None:
    size = file.stat().st_size
    file.write_bytes(file.read_bytes() + bytes(100))
    done = run("decode", str(file))
    assert done.returncode == 3
    assert (
        done.stderr == f"Note: {file.name} was read up to {size}, its last whole event; 100 bytes of nothing follow\n"
    )


def test_damage_is_named_with_its_place(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    offset = _lines(file)[3]["offset"]
    raw[offset + 30] ^= 1
    file.write_bytes(raw)
    done = run("decode", str(file))
    assert done.returncode == 1
    assert (
        f"its checksum is wrong: bytes were changed on the way or on the source's disk (at {file.name}:{offset})"
        in (done.stderr)
    )
    assert "WRITE_ROWS" in done.stderr
    assert len(done.stdout.splitlines()) == 3
    raw[offset + 9 : offset + 13] = b"\xff\xff\xff\xff"
    file.write_bytes(raw)
    done = run("decode", str(file))
    assert done.returncode == 1
    assert "4294967295 bytes" in done.stderr
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "does not start as a binlog file does"),
        (b"PK\x03\x04 and more", "does not start as a binlog file does"),
        (b"\xfdbin" + bytes(600), "encrypted: read it through its server"),
        (b"\xfebin", "holds no event"),
        (b"\xfebin" + bytes(12), "holds no event"),
    ],
)
def test_what_is_no_binlog_file_is_refused(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "mysql-bin.000001"
    path.write_bytes(raw)
    assert_one_message(run("decode", str(path)), words, "(at mysql-bin.000001:")


@pytest.mark.parametrize("start", ["4", "200"])
def test_an_encrypted_file_of_mariadb_is_refused(tmp_path: Path, start: str) -> None:
    writer = Writer()
    path = _written(tmp_path / "mysql-bin.000001", writer.format("10.11.3-MariaDB"), writer.event(164, bytes(17)))
    path.write_bytes(path.read_bytes() + bytes(range(256)))
    assert_one_message(run("decode", "--start-offset", start, str(path)), "encrypted: read it through its server")


def test_a_relay_log_is_refused(tmp_path: Path) -> None:
    body = struct.pack("<H50sIB", 4, b"9.7.4", 0, 19) + bytes(MYSQL_FORMAT) + b"\1"
    event = struct.pack("<IBIIIH", 1, 15, 1, 23 + len(body), 27 + len(body), 0x40) + body
    path = tmp_path / "relay-bin.000001"
    path.write_bytes(b"\xfebin" + event + struct.pack("<I", zlib.crc32(event)))
    assert_one_message(run("decode", str(path)), "relay log")


def test_missing_files_and_wrong_options_are_wrong_usage(file: Path) -> None:
    for arguments in (["nowhere"], [], ["--json", str(file)], ["--summary", "--schema", "mysql://a@b", str(file)]):
        assert run("decode", *arguments).returncode == 2


def _large(path: Path, transactions: int) -> Path:
    writer = Writer()
    with path.open("wb") as file:
        file.write(b"\xfebin" + writer.format()[5:])
        for number in range(1, transactions + 1):
            file.write(writer.gtid(number)[5:] + writer.query(f"CREATE TABLE t{number} (a INT)")[5:])
    return path


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    path = _large(tmp_path / "mysql-bin.000001", 5000)
    child = subprocess.Popen(
        [sys.executable, "-m", "ha_canal.cli", "decode", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline().startswith(b"{")
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(LIMIT_S) == 0


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let child processes have Ctrl-C: what a shell starts in the background ignores it, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    path = _large(tmp_path / "mysql-bin.000001", 20_000)  # more than a pipe holds that is not read
    with subprocess.Popen(
        [sys.executable, "-m", "ha_canal.cli", "decode", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=LIMIT_S)
    assert (child.returncode, err) == (130, b"")


def test_the_items_of_a_file_are_those_of_the_stream(file: Path) -> None:
    name = "mariadb" if b"MariaDB" in file.read_bytes()[:100] else "mysql"
    expected = (CAPTURED / f"{name}.items").read_text().splitlines()
    summary = Summary()
    found = [item for items in BinlogFiles([file]).items(_plan) for item in items]
    assert [describe(item) for item in found] == expected
    for item in found:
        summary.add(item)
    assert summary.transactions + summary.other_transactions == sum(line.startswith("COMMIT") for line in expected)


def _plan(needed: PlanNeeded) -> RowPlan:
    return counting_plan(needed.table_map)
