"""The contract of a coordinator, run against the in-memory one, SQLite and ZooKeeper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from ha_canal.cluster.coordinator import (
    Check,
    Conflict,
    ConflictError,
    Coordinator,
    Create,
    Delete,
    LinkState,
    Node,
    Operation,
    Set,
)
from ha_canal.cluster.embedded import embedded_coordinator
from ha_canal.cluster.session import zookeeper_session
from ha_canal.errors import CoordinatorLostError
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.zookeeper import ZookeeperServer

Contract = Callable[[Coordinator], Awaitable[None]]
Open = Callable[[], AbstractAsyncContextManager[Coordinator]]


@asynccontextmanager
async def memory() -> AsyncIterator[Coordinator]:
    session = MemoryEnsemble().session()
    yield session
    session.close()


@pytest.fixture(params=["memory", "sqlite", "sqlite in memory", "zookeeper"])
def open_coordinator(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    match request.param:
        case "memory":
            return memory
        case "sqlite":
            return lambda: embedded_coordinator(tmp_path / "state.db")
        case "sqlite in memory":
            return lambda: embedded_coordinator(None)
        case _:
            server: ZookeeperServer = request.getfixturevalue("zookeeper")
            root: str = request.getfixturevalue("zookeeper_root")
            return lambda: rooted_zookeeper(server.hosts, root)


@asynccontextmanager
async def rooted_zookeeper(hosts: str, root: str) -> AsyncIterator[Coordinator]:
    """Live below a path of the test's own; it is made here, as ZooKeeper wants it there."""
    async with zookeeper_session(hosts, timeout_s=4) as session:
        await session.commit([Create(root)])
    async with zookeeper_session(hosts + root, timeout_s=4) as session:
        yield session


def run(open_coordinator: Open, contract: Contract) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), open_coordinator() as coordinator:
            await contract(coordinator)

    asyncio.run(main())


def test_node_lives_from_create_to_delete(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        assert await it.read("/a/b/c") is None
        await it.commit([Create("/a/b/c", b"1")])
        assert await it.read("/a/b/c") == Node(b"1", 0)
        assert await it.read("/a/b") == Node(b"", 0)
        await it.commit([Set("/a/b/c", b"2")])
        await it.commit([Set("/a/b/c", b"", version=1)])
        assert await it.read("/a/b/c") == Node(b"", 2)
        await it.commit([Delete("/a/b/c", version=2)])
        assert await it.read("/a/b/c") is None

    run(open_coordinator, contract)


def test_children_are_sorted_names_and_none_for_no_node(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        assert await it.children("/a") == []
        await it.commit([Create("/a/z"), Create("/a/b/c"), Create("/a/m", ephemeral=True)])
        assert await it.children("/a") == ["b", "m", "z"]
        await it.commit([Delete("/a/m")])
        assert await it.children("/a") == ["b", "z"]
        assert await it.children("/a/z") == []

    run(open_coordinator, contract)


@pytest.mark.parametrize(
    ("refused", "conflict"),
    [
        (Create("/a/there"), Conflict.EXISTS),
        (Set("/a/none", b""), Conflict.MISSING),
        (Set("/a/there", b"", version=7), Conflict.VERSION),
        (Check("/a/none", 0), Conflict.MISSING),
        (Check("/a/there", 1), Conflict.VERSION),
        (Delete("/a/none"), Conflict.MISSING),
        (Delete("/a/there", version=1), Conflict.VERSION),
        (Delete("/a"), Conflict.NOT_EMPTY),
        (Create("/a/mine/child"), Conflict.EPHEMERAL_PARENT),
    ],
)
def test_refused_operation_undoes_the_commit_and_is_named(
    open_coordinator: Open, refused: Operation, conflict: Conflict
) -> None:
    async def contract(it: Coordinator) -> None:
        await it.commit([Create("/a/there", b"old"), Create("/a/mine", ephemeral=True)])
        with pytest.raises(ConflictError) as caught:
            await it.commit([Create("/a/before"), refused, Create("/a/after")])
        assert caught.value.operation is refused
        assert caught.value.conflict is conflict
        assert await it.children("/a") == ["mine", "there"]
        assert await it.read("/a/there") == Node(b"old", 0)

    run(open_coordinator, contract)


def test_operations_of_a_commit_see_each_other(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        await it.commit([Create("/a", b"1")])
        await it.commit([Delete("/a"), Create("/a", b"2"), Set("/a", b"3", version=0), Create("/a/b"), Check("/a", 1)])
        assert await it.read("/a") == Node(b"3", 1)
        await it.commit([Delete("/a/b"), Delete("/a")])
        assert await it.read("/a") is None

    run(open_coordinator, contract)


def test_ephemeral_node_is_owned_by_its_session_and_ends_with_it(open_coordinator: Open) -> None:
    async def main() -> None:
        async with open_coordinator() as it:
            first = it.session.id
            assert first
            await it.commit([Create("/a/mine", b"x", ephemeral=True), Create("/a/kept", b"y")])
            assert await it.read("/a/mine") == Node(b"x", 0, first)
            await it.commit([Set("/a/mine", b"z")])
            assert await it.read("/a/mine") == Node(b"z", 1, first)
        with pytest.raises(CoordinatorLostError):
            await it.read("/a/kept")
        with pytest.raises(CoordinatorLostError):
            await it.commit([Create("/a/late")])
        assert it.session.state is LinkState.LOST

    asyncio.run(main())


def test_watch_gives_the_node_and_tells_of_each_kind_of_change(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        watched = await it.watch("/a")
        assert watched.node is None
        assert not watched.changed.is_set()
        for change in (Create("/a", b"1"), Set("/a", b"2"), Delete("/a"), Create("/a", b"3", ephemeral=True)):
            await it.commit([Create("/a-neighbour"), Delete("/a-neighbour")])
            assert not watched.changed.is_set()
            await it.commit([change])
            await watched.changed.wait()
            watched = await it.watch("/a")
            assert watched.node == await it.read("/a")

    run(open_coordinator, contract)


def test_two_watchers_of_one_node_are_both_told(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        one, other = await it.watch("/a"), await it.watch("/a")
        await it.commit([Create("/a")])
        await asyncio.gather(one.changed.wait(), other.changed.wait())

    run(open_coordinator, contract)


def test_session_is_connected_proved_alive_and_known_to_change(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        session = it.session
        assert session.state is LinkState.CONNECTED
        assert 0 <= asyncio.get_running_loop().time() - session.last_proof_s < session.timeout_s
        changing = asyncio.create_task(it.session_changed(session))
        await it.commit([Create("/a")])
        assert not changing.done()
        assert not it.session.differs(session)
        assert it.session.last_proof_s >= session.last_proof_s
        changing.cancel()
        stale = type(session)("other", session.state, session.link, session.last_proof_s, session.timeout_s)
        assert not (await it.session_changed(stale)).differs(session)

    run(open_coordinator, contract)


def test_concurrent_commits_to_one_version_have_one_winner(open_coordinator: Open) -> None:
    async def contract(it: Coordinator) -> None:
        await it.commit([Create("/a")])
        tries = [it.commit([Set("/a", b"%d" % number, version=0)]) for number in range(10)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(result is None for result in results) == 1
        assert all(result is None or isinstance(result, ConflictError) for result in results)

    run(open_coordinator, contract)
