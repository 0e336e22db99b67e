"""The three servers of the fidelity tests, each with its name as a dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.fidelity_types import Dialect
from ha_canal.testing.mysql56 import UnavailableError, mysql56_server

Served = tuple[DatabaseServer, Dialect]


@pytest.fixture(scope="session")
def mysql56(runner: asyncio.Runner) -> Iterator[DatabaseServer]:
    """The session's MySQL 5.6 server (server id 103)."""
    context = mysql56_server(server_id=103)
    try:
        server = runner.run(context.__aenter__())
    except UnavailableError as error:
        pytest.skip(str(error))
    yield server
    runner.run(context.__aexit__(None, None, None))


@pytest.fixture(params=["mysql", "mysql56", "mariadb"])
def served(request: pytest.FixtureRequest) -> Served:
    return request.getfixturevalue(request.param), request.param
