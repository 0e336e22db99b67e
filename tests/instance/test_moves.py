"""Operators move cursors: what is said beforehand happens, and no ack writes over it."""

from __future__ import annotations

import asyncio

import pytest

from ha_canal.errors import NotSubscribedError, PositionPurgedError, SourceRefusedError, UsageError
from ha_canal.instance.runway_watch import RunwayWatch
from ha_canal.protos import canal_pb2 as pb
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.database import Database
from tests.instance.terms import insert, section_of, stored_cursor, term
from tests.mysql.sources import purge_up_to


@pytest.fixture
def goods(database: Database) -> Database:
    """The table ``goods``, on each server in turn."""
    database.run_sql("CREATE TABLE goods (id INT PRIMARY KEY)")
    return database


def request(client_id: str = "a", **to: object) -> pb.MovePositionRequest:
    dry_run = bool(to.pop("dry_run", False))
    wanted = pb.MovePositionRequest(instance="shop", client_id=client_id, dry_run=dry_run)
    for name, value in to.items():
        if isinstance(value, pb.Place):
            wanted.place.CopyFrom(value)
        else:
            setattr(wanted, name, value)
    return wanted


@pytest.mark.parametrize("use_gtids", [True, False])
def test_a_cursor_goes_back_and_forth_as_was_said_beforehand(goods: Database, use_gtids: bool) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        section = section_of(goods)
        section = section.model_copy(update={"source": section.source.model_copy(update={"use_gtids": use_gtids})})
        async with term(ensemble, section) as office:
            client = await office.client("a")
            await insert(goods, 1, 2)
            await client.read(2)
            early = stored_cursor(ensemble, "a")
            await insert(goods, 3, 4, 5)
            await client.read(5)
            late = stored_cursor(ensemble, "a")
            assert early is not None
            assert late is not None
            place = pb.Place(file=early.file, offset=early.offset)
            said = await office.instance.moves.move(request(place=place, dry_run=True))
            assert (said.effect, said.transactions, said.rows, said.moved) == ("repeat", 3, 3, False)
            assert said.to.gtid_set == early.gtid_set
            assert stored_cursor(ensemble, "a") == late
            done = await office.instance.moves.move(request(place=place))
            assert done.moved
            with pytest.raises(NotSubscribedError):
                await office.instance.acknowledged("a", late)
            await asyncio.wait_for(office.running, 10)
        moved = stored_cursor(ensemble, "a")
        assert moved is not None
        assert (moved.file, moved.offset, moved.gtid_set) == (early.file, early.offset, early.gtid_set)
        async with term(ensemble, section) as office:
            client = await office.client("a")
            assert await client.read(5) == [3, 4, 5]
            (notice,) = office.instance.notices_for("a")
            assert "3 transactions with 3 rows come again" in notice.text
            assert office.instance.notices_for("b") == []
            await insert(goods, 6)
            said = await office.instance.moves.move(request(end="latest"))
            assert (said.effect, said.transactions) == ("miss", 1)
            await asyncio.wait_for(office.running, 10)
        async with term(ensemble, section) as office:
            client = await office.client("a")
            await insert(goods, 7)
            assert await client.read(7) == [7]

    asyncio.run(check())


def test_places_that_are_none_are_refused(goods: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(goods)) as office:
            client = await office.client("a")
            await insert(goods, 1)
            await client.read(1)
            cursor = stored_cursor(ensemble, "a")
            assert cursor is not None
            events = await goods.query(f"SHOW BINLOG EVENTS IN '{cursor.file}'")
            inside = [int(event[1]) for event in events if event[2] in ("Table_map", "Xid")]
            move = office.instance.moves.move
            for offset in (inside[-1], inside[-2], inside[-1] + 1):
                with pytest.raises((UsageError, SourceRefusedError), match=r"no transaction|refused"):
                    await move(request(place=pb.Place(file=cursor.file, offset=offset)))
            for wanted, words in (
                (request(place=pb.Place(file="other.000001", offset=4)), "has no binlog file"),
                (request(place=pb.Place(file=cursor.file, offset=1 << 30)), "behind the end"),
                (request(place=pb.Place(gtid_set="nonsense")), "no GTID set"),
                (request(time_ms=1000), "younger than that"),
                (request(end="middle"), "say where to"),
                (request("nobody", end="latest"), "knows no client 'nobody'; it knows: a"),
            ):
                with pytest.raises((UsageError, NotSubscribedError), match=words):
                    await move(wanted)
            assert stored_cursor(ensemble, "a") == cursor

    asyncio.run(check())


