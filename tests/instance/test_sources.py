"""An instance with standbys: what keeps it from one, what it does when none is fit, and what the next term reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ha_canal.cluster.coordinator import Create
from ha_canal.config import InstanceSection
from ha_canal.errors import UsageError
from ha_canal.instance.choice import Choice, stored_choice
from ha_canal.protos import canal_pb2 as pb
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.proxy import FaultProxy
from ha_canal.testing.replica import caught_up, promote, replica_of
from tests.instance.terms import PATHS, Term, insert, section_of, stored, term

QUICK = {"heartbeat_s": 0.2, "failures": 2}


def with_standby(primary: Database, *others: DatabaseServer | FaultProxy, **settings: object) -> InstanceSection:
    standbys = [{"host": one.host, "port": one.port} for one in others]
    return section_of(primary, **{"standbys": standbys, "failover": QUICK, **settings})


async def order(office: Term, to: DatabaseServer | FaultProxy, **options: Any) -> pb.SwitchSourceReply:
    return await office.instance.sources.switch(pb.SwitchSourceRequest(to=f"{to.host}:{to.port}", **options))


@contextlib.asynccontextmanager
async def pair(*options: str) -> AsyncIterator[tuple[Database, Database]]:
    """A primary and its replica, which has ``options``, with the table ``goods (id)`` on both."""
    async with mariadb_server(server_id=1) as primary, mariadb_server(server_id=2, options=options) as replica:
        there = Database(primary, primary.create_database())
        await there.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        await replica_of(primary, replica)
        yield there, Database(replica, there.name)


def test_the_same_server_under_another_name_is_no_standby(shop: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        alias = FaultProxy(shop.server.host, shop.server.port)
        async with alias, term(ensemble, with_standby(shop, alias)) as office:
            await office.client("a")
            await eventually(lambda: stored(ensemble, PATHS.source), what="it is known who the source is")
            with pytest.raises(UsageError, match="it is server 101, the very one that is read already"):
                await order(office, alias)
            assert not office.instance.sources.has_switched

    asyncio.run(check())


def test_a_replica_that_does_not_log_what_it_replicates_is_not_read() -> None:
    async def check() -> None:
        async with (
            pair("--log-slave-updates=OFF") as (there, here),
            term(MemoryEnsemble(), with_standby(there, here.server)) as office,
        ):
            await insert(there, 1)
            await office.client("a")
            with pytest.raises(UsageError, match="what it replicates is not in its binlog"):
                await order(office, here.server)

    asyncio.run(check())


def test_nobody_is_fit_and_then_the_loss_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with pair() as (there, here):
            section = with_standby(there, here.server)
            async with term(ensemble, section) as office:
                client = await office.client("a")
                await insert(there, 1, 2)
                assert await client.read(2) == [1, 2]
                await caught_up(there.server, here.server)
                await here.server.execute("STOP SLAVE IO_THREAD")
                await insert(there, 3, 4)
                assert await client.read(4) == [1, 2, 3, 4]
                there.server.kill()

                def is_in_vain() -> bool:
                    return "round 2: no other source can be read now" in caplog.text

                await eventually(is_in_vain, within_s=20, what="all were looked at twice")
                assert office.instance.failure is None
                shown = office.instance.describe({})
                assert shown.state == "connecting"
                assert "given up (it missed 2 heartbeats" in shown.detail
                assert "lacks transactions" in shown.source_choice.state
                await promote(here.server)
                reply = await order(office, here.server, accept_lost=True)
                assert "what counts as done is 0-1-" in reply.detail
                await eventually(office.running.done, what="the term is over")
                office.running.result()
            kinds = [one["kind"] for one in json.loads(stored(ensemble, PATHS.history) or b"[]")]
            assert kinds == ["switched", "gap"]
            await insert(here, 5)
            async with term(ensemble, section) as office:
                assert await (await office.client("a")).read(5) == [5]
                shown = office.instance.describe({})
                assert shown.source == f"127.0.0.1:{here.server.port}"
                assert shown.source_choice.before == f"127.0.0.1:{there.server.port}"
                newcomer = await office.client("b")  # and whoever comes now has a place of this server
                await insert(here, 6)
                assert await newcomer.read(6) == [6]

    caplog.set_level(logging.INFO, logger="ha_canal")
    asyncio.run(check())


_LARGE = "INSERT INTO goods SELECT seq + {first}, REPEAT('x', 90) FROM seq_1_to_{count}"
_ROW_EVENTS = "--binlog-row-event-max-size={size}"


@pytest.mark.parametrize(("size", "proved"), [(8192, True), (1024, False)])
def test_a_transaction_that_was_acknowledged_in_part(size: int, proved: bool) -> None:
    """Its rest comes from the other server where that cuts rows into the same events, and else all of it again."""

    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with pair(_ROW_EVENTS.format(size=size)) as (there, here):
            await there.server.execute("FLUSH BINARY LOGS")
            await there.execute("ALTER TABLE goods ADD note VARCHAR(100)")
            section = with_standby(there, here.server)
            async with term(ensemble, section) as office:
                client = await office.client("a")
                await there.execute(_LARGE.format(first=0, count=1000))
                part = await client.read(150, max_items=3)
                assert 150 <= len(part) < 1000
                await there.execute(_LARGE.format(first=1000, count=10))
                await order(office, here.server)
                await eventually(office.running.done, what="the term is over")
            async with term(ensemble, section) as office:
                rest = await (await office.client("a")).read(1010)
                first = len(part) + 1 if proved else 1
                assert rest == list(range(first, 1011))

    asyncio.run(check())


def test_a_newcomer_right_after_a_switch_has_a_place_on_the_new_server() -> None:
    """Its first cursor is stored before anything was read there; files and offsets of the old server mean nothing."""

    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with pair() as (there, here):
            for _ in range(3):
                await there.server.execute("FLUSH BINARY LOGS")
            section = with_standby(there, here.server)
            async with term(ensemble, section) as office:
                old = await office.client("old")
                await insert(there, 1)
                await old.read(1)
                await order(office, here.server)
            await promote(here.server)
            async with term(ensemble, section) as office:
                await office.client("new")
            async with term(ensemble, section) as office:
                old, new = await office.client("old"), await office.client("new")
                await insert(here, 2, 3)
                assert await old.read(3) == [2, 3]
                assert await new.read(2, max_items=4) == [2]
            async with term(ensemble, section) as office:
                assert await (await office.client("new")).read(3) == [3]

    asyncio.run(check())


def test_the_stored_choice(shop: Database) -> None:
    async def check() -> None:
        session = MemoryEnsemble().session()
        section = section_of(shop, standbys=[{"host": "db2"}])
        primary = section.source.address

        async def chosen(choice: Choice | bytes) -> str:
            data = choice if isinstance(choice, bytes) else choice.to_json()
            other = MemoryEnsemble().session()
            await other.commit([Create(PATHS.source, data)])
            try:
                return (await stored_choice(other, PATHS, section)).address
            finally:
                other.close()

        assert (await stored_choice(session, PATHS, section)).address == primary
        assert await chosen(Choice("db2:3306", before=primary)) == "db2:3306"
        assert await chosen(Choice("db2:3306")) == primary  # nobody switched: the configuration has another primary
        assert await chosen(Choice("db9:3306", before=primary)) == primary
        with pytest.raises(UsageError, match="does not say which source to read"):
            await chosen(b'{"adress":1}')
        session.close()

    asyncio.run(check())
    kept = Choice("a:1", 5, "why", "b:2", ("b:2",), 3, "uuid", 7)
    assert Choice.from_json(kept.to_json(), "there") == kept
