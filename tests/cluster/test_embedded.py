"""The embedded coordinator: what survives, and who is kept out."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ha_canal.cluster.coordinator import Create, Delete, Node, Set
from ha_canal.cluster.election import campaign
from ha_canal.cluster.embedded import embedded_coordinator
from ha_canal.cluster.layout import Layout
from ha_canal.errors import CoordinatorLostError, UsageError

SHOP = Layout().instance("shop")
ROOT = Path(__file__).parents[2]

KILLED_WHILE_WRITING = """
import asyncio, sys
from pathlib import Path
from ha_canal.cluster.coordinator import Create, Set
from ha_canal.cluster.embedded import embedded_coordinator

async def main() -> None:
    async with embedded_coordinator(Path(sys.argv[1])) as it:
        await it.commit([Create("/a"), Create("/b"), Create("/mine", ephemeral=True)])
        for count in range(1_000_000):
            await it.commit([Set("/a", b"%d" % count), Set("/b", b"%d" % count)])
            print(count, flush=True)

asyncio.run(main())
"""


def test_persistent_nodes_survive_and_ephemeral_ones_do_not(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "state.db"
        async with embedded_coordinator(path) as it:
            await it.commit([Create("/a/b", b"\x00\xff"), Create("/a/gone"), Create("/mine", ephemeral=True)])
            await it.commit([Set("/a/b", b"\x01"), Delete("/a/gone")])
            first = it.session.id
        async with embedded_coordinator(path) as it:
            assert await it.read("/a/b") == Node(b"\x01", 1)
            assert await it.read("/a") == Node(b"", 0)
            assert await it.children("/") == ["a"]
            assert it.session.id != first

    asyncio.run(main())


def test_a_node_made_ephemeral_in_place_of_a_persistent_one_does_not_survive(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded_coordinator(tmp_path / "state.db") as it:
            await it.commit([Create("/a", b"old")])
            await it.commit([Delete("/a"), Create("/a", b"new", ephemeral=True)])
        async with embedded_coordinator(tmp_path / "state.db") as it:
            assert await it.read("/a") is None

    asyncio.run(main())


def test_what_was_answered_survives_kill_9_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(20)][-1]
        with pytest.raises(UsageError, match=f"in use by process {process.pid} on"):
            asyncio.run(_open(path))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        answered = int(rest[-1]) if rest else answered

    async def main() -> None:
        async with embedded_coordinator(path) as it:
            a, b = await it.read("/a"), await it.read("/b")
            assert a is not None
            assert a == b
            assert int(a.data) >= answered
            assert await it.read("/mine") is None

    asyncio.run(main())


async def _open(path: Path) -> None:
    async with embedded_coordinator(path):
        pytest.fail("two processes share a state file")


def test_the_file_is_free_again_after_the_block(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(3):
            async with embedded_coordinator(tmp_path / "state.db") as it:
                with pytest.raises(UsageError, match="in use by"):
                    await _open(tmp_path / "state.db")
                await it.read("/")

    asyncio.run(main())


def test_no_state_file_is_refused_with_its_name(tmp_path: Path) -> None:
    text, foreign = tmp_path / "text", tmp_path / "foreign.db"
    text.write_text("this is no database, however long it goes on" * 100)
    database = sqlite3.connect(foreign)
    database.execute("CREATE TABLE theirs (x)")
    database.close()
    for path in (text, foreign, tmp_path / "no folder" / "state.db", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            asyncio.run(_open(path))


def test_a_full_disk_is_a_lost_coordinator_and_nothing_half_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded_coordinator(tmp_path / "state.db") as it:
            await it.commit([Create("/a", b"old")])
            with pytest.raises(CoordinatorLostError, match="cannot write to the state file"):
                await it.commit([Set("/a", b"new"), Create("/big", TooBig(b"x"))])
            assert await it.read("/a") == Node(b"old", 0)
            await it.commit([Set("/a", b"newer")])

    asyncio.run(main())


class TooBig(bytes):
    """Bytes that SQLite cannot take, as if the disk were full."""

    def __conform__(self, _: object) -> object:
        raise sqlite3.OperationalError("database or disk is full")


def test_an_election_with_oneself_counts_epochs_over_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        for expected in (1, 2, 3):
            async with (
                embedded_coordinator(tmp_path / "state.db") as it,
                campaign(it, SHOP, address="127.0.0.1:1", node="a") as contest,
                contest.lease() as lease,
            ):
                assert lease.epoch == expected
                assert lease.valid()
                await lease.write_fenced({SHOP.client("x").cursor: b"%d" % expected})

    asyncio.run(main())
