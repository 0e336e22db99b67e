"""Sources that die, hang or are replaced by order, under load: the instance goes on at another and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pymysql
import pytest

from ha_canal.cli.switch import order_switch
from ha_canal.config import ClusterSection, InstanceSection, NodeConfig, NodeSection
from ha_canal.errors import CanalError
from ha_canal.node import RunningNode, node
from ha_canal.protos import canal_pb2
from ha_canal.testing.checker import Checker, Verdict
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.process import free_port
from ha_canal.testing.proxy import FaultProxy
from ha_canal.testing.replica import promote, replica_of
from ha_canal.testing.workload import Reader, Writer, committed, create_tables
from tests.mysql.sources import source_of

Run = Callable[..., AbstractAsyncContextManager[DatabaseServer]]

_PATIENCE_S = 60.0
_LOAD = 30
_BEHIND_S = 0.3
"""We read the primary later than its replica does: what a crash loses for the replica was not delivered."""


class Story:
    """A primary and its replica, each behind a proxy, an instance that reads them, a writer and a client."""

    def __init__(
        self, servers: tuple[DatabaseServer, DatabaseServer], links: tuple[FaultProxy, FaultProxy], running: RunningNode
    ) -> None:
        self.first, self.second = servers
        self.to_first, self.to_second = links
        self.primary = self.first
        self.running = running
        self.reader: Reader
        self.writer: Writer

    def connect(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """Connect to whoever is the primary now, as applications do."""
        return self.primary.connect(database)

    async def shown(self) -> canal_pb2.Instance:
        return (await self.running.describe(canal_pb2.DescribeRequest())).instances[0]

    async def flows(self) -> None:
        """Return when the client has got some of what is written from now on."""
        begun, delivered = self.writer.transactions, self.reader.checker.delivered

        def does() -> bool:
            self.reader.check()
            return self.writer.transactions >= begun + _LOAD and self.reader.checker.delivered >= delivered + _LOAD

        await eventually(does, within_s=_PATIENCE_S, what="changes flow")

    async def reads(self, link: FaultProxy) -> canal_pb2.Instance:
        """Return when the instance reads the server behind ``link``, and what it shows."""

        async def does() -> canal_pb2.Instance | None:
            shown = await self.shown()
            return shown if shown.source.endswith(f":{link.port}") and shown.state == "running" else None

        return await eventually(does, within_s=_PATIENCE_S, what=f"the instance reads port {link.port}")

    async def order(self, link: FaultProxy) -> None:
        """Switch by the command, which returns when the new source is read. Raises our errors."""
        to = f"127.0.0.1:{link.port}"
        await asyncio.to_thread(order_switch, [self.running.address], "shop", to)
        assert (await self.shown()).source == to

    async def judge(self) -> Verdict:
        """Stop writing, wait for the rest, and judge against the primary."""
        self.writer.stop()
        truth = committed(self.primary)
        await eventually(
            lambda: not self.reader.checker.missing(truth), within_s=_PATIENCE_S, what="everything was given"
        )
        return self.reader.checker.verdict(truth)


@contextlib.asynccontextmanager
async def story(run: Run, directory: Path, *, gtids: bool = True, **failover: Any) -> AsyncIterator[Story]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        first, second = await enter(run(server_id=1)), await enter(run(server_id=2))
        for _ in range(2):
            await second.execute("FLUSH BINARY LOGS")  # places here are no places there
        create_tables(first)
        await replica_of(first, second, gtids=gtids)
        links = (await enter(FaultProxy("127.0.0.1", first.port)), await enter(FaultProxy("127.0.0.1", second.port)))
        sources = [source_of(link, heartbeat_s=1.0, use_gtids=gtids) for link in links]
        section = InstanceSection.model_validate(
            {
                "name": "shop",
                "filter": r"shop\..*",
                "start": "earliest",
                "source": sources[0],
                "standbys": [{"host": sources[1].host, "port": sources[1].port}],
                "failover": {"heartbeat_s": 0.4, "failures": 3, **failover},
            }
        )
        config = NodeConfig(
            node=NodeSection(listen=f"127.0.0.1:{free_port()}"),
            cluster=ClusterSection(mode="embedded", state_file=directory / "state"),
            instance=(section,),
        )
        running = await enter(node(config))
        told = Story((first, second), links, running)
        told.reader = stack.enter_context(Reader([running.address], checker=Checker(renamed=not gtids)))
        told.writer = stack.enter_context(Writer(told, pause_s=0.01, outlives_server=True))
        await told.flows()
        yield told


async def kill_and_promote(told: Story) -> None:
    """Kill the first server in mid-stream; the second one takes its place with what it has got."""
    told.to_first.delay(_BEHIND_S)
    await told.flows()
    told.first.kill()
    await promote(told.second)
    told.primary = told.second
    await told.reads(told.to_second)
    await told.flows()


def test_mariadb_by_order_stopped_and_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with story(mariadb_server, tmp_path) as told:
            await told.order(told.to_second)
            await told.flows()

            told.second.pause()
            shown = await told.reads(told.to_first)
            assert "no answer within 0.4 s" in shown.source_choice.why
            told.second.resume()
            await told.flows()

            await kill_and_promote(told)
            verdict = await told.judge()
            assert verdict.holds, verdict

    asyncio.run(main())


@pytest.mark.parametrize("run", [mariadb_server, mysql_server])
def test_without_gtids(run: Run, tmp_path: Path) -> None:
    """What was delivered is found on the new server by its fingerprints, so nothing comes again here either."""

    async def main() -> None:
        async with story(run, tmp_path, gtids=False) as told:
            await told.order(told.to_second)
            await told.flows()
            await told.order(told.to_first)
            await kill_and_promote(told)
            verdict = await told.judge()
            assert verdict.holds, verdict

    asyncio.run(main())


def test_mysql_by_order_half_open_stopped_and_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with story(mysql_server, tmp_path) as told:
            with pytest.raises(CanalError, match=r"is no source of 'shop'; it has: 127\.0\.0\.1:"):
                await asyncio.to_thread(order_switch, [told.running.address], "shop", "127.0.0.1:1")
            with pytest.raises(CanalError, match=r"is read from 127\.0\.0\.1:\d+ already"):
                await told.order(told.to_first)

            told.to_first.black_hole()
            shown = await told.reads(told.to_second)
            assert "missed 3 heartbeats" in shown.source_choice.why
            assert list(shown.source_choice.avoided) == [f"127.0.0.1:{told.to_first.port}"]
            await told.flows()
            told.to_first.heal()
            await told.order(told.to_first)
            assert (await told.shown()).source_choice.why == "an operator ordered it"

            told.first.pause()
            await told.reads(told.to_second)
            told.first.resume()
            await told.flows()
            await told.order(told.to_first)

            await kill_and_promote(told)
            verdict = await told.judge()
            assert verdict.holds, verdict

    asyncio.run(main())
