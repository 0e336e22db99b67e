"""From a source to its standby without GTIDs: what is proved comes once, what is not comes again, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from ha_canal.cluster.coordinator import Set
from ha_canal.config import InstanceSection
from ha_canal.cursor import remembered_from_json
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from tests.instance.terms import PATHS, insert, section_of, stored, term
from tests.mysql.sources import source_of


@contextlib.asynccontextmanager
async def primary_and_standby() -> AsyncIterator[tuple[Database, Database]]:
    """Two servers whose files and offsets differ; the second replicates from the first, GTIDs or not."""
    async with mariadb_server(server_id=1) as primary, mariadb_server(server_id=2) as standby:
        for _ in range(3):
            await standby.execute("FLUSH BINARY LOGS")
        await primary.execute("CREATE USER repl@'%' IDENTIFIED BY 'repl'")
        await primary.execute("GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
        name = primary.create_database()
        await standby.execute(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, MASTER_USER='repl', "
            "MASTER_PASSWORD='repl', MASTER_USE_GTID=no, MASTER_LOG_FILE='mysql-bin.000001', MASTER_LOG_POS=4"
        )
        await standby.execute("START SLAVE")
        there, here = Database(primary, name), Database(standby, name)
        await there.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        yield there, here


async def promote(primary: Database, standby: Database) -> None:
    """Wait until the standby has everything, and make it a server of its own."""
    wanted = await primary.query("SELECT COUNT(*) FROM goods")

    async def has_all() -> bool:
        return await standby.query("SELECT COUNT(*) FROM goods") == wanted

    await eventually(has_all, what="the standby has all rows")
    await standby.execute("STOP SLAVE")
    await standby.execute("RESET SLAVE ALL")


def by_place(database: Database, **settings: object) -> InstanceSection:
    section = section_of(database, **settings)
    return section.model_copy(update={"source": source_of(database.server, use_gtids=False)})


def history(ensemble: MemoryEnsemble) -> list[tuple[str, str]]:
    return [(one["kind"], one["text"]) for one in json.loads(stored(ensemble, PATHS.history) or b"[]")]


def forget(ensemble: MemoryEnsemble, client_id: str, **members: object) -> None:
    """Take away what is remembered, and change the stored place."""
    path = PATHS.client(client_id).cursor
    record = json.loads(stored(ensemble, path) or b"")
    record.pop("remembered", None)
    record["postion"].update(members)
    ensemble.apply([Set(path, json.dumps(record).encode())], "operator")


def test_where_the_seam_is_proved_nothing_comes_twice_and_nothing_is_lost() -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with primary_and_standby() as (primary, standby):
            async with term(ensemble, by_place(primary)) as office:
                quick, slow = await office.client("quick"), await office.client("slow")
                await insert(primary, *range(1, 31))
                assert await slow.read(10, max_items=30) == list(range(1, 11))
                await quick.read(30)
                assert (
                    len(remembered_from_json(stored(ensemble, PATHS.client("quick").cursor) or b"").fingerprints) == 30
                )
            await insert(primary, 31, 32)
            await promote(primary, standby)
            await insert(standby, 33, 34)
            async with term(ensemble, by_place(standby)) as office:
                quick, slow = await office.client("quick"), await office.client("slow")
                assert await quick.read(34) == [31, 32, 33, 34]
                assert await slow.read(34) == list(range(11, 35))
                assert "client 'quick' goes on at" in office.detail
                assert office.detail.count("proved gap-free") == 2
                await insert(standby, 35)
                await quick.read(35)
            ((kind, text),) = history(ensemble)
            assert (kind, text.count("proved gap-free")) == ("seam", 2)
            async with term(ensemble, by_place(standby)) as office:  # and from there on by file and offset
                assert "on the same server" in office.detail or "starting" in office.instance.state
                await insert(standby, 36)
                assert await (await office.client("quick")).read(36) == [36]
            assert len(history(ensemble)) == 1

    asyncio.run(check())


def test_what_the_new_server_lacks_is_said_and_what_it_has_comes() -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with primary_and_standby() as (primary, standby):
            async with term(ensemble, by_place(primary)) as office:
                client = await office.client("a")
                await insert(primary, *range(1, 11))
                await client.read(10)
                await promote(primary, standby)
                await insert(primary, 11, 12)
                await client.read(12)
            await insert(standby, 100)
            async with term(ensemble, by_place(standby)) as office:
                assert await (await office.client("a")).read(100) == [100]
                assert "lacks the 2 after them, which were delivered" in office.detail

    asyncio.run(check())


def test_without_proof_the_window_comes_again() -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with primary_and_standby() as (primary, standby):
            async with term(ensemble, by_place(primary)) as office:
                client = await office.client("a")
                await insert(primary, *range(1, 11))
                await client.read(10)
            await promote(primary, standby)
            await insert(standby, 11)
            in_an_hour = (await standby.query("SELECT UNIX_TIMESTAMP()"))[0][0] + 3600
            forget(ensemble, "a", timestamp=in_an_hour * 1000)
            async with term(ensemble, by_place(standby, fallback_interval_s=7200)) as office:
                await eventually(
                    lambda: asyncio.sleep(0, office.instance.state == "stopped"), what="the instance has stopped"
                )
                assert "nothing is that old" in office.detail
                assert history(ensemble) == []
            settings = {"fallback_interval_s": 7200, "on_purged": "earliest"}
            async with term(ensemble, by_place(standby, **settings)) as office:
                assert await (await office.client("a")).read(11) == list(range(1, 12))
                assert "assumed" in office.detail
            assert [kind for kind, _ in history(ensemble)] == ["seam", "gap"]

    asyncio.run(check())


def test_a_first_start_knows_the_time_so_that_another_server_can_be_searched() -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with primary_and_standby() as (primary, standby):
            async with term(ensemble, by_place(primary)) as office:
                await office.client("a")
            await promote(primary, standby)
            await insert(standby, 1)
            async with term(ensemble, by_place(standby, fallback_interval_s=0, on_purged="earliest")) as office:
                assert await (await office.client("a")).read(1) == [1]

    asyncio.run(check())
