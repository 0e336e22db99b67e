"""Servers shared by the whole test session, a database per test, and the rule that a test leaves nothing behind.

The servers are child processes; they are started on the main thread through an `asyncio.Runner` that the session holds,
and depend on no event loop afterwards. So synchronous tests use them directly, and async ones under `asyncio.run`.
Tests that kill, pause or configure a server run one of their own (`async with mariadb_server() …`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

import pytest

from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.zookeeper import ZookeeperServer, zookeeper_server

_SESSION_THREADS = "session-servers"
_GRPC_POLLER = "_poll_wrapper"  # grpc.aio keeps one per process
_THREAD_ENDS_WITHIN_S = 5.0

T = TypeVar("T")


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """The session's own event loop; it starts and ends the shared servers, and runs nothing in between."""
    with (
        ThreadPoolExecutor(max_workers=2, thread_name_prefix=_SESSION_THREADS) as threads,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as held,
    ):
        held.get_loop().set_default_executor(threads)
        yield held


@pytest.fixture(scope="session")
def mariadb(runner: asyncio.Runner) -> Iterator[DatabaseServer]:
    """The session's MariaDB server (server id 101)."""
    with _held_open(runner, mariadb_server(server_id=101)) as server:
        yield server


@pytest.fixture(scope="session")
def mysql(runner: asyncio.Runner) -> Iterator[DatabaseServer]:
    """The session's MySQL server (server id 102)."""
    with _held_open(runner, mysql_server(server_id=102)) as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper(runner: asyncio.Runner) -> Iterator[ZookeeperServer]:
    """The session's ZooKeeper server; tests keep apart by `zookeeper_root`."""
    with _held_open(runner, zookeeper_server()) as server:
        yield server


@pytest.fixture(params=["mariadb", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database of this test's own; the test runs once on each server."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    name = server.create_database()
    yield Database(server, name)
    server.drop_database(name)


@pytest.fixture
def zookeeper_root() -> str:
    """A path on the shared ZooKeeper that no other test uses; it does not exist yet."""
    return f"/test-{secrets.token_hex(6)}"


@contextmanager
def _held_open(runner: asyncio.Runner, context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    entered = runner.run(_enter(context))
    try:
        yield entered
    finally:
        runner.run(_leave(context))


async def _enter(context: AbstractAsyncContextManager[T]) -> T:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[T]) -> None:
    await context.__aexit__(None, None, None)


def pytest_collection_finish() -> None:
    """Take what imports and collection made out of the collector's sight, so that a collection per test is cheap."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a failed task, an error of an event loop, or a thread.

    Unclosed resources fail it too: the collection here makes Python warn now, and warnings are errors (pyproject.toml).
    """
    complaints = _Complaints()
    asyncio_log = logging.getLogger("asyncio")
    before = set(threading.enumerate())
    asyncio_log.addHandler(complaints)
    try:
        yield
        gc.collect()
    finally:
        asyncio_log.removeHandler(complaints)
    if complaints.texts:
        pytest.fail("asyncio complained:\n" + "\n".join(complaints.texts), pytrace=False)
    leaked = [thread.name for thread in set(threading.enumerate()) - before if _stays(thread)]
    if leaked:
        pytest.fail(f"threads left behind: {', '.join(sorted(leaked))}", pytrace=False)


def _stays(thread: threading.Thread) -> bool:
    if thread.name.startswith(_SESSION_THREADS) or _GRPC_POLLER in thread.name:
        return False
    thread.join(_THREAD_ENDS_WITHIN_S)
    return thread.is_alive()


class _Complaints(logging.Handler):
    """Collects what asyncio logs as an error, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