def test_positions_are_shown_and_found_by_time(goods: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(goods)) as office:
            client = await office.client("a")
            await insert(goods, 1)
            await client.read(1)
            shown = await office.instance.moves.show()
            cursor = stored_cursor(ensemble, "a")
            assert cursor is not None
            assert [(one.client_id, one.cursor.offset) for one in shown.clients] == [("a", cursor.offset)]
            assert shown.end.offset >= cursor.offset
            in_an_hour = int((await goods.query("SELECT UNIX_TIMESTAMP()"))[0][0] + 3600) * 1000
            found = await office.instance.moves.find(pb.FindPositionRequest(instance="shop", time_ms=in_an_hour))
            assert (found.place.file, found.place.offset) == (shown.end.file, shown.end.offset)
            assert found.place.gtid_set == shown.end.gtid_set
            nothing = await office.instance.moves.find(pb.FindPositionRequest(instance="shop", time_ms=1000))
            assert not nothing.HasField("place")

    asyncio.run(check())


def test_the_runway_is_measured(goods: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(goods)) as office:
            client = await office.client("a")
            await insert(goods, 1)
            await client.read(1)
            cursor = stored_cursor(ensemble, "a")
            await goods.server.execute("FLUSH BINARY LOGS")
            await insert(goods, 2)
            watch = RunwayWatch(section_of(goods), lambda: cursor)
            await watch._look()
            runway = watch.runway
            assert runway is not None
            assert not runway.is_gone
            assert runway.bytes_behind > 0
            assert (runway.seconds is None) or runway.seconds > 0

    asyncio.run(check())


def test_a_first_start_at_a_time_or_place_has_its_gtids(goods: Database) -> None:
    async def check() -> None:
        await insert(goods, 1)
        end = (await goods.query("SHOW BINARY LOGS"))[-1]
        await insert(goods, 2)
        place = {"file": str(end[0]), "offset": int(end[1])}
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(goods, start_at=place)) as office:
            client = await office.client("a")
            assert "from the configured place" in office.detail
            assert await client.read(2) == [2]
            cursor = stored_cursor(ensemble, "a")
            assert cursor is not None
            assert cursor.gtid_set
        timed = MemoryEnsemble()
        async with term(timed, section_of(goods, start_at={"time": "2038-01-01T00:00:00Z"})) as office:
            client = await office.client("a")
            assert "from the configured time" in office.detail
            await insert(goods, 3)
            assert await client.read(3) == [3]
            cursor = stored_cursor(timed, "a")
            assert cursor is not None
            assert cursor.gtid_set

    asyncio.run(check())


def test_a_gap_that_is_accepted_is_on_record_and_reading_goes_on(goods: Database) -> None:
    async def check() -> None:
        ensemble = MemoryEnsemble()
        async with term(ensemble, section_of(goods)) as office:
            client = await office.client("a")
            await insert(goods, 1)
            await client.read(1)
        await insert(goods, 2)
        await goods.server.execute("FLUSH BINARY LOGS")
        await purge_up_to(goods.server, str((await goods.query("SHOW BINARY LOGS"))[-1][0]))
        await insert(goods, 3)
        async with term(ensemble, section_of(goods)) as office:
            with pytest.raises(PositionPurgedError, match="not delivered yet"):
                await office.client("a")
        async with term(ensemble, section_of(goods, on_purged="earliest")) as office:
            client = await office.client("a")
            assert await client.read(3) == [3]
            (notice,) = office.instance.notices_for("a")
            assert notice.kind == "gap"
            assert "by on_purged = 'earliest'" in notice.text
        async with term(ensemble, section_of(goods)) as office:  # and it is over: nothing is missing any more
            client = await office.client("a")
            await insert(goods, 4)
            assert await client.read(4) == [4]
            assert len(office.instance.notices_for("a")) == 1

    asyncio.run(check())
