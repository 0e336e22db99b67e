"""Servers whose binlog carries no column names, one of each kind for the tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server


@pytest.fixture(scope="package")
def nameless_servers(runner: asyncio.Runner) -> Iterator[dict[str, DatabaseServer]]:
    async def start() -> dict[str, DatabaseServer]:
        return {
            "mariadb": await stack.enter_async_context(mariadb_server(options=["--binlog-row-metadata=NO_LOG"])),
            "mysql": await stack.enter_async_context(mysql_server(options=["--binlog-row-metadata=MINIMAL"])),
        }

    stack = AsyncExitStack()
    try:
        yield runner.run(start())
    finally:
        runner.run(stack.aclose())


@pytest.fixture(params=["mariadb", "mysql"])
def nameless(request: pytest.FixtureRequest, nameless_servers: dict[str, DatabaseServer]) -> Iterator[Database]:
    """An empty database of this test's own; the test runs once on each server."""
    server = nameless_servers[request.param]
    name = server.create_database("shop")
    yield Database(server, name)
    server.drop_database(name)
