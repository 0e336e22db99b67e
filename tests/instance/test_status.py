"""What `status` says of an instance, in each of its states, and what it never says."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ha_canal.config import InstanceSection, SourceSection
from ha_canal.errors import SourceBusyError, SourceRefusedError
from ha_canal.testing.clock import run_virtual
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database
from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy
from tests.instance.terms import Term, insert, section_of, term
from tests.mysql.sources import source_of


async def until_state(office: Term, state: str) -> str:
    """Wait for the state, and return the detail to it."""
    await eventually(lambda: office.instance.describe({}).state == state, what=f"the instance is {state}")
    return office.detail


def test_an_instance_waits_for_its_first_client_and_then_runs(shop: Database) -> None:
    async def check() -> None:
        async with term(MemoryEnsemble(), section_of(shop)) as office:
            assert office.instance.state == "starting"
            assert "no client has subscribed yet" in await until_state(office, "waiting")
            client = await office.client("one", rf"{shop.name}\.goods")
            assert "from the latest position" in await until_state(office, "running")
            await insert(shop, 1)
            await client.read(1, ack=False)
            shown = office.instance.describe({"one": "10.0.0.7:5"})
            assert (shown.name, shown.epoch, shown.source) == ("shop", 1, f"127.0.0.1:{shop.server.port}")
            assert (shown.transactions, shown.rows_events) == (1, 1)
            (one,) = shown.clients
            assert (one.client_id, one.holder, one.filter) == ("one", "10.0.0.7:5", rf"{shop.name}\.goods")
            assert one.batches_in_flight == 1
            assert one.cursor.offset < shown.read_place.offset
            assert one.cursor.gtid_set != shown.read_place.gtid_set

    asyncio.run(check())


def test_a_source_that_is_out_of_reach_is_tried_again_and_said_once(
    shop: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with FaultProxy("127.0.0.1", shop.server.port) as proxy:
            section = section_of(shop).model_copy(update={"source": source_of(proxy)})
            async with term(MemoryEnsemble(), section) as office:
                client = await office.client("one")
                await until_state(office, "running")
                await proxy.cut(refuse=True)
                detail = await until_state(office, "connecting")
                await eventually(lambda: "no connection to the database" in office.detail, what=f"why not: {detail}")
                assert office.instance.describe({}).lag_s < 0
                proxy.heal()
                await insert(shop, 1)
                assert await client.read(1) == [1]
                await until_state(office, "running")
        told = [line.message for line in caplog.records if line.levelno >= logging.WARNING]
        assert len(told) == len(set(told)) > 0

    asyncio.run(check())


def test_a_wrong_password_stops_the_instance_and_is_told_nowhere(
    shop: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def check() -> None:
        source = source_of(shop.server, password="hunter-2-hunter")
        section = section_of(shop).model_copy(update={"source": source})
        async with term(MemoryEnsemble(), section) as office:
            with pytest.raises(SourceRefusedError, match="Check user and password") as refused:
                await office.client("one")
            detail = await until_state(office, "stopped")
            assert "Check user and password" in detail
            for text in (str(office.instance.describe({})), str(refused.value), repr(section), caplog.text):
                assert "hunter" not in text

    asyncio.run(check())


def test_a_start_that_takes_long_is_told_to_the_client() -> None:
    async def check() -> None:
        section = InstanceSection(name="shop", source=SourceSection(host="127.0.0.1", user="canal"))
        async with term(MemoryEnsemble(), section) as office:
            office.link.held = asyncio.Event()
            with pytest.raises(SourceBusyError, match="still starting"):
                await office.client("one")

    run_virtual(check())


def test_a_filter_that_names_no_table_is_told_until_it_is_mended(
    shop: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(shop)) as office:
            await office.client("good", rf"{shop.name}\.goods")
            assert "names" not in office.detail
            await office.client("one", rf"{shop.name}\.goods,{shop.name}\.godos")
            await office.client("two", r"shp\..*")
            for _ in range(3):
                await office.client("one")
            assert "the filter of client 'one' names" in office.detail
            assert "godos" in office.detail
            assert "the filter of client 'two' names" in office.detail
            assert "GRANT SELECT" in office.detail
            assert sum("godos" in line.message for line in caplog.records) == 1
            await office.instance.forget("two")
            assert "'two'" not in office.detail
        async with term(ensemble, section_of(shop)) as office:  # the stored filters are looked at too
            await until_state(office, "running")
            assert "godos" in office.detail
            await office.client("one", rf"{shop.name}\.goods")
            assert "names" not in office.detail

    asyncio.run(check())


def test_an_instance_whose_own_filter_names_no_table(shop: Database) -> None:
    async def check() -> None:
        section = section_of(shop, filter=rf"{shop.name}\.goods,{shop.name}\.orders")
        async with term(MemoryEnsemble(), section) as office:
            assert "the instance's filter names" in await until_state(office, "waiting")
            assert "orders" in office.detail
            client = await office.client("one")
            await shop.execute("CREATE TABLE orders (id INT PRIMARY KEY)")
            await shop.execute("INSERT INTO orders VALUES (7)")
            assert await client.read(7) == [7]  # a table created later is read all the same

    asyncio.run(check())
